//! Somebody edits the event log of a run and has crosstalk make all sums anew: what does not follow from the arms is refused.

use std::fs;
use std::path::Path;

use super::controls::{Ran, ran, shared, with_a_look};
use super::*;
use crate::backend::Purpose;
use crate::observation::{Asked, turns::TURNS};
use crate::run_dir::RunDirError;
use crate::units::Share;

/// The lines of the event log.
fn log(folder: &Path) -> Vec<String> {
    fs::read_to_string(folder.join("events.jsonl")).unwrap().lines().map(str::to_owned).collect()
}

fn write(folder: &Path, lines: &[String]) {
    fs::write(folder.join("events.jsonl"), lines.join("\n") + "\n").unwrap();
}

fn copied(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut folders = vec![std::path::PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                fs::create_dir(copy.path().join(&path)).unwrap();
                folders.push(path);
            } else {
                fs::copy(entry.path(), copy.path().join(&path)).unwrap();
            }
        }
    }
    copy
}

/// Puts other lines in place of the log's: what going on with the run says, and what checking it as a finished one says.
fn forged(folder: &Path, change: impl Fn(&mut Vec<String>)) -> [String; 2] {
    let before = log(folder);
    let mut lines = before.clone();
    change(&mut lines);
    assert_ne!(lines, before, "nothing was changed");
    write(folder, &lines);
    let whole = |run: RecordedRun| recheck(&RecordedRun { finished: true, ..run });
    let checked = load(folder).and_then(whole);
    // Going on may drop what is incomplete: of a copy.
    let copy = copied(folder);
    let errors = [RunDir::resume(copy.path()).map(drop), checked];
    write(folder, &before);
    errors.map(|result| result.err().map_or_else(|| "taken over".to_owned(), |e: RunDirError| e.to_string()))
}

/// Refused by everything that goes on with the run or shows it, with these words.
fn refused(folder: &Path, words: &str, change: impl Fn(&mut Vec<String>)) {
    for error in forged(folder, change) {
        assert!(error.contains(words) && error.contains("events.jsonl"), "{words:?} is not in: {error}");
        assert!(error.contains("take the run directory from a copy, or measure again"), "{error}");
    }
}

fn position(lines: &[String], of: &str) -> usize {
    lines.iter().position(|line| line.contains(of)).unwrap_or_else(|| panic!("no {of}"))
}

fn replaced(from: &'static str, to: &'static str) -> impl Fn(&mut Vec<String>) {
    move |lines| {
        let at = position(lines, from);
        lines[at] = lines[at].replacen(from, to, 1);
    }
}

fn added(line: &'static str) -> impl Fn(&mut Vec<String>) {
    move |lines| lines.push(line.to_owned())
}

fn with_looks() -> Ran {
    let (plan, backend) = with_a_look();
    ran(&plan, backend)
}

#[test]
fn a_stop_follows_from_the_arms() {
    let ran = with_looks();
    let folder = ran.folder.path();
    // The second neighbour goes on: to end it at the first look would judge it by fewer blocks.
    let stop = r#"{"stopped":{"arrangement":0,"grid":0,"neighbour":1,"look":0}}"#;
    refused(folder, "no arm of a neighbour after it stopped", added(stop));
    refused(folder, "stops where everything is decided", |lines| {
        let later = |line: &String| {
            line.contains("\"neighbour\":1}") && (12..24).any(|b| line.contains(&format!("\"block\":{b},")))
        };
        lines.retain(|line| !later(line));
        lines.push(stop.to_owned());
    });
    // A look that the plan has not, and the last one, at which nobody stops.
    refused(folder, "a look of the plan before the last one", replaced("\"look\":0", "\"look\":7"));
    refused(folder, "a look of the plan before the last one", replaced("\"look\":0", "\"look\":1"));
    // Without its stop the arms of the first neighbour are missing.
    let [resumed, whole] = forged(folder, |lines| drop(lines.remove(position(lines, "\"stopped\""))));
    assert!(whole.contains("or why it could not be measured"), "{whole}");
    assert_eq!(resumed, "taken over", "they are measured, or their blocks anew");
}

