//! Text → [`Scenario`], or every mistake of the text.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::arrangement::{self, Declared};
use super::density;
use super::design::{Controls, Design, Look, Quantile, Tier};
use super::hazard;
use super::keys;
use super::mistake::Mistakes;
use super::model::{Accept, Arrivals, Neighbour, Probe, Scenario, Slo, channel_of};
use super::observe;
use super::tree::{Content, Entry, Node, Reader, Table, join};
use crate::channel::Channel;
use crate::field::Field;
use crate::units::Share;
use crate::workload::{Params, Role, Workload};

/// Reads a scenario. `source_name` (a path, or the name of a built-in one) only names the text in diagnostics.
///
/// # Errors
/// All mistakes of the text at once.
pub fn read(source_name: &str, text: &str, catalogue: &[&'static Workload]) -> Result<Scenario, Mistakes> {
    read_at_tier(source_name, text, catalogue, None)
}

/// As [`read`], at another tier than the text says: keys of `[design]` that stand in the text hold, the others follow
/// `tier`.
///
/// # Errors
/// All mistakes of the text at once.
pub fn read_at_tier(
    source_name: &str,
    text: &str,
    catalogue: &[&'static Workload],
    tier: Option<Tier>,
) -> Result<Scenario, Mistakes> {
    let mut r = Reader::new(text);
    let tree = r.parse();
    let scenario = if r.is_newer(tree.get_ref(), "scenario", keys::SCHEMA_VERSION) {
        None
    } else {
        let top = r.table(keys::TOP, Some(tree.get_ref()), 0..0, String::new());
        scenario(&mut r, &top, catalogue, tier)
    };
    r.done(source_name, scenario)
}

/// A mistake that is found only after the text was read: it stands where `keys` lead, or as near as they do.
pub(crate) fn mistake_at(source_name: &str, text: &str, keys: &[&str], found: &str, expected: &str) -> Mistakes {
    let (tree, _) = DeTable::parse_recoverable(text);
    let mut span = 0..0;
    let mut table = Some(tree.get_ref());
    for key in keys {
        let Some(node) = table.and_then(|table| table.get(*key)) else { break };
        (span, table) = (node.span(), node.get_ref().as_table());
    }
    let mut r = Reader::new(text);
    r.mistake(&span, &keys.join("."), found, expected);
    Mistakes::new(source_name, text, r.mistakes)
}

/// Assembles the scenario. Goes through all of the text, whatever is missing: `None` only after a mistake.
fn scenario<'t>(
    r: &mut Reader<'t>,
    top: &Table<'t>,
    catalogue: &[&'static Workload],
    tier: Option<Tier>,
) -> Option<Scenario> {
    let device = top.special("device").and_then(|(node, path)| device(r, node, path));
    let design = design(r, top.table("design"), tier);
    let (probe_names, panel) = panel(r, top, catalogue);
    let mut keyed = Vec::new();
    let (neighbour_names, neighbours) = all_neighbours(r, top, catalogue, &mut keyed);
    let (hazard_names, hazards) = hazard::read(r, top, &mut keyed);
    names_that_are_channels(r, &keyed);
    something_to_do(r, top);
    let probes_with = |has: fn(&Probe) -> bool| {
        let those = panel.iter().enumerate().filter(|(_, probe)| probe.as_ref().is_none_or(has));
        those.map(|(index, _)| index).collect()
    };
    let declared = Declared {
        objectives: probes_with(|probe| !probe.slos.is_empty()),
        loads: probes_with(|probe| probe.arrivals != Arrivals::Auto),
        probes: probe_names,
        neighbours: neighbour_names,
        hazards: hazard_names,
        window: top.table("design").and_then(|design| design.duration("window")),
    };

    let mut names = BTreeSet::new();
    let mut arrangements = Vec::new();
    for table in top.tables("arrangement") {
        if let Some(entry) = table.entry("name") {
            unique(r, &mut names, entry, entry.text(), "arrangement");
        }
        arrangements.push(arrangement::read(r, table, &declared));
    }
    for (table, here) in top.tables("arrangement").zip(&arrangements) {
        observe::check_against(r, table, here.as_ref(), &arrangements);
    }
    let accepted: Vec<_> = top.tables("accept").map(|t| accept(r, t, &arrangements, &declared)).collect();
    let mut risks = BTreeSet::new();
    for (t, entry) in top.tables("accept").filter_map(|t| Some((t, t.entry("cell")?))) {
        // Of two, one would hold and the other be read: by whom, why and until when must be one answer.
        if entry.text().is_some_and(|cell| !risks.insert((cell, t.text("channel")))) {
            let found = format!("\"{}\" again", entry.text().unwrap_or_default());
            r.mistake(&entry.span, &entry.path, found, "expected each cell once, or once for each channel");
        }
    }

    Some(Scenario {
        name: top.owned("name")?,
        description: top.owned("description"),
        device,
        gpu: top.owned("gpu"),
        seed: top.count("seed")?,
        design,
        panel: panel.into_iter().collect::<Option<_>>()?,
        neighbours: neighbours.into_iter().collect::<Option<_>>()?,
        hazards: hazards.into_iter().collect::<Option<_>>()?,
        arrangements: arrangements.into_iter().collect::<Option<_>>()?,
        accepted: accepted.into_iter().collect::<Option<_>>()?,
        allow_faults: top.flag("allow_faults"),
        allow_oom: top.flag("allow_oom"),
        allow_power: top.flag("allow_power"),
    })
}

/// Notes a scenario that asks nothing: latencies take a victim and neighbours; hazards bring their own, and equal tenants are
/// each other's neighbours.
fn something_to_do(r: &mut Reader<'_>, top: &Table<'_>) {
    let [victim, neighbours, hazards] = ["victim", "neighbour", "hazard"].map(|key| top.entry(key).is_some());
    let mut arrangements = top.tables("arrangement").peekable();
    let densities_alone = arrangements.peek().is_some() && arrangements.all(density::is_density);
    if densities_alone && victim {
        if let Some(entry) = top.entry("hazard") {
            let expected = "expected an arrangement without `tenants = { … }` that tries them: equal tenants try none";
            r.absent(&entry.span, &entry.path, "hazards, and no arrangement that tries them", expected);
        }
        return;
    }
    let (missing, doc) = match (victim, neighbours, hazards) {
        (_, false, _) if densities_alone => ("victim", "the panel with the probe that every tenant runs, `[victim]`"),
        (true, true, _) | (false, false, true) => return,
        (true, false, _) => ("neighbour", "the tenants that make noise, `[[neighbour]]`, beside the victim"),
        (false, true, _) => ("victim", "the tenant whose latency is measured, `[victim]`, beside the neighbours"),
        (false, false, false) => ("victim", "`[victim]` and `[[neighbour]]`, or `[[hazard]]`"),
    };
    r.absent(&top.span, &top.path, format!("`{missing}` is missing"), format!("expected {doc}"));
}

fn device<'t>(r: &mut Reader<'t>, node: Node<'t>, path: &str) -> Option<String> {
    const WORDS: &[&str] = &["auto", "all", "sim", "cuda"];
    let text = node.get_ref().as_str().unwrap_or_default();
    let rest = |prefix: &str| text.strip_prefix(prefix).filter(|rest| !rest.is_empty());
    let index = |rest: &str| rest.parse::<u32>().is_ok();
    let known = WORDS.contains(&text)
        || rest("sim:").is_some()
        || rest("cuda:").is_some_and(index)
        || rest("GPU-").is_some()
        || rest("MIG-").is_some();
    if !known {
        let (span, found) = (node.span(), r.written(&node.span()));
        r.mistake_among(&span, path, found, format!("expected {}", keys::DEVICE.expected), text, &[]);
    }
    known.then(|| text.to_owned())
}

fn design<'t>(r: &mut Reader<'t>, table: Option<&Table<'t>>, tier: Option<Tier>) -> Design {
    let tier = tier.or_else(|| table?.text("tier")?.parse().ok()).unwrap_or(Tier::Smoke);
    let mut d = tier.defaults();
    let Some(t) = table else { return d };
    d.blocks = t.count32("blocks").unwrap_or(d.blocks);
    d.blocks_per_generation = t.count32("blocks_per_generation").unwrap_or(d.blocks_per_generation);
    d.window = t.duration("window").unwrap_or(d.window);
    d.max_window = t.duration("max_window").unwrap_or(d.max_window.max(d.window));
    d.washout = t.duration("washout").unwrap_or(d.washout);
    d.drain = t.duration("drain").unwrap_or(d.drain);
    if let (true, Some(entry)) = (d.max_window < d.window, t.entry("max_window")) {
        let expected = format!("expected at least the window, {}", d.window);
        r.mistake(&entry.span, &entry.path, d.max_window.to_string(), expected);
    }
    if let Some(list) = t.list("judged") {
        d.judged = quantiles(r, list);
    }
    if let Some(t) = t.table("margins") {
        for (key, pair) in [("p50", &mut d.margins.p50), ("p99", &mut d.margins.p99), ("p99.9", &mut d.margins.p999)] {
            if let Some((node, path)) = t.special(key) {
                *pair = margin(r, node, path).unwrap_or(*pair);
            }
        }
    }
    d.looks = match t.special("looks") {
        Some((node, path)) => looks(r, node, path, d.blocks).unwrap_or(d.looks),
        None => tier.looks(d.blocks, d.blocks_per_generation),
    };
    if let Some(t) = t.table("controls") {
        d.controls = Controls {
            again: t.flag("again"),
            presence: t.count32("presence").unwrap_or(d.controls.presence),
            sensitivity: t.count32("sensitivity").unwrap_or(d.controls.sensitivity),
            delay: t.count32("delay").unwrap_or(d.controls.delay),
            sampler: t.count32("sampler").unwrap_or(d.controls.sampler),
        };
    }
    d.max_duration = t.duration("max_duration");
    d
}

