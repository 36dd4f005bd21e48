//! The catalogue as text: for the terminal, as JSON, and as a part of docs/scenario.md.

use super::{CATALOGUE, Hazard};

/// Every hazard with its parameters, for a terminal.
pub fn table() -> String {
    let width = CATALOGUE.iter().map(|hazard| hazard.id.len()).max().unwrap_or(0);
    let mut out = String::new();
    for hazard in CATALOGUE {
        out.push_str(&format!("{:width$}  {} ({})\n", hazard.id, hazard.doc, hazard.channel.id()));
        let keys = hazard.params.iter().map(|field| field.key.len()).max().unwrap_or(0);
        for field in hazard.params {
            let default = field.default.unwrap_or("none");
            out.push_str(&format!("{:width$}    {:keys$}  default {default}: {}\n", "", field.key, field.doc));
        }
    }
    out
}

/// The same as JSON.
pub fn list_json() -> serde_json::Value {
    let entry = |hazard: &&Hazard| {
        let params: Vec<_> = hazard
            .params
            .iter()
            .map(
                |f| serde_json::json!({ "key": f.key, "value": f.kind.expected(), "default": f.default, "doc": f.doc }),
            )
            .collect();
        serde_json::json!({ "id": hazard.id, "channel": hazard.channel.id(), "doc": hazard.doc, "params": params })
    };
    CATALOGUE.iter().map(entry).collect()
}

/// The same as a section of a document.
pub fn markdown() -> String {
    let mut out = "## Hazards\n\nWhat `hazard` knows: what a neighbour may do beside slowing the victim. Each is tried a \
                   number of times.\n\n| hazard | channel | what is tried | parameter | value | default | |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    for hazard in CATALOGUE {
        for (i, field) in hazard.params.iter().enumerate() {
            let head = if i == 0 {
                [format!("`{}`", hazard.id), hazard.channel.id().to_owned(), hazard.doc.to_owned()]
            } else {
                Default::default()
            };
            out.push_str(&format!(
                "| {} | `{}` | {} | {} | {} |\n",
                head.join(" | "),
                field.key,
                field.kind.expected(),
                field.default.map_or_else(|| "none".to_owned(), |text| format!("`{text}`")),
                field.doc
            ));
        }
    }
    out
}
