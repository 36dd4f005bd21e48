//! The command line as a user has it: every verb, its output and its exit code.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use crosstalk::report::Format;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::{Scratch, crosstalk, small, stderr, stdout};

/// The simulated run's first words, whatever the format.
const BANNER: &str = "SIMULATED: nothing below was measured on hardware";

fn ok(args: &[&str]) -> String {
    stdout(crosstalk().args(args).assert().code(0))
}

#[test]
fn every_verb_explains_itself() {
    let mut text = ok(&["--help"]);
    for verb in ["init", "check", "run", "report", "gate", "verify", "list", "schema", "completions"] {
        text.push_str(&format!("\n$ crosstalk {verb} --help\n{}", ok(&[verb, "--help"])));
    }
    insta::assert_snapshot!("help", text);
    assert_eq!(ok(&["--version"]), format!("crosstalk {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn lists_are_never_empty_and_json_is_json() {
    for what in ["workloads", "scenarios", "gpus", "profiles", "claims", "observations", "policies"] {
        assert!(ok(&["list", what]).lines().count() >= 1, "{what}");
        let json: Value = serde_json::from_str(&ok(&["list", what, "--format", "json"])).unwrap();
        assert!(json.as_array().is_some_and(|a| !a.is_empty()) || json.as_object().is_some_and(|o| !o.is_empty()));
    }
}

#[test]
fn schemas_are_the_committed_ones() {
    for of in ["scenario", "run", "report", "comparison", "baseline", "policy", "gate"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{of}.schema.json"));
        assert!(ok(&["schema", of]) == std::fs::read_to_string(path).unwrap(), "run `crosstalk schema {of}` into it");
    }
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(ok(&["completions", shell]).contains("crosstalk"), "{shell}");
    }
}

#[test]
fn check_shows_the_whole_plan() {
    insta::assert_snapshot!("check_quickstart", ok(&["check", "quickstart"]));
}

#[test]
fn check_and_run_say_beforehand_what_is_risky() {
    let scratch = Scratch::new();
    let file =
        scratch.file("s.toml", &small("").replace("\"launch\"", "\"launch\", arrivals = { fixed = \"1000/s\" }"));
    let checked = stdout(crosstalk().arg("check").arg(&file).assert().code(0));
    let run = stderr(crosstalk().arg("run").arg(&file).arg("--out").arg(scratch.path("run")).assert().code(0));
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for risk in ["nothing is required: this run cannot fail", "6 blocks see episodes", "lock in phase"] {
        assert!(flat(&checked).contains(risk), "check: no {risk:?} in {checked}");
        assert!(flat(&run).contains(risk), "run: no {risk:?} in {run}");
    }
    assert!(!ok(&["check", "quickstart"]).contains("Notes"), "nothing is risky about the quickstart");
}

#[test]
fn a_plan_beyond_its_own_limit_is_refused_before_anything_runs() {
    let scratch = Scratch::new();
    let text = small("").replacen("[design]", "[design]\nmax_duration = \"20s\"", 1);
    assert!(text.contains("max_duration"), "{text}");
    let file = scratch.file("long.toml", &text);
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for verb in ["check", "run"] {
        let said = flat(&stderr(crosstalk().current_dir(scratch.root()).arg(verb).arg(&file).assert().code(2)));
        for words in [
            "design.max_duration: the plan takes about ",
            ".toml:",
            "The longest place is ",
            "expected 20 s at most; fewer `blocks`",
        ] {
            assert!(said.contains(words), "{verb}: no {words:?} in {said}");
        }
    }
    assert!(!scratch.path("crosstalk-runs").exists(), "nothing was begun");
    crosstalk().arg("check").arg(scratch.file("s.toml", &text.replace("\"20s\"", "\"1h\""))).assert().code(0);
}

/// `init` for every kind of machine, at every tier: what it writes is valid, and it runs (two blocks, short windows).
#[test]
fn init_writes_what_runs() {
    let scratch = Scratch::new();
    for device in ["sim:h100-sxm", "sim:h100-sxm/3g.40gb+3g.40gb", "sim:a30/all-balanced", "sim:rtx-4090"] {
        for tier in ["smoke", "acceptance", "certify"] {
            let name = format!("{}-{tier}", device.replace([':', '/', '+'], "_"));
            let file = scratch.path(&format!("{name}.toml"));
            crosstalk().args(["init", "--device", device, "--tier", tier, "-o"]).arg(&file).assert().code(0);
            crosstalk().arg("check").arg(&file).assert().code(0);
            let written = std::fs::read(&file).unwrap();
            let again = crosstalk().args(["init", "--device", "sim:t4", "-o"]).arg(&file).assert().code(2);
            assert!(stderr(again).contains("exists: name another file"));
            assert_eq!(std::fs::read(&file).unwrap(), written, "never written over");
            if tier == "smoke" {
                let few = String::from_utf8(written).unwrap().replacen(
                    "window = \"300ms\"",
                    "window = \"40ms\"\nblocks = 2",
                    1,
                );
                let few = scratch.file(&format!("{name}-few.toml"), &few);
                // Two blocks decide nothing that is required.
                crosstalk().arg("run").arg(few).arg("--out").arg(scratch.path(&name)).assert().code(4);
                crosstalk().arg("verify").arg(scratch.path(&name)).assert().code(0);
            }
        }
    }
}

fn run(scratch: &Scratch, name: &str, text: &str) -> (assert_cmd::assert::Assert, PathBuf) {
    let file = scratch.file(&format!("{name}.toml"), text);
    let out = scratch.path(name);
    (crosstalk().arg("run").arg(file).arg("--out").arg(&out).assert(), out)
}

#[test]
fn a_run_reports_and_verifies_and_every_report_opens_with_the_banner() {
    let scratch = Scratch::new();
    let (done, out) = run(&scratch, "observed", &small(""));
    let printed = stdout(done.code(0));
    let shown = stdout(crosstalk().arg("report").arg(&out).assert().code(0));
    assert_eq!(printed, shown, "`run` prints what `report` prints");
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some(BANNER));
    assert!(lines.nth(2).unwrap().starts_with("Nothing is required"), "{shown}");
    for format in Format::ALL {
        let text = stdout(crosstalk().arg("report").arg(&out).args(["--format", format.id()]).assert().code(0));
        // A page opens with it in its body, and what machines read says it in a field: the library's own tests.
        let head: String = match format {
            Format::Terminal | Format::Json | Format::Markdown => text.lines().take(2).collect(),
            Format::Html | Format::Junit | Format::Openmetrics | Format::Csv => text.clone(),
        };
        let says = if matches!(format, Format::Openmetrics | Format::Csv) { "simulated" } else { BANNER };
        assert!(head.contains(says), "{}: {head}", format.id());
        let file = scratch.path(&format!("report.{}", format.id()));
        crosstalk().arg("report").arg(&out).args(["--format", format.id(), "-o"]).arg(&file).assert().code(0);
        assert_eq!(std::fs::read_to_string(file).unwrap(), text);
    }
    assert!(stdout(crosstalk().arg("verify").arg(&out).assert().code(0)).contains("verdict agree"));
}