#[test]
fn a_control_that_was_run_is_not_impossible_and_none_is_invented() {
    let ran = ran(&shared(), Failing::new(|_| None));
    let folder = ran.folder.path();
    for (purpose, words) in [
        ("within", "no arm of a control that could not be run"),
        ("alone", "no arm of a control that could not be run"),
        ("again", "a control of the plan that has tenants of its own"),
        ("block", "a control of the plan that has tenants of its own"),
    ] {
        refused(folder, words, |lines| {
            lines.push(format!(
                r#"{{"no-control":{{"arrangement":0,"grid":0,"purpose":"{purpose}","reason":"8 GiB of 24 GiB"}}}}"#
            ));
        });
    }
    refused(folder, "a grid of the plan", |lines| {
        lines.push(r#"{"no-control":{"arrangement":0,"grid":3,"purpose":"alone","reason":"none"}}"#.to_owned());
    });
}

#[test]
fn every_event_is_of_something_that_the_plan_has() {
    let ran = ran(&shared(), Failing::new(|_| None));
    let folder = ran.folder.path();
    for (line, words) in [
        (r#"{"skipped":{"arrangement":4,"reason":"no"}}"#, "an arrangement of the plan"),
        (r#"{"skipped":{"arrangement":0,"reason":"no"}}"#, "no arm of an arrangement that was skipped"),
        (r#"{"given-up":{"arrangement":1,"reason":"no"}}"#, "an arrangement of the plan"),
        (r#"{"lost":{"arm":{"arrangement":0,"grid":0,"block":9,"neighbour":0},"reason":"no"}}"#, "an arm of the plan"),
        (r#"{"dropped":{"arrangement":0,"grid":0,"block":6}}"#, "a block of the plan"),
        (r#"{"observed":{"arrangement":0,"observed":{"id":"turns","finding":"none","why":""}}}"#, "the plan observes"),
        (r#"{"note":{"observation-lost":{"arrangement":0,"id":"moods","reason":""}}}"#, "the id of an observation"),
    ] {
        refused(folder, words, added(line));
    }
    // An arm of a block, of a control and of a neighbour that the plan has not.
    for (from, to) in [
        ("\"block\":5,", "\"block\":6,"),
        ("\"block\":1,\"neighbour\":0,\"purpose\":\"within\"", "\"block\":2,\"neighbour\":0,\"purpose\":\"within\""),
        ("\"block\":1,\"neighbour\":0,\"purpose\":\"within\"", "\"block\":1,\"neighbour\":1,\"purpose\":\"within\""),
    ] {
        refused(folder, "an arm of the plan", replaced(from, to));
    }
}

#[test]
fn how_a_quantile_is_judged_follows_from_its_rate_and_the_windows_from_both() {
    let ran = ran(&shared(), Failing::new(|_| None));
    let folder = ran.folder.path();
    refused(folder, "as the plan has it", replaced("[\"p99\",\"pooled\"]", "[\"p99\",\"too-few\"]"));
    refused(folder, "as the plan has it", |lines| {
        let at = position(lines, "\"calibrated\"");
        let (before, after) = lines[at].split_once("\"rate\":").unwrap();
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap();
        lines[at] = format!("{before}\"rate\":1{}", &after[digits..]);
    });
    refused(folder, "the calibration of grid 0 before its arms", |lines| {
        let calibrated = lines.remove(position(lines, "\"calibrated\""));
        lines.push(calibrated);
    });
    refused(folder, "a calibration of grid 0 before its arms", |lines| {
        drop(lines.remove(position(lines, "\"calibrated\"")));
    });
    // Who makes a window seem shorter, or fewer of its requests open, makes a backlog disappear.
    for key in ["planned", "completed", "open_at_half", "open_at_end"] {
        let errors = forged(folder, |lines| {
            let at = position(lines, "\"committed\"");
            let (before, after) = lines[at].split_once(&format!("\"{key}\":")).unwrap();
            lines[at] = format!("{before}\"{key}\":4{after}");
        });
        for error in errors {
            let told = error.contains("as its samples tell") || error.contains("as events.jsonl says");
            assert!(told && error.contains(".parquet"), "{key}: {error}");
        }
    }
}

#[test]
fn what_is_missing_of_a_finished_run_is_said_to_be() {
    let ran = ran(&shared(), Failing::new(|_| None));
    let folder = ran.folder.path();
    for of in
        ["\"block\":3,\"neighbour\":1", "\"purpose\":\"alone\"", "\"purpose\":\"within\"", "\"purpose\":\"again\""]
    {
        let [_, whole] = forged(folder, |lines| drop(lines.remove(position(lines, of))));
        assert!(whole.contains("or why it could not be measured, found neither"), "{of}: {whole}");
    }
}

/// A run whose calibration has seen turns of 2 ms.
#[test]
fn what_was_observed_of_turns_is_what_calibration_has_seen() {
    let mut plan = shared();
    plan.arrangements[0].observe = vec![Asked { id: TURNS.id.to_owned(), required: None }];
    plan.design.controls.again = true;
    plan.neighbours[0].duty = Share::percent(100);
    let ran = ran(&plan, Failing::new(|_| None));
    let mut run = ran.run.clone();
    let turns = crate::run_dir::Turns {
        probe: 0,
        neighbour: 0,
        others: 1,
        seen: 40,
        quantum: Nanos::millis(2),
        gap: Nanos::millis(2),
        switch: None,
    };
    run.calibrations.get_mut(&(0, 0)).unwrap().turns = Some(turns);
    let seen = crate::observation::turns::judge(turns.into());
    run.observed.insert(0, vec![seen.clone()]);
    recheck(&run).unwrap();
    for forged in [
        vec![TURNS.found("none", seen.why.clone())],
        vec![Observed { figures: Default::default(), ..seen.clone() }],
        vec![seen.clone(), seen.clone()],
    ] {
        run.observed.insert(0, forged);
        assert!(recheck(&run).is_err(), "{:?}", run.observed);
    }
    // And on disk a finding is one of its observation's.
    let error = forged(ran.folder.path(), |lines| {
        let at = position(lines, "\"observed\"");
        lines[at] = r#"{"observed":{"arrangement":0,"observed":{"id":"turns","finding":"fine","why":""}}}"#.to_owned();
    });
    assert!(error.iter().all(|e| e.contains("a finding of turns: milliseconds, shorter, longer, none")), "{error:?}");
    assert_eq!(ran.run.arms.keys().filter(|key| key.purpose == Purpose::Alone).count(), 2);
}
