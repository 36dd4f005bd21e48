//! The catalogue as text: for the terminal, as JSON, and as the page docs/workloads.md.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use super::{CATALOGUE, Role, Workload};
use crate::field::{Field, Kind};

/// The catalogue for the terminal: a line per workload.
pub fn table() -> String {
    let rows: Vec<[String; 4]> =
        CATALOGUE.iter().map(|w| [w.id.to_owned(), w.role.word().to_owned(), channels(w), w.doc.to_owned()]).collect();
    let head = ["workload", "used as", "channels", "what a request does"].map(str::to_owned);
    let width = |column: usize| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [id, role, channels, doc] in [&head].into_iter().chain(&rows) {
        let [a, b, c] = widths;
        let _ = writeln!(text, "{id:a$}  {role:b$}  {channels:c$}  {doc}");
    }
    text
}

/// The catalogue as JSON (`crosstalk list workloads --format json`).
pub fn to_json() -> Json {
    let workloads: Vec<Json> = CATALOGUE
        .iter()
        .map(|w| {
            json!({
                "id": w.id,
                "role": w.role.word(),
                "channels": w.channels,
                "doc": w.doc,
                "series": w.series(w.id),
                "host_bound": w.host_bound(),
                "params": w.params.iter().map(param).collect::<Vec<_>>(),
                "example": example(w),
            })
        })
        .collect();
    json!({ "format": "crosstalk-workloads", "version": 1, "workloads": workloads })
}

fn param(field: &Field) -> Json {
    json!({
        "key": field.key,
        "value": field.kind.expected(),
        "default": field.default,
        "required": field.required,
        "doc": field.doc,
    })
}

/// The page docs/workloads.md.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Workloads\n\n\
         Written from the catalogue in src/workload/ (a test compares). A *probe* is what a victim runs: its latency is\n\
         recorded. *Noise* is what a neighbour runs. The first channel is the one that reports name.\n\n\
         | workload | used as | channels | what a request does |\n|---|---|---|---|\n",
    );
    for w in CATALOGUE {
        let _ = writeln!(text, "| [`{0}`](#{0}) | {1} | {2} | {3} |", w.id, w.role.word(), channels(w), w.doc);
    }
    for w in CATALOGUE {
        let _ = write!(text, "\n## {}\n\n{}\n\n", w.id, w.doc);
        let _ = writeln!(text, "Used as: {}. Channels: {}.", w.role.word(), channels(w));
        if !w.marks.is_empty() {
            let _ = writeln!(text, "Series: {}.", w.series(w.id).join(", "));
        }
        if w.host_bound() {
            text.push_str("Allocates memory or creates contexts in a request: one in flight, in blocks of its own.\n");
        }
        if w.params.is_empty() {
            text.push_str("It has no parameters.\n");
        } else {
            text.push_str("\n| parameter | value | default | meaning |\n|---|---|---|---|\n");
            for f in w.params {
                let default = f.default.map_or_else(|| "derived".to_owned(), |d| format!("`{d}`"));
                let _ = writeln!(text, "| `{}` | {} | {default} | {} |", f.key, f.kind.expected(), f.doc);
            }
        }
        let _ = write!(text, "\n```toml\n{}```\n", example(w));
    }
    text
}

/// The lines of a scenario that use a workload in each of its roles, with its defaults written out.
pub fn example(workload: &Workload) -> String {
    let given: Vec<String> = workload
        .params
        .iter()
        .filter_map(|f| {
            let default = f.default?;
            let bare = matches!(f.kind, Kind::Count { .. } | Kind::Flag);
            Some(if bare { format!("{} = {default}", f.key) } else { format!("{} = \"{default}\"", f.key) })
        })
        .collect();
    let params = if given.is_empty() { String::new() } else { format!("{{ {} }}", given.join(", ")) };
    let mut text = String::new();
    if workload.role != Role::Noise {
        let params = if params.is_empty() { String::new() } else { format!(", params = {params}") };
        let _ = write!(text, "[victim]\npanel = [ {{ probe = \"{}\"{params} }} ]\n", workload.id);
    }
    if workload.role == Role::Both {
        text.push('\n');
    }
    if workload.role != Role::Probe {
        let _ = write!(text, "[[neighbour]]\nname = \"{0}\"\nnoise = \"{0}\"\n", workload.id);
        if !params.is_empty() {
            let _ = writeln!(text, "params = {params}");
        }
    }
    text
}

fn channels(workload: &Workload) -> String {
    workload.channels.iter().map(|c| c.id()).collect::<Vec<_>>().join(", ")
}

impl Role {
    /// The word in lists.
    const fn word(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Noise => "noise",
            Self::Both => "probe, noise",
        }
    }
}

impl Workload {
    /// The series that a probe with this name yields: its name, then one per mark.
    pub fn series(&self, name: &str) -> Vec<String> {
        std::iter::once(name.to_owned()).chain(self.marks.iter().map(|m| format!("{name}/{m}"))).collect()
    }
}
