//! Reports as JSON, and the JSON Schemas of what crosstalk writes.

use schemars::Schema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Value, json};

use crate::run_dir;

use super::ReportError;
use super::model::Report;

/// The report as JSON, the banner first, with a newline at its end.
pub(super) fn render(report: &Report) -> Result<String, ReportError> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}

/// JSON Schema of a report.
pub fn report_schema() -> Value {
    document("crosstalk report", |generator| vec![generator.subschema_for::<Report>()])
}

/// JSON Schema of the JSON in a run directory: each JSON file and each line of the event log is one of its documents.
pub fn run_schema() -> Value {
    document("crosstalk run directory", run_dir::schemas)
}

/// A schema document whose instances match one of `roots`.
pub(crate) fn document(title: &str, roots: impl FnOnce(&mut SchemaGenerator) -> Vec<Schema>) -> Value {
    // Described as written, not as read: a reader may rely on every field that crosstalk writes.
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut generator = settings.into_generator();
    let mut roots: Vec<Value> = roots(&mut generator).into_iter().map(Schema::to_value).collect();
    let definitions: Value = generator.take_definitions(true).into();
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "$defs": definitions,
    });
    match roots.len() {
        1 => document["$ref"] = roots.swap_remove(0)["$ref"].take(),
        _ => document["anyOf"] = roots.into(),
    }
    document
}
