//! Reading one `[[arrangement]]`: its layout, its seats, who runs there, what is required and expected.

use toml::de::DeValue;

use super::density;
use super::expectation::{Expectation, Rule};
use super::keys;
use super::model::{Arrangement, LayoutEntry, MpsDaemon, SharingMode, TimeSlice, channel_of, seats_of};
use super::observe;
use super::tree::{Entry, Node, Reader, Table, join};
use crate::channel::Channel;
use crate::gpu::compute_part;
use crate::hazard::Hazard;
use crate::units::{Nanos, Share};
use crate::workload::Workload;

/// What the scenario declares, by name; a workload that is not known is none.
pub(super) struct Declared {
    pub probes: Vec<(String, Option<&'static Workload>)>,
    pub neighbours: Vec<(String, Option<&'static Workload>)>,
    pub hazards: Vec<(String, Option<&'static Hazard>)>,
    /// Indices of the probes that have an objective.
    pub objectives: Vec<usize>,
    /// Indices of the probes whose load is the user's.
    pub loads: Vec<usize>,
    /// Length of a window, where the design gives it.
    pub window: Option<Nanos>,
}

/// Reads an arrangement; `None` only after a mistake.
pub(super) fn read<'t>(r: &mut Reader<'t>, t: &Table<'t>, declared: &Declared) -> Option<Arrangement> {
    let sharing: Option<SharingMode> = t.text("sharing").and_then(|text| text.parse().ok());
    let mps_daemon = mps_daemon(r, t, sharing);
    let time_slice = time_slice(r, t, sharing);
    if density::is_density(t) {
        let density = density::read(r, t, sharing, declared)?;
        return Some(Arrangement {
            name: t.owned("name")?,
            sharing: sharing?,
            mps_daemon,
            time_slice,
            layout: None,
            panel: vec![density.probe],
            neighbours: Vec::new(),
            hazards: Vec::new(),
            victim_at: None,
            neighbour_at: None,
            require: Expectation::default(),
            expect: Expectation::default(),
            observe: Vec::new(),
            against: None,
            density: Some(density),
        });
    }
    let layout = layout(r, t, sharing);
    let panel = subset(r, t, "panel", &declared.probes, "a probe of the victim's panel");
    let neighbours = subset(r, t, "neighbours", &declared.neighbours, "a neighbour of this scenario");
    let hazards = subset(r, t, "hazards", &declared.hazards, "a hazard of this scenario");
    let seats = match (sharing, &layout) {
        (Some(sharing), Some(layout)) => Some(seats_of(sharing, layout)),
        _ => None,
    };
    let victim_at = places(r, t, "victim_at", seats.as_deref());
    let neighbour_at = places(r, t, "neighbour_at", seats.as_deref());
    if let (Some([victim]), Some([neighbour]), Some(entry)) =
        (victim_at.as_deref(), neighbour_at.as_deref(), t.entry("neighbour_at"))
        && victim == neighbour
    {
        r.mistake(&entry.span, &entry.path, "the victim's own seat", "expected another seat for the neighbours");
    }
    let here = Here::new(declared, &panel, &neighbours, &hazards);
    let require = expectation(r, t, "require", &here);
    let expect = expectation(r, t, "expect", &here);
    Some(Arrangement {
        name: t.owned("name")?,
        sharing: sharing?,
        mps_daemon,
        time_slice,
        layout,
        panel,
        neighbours,
        hazards,
        victim_at,
        neighbour_at,
        require,
        expect,
        observe: observe::read(r, t),
        against: t.owned("against"),
        density: None,
    })
}

/// Whose daemon MPS runs under, where the mode has one.
fn mps_daemon<'t>(r: &mut Reader<'t>, t: &Table<'t>, sharing: Option<SharingMode>) -> MpsDaemon {
    let with_mps = [SharingMode::Mps, SharingMode::MigMps];
    if let (Some(entry), Some(sharing)) = (t.entry("mps_daemon"), sharing.filter(|s| !with_mps.contains(s))) {
        r.mistake(&entry.span, &entry.path, "`mps_daemon`", format!("expected none under {sharing}: it has no MPS"));
    }
    if t.text("mps_daemon") == Some(MpsDaemon::Running.id()) { MpsDaemon::Running } else { MpsDaemon::Own }
}

/// The level of the time slice that is asked for, where the mode has one: it is the whole GPU's, and none under MIG.
fn time_slice<'t>(r: &mut Reader<'t>, t: &Table<'t>, sharing: Option<SharingMode>) -> Option<TimeSlice> {
    let text = t.text("time_slice")?;
    if let (Some(entry), Some(sharing)) = (t.entry("time_slice"), sharing.filter(|s| *s != SharingMode::TimeSlicing)) {
        let why = match sharing {
            SharingMode::MigTimeSlicing => "the driver has levels for a whole GPU only, and none under MIG",
            _ => "tenants take no turns by time there",
        };
        r.mistake(&entry.span, &entry.path, "`time_slice`", format!("expected none under {sharing}: {why}"));
    }
    TimeSlice::ALL.into_iter().find(|level| level.id() == text)
}