/// The looks at a design of so many blocks; the last one is at all of them, written or not. `None` after a mistake.
fn looks<'t>(r: &mut Reader<'t>, node: Node<'t>, path: &str, blocks: u32) -> Option<Vec<Look>> {
    let items = match node.get_ref() {
        DeValue::String(text) if text == "none" => return Some(Look::split(&[], blocks)),
        DeValue::Array(items) if !items.is_empty() => items,
        _ => {
            r.unexpected(node, path, keys::LOOKS.expected);
            return None;
        }
    };
    let before = r.mistakes.len();
    let mut looks: Vec<(u32, Option<Share>)> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let (at, spends) = match item.get_ref() {
            DeValue::Table(table) => {
                let t = r.table(keys::LOOK, Some(table), item.span(), path.clone());
                (t.count32("blocks"), t.share("spends"))
            }
            value => match r.scalar(&keys::LOOK[0].kind, value, &item.span(), &path) {
                Some(crate::field::Value::Count(n)) => (u32::try_from(n).ok(), None),
                _ => (None, None),
            },
        };
        let Some(at) = at else { continue };
        if looks.first().is_some_and(|(_, first)| first.is_some() != spends.is_some()) {
            r.unexpected(item, &path, "all looks with what they spend, or none");
        } else if looks.last().is_some_and(|(last, _)| at <= *last) || at > blocks {
            r.mistake(
                &item.span(),
                &path,
                format!("a look after {at} blocks"),
                format!("expected rising numbers of blocks, at most {blocks}"),
            );
        }
        looks.push((at, spends));
    }
    if r.mistakes.len() > before {
        return None;
    }
    let written: Option<Vec<Look>> =
        looks.iter().map(|(blocks, spends)| Some(Look { blocks: *blocks, spends: (*spends)? })).collect();
    let Some(mut written) = written else {
        return Some(Look::split(&looks.iter().map(|(at, _)| *at).collect::<Vec<_>>(), blocks));
    };
    let (spent, all) = (written.iter().map(|look| u64::from(look.spends.0)).sum::<u64>(), Share::percent(100).0);
    let ends = written.last().is_some_and(|last| last.blocks == blocks);
    if if ends { spent != u64::from(all) } else { spent >= u64::from(all) } {
        let found = format!("looks that spend {} % together", spent as f64 / 1e4);
        let expected = if ends {
            "expected 100 %"
        } else {
            "expected less than 100 %: the last look, at all blocks, spends the rest"
        };
        r.mistake(&node.span(), path, found, expected);
        return None;
    }
    if !ends {
        written.push(Look { blocks, spends: Share(all - spent as u32) });
    }
    Some(written)
}

