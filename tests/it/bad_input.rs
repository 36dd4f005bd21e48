//! Bad input of every kind: the exit code, what the message says, and that nothing is written over.

use std::path::Path;

use crate::support::{Scratch, crosstalk, small, stderr};

/// What is asked, how it ends, and what the message must say.
struct Case {
    args: &'static [&'static str],
    code: i32,
    says: &'static [&'static str],
}

const fn case(args: &'static [&'static str], code: i32, says: &'static [&'static str]) -> Case {
    Case { args, code, says }
}

/// Runs every case in `scratch` and demands that the tree is the same afterwards.
fn all(scratch: &Scratch, cases: &[Case]) {
    let before = scratch.tree();
    for Case { args, code, says } in cases {
        let ended = crosstalk().current_dir(scratch.root()).args(*args).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(*code), "{args:?}: {said}");
        for phrase in *says {
            assert!(said.contains(phrase), "{args:?}: no {phrase:?} in {said}");
        }
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
    let after = scratch.tree();
    let names = |tree: &[(String, Vec<u8>)]| tree.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    assert!(before == after, "something was written over");
}

#[test]
fn arguments() {
    all(
        &Scratch::new(),
        &[
            case(&[], 2, &["Usage:"]),
            case(&["frobnicate"], 2, &["unrecognized subcommand"]),
            case(&["run"], 2, &["SCENARIO"]),
            case(&["run", "quickstart", "--seed", "many"], 2, &["--seed"]),
            case(&["run", "quickstart", "--tier", "huge"], 2, &["smoke, acceptance, certify"]),
            case(&["run", "quickstart", "--resume", "x"], 2, &["cannot be used with"]),
            case(&["run", "--resume", "x", "--out", "y"], 2, &["cannot be used with"]),
            case(&["report", "x", "--format", "pdf"], 2, &["possible values: terminal, json"]),
            case(&["list", "things"], 2, &["workloads, scenarios, gpus, profiles"]),
            case(&["completions", "cmd"], 2, &["bash"]),
            case(&["schema", "world"], 2, &["scenario, run, report"]),
            case(&["init", "--tier", "huge"], 2, &["smoke, acceptance, certify"]),
            case(&["init", "-o", "no/such/folder.toml"], 2, &["cannot write no/such/folder.toml: No such file"]),
        ],
    );
}

#[test]
fn devices() {
    all(
        &Scratch::new(),
        &[
            case(&["run", "quickstart", "--device", "gpu0"], 2, &["none of auto", "sim:MODEL/LAYOUT"]),
            case(&["run", "quickstart", "--device", ""], 2, &["none of auto"]),
            case(&["run", "quickstart", "--device", "💥"], 2, &["none of auto"]),
            case(&["run", "quickstart", "--device", "sim:h100-sx"], 2, &["did you mean h100-sxm?", "a30"]),
            case(&["run", "quickstart", "--device", "sim:h100-sxm/"], 2, &["the layout is empty"]),
            case(&["run", "quickstart", "--device", "sim:h100-sxm/7g.80gb+1g.10gb"], 2, &["nearest legal layout"]),
            case(&["run", "quickstart", "--device", "sim:rtx-4090/3g.40gb"], 2, &["has no MIG"]),
            case(&["run", "quickstart", "--device", "cuda:0"], 3, &["names hardware", "--device sim:h100-sxm"]),
            case(&["run", "quickstart", "--device", "all"], 3, &["names hardware"]),
            case(&["run", "quickstart", "--device", "GPU-1234"], 3, &["names hardware"]),
            // The scenario's layouts on another GPU.
            case(&["run", "quickstart", "--device", "sim:a30"], 2, &["arrangement \"mig\"", "3g.40gb", "nearest"]),
            case(&["check", "quickstart", "--device", "sim:t4"], 2, &["arrangement \"mig\"", "no MIG"]),
        ],
    );
}