/// Indices of the names listed under `key`; all where it is not there.
fn subset<'t, T>(r: &mut Reader<'t>, t: &Table<'t>, key: &str, names: &[(String, T)], expected: &str) -> Vec<usize> {
    let Some(list) = t.list(key) else { return (0..names.len()).collect() };
    let mut chosen = Vec::new();
    for entry in list {
        let Some(text) = entry.text() else { continue };
        match names.iter().position(|(name, _)| name == text) {
            Some(index) if chosen.contains(&index) => {
                r.mistake(&entry.span, &entry.path, format!("\"{text}\" again"), "expected each name once");
            }
            Some(index) => chosen.push(index),
            None => unknown_name(r, entry, text, expected, &names.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>()),
        }
    }
    chosen.sort_unstable();
    chosen
}

/// Notes a name that nothing has, unless its owner may stand in what could not be parsed.
pub(super) fn unknown_name(r: &mut Reader<'_>, entry: &Entry<'_>, text: &str, expected: &str, names: &[&str]) {
    if !r.broken {
        r.mistake_among(&entry.span, &entry.path, format!("\"{text}\""), format!("expected {expected}"), text, names);
    }
}

/// Keys of a layout entry that mean something under a mode.
const fn share_keys(sharing: SharingMode) -> &'static [&'static str] {
    match sharing {
        SharingMode::Exclusive => &[],
        SharingMode::Streams | SharingMode::TimeSlicing | SharingMode::SeparateGpus => &["tenants"],
        SharingMode::GreenContexts => &["sms", "tenants"],
        SharingMode::Mps => &["sms", "reserved", "memory", "tenants"],
        SharingMode::Mig => &["profile"],
        SharingMode::MigComputeInstances | SharingMode::MigTimeSlicing => &["profile", "tenants"],
        SharingMode::MigMps => &["profile", "sms", "memory", "tenants"],
    }
}

/// The layout, from `layout` or `tenants`; `None`: as found.
fn layout<'t>(r: &mut Reader<'t>, t: &Table<'t>, sharing: Option<SharingMode>) -> Option<Vec<LayoutEntry>> {
    let tenants = t.special("tenants").and_then(|(node, path)| tenants(r, node, path, sharing));
    let Some((node, path)) = t.special("layout") else { return tenants };
    if t.entry("tenants").is_some() {
        r.mistake(&node.span(), path, "a layout beside `tenants`", "expected one of the two");
        return None;
    }
    let items = match node.get_ref() {
        DeValue::String(text) if text == "as-found" => return None,
        DeValue::Array(items) if !items.is_empty() => items,
        _ => {
            r.unexpected(node, path, keys::LAYOUT.expected);
            return None;
        }
    };
    if sharing == Some(SharingMode::Exclusive) {
        r.mistake(&node.span(), path, "a layout", "expected none: under exclusive the victim has the GPU for itself");
        return None;
    }
    let before = r.mistakes.len();
    let entries: Vec<_> =
        items.iter().enumerate().filter_map(|(i, item)| share(r, item, format!("{path}[{i}]"), sharing)).collect();
    if let (true, Some(sharing)) = (r.mistakes.len() == before, sharing) {
        check_layout(r, node, path, sharing, &entries);
    }
    Some(entries)
}

