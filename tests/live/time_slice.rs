//! The level of the time slice: asked for, set for a run that may, and put back.

use crate::support::alone;
use crate::support::run::{Run, assert_no_tenants, crosstalk, of_kind, path, say, scenario, signal};
use crate::support::stand_in::StandIn;

const GPU: &str = "GPU-11111111-2222-8333-8444-555555555555";
const FLAG: &str = "--allow-reconfigure";

/// One A30 with this said of it, and of the machine besides.
fn machine(gpu: &str, rest: &str) -> StandIn {
    StandIn::new(&toml(gpu, rest))
}

fn toml(gpu: &str, rest: &str) -> String {
    format!("[[gpu]]\nmodel = \"a30\"\nuuid = \"{GPU}\"\n{gpu}\n{rest}\n")
}

/// One block under time-slicing at this level.
fn asks(level: &str) -> String {
    format!("{}time_slice = \"{level}\"\n", scenario(1, 1, "10ms", &["time-slicing"]))
}

/// The level that somebody has set, by the stand-in's own state; `None`: nobody has.
fn level(machine: &StandIn) -> Option<String> {
    std::fs::read_to_string(machine.path().join("time-slice.0")).ok()
}

/// Files that keep what was there.
fn saved(machine: &StandIn) -> usize {
    let names = std::fs::read_dir(machine.path()).unwrap().flatten();
    names.filter(|e| e.file_name().to_string_lossy().starts_with("mig-before-")).count()
}

/// What is proved of the level, at each restart.
fn proofs(dir: &std::path::Path) -> Vec<String> {
    let arranged = of_kind(dir, "arranged");
    let all = arranged.iter().flat_map(|a| a["evidence"]["proofs"].as_array().unwrap().clone());
    all.map(|p| p.as_str().unwrap().to_owned()).filter(|p| p.contains("time-slice level")).collect()
}

#[test]
fn a_level_is_announced_set_for_the_run_and_put_back() {
    let _alone = alone();
    let machine = machine("", "");
    std::fs::write(machine.path().join("s.toml"), asks("short")).unwrap();
    let refused = format!("the time-slice level of GPU {GPU} is default, and this arrangement asks for short");
    let command = format!("nvidia-smi compute-policy -i {GPU} --set-timeslice 1");
    let as_it_is = "nothing: the machine is used as it is";
    say(&machine, &["check", "s.toml"]).ended(0, &["SKIPPED", &refused, &command, FLAG, as_it_is]);
    let planned = format!("time-slicing: on GPU {GPU}, sets the time-slice level to short, and puts back default");
    say(&machine, &["check", "s.toml", FLAG]).ended(0, &[&planned]);
    assert_eq!((level(&machine), saved(&machine)), (None, 0), "check changes nothing");

    let mut run = Run::start(&machine, "run", &asks("short"), &[FLAG]);
    let dir = run.dir.clone();
    run.until_committed(1);
    assert_eq!((level(&machine).as_deref(), saved(&machine)), (Some("1"), 1));
    run.end().ended(0, &[]);
    assert_eq!((level(&machine).as_deref(), saved(&machine)), (Some("0"), 0));
    let proofs = proofs(&dir);
    let proof = "is short, by nvidia-smi compute-policy; it was default, and was set for this arrangement";
    assert!(!proofs.is_empty() && proofs.iter().all(|p| p.contains(proof)), "{proofs:#?}");
    say(&machine, &["restore"]).ended(0, &["nothing to put back"]);

    // Without leave, it is skipped.
    let run = Run::start(&machine, "skipped", &asks("short"), &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &["asks for short"]);
    assert!(of_kind(&dir, "committed").is_empty() && of_kind(&dir, "skipped").len() == 1);
    assert_eq!(level(&machine).as_deref(), Some("0"));
}

