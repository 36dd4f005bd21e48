//! Crashes lose at most what was not committed; damage is found and named.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::fixture::*;
use crate::run_dir::files::{arm_file, sha256};
use crate::run_dir::{Digest, Manifest, RunDir, RunDirError, encode, load, verify};

const EVENTS: &str = "events.jsonl";

/// A run of three arms, not finished, and the bytes of its event log.
fn three_arms(path: &Path) -> Vec<u8> {
    let mut dir = RunDir::create(path, &manifest()).unwrap();
    dir.calibrated(&calibration(0)).unwrap();
    for key in &keys()[..3] {
        commit(&mut dir, key, &record(key)).unwrap();
    }
    fs::read(path.join(EVENTS)).unwrap()
}

/// Changes one file of a run, and what must be said of it by everything that reads.
fn refused(path: &Path, file: &str, bytes: &[u8], expected: &[&str]) {
    let before = fs::read(path.join(file)).unwrap();
    fs::write(path.join(file), bytes).unwrap();
    for error in [load(path).map(drop).unwrap_err(), verify(path).map(drop).unwrap_err()] {
        for part in expected {
            assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
        }
    }
    fs::write(path.join(file), before).unwrap();
}

/// Replaces text that must be there.
fn replace(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(text).unwrap();
    assert!(text.contains(from), "{from:?} is not in {text}");
    text.replacen(from, to, 1).into_bytes()
}

#[test]
fn a_last_event_torn_at_any_byte_never_happened() {
    let tmp = tempfile::tempdir().unwrap();
    let log = three_arms(tmp.path());
    let last = log.len() - log[..log.len() - 1].iter().rev().position(|b| *b == b'\n').unwrap() - 1;
    for length in last..log.len() {
        fs::write(tmp.path().join(EVENTS), &log[..length]).unwrap();
        let run = load(tmp.path()).unwrap_or_else(|e| panic!("{length}: {e}"));
        assert_eq!(run.arms.keys().cloned().collect::<Vec<_>>(), &keys()[..2], "{length} bytes");
    }
    // The file grew, its data did not come: zeros, with or without the end of the line.
    for tail in [&b"\0\0\0\0"[..], b"\0\0\0\n"] {
        fs::write(tmp.path().join(EVENTS), [&log[..last + 40], tail].concat()).unwrap();
        assert_eq!(load(tmp.path()).unwrap().arms.len(), 2);
    }
    // And resuming cuts it off, so that the next event has a line of its own.
    let (mut dir, run) = RunDir::resume(tmp.path()).unwrap();
    assert_eq!(run.arms.len(), 2);
    commit(&mut dir, &keys()[2], &record(&keys()[2])).unwrap();
    assert_eq!(verify(tmp.path()).unwrap().arms, 3);
}

#[test]
fn a_torn_event_within_the_log_or_in_a_finished_run_is_damage() {
    let tmp = tempfile::tempdir().unwrap();
    let log = three_arms(tmp.path());
    let second = log.iter().position(|b| *b == b'\n').unwrap() + 10;
    refused(tmp.path(), EVENTS, &[&log[..second], &log[second + 5..]].concat(), &["events.jsonl line 2"]);
    let cut = [&log[..second], b"\n", &log[second..]].concat();
    refused(tmp.path(), EVENTS, &cut, &["events.jsonl line 2", "EOF", "at column 9"]);

    let tmp = tempfile::tempdir().unwrap();
    finished(tmp.path());
    let log = fs::read(tmp.path().join(EVENTS)).unwrap();
    refused(tmp.path(), EVENTS, &log[..log.len() - 1], &[EVENTS, "SHA256SUMS"]);
}