/// `tenants = N`: N equal shares.
fn tenants<'t>(
    r: &mut Reader<'t>,
    node: Node<'t>,
    path: &str,
    sharing: Option<SharingMode>,
) -> Option<Vec<LayoutEntry>> {
    let integer = node.get_ref().as_integer();
    let count = integer.and_then(|i| u32::from_str_radix(i.as_str(), i.radix()).ok());
    let Some(count) = count.filter(|n| (2..=keys::MOST_TENANTS).contains(&u64::from(*n))) else {
        r.unexpected(node, path, keys::TENANTS.expected);
        return None;
    };
    let sms = match sharing? {
        SharingMode::Streams | SharingMode::TimeSlicing | SharingMode::SeparateGpus => None,
        SharingMode::Mps | SharingMode::GreenContexts => Some(Share(Share::percent(100).0 / count)),
        other => {
            let expected = format!("expected a `layout`: under {other} equal shares need their profile");
            r.mistake(&node.span(), path, r.written(&node.span()), expected);
            return None;
        }
    };
    Some(vec![LayoutEntry { sms, tenants: count, ..LayoutEntry::PLAIN }])
}

/// One entry of a layout.
fn share<'t>(r: &mut Reader<'t>, node: Node<'t>, path: String, sharing: Option<SharingMode>) -> Option<LayoutEntry> {
    let entry = match node.get_ref() {
        DeValue::String(profile) => {
            if sharing.is_some_and(|s| !s.needs_mig()) {
                let found = format!("the MIG profile \"{profile}\"");
                let expected = format!("expected {} under {}", keys_in_words(sharing), name_of(sharing));
                r.mistake(&node.span(), &path, found, expected);
                return None;
            }
            LayoutEntry { profile: Some(profile.clone().into_owned()), ..LayoutEntry::PLAIN }
        }
        DeValue::Table(table) => {
            let t = r.table(keys::SHARE, Some(table), node.span(), path.clone());
            if let Some(sharing) = sharing {
                for (key, entry) in t.given().filter(|(key, _)| !share_keys(sharing).contains(key)) {
                    let expected = format!("expected {} under {sharing}", keys_in_words(Some(sharing)));
                    r.mistake(&entry.span, &entry.path, format!("`{key}`"), expected);
                }
            }
            LayoutEntry {
                profile: t.owned("profile"),
                sms: t.share("sms"),
                reserved: t.flag("reserved"),
                memory: t.bytes("memory"),
                tenants: t.count32("tenants")?,
            }
        }
        _ => {
            r.unexpected(
                node,
                &path,
                "a MIG profile (\"3g.40gb\") or a table ({ profile = \"3g.40gb\", tenants = 2 })",
            );
            return None;
        }
    };
    if let Some(sharing) = sharing {
        check_share(r, node, &path, sharing, &entry);
    }
    Some(entry)
}

fn name_of(sharing: Option<SharingMode>) -> &'static str {
    sharing.map_or("this mode", SharingMode::id)
}

fn keys_in_words(sharing: Option<SharingMode>) -> String {
    let keys = sharing.map_or(&[][..], share_keys);
    format!("a table with {}", keys.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(" or "))
}

