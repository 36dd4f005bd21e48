//! The gate as an owner of a pipeline meets it: what it prints, and with which exit code. docs/gate.md shows the same lines.

use std::path::{Path, PathBuf};

use crate::support::{Scratch, compare_with_docs, crosstalk};

/// Two tenants in MIG instances of a simulated H100. Of a margin so narrow, seed 3 is inconclusive and seed 1 is not.
const TENANTS: &str = r#"schema = 1
name = "two-tenants"
device = "sim:h100-sxm/3g.40gb+3g.40gb"
[design]
blocks = 20
window = "20ms"
margins = { p99 = ["1.2%", "50%"] }
[victim]
panel = [{ probe = "hbm-chase" }]
[[neighbour]]
noise = "idle"
[[neighbour]]
name = "hog"
noise = "hbm-read"
[[arrangement]]
name = "tenants"
sharing = "mig"
"#;

/// What the pipeline of the walk asks. A policy of one's own may take simulated runs; no ready-made one does.
const POLICY: &str = r#"schema = 1
name = "walk"
retries = 1
confirm = 2

[evidence]
provenance = ["simulated"]
max_age = "30d"
scope = "25%"

[[cell]]
name = "tenants/*"
must = "isolated"
"#;

/// The day of the runs: SOURCE_DATE_EPOCH of 2026-06-01, and of the day after.
const THAT_DAY: &str = "1780272000";
const NEXT_DAY: &str = "1780358400";
/// Six weeks later.
const LATER: &str = "1784073600";

/// What `walk` asks with a baseline besides.
const WITH_BASELINE: &str = r#"
[baseline]
tolerance = "5%"
max_age = "30d"
"#;

struct Walk {
    scratch: Scratch,
}

impl Walk {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.file("two-tenants.toml", TENANTS);
        scratch.file("policy.toml", POLICY);
        // What a change of plugin or layout can make of it: the tenants take turns on the whole card.
        scratch.file("changed.toml", &TENANTS.replace("sharing = \"mig\"", "sharing = \"time-slicing\""));
        Self { scratch }
    }

    fn root(&self) -> &Path {
        self.scratch.root()
    }

    /// A run, unless it is there.
    fn run(&self, name: &str, scenario: &str, seed: &str) -> PathBuf {
        self.run_on(THAT_DAY, name, scenario, seed)
    }

    fn run_on(&self, day: &str, name: &str, scenario: &str, seed: &str) -> PathBuf {
        let out = self.root().join(name);
        if !out.exists() {
            let mut command = crosstalk();
            command.current_dir(self.root()).env("SOURCE_DATE_EPOCH", day);
            let ended = command.args(["run", scenario, "--seed", seed, "--out", name, "-q"]).ok();
            assert!(ended.is_ok(), "{ended:?}");
        }
        out
    }

    fn policy(&self, name: &str, text: &str) {
        self.scratch.file(name, text);
    }

    /// The command line, its exit code and what it prints.
    fn gate(&self, args: &str) -> (i32, String) {
        self.gate_on(NEXT_DAY, args)
    }

    fn gate_on(&self, day: &str, args: &str) -> (i32, String) {
        let mut command = crosstalk();
        command.current_dir(self.root()).env("SOURCE_DATE_EPOCH", day);
        let ended = command.arg("gate").args(args.split_whitespace()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (ended.status.code().unwrap(), text(ended.stdout) + &text(ended.stderr))
    }

    /// What a reader sees: the command, what it prints, and its exit code.
    fn shown(&self, args: &str) -> (i32, String) {
        let (code, text) = self.gate(args);
        (code, format!("```\n$ crosstalk gate {args}\n{text}$ echo $?\n{code}\n```\n"))
    }
}