/// The number to sign is the hash of the list of hashes, and there is none of a run that is not whole.
#[test]
fn the_root_hash_is_that_of_the_list_of_files_and_only_of_a_whole_run() {
    let scratch = Scratch::new();
    let (done, out) = run(&scratch, "signed", &small(""));
    done.code(0);
    let verify = |args: &[&str]| crosstalk().arg("verify").arg(&out).args(args).assert();
    let sums = out.join("SHA256SUMS");
    let root = hex::encode(Sha256::digest(std::fs::read(&sums).unwrap()));
    assert_eq!(stdout(verify(&["--root-hash"]).code(0)), format!("{root}\n"));
    assert!(stdout(verify(&[]).code(0)).ends_with(&format!("root hash (SHA-256): {root}\n")));

    let finished = out.join("finished.json");
    let kept = std::fs::read(&finished).unwrap();
    std::fs::remove_file(&finished).unwrap();
    let none = verify(&["--root-hash"]).code(2);
    assert!(none.get_output().stdout.is_empty(), "nothing to sign");
    assert!(stderr(none).contains("no root hash"));
    std::fs::write(&finished, kept).unwrap();

    let mut listed = std::fs::read(&sums).unwrap();
    listed[0] = if listed[0] == b'0' { b'1' } else { b'0' };
    std::fs::write(&sums, listed).unwrap();
    assert!(verify(&["--root-hash"]).code(2).get_output().stdout.is_empty(), "nothing to sign");
}