/// What one entry must have under its mode.
fn check_share<'t>(r: &mut Reader<'t>, node: Node<'t>, path: &str, sharing: SharingMode, entry: &LayoutEntry) {
    let mut missing =
        |found: &str, expected: &str| r.mistake(&node.span(), path, found, format!("expected {expected}"));
    match &entry.profile {
        None if sharing.needs_mig() => missing("a share without its `profile`", "a MIG profile such as \"3g.40gb\""),
        Some(profile) => {
            let compute = compute_part(profile);
            let within = compute.map_or(profile.as_str(), |(_, instance)| instance);
            if !is_profile(within) {
                missing(&format!("\"{profile}\""), "a MIG profile such as \"3g.40gb\" or \"1g.10gb+me\"");
            } else if compute.is_some() && sharing != SharingMode::MigComputeInstances {
                missing(
                    &format!("the compute instance \"{profile}\""),
                    "a GPU instance; compute instances of one come under mig-compute-instances",
                );
            }
        }
        None => {}
    }
    if entry.sms.is_none() && entry.reserved {
        missing("a share without its `sms`", "its part of the SMs, such as `sms = \"50%\"`");
    }
}

/// What all entries together must be.
fn check_layout<'t>(r: &mut Reader<'t>, node: Node<'t>, path: &str, sharing: SharingMode, entries: &[LayoutEntry]) {
    let mut wrong =
        |found: String, expected: &str| r.mistake(&node.span(), path, found, format!("expected {expected}"));
    if seats_of(sharing, entries).len() < 2 {
        wrong("one seat".to_owned(), "at least two: the neighbour needs one beside the victim's");
    } else if sharing.nests() && entries.iter().all(|e| e.tenants == 1) {
        wrong("one tenant in each instance".to_owned(), "`tenants = 2` or more in one of them; else it is plain mig");
    }
    let set_apart = |e: &&LayoutEntry| e.reserved || sharing == SharingMode::GreenContexts;
    let taken: u64 =
        entries.iter().filter(set_apart).map(|e| u64::from(e.sms.unwrap_or_default().0) * u64::from(e.tenants)).sum();
    if taken > u64::from(Share::percent(100).0) {
        let taken = Share(u32::try_from(taken).unwrap_or(u32::MAX));
        wrong(format!("{taken} of the SMs set apart"), "100% at most");
    }
    if entries.iter().any(|e| e.reserved) && !entries.iter().all(|e| e.reserved) {
        wrong(
            "`reserved` for some shares".to_owned(),
            "it for all or for none: an MPS server partitions for all clients",
        );
    }
}

/// Whether `text` is spelled as a profile of a GPU instance: `<n>g.<n>gb`, then attributes after `+` or `-`.
fn is_profile(text: &str) -> bool {
    let (base, attributes) = match text.find(['+', '-']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let sized = base
        .split_once("g.")
        .is_some_and(|(slices, size)| number(slices) && size.strip_suffix("gb").is_some_and(number));
    let word = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase() || b == b'.');
    sized && attributes.is_none_or(word)
}

/// Seats listed under `key`; each must be one of `seats`, where they are known.
fn places<'t>(r: &mut Reader<'t>, t: &Table<'t>, key: &str, seats: Option<&[(String, usize)]>) -> Option<Vec<String>> {
    let mut places: Vec<String> = Vec::new();
    for entry in t.list(key)? {
        let Some((node, path)) = entry.special() else { continue };
        let Some(text) = node.get_ref().as_str().filter(|text| is_seat(text)) else {
            r.unexpected(node, path, keys::SEAT.expected);
            continue;
        };
        let ids = seats.map(|seats| seats.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>());
        if ids.as_ref().is_some_and(|ids| !ids.contains(&text)) {
            unknown_name(r, entry, text, "a seat of this layout", &ids.unwrap_or_default());
        } else if places.iter().any(|p| p == text) {
            r.mistake(&entry.span, path, format!("\"{text}\" again"), "expected each seat once");
        } else {
            places.push(text.to_owned());
        }
    }
    Some(places)
}

