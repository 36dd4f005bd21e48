//! Comparing runs as a user does: simulated runs of one truth and of another, baselines, and what is refused.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Scratch, crosstalk, small};

/// What every page of a simulated run begins with.
const BANNER: &str = "SIMULATED: nothing below was measured on hardware";

/// Runs the scenario file `scenario` of `scratch` into `out`.
fn run(scratch: &Scratch, scenario: &str, seed: &str, out: &str) {
    crosstalk()
        .current_dir(scratch.root())
        .args(["run", scenario, "--seed", seed, "--quiet", "--out", out])
        .assert()
        .code(0);
}

/// Standard output and error of a command that must end with `code`.
fn ends(scratch: &Scratch, args: &[&str], code: i32) -> (String, String) {
    let ended = crosstalk().current_dir(scratch.root()).args(args).assert().code(code);
    let output = ended.get_output();
    (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

/// Enough blocks for a test of size.
fn scenario(rest: &str) -> String {
    small(rest).replace("blocks = 6", "blocks = 16").replace("blocks_per_generation = 2", "blocks_per_generation = 4")
}

#[test]
fn two_runs_of_one_truth_and_a_stronger_neighbour() {
    let scratch = Scratch::new();
    let text = scenario("");
    scratch.file("s.toml", &text);
    // The same names, and a neighbour that is busy for a tenth of the time before, and for all of it now.
    scratch.file("weak.toml", &text.replace("noise = \"hbm-read\"", "noise = \"hbm-read\"\nduty = \"10%\""));
    for (scenario, seed, out) in [("s.toml", "1", "a"), ("s.toml", "2", "b"), ("weak.toml", "3", "weak")] {
        run(&scratch, scenario, seed, out);
    }
    let (out, _) = ends(&scratch, &["compare", "a", "b"], 0);
    assert!(out.starts_with(BANNER) && out.contains("No change for the worse"), "{out}");
    assert!(out.contains("A baseline of several runs does."), "{out}");
    let (_, said) = ends(&scratch, &["compare", "weak", "b"], 2);
    assert!(said.contains("scenario neighbours.hog.duty: base 100000, new 1000000"), "{said}");
    assert!(said.contains("--allow-different scenario"), "{said}");
    let (out, _) = ends(&scratch, &["compare", "weak", "b", "--allow-different", "scenario"], 1);
    assert!(out.contains("interference grew (ts/hog launch p50") && out.contains("Unlike, as was allowed"), "{out}");
    let (json, _) = ends(&scratch, &["compare", "a", "b", "--format", "json"], 0);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["banner"], &json["outcome"]), (&Value::from(BANNER), &Value::from("unchanged")));
    let (md, _) = ends(&scratch, &["compare", "a", "b", "--format", "md"], 0);
    assert!(md.starts_with("> **SIMULATED"), "{md}");
    ends(&scratch, &["compare", "a", "b", "-o", "out.txt"], 0);
    assert!(fs::read_to_string(scratch.root().join("out.txt")).unwrap().starts_with(BANNER));
}

#[test]
fn a_baseline_is_kept_shown_and_compared_with() {
    let scratch = Scratch::new();
    scratch.file("s.toml", &scenario(""));
    for seed in 1..=6 {
        run(&scratch, "s.toml", &seed.to_string(), &format!("r{seed}"));
    }
    for seed in [4, 2, 5, 1, 3] {
        ends(&scratch, &["baseline", "add", &format!("r{seed}"), "--file", "b.json"], 0);
    }
    let kept = fs::read_to_string(scratch.root().join("b.json")).unwrap();
    assert!(kept.len() < 200_000, "{} bytes", kept.len());
    let (_, said) = ends(&scratch, &["baseline", "add", "r3", "--file", "b.json"], 2);
    assert!(said.contains("in the baseline already"), "{said}");
    assert_eq!(fs::read_to_string(scratch.root().join("b.json")).unwrap(), kept, "a refusal changes nothing");
    for seed in 1..=5 {
        ends(&scratch, &["baseline", "add", &format!("r{seed}"), "--file", "sorted.json"], 0);
    }
    assert_eq!(fs::read_to_string(scratch.root().join("sorted.json")).unwrap(), kept, "in whatever order");
    let (shown, _) = ends(&scratch, &["baseline", "show", "b.json"], 0);
    assert!(shown.starts_with(BANNER) && shown.contains("5 runs: quiet levels of a new run are judged"), "{shown}");
    let (out, _) = ends(&scratch, &["compare", "b.json", "r6"], 0);
    assert!(out.contains("within what 5 runs predict"), "{out}");
    scratch.file("b.json", &kept.replacen("\"seed\"", "\"sed\"", 1));
    let (_, said) = ends(&scratch, &["compare", "b.json", "r6"], 2);
    assert!(said.contains("b.json is no baseline") && said.contains("unknown field `sed`"), "{said}");
}

#[test]
fn what_is_unfinished_or_damaged_is_refused() {
    let scratch = Scratch::new();
    scratch.file("s.toml", &small(""));
    run(&scratch, "s.toml", "1", "r");
    let file = |name: &str| scratch.root().join("r").join(name);
    let digest = fs::read(file("digest.json")).unwrap();
    fs::write(file("digest.json"), String::from_utf8_lossy(&digest).replacen("isolated", "violated", 1)).unwrap();
    for args in [&["compare", "r", "r"][..], &["baseline", "add", "r"]] {
        let (_, said) = ends(&scratch, args, 2);
        assert!(said.contains("r: digest.json has changed since it was written"), "{said}");
    }
    fs::write(file("digest.json"), digest).unwrap();
    fs::remove_file(file("finished.json")).unwrap();
    for args in [&["compare", "r", "r"][..], &["baseline", "add", "r"]] {
        let (_, said) = ends(&scratch, args, 2);
        assert!(said.contains("r is not finished"), "{said}");
    }
    assert!(!Path::new(&scratch.root().join("baseline.json")).exists());
    for (args, says) in [
        (&["compare", "r"][..], "name the run to compare with the base"),
        (&["compare", "r", "none"], "none is not a run directory"),
        (&["compare", "r", "r", "--modes", "ts"], "2 values required"),
        (&["compare", "r", "r", "--allow-different", "provenance"], "model, uuid, layout, scenario, tier"),
        (&["baseline", "show", "none.json"], "cannot read none.json"),
    ] {
        let (_, said) = ends(&scratch, args, 2);
        assert!(said.contains(says) || says.contains("none is not") && said.contains("r is not finished"), "{said}");
    }
}

#[test]
fn modes_of_one_run_and_of_two() {
    let scratch = Scratch::new();
    let other = "[[arrangement]]\nname = \"mps\"\nsharing = \"mps\"\n[[arrangement]]\nname = \"alone\"\nsharing = \"exclusive\"";
    scratch.file("s.toml", &small(other));
    run(&scratch, "s.toml", "1", "r");
    let (out, _) = ends(&scratch, &["compare", "r", "--modes", "ts", "mps"], 0);
    assert!(out.starts_with(BANNER), "{out}");
    for expected in ["Beside hog", "ts ÷ exclusive", "mps ÷ ts"] {
        assert!(out.contains(expected), "no {expected:?} in {out}");
    }
    scratch.file("one.toml", &small(""));
    run(&scratch, "one.toml", "2", "one");
    ends(&scratch, &["compare", "one", "r", "--modes", "ts", "mps"], 0);
    let (_, said) = ends(&scratch, &["compare", "one", "--modes", "ts", "mps"], 2);
    assert!(said.contains("no arrangement \"mps\"; it has ts"), "{said}");
}
