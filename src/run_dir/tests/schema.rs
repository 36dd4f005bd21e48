//! The published schema is that of what is written.

use std::fs;

use jsonschema::Validator;
use serde_json::Value;

use super::fixture::*;
use crate::backend::{Company, Evidence, Purpose};
use crate::report::run_schema;
use crate::run_dir::{Digest, Note, RunDir, load};

/// The documents of a run: its JSON files, and each line of its event log.
fn documents(path: &std::path::Path) -> Vec<Value> {
    let text = |file: &str| fs::read_to_string(path.join(file)).unwrap();
    let files = ["manifest.json", "digest.json", "finished.json"].map(text);
    let log = text("events.jsonl");
    files.iter().map(String::as_str).chain(log.lines()).map(|text| serde_json::from_str(text).unwrap()).collect()
}

fn errors(validator: &Validator, document: &Value) -> Vec<String> {
    validator.iter_errors(document).map(|e| e.to_string()).collect()
}

/// Every object within `value`, itself included, by its JSON pointer. Maps with free keys are left out.
fn objects(at: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if !at.ends_with("/params") {
                found.push(at.to_owned());
            }
            fields.iter().for_each(|(key, value)| objects(&format!("{at}/{key}"), value, found));
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(i, value)| objects(&format!("{at}/{i}"), value, found));
        }
        _ => {}
    }
}

#[test]
fn all_that_a_run_writes_validates_and_nothing_more() {
    let tmp = tempfile::tempdir().unwrap();
    let mut dir = RunDir::create(tmp.path(), &manifest()).unwrap();
    dir.calibrated(&calibration(0)).unwrap();
    for key in &keys()[..6] {
        commit(&mut dir, key, &record(key)).unwrap();
    }
    dir.skipped(1, "no").unwrap();
    dir.stopped(0, 0, 1, 0).unwrap();
    dir.no_control(0, 0, Purpose::Within, "too large").unwrap();
    dir.arranged(0, 0, Some(1), Company::Alone, Evidence::default()).unwrap();
    dir.note(&Note::Interrupted {}).unwrap();
    dir.note(&Note::Resumed {}).unwrap();
    let run = load(tmp.path()).unwrap();
    dir.finish(&Digest::build(&run, &verdict()).unwrap()).unwrap();
    load(tmp.path()).unwrap();

    let validator = jsonschema::validator_for(&run_schema()).unwrap();
    let documents = documents(tmp.path());
    // Three files; the log's header, a calibration, six arms, one arrangement skipped, three of controls and looks, two notes.
    assert_eq!(documents.len(), 3 + 1 + 1 + 6 + 1 + 3 + 2);
    for document in &documents {
        assert_eq!(errors(&validator, document), Vec::<String>::new(), "{document}");
        let mut all = Vec::new();
        objects("", document, &mut all);
        for at in all {
            let mut changed = document.clone();
            changed.pointer_mut(&at).unwrap()["mood"] = 1.into();
            assert!(!validator.is_valid(&changed), "an unknown field in {at:?} of {document}");
        }
    }
}