#[test]
fn a_crash_between_file_and_event_costs_that_arm_alone() {
    let tmp = tempfile::tempdir().unwrap();
    let mut dir = RunDir::create(tmp.path(), &manifest()).unwrap();
    dir.calibrated(&calibration(0)).unwrap();
    let (first, second) = (&keys()[0], &keys()[1]);
    commit(&mut dir, first, &record(first)).unwrap();
    // Renamed, then killed: another attempt's bytes, and no event.
    let torn = encode(dir.manifest(), second, &record(&keys()[2])).unwrap();
    dir.write_arms(&[torn]).unwrap();
    fs::write(tmp.path().join("arms/.half.parquet.tmp"), "half").unwrap();
    drop(dir);

    let file = arm_file(&manifest().plan, second).unwrap();
    let verified = verify(tmp.path()).unwrap();
    assert_eq!((verified.arms, verified.run.finished), (1, false));
    assert_eq!(verified.ignored, ["arms/.half.parquet.tmp".to_owned(), file.clone()]);

    let (mut dir, run) = RunDir::resume(tmp.path()).unwrap();
    assert_eq!(run.arms.len(), 1);
    commit(&mut dir, second, &record(second)).unwrap();
    let run = load(tmp.path()).unwrap();
    dir.finish(&Digest::build(&run, &verdict()).unwrap()).unwrap();
    assert_eq!(verify(tmp.path()).unwrap().ignored, ["arms/.half.parquet.tmp".to_owned()]);
}

#[test]
fn a_crash_before_the_first_event_leaves_a_run_without_arms() {
    let tmp = tempfile::tempdir().unwrap();
    drop(RunDir::create(tmp.path(), &manifest()).unwrap());
    fs::remove_file(tmp.path().join(EVENTS)).unwrap();
    assert!(load(tmp.path()).unwrap().arms.is_empty());
    let (mut dir, _) = RunDir::resume(tmp.path()).unwrap();
    commit(&mut dir, &keys()[0], &record(&keys()[0])).unwrap();
    assert_eq!(load(tmp.path()).unwrap().arms.len(), 1);
}

