//! Observations: what a scenario asks beside its cells, from the file to the exit code.

use serde_json::Value;

use crate::support::{Scratch, crosstalk, stderr, stdout};

/// A scenario of few blocks with these probes, noises and keys of one arrangement.
fn text(panel: &str, noise: &str, arrangement: &str) -> String {
    format!(
        "schema = 1\nname = \"seen\"\ndevice = \"sim:a30\"\n[design]\nblocks = 2\nwindow = \"20ms\"\n[victim]\npanel = \
         [{panel}]\n[[neighbour]]\nnoise = \"{noise}\"\n[[arrangement]]\nname = \"here\"\n{arrangement}\n"
    )
}

const COMPUTE: &str = "{ probe = \"compute\", arrivals = { poisson = \"200/s\" } }";
const SLICES: &str = "sharing = \"time-slicing\"\nobserve = { turns = \"milliseconds\" }";
const HALVES: &str =
    "sharing = \"mps\"\nlayout = [{ sms = \"50%\" }, { sms = \"50%\" }]\nobserve = { turns = \"milliseconds\" }";

#[test]
fn a_finding_decides_the_exit_code_and_stands_in_the_reports() {
    let scratch = Scratch::new();
    for (name, text, code, words) in [
        ("met", text(COMPUTE, "issue-hog", SLICES), 0, "here, turns: milliseconds: a tenant runs 2."),
        ("contrary", text(COMPUTE, "issue-hog", HALVES), 1, "here, turns: none: the victim's kernels ran on"),
        ("untold", text(COMPUTE, "d2h", SLICES), 4, "here, turns: – (cannot be told): it takes a probe"),
        ("any", text(COMPUTE, "d2h", &SLICES.replace("milliseconds", "any")), 0, "here, turns: – (cannot be told)"),
    ] {
        let file = scratch.file(&format!("{name}.toml"), &text);
        let out = scratch.path(name);
        let args = ["run", file.to_str().unwrap(), "--out", out.to_str().unwrap(), "--quiet"];
        let report = stdout(crosstalk().args(args).assert().code(code));
        let report = report.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(report.contains(words), "{name}: {report}");
        let state = [
            "required milliseconds: met",
            "required milliseconds: NOT MET",
            "",
            "",
            "required milliseconds: undecided",
        ];
        assert!(report.contains(if name == "any" { "" } else { state[code as usize] }), "{name}: {report}");
        assert_eq!(report.contains("required milliseconds: "), name != "any", "{name}: {report}");

        crosstalk().args(["verify", out.to_str().unwrap()]).assert().code(0);
        let args = ["report", out.to_str().unwrap(), "--format", "json"];
        let json: Value = serde_json::from_str(&stdout(crosstalk().args(args).assert().code(0))).unwrap();
        let seen = &json["runs"][0]["observed"][0];
        assert_eq!((&seen["arrangement"], &seen["id"]), (&"here".into(), &"turns".into()));
        let finding: Value = [Some("milliseconds"), Some("none"), None, None, None][code as usize].into();
        assert_eq!(seen["finding"], if name == "any" { Value::Null } else { finding }, "{name}");
    }
}

#[test]
fn check_says_what_will_be_observed_and_counts_it() {
    let scratch = Scratch::new();
    let check = |name: &str, text: &str| {
        let file = scratch.file(&format!("{name}.toml"), text);
        let text = stdout(crosstalk().args(["check", file.to_str().unwrap()]).assert().code(0));
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let slices = check("slices", &text(COMPUTE, "issue-hog", SLICES));
    assert!(slices.contains("observe turns = milliseconds: Whether tenants take turns"), "{slices}");
    assert!(slices.contains("Seen in calibration."), "{slices}");
    let halves = check("halves", &text(COMPUTE, "issue-hog", HALVES));
    assert!(halves.contains("1 arm of 300 ms in all."), "{halves}");
    let without = check("without", &text(COMPUTE, "issue-hog", HALVES.split("\nobserve").next().unwrap()));
    let calibration = |text: &str| text.split("calibration ").nth(1).map(|t| t.split(',').next().unwrap().to_owned());
    assert_ne!(calibration(&halves), calibration(&without));
    assert!(without.contains("nothing is required") && !halves.contains("nothing is required"), "{without}");
}

#[test]
fn slips_in_what_is_to_be_observed_are_told_with_the_choices() {
    let scratch = Scratch::new();
    for (observe, told) in [
        ("{ turn = \"any\" }", &["no observation is called `turn`", "did you mean `turns`?"] as &[_]),
        ("{ turns = \"seconds\" }", &["\"seconds\"", "milliseconds, shorter, longer, none, any"]),
        ("\"turns\"", &["expected a table of observations"]),
        ("{}", &["expected a table of observations"]),
        ("{ alone = \"any\" }\nagainst = \"here\"", &["expected none: there is no other arrangement to compare with"]),
        (
            "{ alone = \"any\" }",
            &["alone, without anything to compare with", "expected another arrangement in this scenario"],
        ),
        (
            "{ turns = \"any\" }\nagainst = \"there\"\n[[arrangement]]\nname = \"there\"\nsharing = \"streams\"",
            &["nothing that is observed here is compared"],
        ),
    ] {
        let text = text(COMPUTE, "issue-hog", &format!("sharing = \"time-slicing\"\nobserve = {observe}"));
        let file = scratch.file("slip.toml", &text);
        let error = stderr(crosstalk().args(["check", file.to_str().unwrap()]).assert().code(2));
        for part in told {
            assert!(error.contains(part), "{observe}: {error}");
        }
    }
}