/// The quantiles of a list, rising.
fn quantiles(r: &mut Reader<'_>, list: &[Entry<'_>]) -> Vec<Quantile> {
    let mut quantiles = Vec::new();
    for entry in list {
        let Content::Special(node) = &entry.content else { continue };
        match node.get_ref().as_str().and_then(|text| text.parse::<Quantile>().ok()) {
            Some(q) if quantiles.contains(&q) => {
                r.mistake(&entry.span, &entry.path, format!("{q} again"), "expected each quantile once");
            }
            Some(q) => quantiles.push(q),
            None => {
                let found = r.written(&entry.span);
                r.mistake(&entry.span, &entry.path, found, format!("expected {}", keys::QUANTILE.expected));
            }
        }
    }
    quantiles.sort_unstable();
    quantiles
}

fn margin<'t>(r: &mut Reader<'t>, node: Node<'t>, path: &str) -> Option<(Share, Share)> {
    let share = |i: usize| node.get_ref().get(i)?.get_ref().as_str()?.parse::<Share>().ok();
    let two = node.get_ref().as_array().is_some_and(|a| a.len() == 2);
    match (share(0), share(1)) {
        (Some(isolated), Some(violated)) if two && Share(0) < isolated && isolated < violated => {
            Some((isolated, violated))
        }
        _ => {
            r.unexpected(node, path, keys::MARGIN.expected);
            None
        }
    }
}