/// Time-slicing cannot isolate from `hbm-read`, which seven blocks show of one quantile (0.5⁷ ≤ 1.5 %); that `idle` is isolated
/// they cannot prove (0.5 %).
#[test]
fn requirements_decide_the_exit_code() {
    let scratch = Scratch::new();
    let seven = |rest: &str| small(rest).replacen("blocks = 6", "blocks = 7\njudged = [\"p50\"]", 1);
    let code = |name: &str, rest: &str| run(&scratch, name, &seven(rest)).0.get_output().status.code();
    assert_eq!(code("met", "require = { hog = \"not-isolated\" }"), Some(0));
    assert_eq!(code("not-met", "require = { hog = \"isolated\" }"), Some(1));
    assert_eq!(code("undecided", "require = { idle = \"isolated\" }"), Some(4));
    assert_eq!(code("both", "require = \"isolated\""), Some(1), "1 before 4");
    let accept = |until: &str| {
        format!(
            "require = {{ hog = \"isolated\" }}\n[[accept]]\ncell = \"ts/hog\"\nreason = \"known\"\nby = \"us\"\nuntil = {until}"
        )
    };
    assert_eq!(code("accepted", &accept("2999-12-31")), Some(0));
    assert_eq!(code("expired", &accept("2020-01-01")), Some(1));
}

#[test]
fn nothing_is_simulated_by_itself_where_hardware_or_a_pipeline_is() {
    let scratch = Scratch::new();
    let file = scratch.file("s.toml", &small("").replace("device = \"sim:a30\"", ""));
    for (variable, value) in [("CI", "true"), ("NVIDIA_VISIBLE_DEVICES", "all"), ("CUDA_VISIBLE_DEVICES", "")] {
        let before = scratch.tree();
        for verb in ["run", "check"] {
            let mut command = crosstalk();
            command.current_dir(scratch.root()).arg(verb).arg(&file).env(variable, value);
            let said = stderr(command.assert().code(3));
            assert!(said.contains(variable) && said.contains("--device sim:"), "{said}");
        }
        assert_eq!(scratch.tree(), before, "nothing is written");
    }
}

fn interrupted(file: &Path, out: &Path, device: &[&str]) -> Command {
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("crosstalk"))
        .arg("run")
        .arg(file)
        .args(device)
        .arg("--out")
        .arg(out)
        .arg("-q")
        .env_remove("CI")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !out.join("arms").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "lengthen the scenario if it ended by itself");
    let mut resume = crosstalk();
    resume.args(["run", "--resume"]).arg(out);
    resume
}

/// On a device that only the command line named: the printed `--resume DIR` needs nothing else.
#[test]
fn an_interrupted_run_goes_on_to_the_same_report() {
    let scratch = Scratch::new();
    let text = small("").replace("device = \"sim:a30\"", "").replace("blocks = 6", "blocks = 120");
    let file = scratch.file("s.toml", &text);
    let device = ["--device", "sim:h100-sxm/all-balanced"];
    let whole = scratch.path("whole");
    crosstalk().arg("run").arg(&file).args(device).arg("--out").arg(&whole).assert().code(0);
    let out = scratch.path("stopped");
    let mut resume = interrupted(&file, &out, &device);
    resume.env("CI", "true").assert().code(0);
    let report = |path: &Path| stdout(crosstalk().arg("report").arg(path).args(["--format", "json"]).assert().code(0));
    assert_eq!(report(&out), report(&whole));
}

#[test]
fn runs_begun_at_once_get_directories_of_their_own() {
    let scratch = Scratch::new();
    let file = scratch.file("s.toml", &small(""));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| crosstalk().current_dir(scratch.root()).arg("run").arg(&file).arg("-q").assert().code(0));
        }
    });
    for n in 1..=3 {
        crosstalk().arg("verify").arg(scratch.path(&format!("crosstalk-runs/small-{n}"))).assert().code(0);
    }
}

