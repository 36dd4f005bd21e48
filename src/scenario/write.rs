//! A scenario as canonical TOML: every default visible, one spelling per value. Reads back equal.

use std::fmt::Write;

use super::expectation::Expectation;
use super::keys::SCHEMA_VERSION;
use super::model::{
    Accept, Arrangement, Arrivals, Density, LayoutEntry, Neighbour, Probe, Scenario, SharingMode, Slo, Trial,
};
use crate::field::Value;
use crate::observation::ANY;
use crate::workload::Params;

impl Scenario {
    /// The scenario with every default resolved, as TOML that reads back equal.
    pub fn write(&self) -> String {
        let mut top = Keys::default();
        top.put("schema", SCHEMA_VERSION);
        top.text("name", &self.name);
        top.optional("description", self.description.as_deref());
        top.optional("device", self.device.as_deref());
        top.optional("gpu", self.gpu.as_deref());
        top.put("seed", self.seed);
        top.put("allow_faults", self.allow_faults);
        top.put("allow_oom", self.allow_oom);
        top.put("allow_power", self.allow_power);
        let mut out = top.lines();

        section(&mut out, "[design]", &self.design());
        if self.panel.is_empty() {
            self.hazards_and_rest(&mut out);
            return out;
        }
        let probes: String = self.panel.iter().map(|p| format!("    {},\n", probe(p).inline())).collect();
        out.push_str(&format!("\n[victim]\npanel = [\n{probes}]\n"));
        self.neighbours.iter().for_each(|n| section(&mut out, "[[neighbour]]", &neighbour(n)));
        self.hazards_and_rest(&mut out);
        out
    }

    fn hazards_and_rest(&self, out: &mut String) {
        self.hazards.iter().for_each(|h| section(out, "[[hazard]]", &hazard(h)));
        self.arrangements.iter().for_each(|a| section(out, "[[arrangement]]", &self.arrangement(a)));
        self.accepted.iter().for_each(|a| section(out, "[[accept]]", &accept(a)));
    }

    fn design(&self) -> Keys {
        let d = &self.design;
        let mut keys = Keys::default();
        keys.text("tier", d.tier.id());
        keys.put("blocks", d.blocks);
        keys.put("blocks_per_generation", d.blocks_per_generation);
        // What follows from load and objectives is not the design's.
        if self.arrangements.iter().all(|a| a.density.as_ref().is_none_or(|density| density.window.is_some())) {
            keys.text("window", &d.window.to_string());
        }
        keys.text("max_window", &d.max_window.to_string());
        keys.text("washout", &d.washout.to_string());
        keys.text("drain", &d.drain.to_string());
        keys.put("judged", list(d.judged.iter().map(ToString::to_string)));
        let mut margins = Keys::default();
        for (key, (isolated, violated)) in [("p50", d.margins.p50), ("p99", d.margins.p99), ("p99.9", d.margins.p999)] {
            margins.put(key, list([isolated.to_string(), violated.to_string()]));
        }
        keys.put("margins", margins.inline());
        match d.looks.as_slice() {
            [] | [_] => keys.text("looks", "none"),
            looks => {
                let looks: Vec<_> = looks
                    .iter()
                    .map(|look| {
                        format!("{{ blocks = {}, spends = {} }}", look.blocks, quoted(&look.spends.to_string()))
                    })
                    .collect();
                keys.put("looks", format!("[{}]", looks.join(", ")));
            }
        }
        let mut controls = Keys::default();
        controls.put("again", d.controls.again);
        controls.put("presence", d.controls.presence);
        controls.put("sensitivity", d.controls.sensitivity);
        controls.put("delay", d.controls.delay);
        controls.put("sampler", d.controls.sampler);
        keys.put("controls", controls.inline());
        keys.optional("max_duration", d.max_duration.map(|most| most.to_string()).as_deref());
        keys
    }

    fn arrangement(&self, a: &Arrangement) -> Keys {
        let mut keys = Keys::default();
        keys.text("name", &a.name);
        keys.text("sharing", a.sharing.id());
        if [SharingMode::Mps, SharingMode::MigMps].contains(&a.sharing) {
            keys.text("mps_daemon", a.mps_daemon.id());
        }
        if let Some(level) = a.time_slice {
            keys.text("time_slice", level.id());
        }
        if let Some(density) = &a.density {
            keys.put("tenants", self.density(density));
            return keys;
        }
        match &a.layout {
            None => keys.text("layout", "as-found"),
            Some(layout) => {
                keys.put("layout", format!("[{}]", layout.iter().map(share).collect::<Vec<_>>().join(", ")));
            }
        }
        let probes = a.panel.iter().filter_map(|i| self.panel.get(*i)).map(|p| p.name.clone());
        let hazards = a.hazards.iter().filter_map(|i| self.hazards.get(*i)).map(|h| h.name.clone());
        let neighbours = a.neighbours.iter().filter_map(|i| self.neighbours.get(*i)).map(|n| n.name.clone());
        // A list in a scenario is not empty.
        if !self.panel.is_empty() {
            keys.put("panel", list(probes));
            keys.put("neighbours", list(neighbours));
        }
        if !a.hazards.is_empty() {
            keys.put("hazards", list(hazards));
        }
        for (key, seats) in [("victim_at", &a.victim_at), ("neighbour_at", &a.neighbour_at)] {
            if let Some(seats) = seats {
                keys.put(key, list(seats.iter().cloned()));
            }
        }
        expectation(&mut keys, "require", &a.require);
        expectation(&mut keys, "expect", &a.expect);
        if !a.observe.is_empty() {
            let mut asked = Keys::default();
            a.observe.iter().for_each(|o| asked.text(&o.id, o.required.as_deref().unwrap_or(ANY)));
            keys.put("observe", asked.inline());
        }
        keys.optional("against", a.against.as_deref());
        keys
    }
}