/// Names of the victim's probes with their workloads, where known, and the probes that could be read.
type Named<T> = (Vec<(String, Option<&'static Workload>)>, Vec<Option<T>>);

fn panel<'t>(r: &mut Reader<'t>, top: &Table<'t>, catalogue: &[&'static Workload]) -> Named<Probe> {
    let (mut names, mut probes, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for t in top.table("victim").iter().flat_map(|victim| victim.tables("panel")) {
        let workload = workload(r, t, "probe", catalogue, Role::Noise, keys::PROBE_ID.expected);
        let Some(name) = name(r, t, "probe", "probe", &mut seen) else { continue };
        names.push((name.clone(), workload));
        let params = workload_params(r, t, workload);
        let arrivals = t.special("arrivals").map(|(node, path)| arrivals(r, node, path));
        let slos = t.special("slo").map(|(node, path)| slos(r, node, path));
        if let (Some(entry), None | Some(Some(Arrivals::Auto))) = (t.entry("slo").filter(|e| e.given), arrivals) {
            let expected =
                "expected `arrivals = { poisson = \"…/s\" }` beside it: an objective holds for a load of its own";
            r.absent(&entry.span, &entry.path, "an objective without its load", expected);
        }
        let probe = || {
            Some(Probe {
                name,
                workload: workload?,
                params: params?,
                arrivals: arrivals.unwrap_or(Some(Arrivals::Auto))?,
                outstanding: t.count32("outstanding")?,
                slos: slos.unwrap_or_default(),
            })
        };
        probes.push(probe());
    }
    (names, probes)
}

/// A name that is a key of `require` and `expect`: of a neighbour or a hazard, with its channel, where known, and its place.
pub(super) struct Keyed<'e, 't> {
    pub name: String,
    pub channel: Option<Channel>,
    pub entry: Option<&'e Entry<'t>>,
}

impl<'e, 't> Keyed<'e, 't> {
    /// Of a table whose kind stands under `key`. Notes a name that means something else in `require`, or in the names of arms.
    pub fn of(r: &mut Reader<'t>, t: &'e Table<'t>, key: &str, name: &str, channel: Option<Channel>) -> Self {
        // "default" and "slo" are keys of `require`, and "quiet" names the arm without noise.
        if let (true, Some(entry)) = (matches!(name, "default" | "quiet" | "slo"), t.entry("name")) {
            r.mistake(&entry.span, &entry.path, format!("\"{name}\""), "expected another name: this one is reserved");
        }
        Self { name: name.to_owned(), channel, entry: t.entry("name").or_else(|| t.entry(key)) }
    }
}

/// Notes names that are channels, unless of the one thing that has this channel: as a key of `require` or `expect` such a name
/// would decide something else than its writer thinks.
fn names_that_are_channels(r: &mut Reader<'_>, all: &[Keyed<'_, '_>]) {
    for (at, Keyed { name, channel: own, entry }) in all.iter().enumerate() {
        let (Some(channel), Some(entry)) = (Channel::ALL.iter().find(|c| c.id() == *name), entry) else { continue };
        let others = all.iter().enumerate().filter(|(other, _)| *other != at);
        let mut others = others.filter(|(_, other)| other.channel == Some(*channel));
        let found = match others.next() {
            Some((_, Keyed { name: other, .. })) => {
                format!("\"{name}\", which is also a channel, and that of \"{other}\": as a key it could mean either")
            }
            None if own.is_none_or(|own| own == *channel) => continue,
            None => format!("\"{name}\", which is also a channel, and another one than its own"),
        };
        r.mistake(&entry.span, &entry.path, found, "expected a `name` that is no channel");
    }
}

fn all_neighbours<'e, 't>(
    r: &mut Reader<'t>,
    top: &'e Table<'t>,
    catalogue: &[&'static Workload],
    keyed: &mut Vec<Keyed<'e, 't>>,
) -> Named<Neighbour> {
    let (mut names, mut neighbours, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for t in top.tables("neighbour") {
        let workload = workload(r, t, "noise", catalogue, Role::Probe, keys::NOISE_ID.expected);
        let Some(name) = name(r, t, "noise", "neighbour", &mut seen) else { continue };
        keyed.push(Keyed::of(r, t, "noise", &name, workload.map(channel_of)));
        names.push((name.clone(), workload));
        let params = workload_params(r, t, workload);
        let neighbour = || {
            Some(Neighbour {
                name,
                workload: workload?,
                params: params?,
                duty: t.share("duty")?,
                burst: t.duration("burst")?,
                queued: t.count32("queued")?,
            })
        };
        neighbours.push(neighbour());
    }
    (names, neighbours)
}

/// The name of a probe or neighbour: its `name`, else the id of its workload. Notes names that occur twice.
pub(super) fn name<'t>(
    r: &mut Reader<'t>,
    t: &Table<'t>,
    key: &str,
    kind: &str,
    seen: &mut BTreeSet<String>,
) -> Option<String> {
    let entry = t.entry("name").or_else(|| t.entry(key))?;
    let name = entry.text().or_else(|| entry.special()?.0.get_ref().as_str())?.to_owned();
    unique(r, seen, entry, Some(&name), kind);
    Some(name)
}

/// Notes a name that another one of its kind has.
fn unique(r: &mut Reader<'_>, seen: &mut BTreeSet<String>, entry: &Entry<'_>, name: Option<&str>, kind: &str) {
    let Some(name) = name else { return };
    if !seen.insert(name.to_owned()) {
        let found = format!("a second {kind} called \"{name}\"");
        r.mistake(&entry.span, &entry.path, found, "expected a `name` of its own");
    }
}

/// The workload that the kind key names; `not` is the role that does not fit there.
fn workload<'t>(
    r: &mut Reader<'t>,
    t: &Table<'t>,
    key: &str,
    catalogue: &[&'static Workload],
    not: Role,
    expected: &str,
) -> Option<&'static Workload> {
    let (node, path) = t.special(key)?;
    let Some(id) = node.get_ref().as_str() else {
        r.unexpected(node, path, expected);
        return None;
    };
    if let Some(found) = catalogue.iter().find(|w| w.id == id && w.role != not) {
        return Some(found);
    }
    let ids: Vec<_> = catalogue.iter().filter(|w| w.role != not).map(|w| w.id).collect();
    let found = match (catalogue.iter().any(|w| w.id == id), not) {
        (true, Role::Noise) => format!("`{id}` makes noise and is no probe"),
        (true, _) => format!("`{id}` is a probe and makes no noise"),
        (false, _) => format!("no workload is called `{id}`"),
    };
    r.mistake_among(&node.span(), path, found, format!("expected {expected}"), id, &ids);
    None
}

/// All parameters of the workload, defaults filled in.
fn workload_params<'t>(r: &mut Reader<'t>, t: &Table<'t>, workload: Option<&'static Workload>) -> Option<Params> {
    params(r, t, workload?.params, keys::PARAMS.expected)
}