/// A tenant that does not fit in one of several places skips its arrangement, and the others run.
#[test]
fn an_arrangement_that_cannot_run_leaves_the_others_alone() {
    let scratch = Scratch::new();
    let other = "[[arrangement]]\nname = \"full\"\nsharing = \"time-slicing\"\ntenants = 16";
    let (done, out) = run(&scratch, "two", &small(other));
    let text = stdout(done.code(0));
    assert!(text.contains("skipped: full/") && text.contains("lower its"), "{text}");
    assert!(text.contains("ts/hog"), "{text}");
    crosstalk().arg("verify").arg(out).assert().code(0);
}

/// What a full disk, a closed pipe and a closed terminal do to every verb that prints.
#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() {
    use std::process::Stdio;
    let scratch = Scratch::new();
    let (_, out) = run(&scratch, "r", &small(""));
    let out = out.to_str().unwrap();
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let closed = || {
        let mut reader = std::process::Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
        let pipe = Stdio::from(std::os::fd::OwnedFd::from(reader.stdin.take().unwrap()));
        reader.wait().unwrap();
        pipe
    };
    let start = |args: &[&str], stdout: Stdio, stderr: Stdio| {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("crosstalk"));
        command.args(args).env_remove("CI").stdout(stdout).stderr(stderr).output().unwrap()
    };
    let verbs: [&[&str]; 7] = [
        &["report", out],
        &["verify", out],
        &["check", "quickstart"],
        &["list", "gpus"],
        &["schema", "run"],
        &["completions", "bash"],
        &["init", "--device", "sim"],
    ];
    for args in verbs {
        let ended = start(args, full(), Stdio::piped());
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains("cannot write to standard output: No space left"), "{args:?}: {said}");
        assert_eq!(start(args, closed(), Stdio::piped()).status.code(), Some(0), "{args:?} into a closed pipe");
        assert_eq!(start(args, Stdio::null(), full()).status.code(), Some(0), "{args:?} without a standard error");
    }
    assert_eq!(start(&["report", "nowhere"], Stdio::null(), full()).status.code(), Some(2));
}

#[cfg(unix)]
#[test]
fn a_report_follows_links_and_never_replaces_what_is_no_file() {
    use std::os::unix::fs::{FileTypeExt as _, symlink};
    let scratch = Scratch::new();
    let (_, out) = run(&scratch, "r", &small(""));
    let write = |to: &Path| crosstalk().arg("report").arg(&out).arg("-o").arg(to).assert().code(0);
    let (file, link, pipe) = (scratch.file("real.txt", "old"), scratch.path("link"), scratch.path("pipe"));
    symlink(&file, &link).unwrap();
    write(&link);
    assert!(link.is_symlink() && std::fs::read_to_string(&file).unwrap().starts_with(BANNER));
    std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read_to_string(pipe).unwrap()
    });
    write(&pipe);
    assert!(reader.join().unwrap().starts_with(BANNER));
    assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
    std::fs::remove_file(&pipe).unwrap();
    let left: Vec<String> = scratch.tree().into_iter().map(|(name, _)| name).filter(|n| n.ends_with(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn colours_are_for_terminals() {
    let scratch = Scratch::new();
    let (_, out) = run(&scratch, "r", &small(""));
    let file = scratch.path("report.txt");
    let mut forced = crosstalk();
    forced.env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1");
    forced.arg("report").arg(&out).arg("-o").arg(&file).assert().code(0);
    assert!(!std::fs::read_to_string(&file).unwrap().contains('\x1b'), "no codes in a file");
    let mut plain = crosstalk();
    plain.env_remove("NO_COLOR").arg("report").arg(&out);
    assert!(!stdout(plain.assert().code(0)).contains('\x1b'), "none in a pipe");
}

#[test]
fn any_width_of_terminal_will_do() {
    let scratch = Scratch::new();
    let (_, out) = run(&scratch, "r", &small(""));
    let at = |columns: &str| stdout(crosstalk().env("COLUMNS", columns).arg("report").arg(&out).assert().code(0));
    let unknown = at("120");
    for nonsense in ["0", "-5", "", "wide", "99999999999999999999999"] {
        assert_eq!(at(nonsense), unknown, "COLUMNS={nonsense:?}");
    }
    for columns in ["1", "100000", "18446744073709551615"] {
        assert!(at(columns).starts_with(BANNER));
    }
}