/// A driver that is there and does not answer: nothing is measured, and there is nothing to judge. `None`: this machine has
/// a driver, whose words are others; without a visible device it measures nothing either.
fn broken_driver(root: &Path) -> Option<String> {
    let mut command = crosstalk();
    command.current_dir(root).env("CUDA_VISIBLE_DEVICES", "");
    let args = ["run", "two-tenants.toml", "--device", "auto", "--out", "broken", "-q"];
    let ended = command.args(args).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(3), "{said}");
    assert!(!root.join("broken").exists());
    let shown = format!("```\n$ crosstalk {}\n{said}$ echo $?\n3\n```\n", args.join(" "));
    said.contains("libnvidia-ml.so.1 cannot be loaded").then_some(shown)
}

#[test]
fn a_pipeline_walks_through_the_gate() {
    let walk = Walk::new();
    let mut parts = vec![
        ("policy", format!("```toml\n{POLICY}```\n")),
        ("scenario", format!("```toml\n{TENANTS}```\n")),
        ("baseline policy", format!("```toml{WITH_BASELINE}```\n")),
    ];
    let broken = broken_driver(walk.root());
    parts.extend(broken.map(|shown| ("broken driver", shown)));
    let mut step = |name, code, args: &str, last: &str| {
        let (found, shown) = walk.shown(args);
        assert_eq!(found, code, "{name}: {shown}");
        assert!(shown.contains(last), "{name}: no {last:?} in {shown}");
        parts.push((name, shown));
    };
    walk.run("run", "two-tenants.toml", "1");
    step("green", 0, "run --policy policy.toml", "gate PASSED (exit 0)");

    walk.run("red-1", "changed.toml", "1");
    walk.run("red-2", "changed.toml", "2");
    step("first red", 4, "red-1 --policy policy.toml", "not met for the first time");
    step("second red", 1, "red-2 --policy policy.toml --previous red-1", "gate FAILED (exit 1)");

    step("no run", 2, "broken --policy policy.toml", "broken is not a run directory");

    walk.policy("wider.toml", &POLICY.replace("\"tenants/*\"", "\"tenants/copies\""));
    step("absent", 4, "run --policy wider.toml", "absent: no cell of this run is \"tenants/copies\"");

    walk.run("wide", "two-tenants.toml", "3");
    walk.run("again", "two-tenants.toml", "1");
    step("inconclusive", 4, "wide --policy policy.toml", "the interval is too wide to decide");
    step("retried", 0, "wide --policy policy.toml --retry again", "gate PASSED (exit 0)");

    step("stale", 4, "run --policy policy.toml --today 2026-07-15", "is 44 days old, 30 at most: measure again");

    walk.policy("compared.toml", &format!("{POLICY}{WITH_BASELINE}"));
    for seed in ["5", "6", "7", "8", "9"] {
        let run = walk.run(&format!("base-{seed}"), "two-tenants.toml", seed);
        crosstalk().current_dir(walk.root()).args(["baseline", "add"]).arg(run).assert().code(0);
    }
    step("compared", 0, "run --policy compared.toml --baseline baseline.json", "gate PASSED (exit 0)");
    step("without baseline", 4, "run --policy compared.toml", "absent: no baseline is given (--baseline FILE)");
    walk.run_on(LATER, "later", "two-tenants.toml", "1");
    let stale = "later --policy compared.toml --baseline baseline.json --today 2026-07-15";
    step("stale baseline", 4, stale, "its latest run, of 2026-06-01, is 44 days old, 30 at most");
    compare_with_docs("gate.md", &parts);
}

#[test]
fn no_ready_made_policy_takes_what_was_not_measured() {
    let walk = Walk::new();
    walk.run("run", "two-tenants.toml", "1");
    for (policy, _) in crosstalk::gate::BUILTIN {
        let (code, text) = walk.gate(&format!("run --policy {policy}"));
        assert_eq!(code, 4, "{policy}: {text}");
        assert!(text.starts_with("SIMULATED: nothing below was measured on hardware\n"), "{text}");
        assert!(text.contains("UNDECIDED provenance: simulated; accepted: measured\n"), "{policy}: {text}");
        assert!(!text.contains("tenants/"), "no cell of it counts, for or against: {text}");
    }
}

