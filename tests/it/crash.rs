//! A run killed at any moment loses at most the arms in flight, and goes on to the same end.

use std::process::{Command, Stdio};
use std::time::Duration;

use crosstalk::random::{Key, Stream};

use crate::support::{crosstalk, tree};

const SCENARIO: &str = r#"
schema = 1
name = "killed"
device = "sim:a30"
[design]
blocks = 24
blocks_per_generation = 3
window = "400ms"
[victim]
panel = [{ probe = "launch" }, { probe = "weak-chase" }]
[[neighbour]]
name = "idle"
noise = "idle"
[[neighbour]]
name = "hog"
noise = "hbm-read"
[[arrangement]]
name = "ts"
sharing = "time-slicing"
[[arrangement]]
name = "mps"
sharing = "mps"
"#;

fn report(path: &std::path::Path) -> Vec<u8> {
    crosstalk().arg("report").arg(path).args(["--format", "json"]).assert().success().get_output().stdout.clone()
}

#[test]
fn killed_at_random_moments_it_resumes_to_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("killed.toml");
    std::fs::write(&file, SCENARIO).unwrap();
    let whole = folder.path().join("whole");
    crosstalk().arg("run").arg(&file).arg("--out").arg(&whole).assert().success();
    let reference = report(&whole);
    let arms = tree(&whole.join("arms")).len() as u64;

    let mut stream = Stream::new(std::process::id().into(), &[Key::Name("kill")]);
    let mut interrupted = 0;
    for trial in 0..8 {
        let out = folder.path().join(format!("trial-{trial}"));
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("crosstalk"))
            .arg("run")
            .arg(&file)
            .arg("--out")
            .arg(&out)
            .env_remove("CI")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // By progress and not by the clock, so that a slow or a quick machine is hit in the middle as well; then at any
        // moment of the next arms.
        let reached = stream.below(arms * 3 / 4) as usize;
        let events = || std::fs::read(out.join("events.jsonl")).unwrap_or_default();
        let written = || events().iter().filter(|byte| **byte == b'\n').count() > reached;
        while !written() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(300));
        }
        std::thread::sleep(Duration::from_micros(stream.below(20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        if !out.join("manifest.json").exists() {
            continue; // killed before anything was measured: there is no run to go on with
        }
        if out.join("finished.json").exists() {
            continue;
        }
        interrupted += 1;
        // What was committed can be read and verified as it is, and the report says that it is unfinished.
        let partial = String::from_utf8(report(&out)).unwrap();
        assert_ne!(partial.as_bytes(), reference);
        crosstalk().args(["run", "--resume"]).arg(&out).assert().success();
        crosstalk().arg("verify").arg(&out).assert().success();
        assert_eq!(report(&out), reference, "trial {trial}");
        let names = |path| tree(path).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&out), names(&whole), "no file of the crash is left over");
    }
    assert!(interrupted >= 3, "only {interrupted} of 8 kills hit a run in progress: lengthen the scenario");
}

#[test]
fn an_interrupt_ends_cleanly_with_what_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("killed.toml");
    std::fs::write(&file, SCENARIO).unwrap();
    let out = folder.path().join("run");
    let child = Command::new(assert_cmd::cargo::cargo_bin("crosstalk"))
        .arg("run")
        .arg(&file)
        .arg("--out")
        .arg(&out)
        .env_remove("CI")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !out.join("arms").exists() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--resume"));
    let notes = || {
        let log = std::fs::read_to_string(out.join("events.jsonl")).unwrap();
        log.lines().filter(|line| line.starts_with("{\"note\"")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(notes(), [r#"{"note":{"interrupted":{}}}"#]);
    crosstalk().args(["run", "--resume"]).arg(&out).assert().success();
    assert_eq!(notes(), [r#"{"note":{"interrupted":{}}}"#, r#"{"note":{"resumed":{}}}"#]);
}
