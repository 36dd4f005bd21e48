//! The reference of keys for the documentation, derived from the tables of keys.

use super::keys;
use super::schema::described;
use crate::field::{Field, Kind};
use crate::hazard;
use crate::observation;

/// Every key of a scenario as Markdown: a section and a table per tagged thing.
pub fn reference_markdown() -> String {
    let mut out = String::from("# Keys of a scenario\n\nA unit is part of every quantity that has one.\n");
    for (heading, fields) in keys::TABLES {
        out.push_str(&format!("\n## {heading}\n\n| key | value | default | meaning |\n|---|---|---|---|\n"));
        fields.iter().for_each(|f| out.push_str(&row(f)));
    }
    out + "\n" + &hazard::markdown() + "\n" + &observation::markdown()
}

fn row(field: &Field) -> String {
    let default = match (field.default, field.required) {
        (Some(default), _) => format!("`{default}`"),
        (None, true) => "required".to_owned(),
        (None, false) => String::new(),
    };
    let value = match &field.kind {
        Kind::Word(words) if words.len() > 1 => {
            format!("one of {}", words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "))
        }
        Kind::Table(_) => "a table, see below".to_owned(),
        Kind::List(Kind::Table(_)) => "a list of tables, see below".to_owned(),
        kind => kind.expected(),
    };
    let cells = [format!("`{}`", field.key), value, default, described(field)];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}
