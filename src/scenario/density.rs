//! Reading `tenants = { count = […], all = "…" }`: equal tenants in growing numbers.

use toml::de::DeValue;

use super::arrangement::{Declared, unknown_name};
use super::keys;
use super::model::{Density, SharingMode};
use super::tree::{Node, Reader, Table};

/// Whether an arrangement is one of equal tenants in growing numbers.
pub(super) fn is_density(t: &Table<'_>) -> bool {
    t.special("tenants").is_some_and(|(node, _)| node.get_ref().is_table())
}

/// Reads it; `None` only after a mistake.
pub(super) fn read<'t>(
    r: &mut Reader<'t>,
    t: &Table<'t>,
    sharing: Option<SharingMode>,
    declared: &Declared,
) -> Option<Density> {
    let (node, path) = t.special("tenants")?;
    let table = node.get_ref().as_table()?;
    let span = node.span();
    let d = r.table(keys::DENSITY, Some(table), span.clone(), path.to_owned());
    for (key, entry) in t.given().filter(|(key, _)| !keys::BESIDE_DENSITY.contains(key)) {
        let expected = match key {
            "require" => {
                "expected none: `at_least` among the keys of `tenants` is what can be required of equal tenants"
            }
            _ => {
                "expected none: equal tenants are each a victim and a neighbour of the others, all alike, and nothing else runs \
                 beside them"
            }
        };
        r.mistake(&entry.span, &entry.path, format!("`{key}` beside `tenants = {{ … }}`"), expected);
    }
    if let (Some(sharing), Some(entry)) = (sharing, t.entry("sharing"))
        && !SharingMode::WITH_DENSITIES.contains(&sharing)
    {
        let modes: Vec<_> = SharingMode::WITH_DENSITIES.iter().map(|mode| mode.id()).collect();
        let found = format!("equal tenants in growing numbers under {sharing}");
        let expected = "expected one of the modes listed below";
        r.mistake_among(&entry.span, &entry.path, found, expected, sharing.id(), &modes);
    }
    let probe = probe(r, &d, declared);
    let counts = d.special("count").and_then(|(node, path)| counts(r, node, path, sharing));
    let instances = instances(r, &d, sharing, counts.as_deref());
    let at_least = d.count32("at_least");
    if let (Some([first, .., last] | [first @ last]), Some(n), Some(entry)) =
        (counts.as_deref(), at_least, d.entry("at_least"))
        && !(first..=last).contains(&&n)
    {
        let expected = format!("expected one of the numbers of `count` or one between them, {first} … {last}");
        r.mistake(&entry.span, &entry.path, n.to_string(), expected);
    }
    Some(Density {
        counts: counts?,
        probe: probe?,
        every: d.flag("every"),
        at_least,
        memory: d.bytes("memory"),
        instances,
        window: declared.window,
    })
}

/// The probe that `all` names: one with an objective, at a load of the user's.
fn probe(r: &mut Reader<'_>, d: &Table<'_>, declared: &Declared) -> Option<usize> {
    let entry = d.entry("all")?;
    let text = entry.text()?;
    let fit = |index: &usize| declared.objectives.contains(index) && declared.loads.contains(index);
    let names: Vec<&str> =
        (0..declared.probes.len()).filter(fit).map(|index| declared.probes[index].0.as_str()).collect();
    let Some(index) = declared.probes.iter().position(|(name, _)| name == text) else {
        unknown_name(r, entry, text, "a probe of the victim's panel with an objective and a load of its own", &names);
        return None;
    };
    let (objective, load) = (declared.objectives.contains(&index), declared.loads.contains(&index));
    let expected = match (objective, load) {
        (true, true) => return Some(index),
        // An objective without its load is a mistake of the probe, and is told there.
        (true, false) => return None,
        (false, true) => "expected one with an objective: write `slo = { p99 = \"50ms\" }` at the probe",
        (false, false) => {
            "expected one with an objective and a load of its own: write `slo = { p99 = \"50ms\" }` and `arrivals = { poisson \
             = \"20/s\" }` at the probe"
        }
    };
    let found = format!("\"{text}\", a probe without an objective");
    r.mistake_among(&entry.span, &entry.path, found, expected, "", &names);
    None
}

/// A number of tenants, or rising ones.
fn counts<'t>(r: &mut Reader<'t>, node: Node<'t>, path: &str, sharing: Option<SharingMode>) -> Option<Vec<u32>> {
    let one = |value: &DeValue<'_>| {
        let integer = value.as_integer()?;
        let count = u32::from_str_radix(integer.as_str(), integer.radix()).ok()?;
        (1..=keys::MOST_TENANTS).contains(&u64::from(count)).then_some(count)
    };
    let mut counts: Vec<u32> = Vec::new();
    let mut good = true;
    match node.get_ref() {
        DeValue::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                match one(item.get_ref()) {
                    None => {
                        r.unexpected(item, &path, format!("a whole number, 1 … {}", keys::MOST_TENANTS));
                        good = false;
                    }
                    Some(count) if counts.last().is_some_and(|last| count <= *last) => {
                        let found = format!("{count} after {}", counts.last().unwrap_or(&0));
                        r.mistake(&item.span(), &path, found, "expected rising numbers, each once");
                        good = false;
                    }
                    Some(count) => counts.push(count),
                }
            }
        }
        value => match one(value) {
            Some(count) => counts.push(count),
            None => {
                r.unexpected(node, path, keys::COUNT.expected);
                good = false;
            }
        },
    }
    if good && sharing == Some(SharingMode::Exclusive) && counts != [1] {
        let found = r.written(&node.span());
        r.mistake(&node.span(), path, found, "expected 1 under exclusive: a lone tenant, the reference of the others");
        return None;
    }
    good.then_some(counts)
}

/// The instances among which the tenants are divided: under MIG + time-slicing, and there alone.
fn instances(r: &mut Reader<'_>, d: &Table<'_>, sharing: Option<SharingMode>, counts: Option<&[u32]>) -> Option<u32> {
    let instances = d.count32("instances");
    match (sharing, d.entry("instances")) {
        (Some(SharingMode::MigTimeSlicing), None) => {
            let expected = "expected `instances = 2`, or another number of equal GPU instances among which the tenants are \
                            divided";
            r.absent(&d.span, &d.path, "`instances` is missing under mig+time-slicing", expected);
        }
        (Some(SharingMode::MigTimeSlicing), Some(entry)) => {
            let uneven = instances.and_then(|n| counts?.iter().find(|count| !count.is_multiple_of(n)).zip(Some(n)));
            if let Some((count, n)) = uneven {
                let found = format!("{n} instances for {count} tenants");
                let expected = format!("expected numbers in `count` that {n} divides: equal tenants have equal shares");
                r.mistake(&entry.span, &entry.path, found, expected);
            }
        }
        (Some(other), Some(entry)) => {
            let expected = format!("expected none under {other}: the tenants of mig+time-slicing alone are divided so");
            r.mistake(&entry.span, &entry.path, "`instances`", expected);
        }
        (_, None) | (None, Some(_)) => {}
    }
    instances
}
