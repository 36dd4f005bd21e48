//! The JSON Schema (draft 2020-12) of a scenario, for editors, derived from the tables of keys and the catalogue.

use serde_json::{Map, Value as Json, json};

use super::design::Tier;
use super::keys;
use crate::field::{Field, Kind, LONGEST_NAME, Shape};
use crate::hazard;
use crate::observation;
use crate::workload::{Role, Workload};

/// The schema, for the workloads of `catalogue`.
pub fn schema(catalogue: &[&'static Workload]) -> Json {
    document("crosstalk scenario", keys::TOP, keys::TABLES.iter().map(|(_, fields)| *fields), catalogue)
}

/// The schema of a file whose keys at its top are `top`. `tables` are all tables whose shapes it refers to.
pub(crate) fn document(
    title: &str,
    top: &[Field],
    tables: impl IntoIterator<Item = &'static [Field]>,
    catalogue: &[&'static Workload],
) -> Json {
    let mut root = object(top);
    let mut defs = Map::new();
    for fields in tables {
        fields.iter().for_each(|f| define(&f.kind, catalogue, &mut defs));
    }
    if let Some(map) = root.as_object_mut() {
        map.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        map.insert("title".into(), json!(title));
        map.insert("$defs".into(), Json::Object(defs));
    }
    root
}

/// Adds the shapes that `kind` refers to.
fn define(kind: &Kind, catalogue: &[&'static Workload], defs: &mut Map<String, Json>) {
    match kind {
        Kind::Special(shape) => {
            let mut schema = (shape.schema)(catalogue);
            if let Some(map) = schema.as_object_mut() {
                map.entry("description").or_insert_with(|| json!(format!("Expected: {}.", shape.expected)));
            }
            defs.insert(shape.name.to_owned(), schema);
        }
        Kind::List(of) => define(of, catalogue, defs),
        _ => {}
    }
}

/// A table with these keys and no others.
fn object(fields: &[Field]) -> Json {
    let properties: Map<_, _> = fields.iter().map(|f| (f.key.to_owned(), property(f))).collect();
    let required: Vec<_> = fields.iter().filter(|f| f.required).map(|f| f.key).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if let (false, Some(map)) = (required.is_empty(), schema.as_object_mut()) {
        map.insert("required".into(), json!(required));
    }
    for shape in [&keys::PARAMS, &keys::HAZARD_PARAMS] {
        if fields.iter().any(|f| matches!(f.kind, Kind::Special(of) if of.name == shape.name)) {
            // The parameters allowed depend on the workload, or the hazard, named beside them.
            schema["allOf"] = json!([{ "$ref": format!("#/$defs/{}", shape.name) }]);
        }
    }
    schema
}

fn property(field: &Field) -> Json {
    let mut schema = of_kind(&field.kind);
    if let Some(map) = schema.as_object_mut() {
        map.insert("description".into(), json!(described(field)));
        if let Some(default) = field.default {
            map.insert("default".into(), default_value(&field.kind, default));
        }
    }
    schema
}

/// The doc line of a key with the defaults that depend on the tier.
pub(super) fn described(field: &Field) -> String {
    // Other tables have keys of the same names.
    let of_design = keys::DESIGN.iter().chain(keys::CONTROLS).any(|f| (f.key, f.doc) == (field.key, field.doc));
    match tier_defaults(field.key).filter(|_| of_design) {
        Some(defaults) => format!("{} Default by tier: {defaults}.", field.doc),
        None => field.doc.to_owned(),
    }
}

/// Defaults of a key of `[design]` that follow the tier, where they do.
fn tier_defaults(key: &str) -> Option<String> {
    let of = |tier: &Tier| {
        let d = tier.defaults();
        Some(match key {
            "blocks" => d.blocks.to_string(),
            "window" => d.window.to_string(),
            "max_window" => d.max_window.to_string(),
            "judged" => d.judged.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            "looks" => match d.looks.as_slice() {
                [_] => "none before the end".to_owned(),
                [early @ .., _] => {
                    let early: Vec<_> = early.iter().map(|l| format!("{} ({})", l.blocks, l.spends)).collect();
                    format!("{} and the end", early.join(" "))
                }
                [] => return None,
            },
            "presence" => d.controls.presence.to_string(),
            "sensitivity" => d.controls.sensitivity.to_string(),
            "delay" => d.controls.delay.to_string(),
            "sampler" => d.controls.sampler.to_string(),
            _ => return None,
        })
    };
    let all: Option<Vec<_>> = Tier::ALL.iter().map(|t| Some(format!("{t} {}", of(t)?))).collect();
    all.map(|all| all.join(", "))
}

fn default_value(kind: &Kind, text: &str) -> Json {
    match kind {
        Kind::Count { .. } => text.parse::<u64>().map_or(Json::Null, |n| json!(n)),
        Kind::Flag => json!(text == "true"),
        _ => json!(text),
    }
}

const NUMBER: &str = "[0-9]+(\\.[0-9]+)?";
const SIZE: &str = "(B|KiB|MiB|GiB|TiB)";

/// Text of this pattern.
pub(crate) fn text(pattern: &str) -> Json {
    json!({ "type": "string", "pattern": format!("^{pattern}$") })
}

/// What JSON Schema can say of a kind. Bounds on quantities with units are the reader's alone: they stand in the
/// description.
fn of_kind(kind: &Kind) -> Json {
    match kind {
        Kind::Duration { .. } => text(&format!("{NUMBER} ?(ns|us|µs|ms|s|min|h)")),
        Kind::Size { .. } => text(&format!("({NUMBER} ?{SIZE}|{NUMBER} ?%)")),
        Kind::Bytes { .. } => text(&format!("{NUMBER} ?{SIZE}")),
        Kind::Share { .. } => text(&format!("{NUMBER} ?%")),
        Kind::Rate { .. } => text(&format!("{NUMBER} ?/s")),
        Kind::Count { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Text => json!({ "type": "string", "minLength": 1 }),
        Kind::Name => text(&format!("[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{}}}", LONGEST_NAME - 1)),
        Kind::Date => json!({ "type": "string", "format": "date" }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Table(fields) => object(fields),
        Kind::List(of) => json!({ "type": "array", "minItems": 1, "items": of_kind(of) }),
        Kind::Special(Shape { name: "params", .. }) => json!({ "type": "object" }),
        Kind::Special(Shape { name, .. }) => json!({ "$ref": format!("#/$defs/{name}") }),
    }
}

pub(super) fn device(_: &[&'static Workload]) -> Json {
    text("(auto|all|sim|sim:.+|cuda|cuda:[0-9]+|(GPU|MIG)-.+)")
}

pub(super) fn quantile(_: &[&'static Workload]) -> Json {
    text(QUANTILE)
}
const QUANTILE: &str = "p[0-9]{1,2}(\\.[0-9]{1,3})?";

pub(super) fn margin(_: &[&'static Workload]) -> Json {
    json!({ "type": "array", "minItems": 2, "maxItems": 2, "items": text(&format!("{NUMBER} ?%")) })
}

pub(super) fn looks(_: &[&'static Workload]) -> Json {
    let blocks = of_kind(&keys::LOOK[0].kind);
    json!({ "oneOf": [
        { "const": "none" },
        { "type": "array", "minItems": 1, "items": blocks },
        { "type": "array", "minItems": 1, "items": object(keys::LOOK) },
    ] })
}

fn ids(catalogue: &[&'static Workload], not: Role) -> Json {
    let ids: Vec<_> = catalogue.iter().filter(|w| w.role != not).map(|w| w.id).collect();
    json!({ "enum": ids })
}
pub(super) fn probe_id(catalogue: &[&'static Workload]) -> Json {
    ids(catalogue, Role::Noise)
}
pub(super) fn noise_id(catalogue: &[&'static Workload]) -> Json {
    ids(catalogue, Role::Probe)
}

/// Applies to a whole panel entry or neighbour: what `params` may hold follows from its `probe` or `noise`.
pub(super) fn params(catalogue: &[&'static Workload]) -> Json {
    let rules = catalogue.iter().flat_map(|w| {
        let roles: &[&str] = match w.role {
            Role::Probe => &["probe"],
            Role::Noise => &["noise"],
            Role::Both => &["probe", "noise"],
        };
        let mut table = object(w.params);
        table["description"] = json!(w.doc);
        roles.iter().map(move |role| {
            json!({
                "if": { "properties": { (*role): { "const": w.id } }, "required": [role] },
                "then": { "properties": { "params": table } },
            })
        })
    });
    json!({ "allOf": rules.collect::<Vec<_>>() })
}

pub(super) fn hazard_id(_: &[&'static Workload]) -> Json {
    json!({ "enum": hazard::CATALOGUE.iter().map(|hazard| hazard.id).collect::<Vec<_>>() })
}

pub(super) fn hazard_params(_: &[&'static Workload]) -> Json {
    let rule = |hazard: &&hazard::Hazard| {
        let mut table = object(hazard.params);
        table["description"] = json!(hazard.doc);
        json!({
            "if": { "properties": { "hazard": { "const": hazard.id } }, "required": ["hazard"] },
            "then": { "properties": { "params": table } },
        })
    };
    json!({ "allOf": hazard::CATALOGUE.iter().map(rule).collect::<Vec<_>>() })
}

pub(super) fn arrivals(_: &[&'static Workload]) -> Json {
    let mut table = object(keys::ARRIVALS_TABLE);
    table["minProperties"] = json!(1);
    table["maxProperties"] = json!(1);
    json!({ "oneOf": [{ "const": "auto" }, table], "default": "auto" })
}

pub(super) fn slo(_: &[&'static Workload]) -> Json {
    let bound = of_kind(&keys::SLO_BOUND);
    json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": false,
        "patternProperties": { (format!("^{QUANTILE}$")): bound },
    })
}

pub(super) fn layout(_: &[&'static Workload]) -> Json {
    let share = json!({ "oneOf": [{ "type": "string", "minLength": 1 }, object(keys::SHARE)] });
    json!({ "oneOf": [{ "const": "as-found" }, { "type": "array", "minItems": 1, "items": share }], "default": "as-found" })
}

pub(super) fn tenants(_: &[&'static Workload]) -> Json {
    json!({ "oneOf": [{ "type": "integer", "minimum": 2, "maximum": keys::MOST_TENANTS }, object(keys::DENSITY)] })
}

pub(super) fn count(_: &[&'static Workload]) -> Json {
    let one = json!({ "type": "integer", "minimum": 1, "maximum": keys::MOST_TENANTS });
    json!({ "oneOf": [one, { "type": "array", "minItems": 1, "uniqueItems": true, "items": one }] })
}

pub(super) fn seat(_: &[&'static Workload]) -> Json {
    text("[0-9]+(\\.[0-9]+)?")
}

pub(super) fn require(_: &[&'static Workload]) -> Json {
    let mut schema = words(keys::words_of(true));
    schema["oneOf"][1]["properties"] = json!({ (super::expectation::Expectation::SLO): { "enum": keys::SLO_WORDS } });
    schema
}
pub(super) fn expect(_: &[&'static Workload]) -> Json {
    words(keys::words_of(false))
}
pub(super) fn observe(_: &[&'static Workload]) -> Json {
    let properties: Map<_, _> = observation::CATALOGUE
        .iter()
        .map(|o| (o.id.to_owned(), json!({ "enum": o.words().collect::<Vec<_>>(), "description": o.what })))
        .collect();
    json!({ "type": "object", "minProperties": 1, "additionalProperties": false, "properties": properties })
}
/// One of these words, or a table of them.
pub(crate) fn words(words: &[&str]) -> Json {
    let word = json!({ "enum": words });
    json!({ "oneOf": [word, { "type": "object", "minProperties": 1, "additionalProperties": word }] })
}