impl Scenario {
    fn density(&self, density: &Density) -> String {
        let mut keys = Keys::default();
        keys.put("count", format!("{:?}", density.counts));
        keys.optional("all", self.panel.get(density.probe).map(|probe| probe.name.as_str()));
        keys.put("every", density.every);
        for (key, number) in [("at_least", density.at_least), ("instances", density.instances)] {
            if let Some(number) = number {
                keys.put(key, number);
            }
        }
        keys.optional("memory", density.memory.map(|memory| memory.to_string()).as_deref());
        keys.inline()
    }
}

fn probe(p: &Probe) -> Keys {
    let mut keys = Keys::default();
    keys.text("probe", p.workload.id);
    keys.text("name", &p.name);
    params(&mut keys, &p.params);
    match p.arrivals {
        Arrivals::Auto => keys.text("arrivals", "auto"),
        Arrivals::Poisson(rate) => keys.put("arrivals", format!("{{ poisson = \"{rate}\" }}")),
        Arrivals::Fixed(rate) => keys.put("arrivals", format!("{{ fixed = \"{rate}\" }}")),
    }
    if !p.slos.is_empty() {
        let mut slos = Keys::default();
        p.slos.iter().for_each(|Slo { quantile, bound }| slos.text(&quantile.to_string(), &bound.to_string()));
        keys.put("slo", slos.inline());
    }
    keys.put("outstanding", p.outstanding);
    keys
}

fn neighbour(n: &Neighbour) -> Keys {
    let mut keys = Keys::default();
    keys.text("name", &n.name);
    keys.text("noise", n.workload.id);
    params(&mut keys, &n.params);
    keys.text("duty", &n.duty.to_string());
    keys.text("burst", &n.burst.to_string());
    keys.put("queued", n.queued);
    keys
}

fn hazard(h: &Trial) -> Keys {
    let mut keys = Keys::default();
    keys.text("name", &h.name);
    keys.text("hazard", h.hazard.id);
    params(&mut keys, &h.params);
    keys
}

fn params(keys: &mut Keys, params: &Params) {
    if !params.0.is_empty() {
        let mut inner = Keys::default();
        params.0.iter().for_each(|(key, v)| inner.put(key, value(v)));
        keys.put("params", inner.inline());
    }
}

fn share(entry: &LayoutEntry) -> String {
    if let (Some(profile), true) =
        (&entry.profile, LayoutEntry { profile: None, ..entry.clone() } == LayoutEntry::PLAIN)
    {
        return quoted(profile);
    }
    let mut keys = Keys::default();
    keys.optional("profile", entry.profile.as_deref());
    keys.optional("sms", entry.sms.map(|s| s.to_string()).as_deref());
    if entry.reserved {
        keys.put("reserved", true);
    }
    keys.optional("memory", entry.memory.map(|m| m.to_string()).as_deref());
    if entry.tenants != 1 || keys.0.is_empty() {
        keys.put("tenants", entry.tenants);
    }
    keys.inline()
}

fn expectation(keys: &mut Keys, key: &str, e: &Expectation) {
    if !e.0.is_empty() {
        let mut rules = Keys::default();
        e.0.iter().for_each(|rule| rules.text(&rule.key, rule.word.id()));
        keys.put(key, rules.inline());
    }
}

fn accept(a: &Accept) -> Keys {
    let mut keys = Keys::default();
    keys.text("cell", &a.cell);
    keys.optional("channel", a.channel.as_deref());
    keys.text("reason", &a.reason);
    keys.text("by", &a.by);
    keys.put("until", a.until);
    keys
}

/// Keys with values already in TOML, in order.
#[derive(Default)]
struct Keys(Vec<(String, String)>);

impl Keys {
    fn put(&mut self, key: &str, value: impl ToString) {
        self.0.push((bare_or_quoted(key), value.to_string()));
    }
    fn text(&mut self, key: &str, text: &str) {
        self.put(key, quoted(text));
    }
    fn optional(&mut self, key: &str, text: Option<&str>) {
        text.into_iter().for_each(|text| self.text(key, text));
    }
    /// One line per key.
    fn lines(&self) -> String {
        self.0.iter().fold(String::new(), |mut out, (key, value)| {
            let _ = writeln!(out, "{key} = {value}"); // writing to a String cannot fail
            out
        })
    }
    /// An inline table.
    fn inline(&self) -> String {
        let pairs: Vec<_> = self.0.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        format!("{{ {} }}", pairs.join(", "))
    }
}

fn section(out: &mut String, heading: &str, keys: &Keys) {
    out.push_str(&format!("\n{heading}\n{}", keys.lines()));
}

fn value(value: &Value) -> String {
    match value {
        Value::Count(_) | Value::Flag(_) | Value::Date(_) => value.to_string(),
        _ => quoted(&value.to_string()),
    }
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().map(|item| quoted(&item)).collect::<Vec<_>>().join(", "))
}

fn bare_or_quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { key.to_owned() } else { quoted(key) }
}

/// `text` as a TOML basic string on one line.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