#[test]
fn every_format_says_the_same_and_opens_with_where_it_comes_from() {
    let walk = Walk::new();
    walk.run("red-1", "changed.toml", "1");
    let strict = POLICY.replace("confirm = 2", "confirm = 1");
    walk.policy("strict.toml", &strict);
    let (code, text) = walk.gate("red-1 --policy strict.toml");
    assert_eq!(code, 1, "{text}");
    let (code, json) = walk.gate("red-1 --policy strict.toml --format json");
    let gate: crosstalk::gate::Gate = serde_json::from_str(&json).unwrap();
    assert_eq!((code, gate.answer), (1, crosstalk::verdict::RequirementState::NotMet));
    assert!(text.ends_with(&format!("{}\n", gate.summary)));
    let (code, shown) = walk.gate("red-1 --policy strict.toml --format junit -o gate.xml");
    assert_eq!((code, shown), (1, text), "the log has its reasons whatever goes to the file");
    let xml = std::fs::read_to_string(walk.root().join("gate.xml")).unwrap();
    assert!(xml.contains("<testsuites name=\"SIMULATED: nothing below was measured on hardware"), "{xml}");
    assert!(xml.contains("type=\"not-met\"") && xml.contains("<testcase name=\"tenants/hog\""), "{xml}");
    let cases = xml.matches("<testcase ").count();
    assert_eq!(cases, gate.findings.len());
    let inside = walk.gate("red-1 --policy strict.toml -o red-1/gate.xml");
    assert_eq!(inside.0, 2, "{}", inside.1);
}

#[test]
fn what_was_changed_after_the_run_is_not_believed() {
    let walk = Walk::new();
    let run = walk.run("run", "two-tenants.toml", "1");
    let arm = std::fs::read_dir(run.join("arms/tenants")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&arm).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&arm, bytes).unwrap();
    let (code, text) = walk.gate("run --policy policy.toml");
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("run: ") && !text.contains("gate "), "{text}");
}

#[test]
fn runs_that_are_no_retry_are_refused_and_those_that_confirm_nothing_are_told() {
    let walk = Walk::new();
    walk.run("run", "two-tenants.toml", "1");
    walk.run("other", "changed.toml", "1");
    let said = |args: &str, code: i32, words: &str| {
        let (found, text) = walk.gate(args);
        assert!(found == code && text.contains(words), "{args}: {found} {text}");
    };
    said("run --policy policy.toml --retry other", 2, "other is no retry of run: plan.arrangements[0]");
    said("run --policy policy.toml --retry run", 2, "it is the same run");
    said("run --policy policy.toml --retry other --retry other", 2, "the policy walk declares 1");
    walk.policy("strict.toml", &POLICY.replace("must = \"isolated\"", "must = \"violated\""));
    said("run --policy strict.toml --previous run", 4, "run confirms nothing: it holds the same measurements");
    said("run --policy strict.toml --previous other", 4, "other confirms nothing: plan.arrangements[0]");
    said("nowhere --policy policy.toml", 2, "nowhere");
    said("run --policy no-such", 2, "no ready-made policy is called \"no-such\"");
    said("run --policy no-such.toml", 2, "cannot read the policy no-such.toml");
    said("run", 4, "policy multi-tenant-production");
}

#[test]
fn every_mistake_of_a_policy_is_told_at_once_with_its_place() {
    let walk = Walk::new();
    walk.run("run", "two-tenants.toml", "1");
    let wrong = POLICY
        .replace("confirm", "confirms")
        .replace("\"30d\"", "30")
        .replace("must = \"isolated\"", "must = { default = \"isolate\", slo = \"met\" }\nmust_not = 1");
    walk.policy("wrong.toml", &wrong);
    let (code, text) = walk.gate("run --policy wrong.toml");
    assert_eq!(code, 2, "{text}");
    for words in ["unknown key `confirms`", "evidence.max_age", "did you mean `isolated`?", "cell[0].must", "must_not"]
    {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    walk.policy("idle.toml", "schema = 1\nname = \"idle\"\n[[cell]]\nmust = \"any\"\n");
    let (code, text) = walk.gate("run --policy idle.toml");
    assert!(code == 2 && text.contains("nothing is required: this policy cannot fail"), "{text}");
}