/// The parameters that `fields` describe, defaults filled in.
pub(super) fn params<'t>(
    r: &mut Reader<'t>,
    t: &Table<'t>,
    fields: &'static [Field],
    expected: &str,
) -> Option<Params> {
    let given = t.special("params");
    let table = match given.map(|(node, _)| node.get_ref()) {
        None => None,
        Some(DeValue::Table(table)) => Some(table),
        Some(_) => {
            given.into_iter().for_each(|(node, path)| r.unexpected(node, path, expected));
            return None;
        }
    };
    let span = given.map_or(t.span.clone(), |(node, _)| node.span());
    let read = r.table(fields, table, span, join(&t.path, keys::PARAMS.name));
    let values = fields.iter().filter_map(|f| Some((f.key, read.value(f.key)?.clone())));
    Some(Params(values.collect()))
}

fn arrivals<'t>(r: &mut Reader<'t>, node: Node<'t>, path: &str) -> Option<Arrivals> {
    match node.get_ref() {
        DeValue::String(text) if text == "auto" => Some(Arrivals::Auto),
        DeValue::Table(table) if table.len() == 1 => {
            let t = r.table(keys::ARRIVALS_TABLE, Some(table), node.span(), path.to_owned());
            let poisson = t.rate("poisson").map(Arrivals::Poisson);
            poisson.or_else(|| t.rate("fixed").map(Arrivals::Fixed))
        }
        _ => {
            r.unexpected(node, path, keys::ARRIVALS.expected);
            None
        }
    }
}