#[test]
fn a_level_that_is_there_already_needs_no_leave() {
    let _alone = alone();
    let machine = machine("time_slice = 2", "");
    let run = Run::start(&machine, "run", &asks("medium"), &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    let proofs = proofs(&dir);
    assert!(!proofs.is_empty() && proofs.iter().all(|p| p.contains("is medium") && p.contains("so before")));
    assert_eq!((level(&machine), saved(&machine)), (None, 0), "nothing was set");
}

#[test]
fn killed_before_or_behind_the_change_restore_puts_the_level_back() {
    let _alone = alone();
    for (when, left, then) in [("before", None, None), ("after", Some("1"), Some("0"))] {
        let kill = format!("[smi]\nkills_caller = \"{when}\"");
        let machine = machine("", &kill);
        let said = Run::start(&machine, "run", &asks("short"), &[FLAG]).end();
        assert_eq!(said.code, None, "killed {when}: {said:#?}");
        assert_eq!((level(&machine).as_deref(), saved(&machine)), (left, 1), "written down before it is set");
        if left.is_some() {
            // A restore that is killed itself goes on.
            assert_eq!(say(&machine, &["restore"]).code, None);
            assert_eq!(saved(&machine), 1);
        }
        machine.configure(&toml("", ""));
        Run::start(&machine, "next", &asks("short"), &[]).end().ended(3, &["run `crosstalk restore` first"]);
        let words = format!("GPU {GPU}: put back as it was before");
        say(&machine, &["restore"]).ended(0, &[&words, "time-slice level default"]);
        assert_eq!((level(&machine).as_deref(), saved(&machine)), (then, 0));
    }
}

#[test]
fn a_run_that_is_stopped_puts_the_level_back_and_one_that_is_killed_leaves_it_to_restore() {
    let _alone = alone();
    let machine = machine("time_slice = 3", "");
    let mut run = Run::start(&machine, "stopped", &asks("short"), &[FLAG]);
    run.until_committed(1);
    signal(run.pid(), "INT");
    run.end();
    assert_no_tenants(&machine);
    assert_eq!((level(&machine).as_deref(), saved(&machine)), (Some("3"), 0));

    let mut run = Run::start(&machine, "killed", &asks("short"), &[FLAG]);
    run.until_committed(1);
    run.kill();
    assert_no_tenants(&machine);
    assert_eq!((level(&machine).as_deref(), saved(&machine)), (Some("1"), 1));
    // Somebody else sets another one: it is his.
    std::fs::write(machine.path().join("time-slice.0"), "2").unwrap();
    say(&machine, &["restore"]).ended(3, &["the level is medium", "somebody else has set it since"]);
    assert_eq!((level(&machine).as_deref(), saved(&machine)), (Some("2"), 1));
    std::fs::write(machine.path().join("time-slice.0"), "1").unwrap();
    say(&machine, &["restore"]).ended(0, &["time-slice level long"]);
    assert_eq!((level(&machine).as_deref(), saved(&machine)), (Some("3"), 0));
}

#[test]
fn a_level_that_cannot_be_set_or_put_back_is_not_tried() {
    let _alone = alone();
    let refused = |machine: &StandIn, words: &[&str]| {
        Run::start(machine, "run", &asks("short"), &[FLAG]).end().ended(3, words);
        assert_eq!((level(machine), saved(machine)), (None, 0));
    };
    refused(&machine("time_slice_locked = true", ""), &["Insufficient Permissions", "It needs root"]);
    refused(&machine("", "[smi]\nignores = true"), &["took it, and the level is default where short was set"]);

    let without = machine("", "");
    without.remove_smi();
    let file = without.path().join("s.toml");
    std::fs::write(&file, asks("short")).unwrap();
    let check = crosstalk(&without, &["check", path(&file), FLAG]).env("PATH", without.path()).output().unwrap();
    crate::support::run::Said::from(check).ended(0, &["SKIPPED", "is not known", "nvidia-smi cannot be run"]);
    assert_eq!(saved(&without), 0);
}

#[test]
fn there_is_no_level_under_mig_and_one_in_the_simulator() {
    let _alone = alone();
    let machine = machine("", "");
    let file = machine.path().join("s.toml");
    let inside = "[[arrangement]]\nname = \"inside\"\nsharing = \"mig+time-slicing\"\n\
                  layout = [{ profile = \"2g.12gb\", tenants = 2 }]\ntime_slice = \"short\"\n";
    std::fs::write(&file, scenario(1, 1, "10ms", &[]) + inside).unwrap();
    say(&machine, &["check", path(&file)]).ended(2, &["time_slice", "none under MIG"]);

    for (level, code) in [("short", "SKIPPED"), ("default", "seat 0: whole GPU in turns")] {
        std::fs::write(&file, asks(level)).unwrap();
        let said = say(&machine, &["check", path(&file), "--device", "sim:a30"]).ended(0, &[code]);
        assert_eq!(said.words().contains("the simulator has one quantum"), level == "short", "{said:#?}");
    }

    let divided = StandIn::new(&toml("mig = [\"2g.12gb\", \"2g.12gb\"]", ""));
    let run = Run::start(&divided, "run", &asks("short"), &[FLAG]);
    run.end().ended(0, &["MIG mode is on"]);
    assert_eq!((level(&divided), saved(&divided)), (None, 0));
}