fn is_seat(text: &str) -> bool {
    text.split('.').count() <= 2
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// What runs in one arrangement: what the keys of its `require` and `expect` may name.
struct Here {
    neighbours: Vec<(String, Option<Channel>)>,
    hazards: Vec<(String, Option<Channel>)>,
    /// Series of the probes that run here; marks of an unknown workload are unknown.
    series: Vec<String>,
    /// Every workload is known.
    complete: bool,
    /// One of the probes has an objective.
    objectives: bool,
}

impl Here {
    fn new(declared: &Declared, panel: &[usize], neighbours: &[usize], hazards: &[usize]) -> Self {
        let probes: Vec<_> = panel.iter().filter_map(|i| declared.probes.get(*i)).collect();
        let neighbours: Vec<_> = neighbours.iter().filter_map(|i| declared.neighbours.get(*i)).collect();
        let hazards: Vec<_> = hazards.iter().filter_map(|i| declared.hazards.get(*i)).collect();
        let series = |(name, workload): &&(String, Option<&'static Workload>)| match workload {
            Some(w) => w.series(name),
            None => vec![name.clone()],
        };
        Self {
            objectives: panel.iter().any(|index| declared.objectives.contains(index)),
            complete: probes.iter().chain(&neighbours).all(|(_, w)| w.is_some())
                && hazards.iter().all(|(_, h)| h.is_some()),
            series: probes.iter().flat_map(series).collect(),
            hazards: hazards.into_iter().map(|(name, h)| (name.clone(), h.map(|h| h.channel))).collect(),
            neighbours: neighbours.into_iter().map(|(name, w)| (name.clone(), w.map(channel_of))).collect(),
        }
    }

    /// Whether `key` covers something that runs here.
    fn covers(&self, key: &str) -> bool {
        let neighbour = |name: &str| self.neighbours.iter().any(|(n, _)| n == name);
        match key.split_once('/') {
            Some((name, series)) => neighbour(name) && self.series.iter().any(|s| s == series),
            None => {
                let channel = |c: &Option<Channel>| c.is_some_and(|c| c.id() == key);
                let all = || self.neighbours.iter().chain(&self.hazards);
                key == Expectation::DEFAULT || all().any(|(name, c)| name == key || channel(c))
            }
        }
    }

    /// Every key that covers something, in the order in which one would look for it.
    fn keys(&self, like: &str) -> Vec<String> {
        let names = self.neighbours.iter().map(|(n, _)| n.clone());
        let hazards = self.hazards.iter().map(|(n, _)| n.clone());
        if like.contains('/') {
            return names.flat_map(|n| self.series.iter().map(move |s| format!("{n}/{s}"))).collect();
        }
        let mut channels: Vec<_> = self.neighbours.iter().chain(&self.hazards).filter_map(|(_, c)| *c).collect();
        channels.sort_unstable();
        channels.dedup();
        let channels = channels.into_iter().map(|c| c.id().to_owned());
        let mut keys: Vec<_> = std::iter::once(Expectation::DEFAULT.to_owned()).chain(names).chain(hazards).collect();
        keys.extend(channels.filter(|c| !self.neighbours.iter().chain(&self.hazards).any(|(n, _)| n == c)));
        keys
    }
}

/// `require` or `expect`: one word, or words by key.
fn expectation<'t>(r: &mut Reader<'t>, t: &Table<'t>, key: &str, here: &Here) -> Expectation {
    let require = key == keys::REQUIRE.name;
    let Some((node, path)) = t.special(key) else { return Expectation::default() };
    let rules = match node.get_ref() {
        DeValue::String(_) => {
            let rule = word(r, node, path, require).map(|word| Rule { key: Expectation::DEFAULT.to_owned(), word });
            return Expectation(rule.into_iter().collect());
        }
        DeValue::Table(table) if !table.is_empty() => table,
        _ => {
            r.unexpected(node, path, if require { keys::REQUIRE.expected } else { keys::EXPECT.expected });
            return Expectation::default();
        }
    };
    let mut read = Vec::new();
    for (key, value) in rules {
        let name = key.get_ref().as_ref();
        if require && name == Expectation::SLO {
            if !r.broken && !here.objectives {
                let expected = "expected `slo = { p99 = \"…\" }` at a probe that runs here";
                r.mistake(&key.span(), path, "no objective to require", expected);
            }
            if let Some(word) = one_of(r, value, &join(path, name), keys::SLO_WORDS) {
                read.push((key.span().start, Rule { key: name.to_owned(), word }));
            }
            continue;
        }
        if here.complete && !r.broken && !here.covers(name) {
            let known = here.keys(name);
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            let found = format!("the key `{name}` covers nothing that runs here");
            r.mistake_among(
                &key.span(),
                path,
                found,
                "expected a key that names something of this arrangement",
                name,
                &known,
            );
        }
        if let Some(word) = word(r, value, &join(path, name), require) {
            read.push((key.span().start, Rule { key: name.to_owned(), word }));
        }
    }
    read.sort_by_key(|(at, _)| *at);
    Expectation(read.into_iter().map(|(_, rule)| rule).collect())
}