/// Objectives, by rising quantile.
fn slos<'t>(r: &mut Reader<'t>, node: Node<'t>, path: &str) -> Vec<Slo> {
    let Some(table) = node.get_ref().as_table().filter(|t| !t.is_empty()) else {
        r.unexpected(node, path, keys::SLO.expected);
        return Vec::new();
    };
    let mut slos = Vec::new();
    for (key, value) in table {
        let Ok(quantile) = key.get_ref().parse::<Quantile>() else {
            let found = format!("unknown key `{}`", key.get_ref());
            r.mistake(&key.span(), path, found, format!("expected {}", keys::QUANTILE.expected));
            continue;
        };
        let path = join(path, &quantile.to_string());
        let bound = r.scalar(&keys::SLO_BOUND, value.get_ref(), &value.span(), &path);
        // "p99" and "p99.0" are two keys and one quantile.
        if slos.iter().any(|slo: &Slo| slo.quantile == quantile) {
            r.mistake(&key.span(), &path, format!("{quantile} again"), "expected each quantile once");
        } else if let Some(crate::field::Value::Duration(bound)) = bound {
            slos.push(Slo { quantile, bound });
        }
    }
    slos.sort_by_key(|slo| slo.quantile);
    slos
}

fn accept<'t>(
    r: &mut Reader<'t>,
    t: &Table<'t>,
    arrangements: &[Option<super::model::Arrangement>],
    declared: &Declared,
) -> Option<Accept> {
    if let Some(entry) = t.entry("cell") {
        arrangement::check_cell(r, entry, arrangements, declared);
    }
    Some(Accept {
        cell: t.owned("cell")?,
        channel: t.owned("channel"),
        reason: t.owned("reason")?,
        by: t.owned("by")?,
        until: t.date("until")?,
    })
}