#[test]
fn a_crash_while_finishing_leaves_a_run_that_can_be_finished() {
    let tmp = tempfile::tempdir().unwrap();
    finished(tmp.path());
    let whole = tree(tmp.path());
    for lost in
        [&["finished.json"][..], &["finished.json", "SHA256SUMS"], &["finished.json", "SHA256SUMS", "digest.json"]]
    {
        for file in lost {
            let _ = fs::remove_file(tmp.path().join(file));
        }
        let (dir, run) = RunDir::resume(tmp.path()).unwrap();
        assert!(!run.finished && run.arms.len() == 12);
        dir.finish(&Digest::build(&run, &verdict()).unwrap()).unwrap();
        let again = tree(tmp.path());
        for (file, bytes) in whole.iter().filter(|(file, _)| file.contains('/') || *file == "digest.json") {
            assert!(*bytes == again[file], "{file} differs");
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_is_found_and_its_file_named() {
    let tmp = tempfile::tempdir().unwrap();
    finished(tmp.path());
    for (file, bytes) in tree(tmp.path()) {
        let path = tmp.path().join(&file);
        // First, last, and some between: one in 23 parts, and another bit each time.
        for i in 0..24 {
            let at = (bytes.len() - 1) * i / 23;
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (i % 8);
            fs::write(&path, &flipped).unwrap();
            let error = verify(tmp.path()).map(drop).unwrap_err().to_string();
            assert!(error.contains(&file), "byte {at} of {file}: {error}");
        }
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = verify(tmp.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains(&file), "half of {file}: {error}");
        if file != "finished.json" {
            fs::remove_file(&path).unwrap();
            let error = verify(tmp.path()).map(drop).unwrap_err().to_string();
            assert!(error.contains(&file) || file == "manifest.json", "without {file}: {error}");
        }
        fs::write(&path, &bytes).unwrap();
    }
    verify(tmp.path()).unwrap();
}

#[test]
fn samples_of_an_unfinished_run_are_checked_against_their_event() {
    let tmp = tempfile::tempdir().unwrap();
    three_arms(tmp.path());
    let file = arm_file(&manifest().plan, &keys()[1]).unwrap();
    let mut bytes = fs::read(tmp.path().join(&file)).unwrap();
    bytes[100] ^= 4;
    refused(tmp.path(), &file, &bytes, &[&file, EVENTS]);
    fs::remove_file(tmp.path().join(&file)).unwrap();
    let error = load(tmp.path()).unwrap_err();
    assert!(matches!(error, RunDirError::Missing { .. }), "{error}");
    assert!(error.to_string().contains(&file) && error.to_string().contains(EVENTS), "{error}");
}

/// Puts `change` to a file of a finished run and all sums right again: only `verify`'s own reasoning can find it.
fn forge(path: &Path, file: &str, change: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let mut files = tree(path);
    let before = files.clone();
    files.insert(file.to_owned(), change(&files[file]));
    let sums: BTreeMap<&String, String> = files
        .iter()
        .filter(|(name, _)| !["SHA256SUMS", "finished.json"].contains(&name.as_str()))
        .map(|(name, bytes)| (name, sha256(bytes)))
        .collect();
    let text: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    let root = sha256(&before["SHA256SUMS"]);
    files.insert("finished.json".to_owned(), replace(&before["finished.json"], &root, &sha256(text.as_bytes())));
    files.insert("SHA256SUMS".to_owned(), text.into_bytes());
    for (name, bytes) in &files {
        fs::write(path.join(name), bytes).unwrap();
    }
    let error = verify(path).map(drop).unwrap_err().to_string();
    for (name, bytes) in &before {
        fs::write(path.join(name), bytes).unwrap();
    }
    verify(path).unwrap();
    error
}

#[test]
fn histograms_that_are_not_those_of_the_samples_are_found_whatever_the_sums_say() {
    let tmp = tempfile::tempdir().unwrap();
    finished(tmp.path());
    // The queueing histograms of two arms change places: counts agree, contents do not.
    let file = "hlog/mig+mps/llm-decode.hlog";
    let error = forge(tmp.path(), file, |log| {
        let swapped = replace(log, "Tag=0000-quiet:latency", "Tag=?");
        let swapped = replace(&swapped, "Tag=0001-quiet:latency", "Tag=0000-quiet:latency");
        replace(&swapped, "Tag=?", "Tag=0001-quiet:latency")
    });
    assert!(error.contains("arms/mig+mps/0000-quiet.parquet") && error.contains(".hlog"), "{error}");

    let error = forge(tmp.path(), file, |log| replace(log, "0001-quiet:queue", "0009-quiet:queue"));
    assert!(error.contains(file) && error.contains("0009-quiet"), "{error}");

    let error = forge(tmp.path(), EVENTS, |log| replace(log, "\"censored\":1", "\"censored\":0"));
    assert!(error.contains("0000-quiet.parquet"), "{error}");

    let error =
        forge(tmp.path(), "digest.json", |d| replace(d, "\"provenance\":\"simulated\"", "\"provenance\":\"measured\""));
    assert!(error.contains("digest.json") && error.contains("Simulated"), "{error}");
}

#[test]
fn what_is_simulated_cannot_call_itself_measured_anywhere() {
    let tmp = tempfile::tempdir().unwrap();
    finished(tmp.path());
    let (from, to) = ("\"provenance\":\"simulated\"", "\"provenance\":\"measured\"");
    let indented = |text: &[u8]| replace(text, "\"provenance\": \"simulated\"", "\"provenance\": \"measured\"");
    let error = forge(tmp.path(), EVENTS, |log| replace(log, from, to));
    assert!(error.contains("events.jsonl line 1") && error.contains("Simulated"), "{error}");
    // The first of the manifest's two: the other is its plan's.
    let error = forge(tmp.path(), "manifest.json", indented);
    assert!(error.contains("manifest.json, plan.inventory") && error.contains("Measured"), "{error}");
    let text = fs::read(tmp.path().join("finished.json")).unwrap();
    refused(tmp.path(), "finished.json", &indented(&text), &["finished.json", "Simulated", "Measured"]);
}

#[test]
fn an_unknown_field_is_loud() {
    let tmp = tempfile::tempdir().unwrap();
    let log = three_arms(tmp.path());
    for (from, to) in [
        ("{\"committed\":{", "{\"committed\":{\"mood\":1,"),
        ("{\"committed\":{", "{\"celebrated\":{"),
        ("\"summary\":{", "\"summary\":{\"mood\":1,"),
        ("\"format\":", "\"mood\":1,\"format\":"),
    ] {
        refused(tmp.path(), EVENTS, &replace(&log, from, to), &["events.jsonl line "]);
    }
    let text = fs::read(tmp.path().join("manifest.json")).unwrap();
    refused(tmp.path(), "manifest.json", &replace(&text, "{", "{\"mood\": 1,"), &["manifest.json", "mood"]);
}

#[test]
fn a_newer_version_is_named_before_anything_else() {
    let tmp = tempfile::tempdir().unwrap();
    let log = three_arms(tmp.path());
    let newer = ["version 2", "use the crosstalk that wrote it, or a newer one"];
    let text = fs::read(tmp.path().join("manifest.json")).unwrap();
    let changed = replace(&replace(&text, "\"version\": 1", "\"version\": 2"), "{", "{\"mood\": 1,");
    refused(tmp.path(), "manifest.json", &changed, &["manifest.json", newer[0], newer[1]]);
    let changed = replace(&replace(&log, "\"version\":1", "\"version\":2"), "{", "{\"mood\":1,");
    refused(tmp.path(), EVENTS, &changed, &["events.jsonl line 1", newer[0], newer[1]]);

    let tmp = tempfile::tempdir().unwrap();
    finished(tmp.path());
    let text = fs::read(tmp.path().join("finished.json")).unwrap();
    refused(
        tmp.path(),
        "finished.json",
        &replace(&text, "\"version\": 1", "\"version\": 2"),
        &["finished.json", newer[0]],
    );
    let error = forge(tmp.path(), "digest.json", |d| replace(d, "\"version\":1", "\"version\":2"));
    assert!(error.contains("digest.json is version 2"), "{error}");
}

#[test]
fn what_is_no_run_directory_is_named_as_such_and_left_alone() {
    let tmp = tempfile::tempdir().unwrap();
    fs::write(tmp.path().join("notes.txt"), "mine").unwrap();
    for path in [tmp.path().to_owned(), tmp.path().join("nothing"), tmp.path().join("notes.txt")] {
        for error in [load(&path).map(drop), verify(&path).map(drop), RunDir::resume(&path).map(drop)] {
            let error = error.unwrap_err();
            assert!(matches!(error, RunDirError::NotARunDirectory { .. }), "{error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            let why = match path.file_name().and_then(|name| name.to_str()) {
                Some("nothing") => "there is nothing of that name",
                Some("notes.txt") => "it is a file",
                _ => "it has no manifest.json",
            };
            assert!(error.to_string().contains(why), "{error}");
        }
    }
    for (text, found) in [
        (r#"{"format":"crosstalk-run","version":0}"#, "found version 0"),
        (r#"{"format":"crosstalk-run"}"#, "found no version"),
        (r#"{"version":1}"#, "found no format"),
        ("[]", "found no format"),
        ("", "a JSON document, found EOF"),
    ] {
        fs::write(tmp.path().join("manifest.json"), text).unwrap();
        let error = load(tmp.path()).unwrap_err().to_string();
        assert!(error.contains("manifest.json is damaged") && error.contains(found), "{text}: {error}");
        assert!(error.contains("take the run directory from a copy, or measure again"), "{error}");
    }
    let text = serde_json::to_vec(&serde_json::json!({ "format": "else", "version": 1 })).unwrap();
    fs::write(tmp.path().join("manifest.json"), text).unwrap();
    let error = load(tmp.path()).unwrap_err().to_string();
    assert!(error.contains("manifest.json") && error.contains("else"), "{error}");
    assert_eq!(tree(tmp.path()).len(), 2);
    assert_eq!(Manifest::VERSION, 1, "a new version needs a reader of this one, and a test of both");
}