#[test]
fn scenarios() {
    let scratch = Scratch::new();
    let long = "x".repeat(65);
    let changed: [(&str, &str, &str); 9] = [
        ("unknown-key.toml", "[design]", "[design]\nblokcs = 3"),
        ("no-unit.toml", "window = \"60ms\"", "window = 60"),
        ("zero.toml", "blocks = 6", "blocks = 0"),
        ("looks.toml", "blocks = 6", "blocks = 24\nlooks = [1]"),
        ("panel.toml", "panel = [{ probe = \"launch\" }]", "panel = []"),
        ("newer.toml", "schema = 1", "schema = 2"),
        ("emoji.toml", "name = \"small\"", "name = \"../🔥 %s\""),
        ("long.toml", "name = \"ts\"", "name = \"LONG\""),
        ("elsewhere.toml", "device = \"sim:a30\"", "device = \"sim:a30\"\ngpu = \"H100*\""),
    ];
    for (name, from, to) in changed {
        let text = small("").replacen(from, &to.replace("LONG", &long), 1);
        assert_ne!(text, small(""), "{name} changes nothing");
        scratch.file(name, &text);
    }
    let illegal = "[[arrangement]]\nname = \"m\"\nsharing = \"mig\"\nlayout = [\"4g.24gb\", \"1g.6gb\"]";
    scratch.file("illegal.toml", &small(illegal));
    let nowhere = "[[accept]]\ncell = \"ts/nobody\"\nreason = \"r\"\nby = \"b\"\nuntil = 2030-01-01";
    scratch.file("accept.toml", &small(nowhere));
    let flood = small("")
        .replace("window = \"60ms\"", "window = \"600s\"\nmax_window = \"600s\"")
        .replace("{ probe = \"launch\" }", "{ probe = \"launch\", arrivals = { poisson = \"1000000/s\" } }");
    scratch.file("flood.toml", &flood);
    scratch.file("empty.toml", "");
    scratch.bytes("binary.toml", b"schema = 1\nname = \"\xff\xfe\"\n");
    scratch.bytes("huge.toml", &vec![b'#'; (1 << 20) + 1]);
    scratch.folder("folder.toml");
    all(
        &scratch,
        &[
            case(&["check", "flood.toml"], 2, &["600000000 requests", "lower the rate or the window"]),
            case(&["run", "quikstart"], 2, &["did you mean `quickstart`?", "a file is named with its path"]),
            case(&["run", ""], 2, &["there are: quickstart"]),
            case(&["run", "missing.toml"], 2, &["missing.toml", "No such file", "crosstalk init"]),
            case(&["run", "folder.toml"], 2, &["folder.toml", "Is a directory"]),
            case(&["run", "empty.toml"], 2, &["`schema` is missing"]),
            case(&["run", "binary.toml"], 2, &["line 2 is no UTF-8 text"]),
            case(&["run", "huge.toml"], 2, &["larger than 1 MiB"]),
            case(&["run", "newer.toml"], 2, &["a scenario of version 2", "a newer crosstalk"]),
            case(&["run", "unknown-key.toml"], 2, &["blokcs", "blocks"]),
            case(&["run", "no-unit.toml"], 2, &["design.window", "with its unit"]),
            case(&["run", "zero.toml"], 2, &["design.blocks: 0", "expected"]),
            case(&["check", "looks.toml"], 2, &["design.looks", "after 1 blocks", "take it after 9 blocks"]),
            case(&["run", "panel.toml"], 2, &["panel", "at least one"]),
            case(&["run", "emoji.toml"], 2, &["a name of at most 64 letters, digits"]),
            case(&["run", "long.toml"], 2, &["a name of at most 64 letters, digits"]),
            case(&["run", "illegal.toml"], 2, &["arrangement \"m\"", "nearest legal layout"]),
            case(&["run", "accept.toml"], 2, &["ts/nobody", "expected a cell"]),
            case(&["run", "elsewhere.toml"], 3, &["H100*", "NVIDIA A30"]),
        ],
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_without_an_end_is_no_scenario() {
    let said = stderr(crosstalk().args(["check", "/dev/zero"]).assert().code(2));
    assert!(said.contains("larger than 1 MiB"), "{said}");
}

#[test]
fn the_day_must_be_a_day() {
    let scratch = Scratch::new();
    scratch.file("s.toml", &small(""));
    let before = scratch.tree();
    for epoch in ["garbage", "", "1e9", "99999999999999999999"] {
        let mut run = crosstalk();
        run.current_dir(scratch.root()).args(["run", "s.toml"]).env("SOURCE_DATE_EPOCH", epoch);
        assert!(stderr(run.assert().code(2)).contains("SOURCE_DATE_EPOCH"));
    }
    assert!(scratch.tree() == before);
}

#[test]
fn run_directories() {
    let scratch = Scratch::new();
    scratch.file("s.toml", &small(""));
    crosstalk().current_dir(scratch.root()).args(["run", "s.toml", "--out", "whole"]).assert().code(0);
    let damage = |name: &str, change: &dyn Fn(&Path)| change(&scratch.copy("whole", name));
    let edit = |path: &Path, from: &str, to: &str| {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{}", path.display());
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    let cut = |path: &Path, to: usize| std::fs::write(path, &std::fs::read(path).unwrap()[..to]).unwrap();
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();
    damage("newer", &|d| edit(&d.join("manifest.json"), "\"version\": 1", "\"version\": 99"));
    damage("cut", &|d| cut(&d.join("manifest.json"), 300));
    damage("no-manifest", &|d| remove(&d.join("manifest.json")));
    damage("changed", &|d| edit(&d.join("digest.json"), "\"", "\" "));
    damage("no-arm", &|d| remove(&d.join("arms/ts/0000-quiet.parquet")));
    damage("short-arm", &|d| cut(&d.join("arms/ts/0000-quiet.parquet"), 100));
    damage("short-arm-unfinished", &|d| {
        remove(&d.join("finished.json"));
        cut(&d.join("arms/ts/0000-quiet.parquet"), 100);
    });
    // A line cut off within the log, and a line of somebody's with every sum to be made anew.
    damage("torn", &|d| {
        remove(&d.join("finished.json"));
        edit(&d.join("events.jsonl"), "\"committed\":", "\"comm\n");
    });
    damage("forged", &|d| {
        ["finished.json", "SHA256SUMS", "digest.json"].iter().for_each(|file| remove(&d.join(file)));
        let mut log = std::fs::read(d.join("events.jsonl")).unwrap();
        log.extend(b"{\"skipped\":{\"arrangement\":0,\"reason\":\"no such GPU\"}}\n");
        std::fs::write(d.join("events.jsonl"), log).unwrap();
    });
    scratch.folder("empty");
    scratch.folder("foreign");
    scratch.file("foreign/readme", "mine");
    scratch.file("file", "mine");
    all(
        &scratch,
        &[
            case(&["run", "--resume", "whole"], 2, &["whole is finished", "crosstalk report"]),
            case(&["run", "s.toml", "--out", "whole"], 2, &["whole is not empty", "--resume"]),
            case(&["run", "s.toml", "--out", "foreign"], 2, &["foreign is not empty"]),
            case(&["run", "s.toml", "--out", "file"], 2, &["--out file is a file: name a directory"]),
            case(&["run", "s.toml", "--out", "file/below"], 2, &["file/below", "Not a directory"]),
            case(&["report", "whole", "-o", "whole/manifest.json"], 2, &["inside the run directory whole"]),
            case(&["report", "whole", "-o", "foreign/../whole/new"], 2, &["inside the run directory whole"]),
            case(&["report", "whole", "-o", "no/such/folder.txt"], 2, &["no/such/folder.txt: No such file"]),
            case(&["report", "whole", "-o", "foreign"], 2, &["foreign", "Is a directory"]),
            case(&["report", "newer"], 2, &["manifest.json is version 99", "or a newer one"]),
            case(&["run", "--resume", "newer"], 2, &["manifest.json is version 99"]),
            case(&["report", "cut"], 2, &["manifest.json is damaged", "from a copy, or measure again"]),
            case(&["verify", "cut"], 2, &["manifest.json"]),
            case(&["report", "no-manifest"], 2, &["no-manifest is not a run directory"]),
            case(&["run", "--resume", "no-manifest"], 2, &["no-manifest is not a run directory"]),
            case(&["run", "s.toml", "--out", "no-manifest"], 2, &["no-manifest is not empty"]),
            case(&["verify", "changed"], 2, &["digest.json has changed", "SHA256SUMS"]),
            case(&["report", "no-arm"], 2, &["0000-quiet.parquet is missing"]),
            case(&["verify", "no-arm"], 2, &["0000-quiet.parquet is missing"]),
            case(&["verify", "short-arm"], 2, &["0000-quiet.parquet has changed"]),
            case(&["run", "--resume", "short-arm-unfinished"], 2, &["0000-quiet.parquet has changed"]),
            case(
                &["report", "torn"],
                2,
                &["torn: events.jsonl line ", "is damaged: expected an event", "measure again"],
            ),
            case(&["verify", "torn"], 2, &["torn: events.jsonl line "]),
            case(&["verify", "forged"], 2, &["forged: events.jsonl is damaged: expected no arm of an arrangement"]),
            case(&["run", "--resume", "forged"], 2, &["forged: events.jsonl is damaged: expected no arm"]),
            case(&["report", "empty"], 2, &["empty is not a run directory"]),
            case(&["verify", "foreign"], 2, &["foreign is not a run directory"]),
            case(
                &["run", "--resume", "nowhere"],
                2,
                &["nowhere is not a run directory: there is nothing of that name"],
            ),
            case(&["report", "file"], 2, &["file is not a run directory: it is a file"]),
        ],
    );
}

/// A run begun on one simulated GPU does not go on on another.
#[test]
fn a_run_goes_on_where_it_was_begun() {
    let scratch = Scratch::new();
    scratch.file("s.toml", &small(""));
    crosstalk().current_dir(scratch.root()).args(["run", "s.toml", "--out", "r"]).assert().code(0);
    std::fs::remove_file(scratch.path("r/finished.json")).unwrap();
    let before = scratch.tree();
    let mut elsewhere = crosstalk();
    elsewhere.current_dir(scratch.root()).args(["run", "--resume", "r", "--device", "sim:t4"]);
    assert!(stderr(elsewhere.assert().code(2)).contains("begun on another device"));
    // The attempt itself is noted, and nothing else has changed.
    let changed: Vec<String> =
        before.iter().zip(scratch.tree()).filter(|(a, b)| **a != *b).map(|(a, _)| a.0.clone()).collect();
    assert!(changed.is_empty() || changed == ["r/events.jsonl"], "{changed:?}");
    crosstalk().current_dir(scratch.root()).args(["run", "--resume", "r"]).assert().code(0);
}