/// A verdict's word, or the mistake with its choices: of `require` and a policy's `must`, or of `expect`.
pub(crate) fn word<'t>(
    r: &mut Reader<'t>,
    node: Node<'t>,
    path: &str,
    require: bool,
) -> Option<super::expectation::Word> {
    one_of(r, node, path, keys::words_of(require))
}

fn one_of<'t>(
    r: &mut Reader<'t>,
    node: Node<'t>,
    path: &str,
    words: &'static [&'static str],
) -> Option<super::expectation::Word> {
    let text = node.get_ref().as_str().unwrap_or_default();
    if words.contains(&text) {
        return text.parse().ok();
    }
    let found = r.written(&node.span());
    r.mistake_among(&node.span(), path, found, "expected one of the words listed below", text, words);
    None
}

/// Notes where `[[accept]]` names no cell of the scenario.
pub(super) fn check_cell(
    r: &mut Reader<'_>,
    entry: &Entry<'_>,
    arrangements: &[Option<Arrangement>],
    declared: &Declared,
) {
    let read: Option<Vec<_>> = arrangements.iter().map(Option::as_ref).collect();
    let (Some(text), Some(arrangements)) = (entry.text(), read) else { return };
    let names = |a: &Arrangement| -> Vec<&str> {
        let neighbours = a.neighbours.iter().filter_map(|n| declared.neighbours.get(*n).map(|(name, _)| name.as_str()));
        neighbours
            .chain(a.hazards.iter().filter_map(|h| declared.hazards.get(*h).map(|(name, _)| name.as_str())))
            .collect()
    };
    let (place, neighbour) = text.split_once('/').unwrap_or((text, ""));
    let (arrangement, seat) = match place.split_once('@') {
        Some((arrangement, seat)) => (arrangement, Some(seat)),
        None => (place, None),
    };
    let found = arrangements.iter().find(|a| a.name == arrangement);
    let runs = found.is_some_and(|a| names(a).contains(&neighbour));
    if !runs {
        let cells: Vec<_> =
            arrangements.iter().flat_map(|a| names(a).into_iter().map(|name| format!("{}/{name}", a.name))).collect();
        let cells: Vec<_> = cells.iter().map(String::as_str).collect();
        unknown_name(r, entry, text, "a cell, `arrangement/neighbour` or `arrangement@seat/neighbour`", &cells);
        return;
    }
    if let (Some(seat), Some(seats)) = (seat, found.and_then(|a| a.seats())) {
        let ids: Vec<_> = seats.iter().map(|(id, _)| id.as_str()).collect();
        if !ids.contains(&seat) {
            unknown_name(r, entry, text, &format!("a seat of {arrangement} after the @"), &ids);
        }
    } else if let Some(seat) = seat.filter(|seat| !is_seat(seat)) {
        r.mistake(
            &entry.span,
            &entry.path,
            format!("the seat \"{seat}\""),
            format!("expected {}", keys::SEAT.expected),
        );
    }
}
