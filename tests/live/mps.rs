//! MPS: a control daemon of the run's own, tenants proved to be its clients, and nothing of it left behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::alone;
use crate::support::run::{A30, Run, assert_no_tenants, of_kind, say, scenario, signal};
use crate::support::stand_in::StandIn;

fn machine(mps: &str) -> StandIn {
    StandIn::new(&format!("{A30}[mps]\n{mps}\n"))
}

/// One block under MPS, with these keys in the arrangement.
fn short(keys: &str) -> String {
    format!("{}{keys}\n", scenario(1, 1, "10ms", &["mps"]))
}

/// Two equal shares.
fn halves(share: &str) -> String {
    short(&format!("layout = [{{ {share} }}, {{ {share} }}]"))
}

/// Daemons and servers of MPS on this machine: process id and name.
pub(crate) fn daemons(machine: &StandIn) -> Vec<(u32, String)> {
    let ours = format!("CROSSTALK_STAND_IN={}", machine.path().display());
    let of = |pid: u32| {
        let name = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let name = String::from_utf8_lossy(name.split(|b| *b == 0).next()?).into_owned();
        let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mine = environ.split(|b| *b == 0).any(|variable| variable == ours.as_bytes());
        (mine && name.contains("nvidia-cuda-mps")).then_some((pid, name))
    };
    let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter_map(of).collect()
}

/// Private directories of control daemons on this machine.
pub(crate) fn directories(machine: &StandIn) -> Vec<PathBuf> {
    let all = std::fs::read_dir(machine.path()).expect("the machine").flatten().map(|e| e.path());
    let private = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("crosstalk-mps-"));
    all.filter(private).collect()
}

/// Asserts that within 10 seconds nothing of MPS is left on this machine.
#[track_caller]
pub(crate) fn assert_clean(machine: &StandIn) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !daemons(machine).is_empty() {
        assert!(Instant::now() < deadline, "{:?} live on", daemons(machine));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(directories(machine), Vec::<PathBuf>::new());
}

/// The proofs of every restart of a run.
pub(crate) fn proofs(dir: &Path) -> Vec<String> {
    let arranged = of_kind(dir, "arranged");
    let proofs = arranged.iter().flat_map(|a| a["evidence"]["proofs"].as_array().expect("proofs").clone());
    proofs.map(|p| p.as_str().expect("words").to_owned()).collect()
}

/// A run that gives its arrangement up for this reason, and leaves nothing behind.
#[track_caller]
fn gives_up(machine: &StandIn, scenario: &str, words: &[&str]) {
    let run = Run::start_with(machine, "refused", scenario, &[("CROSSTALK_STAND_IN_PATIENCE", "4s")]);
    let dir = run.dir.clone();
    run.end().ended(3, words);
    assert_eq!(of_kind(&dir, "committed").len(), 0, "nothing is measured unproved");
    assert_no_tenants(machine);
    assert_clean(machine);
    std::fs::remove_dir_all(dir).expect("the run directory");
}

/// A control daemon that the run did not start.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(machine: &StandIn) -> Self {
        let mut command = Command::new(machine.path().join("nvidia-cuda-mps-control"));
        machine.apply(&mut command).arg("-f").stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("the control daemon");
        let socket = machine.path().join("usual/control");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "the control daemon does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn tenants_are_clients_of_a_server_of_the_runs_own_and_nothing_is_left() {
    let _alone = alone();
    let machine = machine("log = [\"User did not send valid credentials\", \"Volta MPS: hello\"]");
    let mut run = Run::start(&machine, "run", &short(""), &[]);
    let dir = run.dir.clone();
    run.until_committed(1);
    let there = daemons(&machine);
    assert_eq!(there.len(), 2, "a control daemon and a server: {there:?}");
    let [private] = directories(&machine).try_into().expect("one private directory");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&private).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    let tenants = run.tenants();
    run.end().ended(0, &[]);
    assert_clean(&machine);

    let proofs = proofs(&dir);
    let has = |words: &[&str]| {
        assert!(proofs.iter().any(|p| words.iter().all(|w| p.contains(w))), "{words:?} not in: {proofs:#?}");
    };
    let server = there.iter().find(|(_, name)| name.ends_with("server")).unwrap().0;
    has(&[&format!("MPS server {server} of our control daemon")]);
    tenants.iter().for_each(|pid| has(&["has the clients", &pid.to_string()]));
    has(&["lists 2 tenants as MPS clients (M+C)"]);
    // 50 % of 56 SMs.
    has(&["seat 0 sees 28 of 56 SMs under its cap of 50%"]);
    has(&["server.log", "Volta MPS: hello"]);
    assert!(!proofs.iter().any(|p| p.contains("valid credentials")), "harmless: {proofs:#?}");
}

#[test]
fn a_tenant_that_fell_back_is_named() {
    let _alone = alone();
    for from in [1, 2] {
        let machine = machine(&format!("fall_back_from = {from}"));
        gives_up(&machine, &short(""), &["the tenant of seat", "runs without MPS", "it is no client of MPS server"]);
    }
}

#[test]
fn a_client_that_the_driver_lists_otherwise_is_no_proof() {
    let _alone = alone();
    gives_up(&machine("listed_plain = true"), &short(""), &["lists it with a context of its own (C, not M+C)"]);
}

#[test]
fn a_server_that_dies_takes_the_arrangement_along_and_nothing_stays() {
    let _alone = alone();
    let machine = machine("");
    let mut run = Run::start(&machine, "run", &scenario(4, 4, "10ms", &["mps"]), &[]);
    let dir = run.dir.clone();
    run.until_committed(1);
    let (server, _) = daemons(&machine).into_iter().find(|(_, name)| name.ends_with("server")).expect("a server");
    signal(server, "KILL");
    let said = run.end();
    let words = said.words();
    assert!(words.contains(&format!("MPS server {server} is gone")), "{words}");
    assert!(of_kind(&dir, "committed").len() < 8, "of 8 arms");
    assert_no_tenants(&machine);
    assert_clean(&machine);
}

#[test]
fn a_server_that_refuses_or_hangs_is_told_apart() {
    let _alone = alone();
    let of = |mps: &str| machine(mps);
    gives_up(&of("refuse = 805"), &short(""), &["805", "the MPS server cannot be reached"]);
    gives_up(&of("max_clients = 1"), &short(""), &["808", "fewer tenants"]);
    gives_up(&of("hang_from = 2"), &short(""), &["no answer to"]);
    gives_up(
        &of("server_error = \"Failed to start : out of memory\""),
        &short(""),
        &["no MPS server", "out of memory"],
    );
}

#[test]
fn a_daemon_that_does_not_come_up_says_why() {
    let _alone = alone();
    gives_up(&machine("start_error = \"no permission\""), &short(""), &["exit code 1", "no permission"]);
    gives_up(&machine("deaf = true"), &short(""), &["has not answered `get_server_list`"]);
    let without = machine("");
    without.remove_mps();
    gives_up(&without, &short(""), &["nvidia-cuda-mps-control is not there", "comes with the driver"]);
}

#[test]
fn a_daemon_that_heeds_nothing_is_killed() {
    let _alone = alone();
    let machine = machine("stubborn = true\norphan_server = true");
    Run::start(&machine, "run", &short(""), &[]).end().ended(0, &[]);
    assert_clean(&machine);
}

#[test]
fn a_running_daemon_is_used_only_where_the_scenario_says_so() {
    let _alone = alone();
    let machine = machine("");
    let running = short("mps_daemon = \"running\"");
    gives_up(&machine, &running, &["no MPS control daemon answers in", "leave `mps_daemon` out"]);

    let daemon = Running::start(&machine);
    let run = Run::start(&machine, "own", &short(""), &[]);
    run.end().ended(3, &["an MPS control daemon is running already", "mps_daemon = \"running\""]);

    let run = Run::start(&machine, "running", &running, &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    assert!(proofs(&dir).iter().any(|p| p.contains("of the control daemon that was running")), "{:#?}", proofs(&dir));
    assert_eq!(daemons(&machine).len(), 1, "the daemon is left as it was, without the server that the run caused");
    let run = Run::start(&machine, "own-again", &short(""), &[]);
    run.end().ended(3, &["an MPS control daemon is running already"]);
    Run::start(&machine, "running-again", &running, &[]).end().ended(0, &[]);
    drop(daemon);
}

/// MPS under the daemon that is running, then turns without MPS, on one GPU.
fn then_without() -> String {
    let both = scenario(1, 1, "10ms", &["mps", "time-slicing"]);
    both.replace("sharing = \"mps\"\n", "sharing = \"mps\"\nmps_daemon = \"running\"\n")
}

#[test]
fn a_server_that_the_run_caused_in_a_running_daemon_ends_with_its_arrangement() {
    let _alone = alone();
    let machine = machine("");
    let daemon = Running::start(&machine);
    let run = Run::start(&machine, "run", &then_without(), &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    let ran: std::collections::BTreeSet<u64> =
        of_kind(&dir, "committed").iter().map(|c| c["arm"]["arrangement"].as_u64().unwrap()).collect();
    assert_eq!(ran.into_iter().collect::<Vec<_>>(), [0, 1], "the second one had the GPU for itself");
    assert_eq!(daemons(&machine).len(), 1);
    drop(daemon);
}

#[test]
fn a_server_that_does_not_end_is_named_with_the_way_out() {
    let _alone = alone();
    let machine = machine("no_shutdown = true");
    let daemon = Running::start(&machine);
    Run::start(&machine, "run", &then_without(), &[]).end().ended(
        3,
        &[
            "was started for this run in the control daemon that was running in",
            "Unknown command",
            "echo shutdown_server",
        ],
    );
    let there = daemons(&machine);
    let (server, _) = there.iter().find(|(_, name)| name.ends_with("server")).expect("the server");
    // What was there before a run is nobody's but the user's.
    Run::start(&machine, "again", &short("mps_daemon = \"running\""), &[]).end().ended(0, &[]);
    assert!(daemons(&machine).iter().any(|(pid, _)| pid == server), "it was there before this run");
    drop(daemon);
}

#[test]
fn a_server_that_somebody_else_uses_is_left_to_him() {
    let _alone = alone();
    let machine = machine("");
    let daemon = Running::start(&machine);
    let mut run = Run::start(
        &machine,
        "run",
        &scenario(4, 4, "10ms", &["mps"])
            .replace("sharing = \"mps\"\n", "sharing = \"mps\"\nmps_daemon = \"running\"\n"),
        &[],
    );
    run.until_committed(1);
    let mut other = crate::reconfigure::in_role(&machine, "hold")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(other.stdout.take().expect("its words")));
    assert!(lines.by_ref().any(|line| line.expect("a line").contains("role: held")));
    run.end().ended(3, &[&format!("pid {}", other.id())]);
    assert_eq!(daemons(&machine).len(), 2, "its server lives: {:?}", daemons(&machine));
    drop(other.stdin.take());
    other.wait().expect("its end");
    drop(daemon);
}

#[test]
fn of_a_killed_run_nothing_of_mps_is_left_when_the_next_begins() {
    let _alone = alone();
    let machine = machine("orphan_server = true");
    let mut run = Run::start(&machine, "killed", &short(""), &[]);
    run.until_committed(1);
    assert_eq!(daemons(&machine).len(), 2);
    run.kill();
    assert_no_tenants(&machine);
    let deadline = Instant::now() + Duration::from_secs(10);
    while daemons(&machine).iter().any(|(_, name)| name.ends_with("control")) {
        assert!(Instant::now() < deadline, "the control daemon lives on: {:?}", daemons(&machine));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((daemons(&machine).len(), directories(&machine).len()), (1, 1), "a server without its daemon");
    Run::start(&machine, "next", &short(""), &[])
        .end()
        .ended(0, &["of a run that was killed", "and killed nvidia-cuda-mps"]);
    assert_clean(&machine);
}

#[test]
fn killed_at_any_step_of_arranging_the_next_run_is_clean() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    // Before the first answer; with the server not up yet; with a client that waits for its answer.
    for (n, step) in ["deaf = true", "server_hang = true", "hang_from = 1", "hang_from = 2"].iter().enumerate() {
        machine.configure(&format!("{A30}[mps]\norphan_server = true\n{step}\n"));
        let mut run = Run::start(&machine, &format!("killed-{n}"), &short(""), &[]);
        assert!(run.until(|_| !directories(&machine).is_empty()), "{step}");
        if step.starts_with("hang") {
            assert!(run.until(|run| run.tenants().len() == 2), "{step}");
        } else if step.starts_with("server") {
            assert!(run.until(|_| daemons(&machine).len() > 1), "{step}");
        }
        std::thread::sleep(Duration::from_millis(50));
        run.kill();
        assert_no_tenants(&machine);
        machine.configure(A30);
        Run::start(&machine, &format!("next-{n}"), &short(""), &[]).end().ended(0, &[]);
        assert_clean(&machine);
    }
}

#[test]
fn where_the_drivers_list_is_hidden_the_list_of_clients_is_said_to_be_the_only_proof() {
    let _alone = alone();
    let gpu = "GPU-11111111-2222-8333-8444-555555555555";
    let machine = StandIn::new(&format!("{A30}uuid = \"{gpu}\"\nprocesses_hidden = true\n"));
    let run = Run::start(&machine, "run", &short(""), &["--gpu-is-mine", gpu]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    assert!(proofs(&dir).iter().any(|p| p.contains("the only proof")), "{:#?}", proofs(&dir));
}

#[test]
fn reserved_shares_are_static_partitions_where_the_driver_has_them() {
    let _alone = alone();
    let reserved = halves("sms = \"50%\", reserved = true");
    gives_up(&machine(""), &reserved, &["static partitions of SMs", "without `reserved` a share is a cap"]);
    let machine = machine("sms_per_chunk = 4");
    let run = Run::start(&machine, "run", &reserved, &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    // 14 chunks of 4 SMs: 7 for each.
    assert!(proofs(&dir).iter().any(|p| p.contains("sees the 28 SMs of its partition GPU-")), "{:#?}", proofs(&dir));
    assert_clean(&machine);
}

#[test]
fn a_memory_limit_binds_its_tenant() {
    let _alone = alone();
    let machine = machine("");
    let run = Run::start(&machine, "run", &halves("sms = \"50%\", memory = \"2GiB\""), &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    for arranged in of_kind(&dir, "arranged") {
        for seat in arranged["evidence"]["seats"].as_array().expect("seats") {
            assert!(seat["device"]["free"].as_u64().expect("bytes") <= 2 << 30, "{seat:#}");
        }
    }
}

#[test]
fn a_tenant_that_must_be_killed_is_terminated_first() {
    let _alone = alone();
    // A tenant that hangs in the driver, at work: its client is taken off the GPU before it is killed.
    let machine = StandIn::new(A30);
    machine.configure(&format!("{A30}[[fault.hang]]\nsymbol = \"cuLaunchKernel\"\nfrom_call = 40\nms = 600000\n"));
    let keep = [("CROSSTALK_STAND_IN_PATIENCE", "3s")];
    let mut run = Run::start_with(&machine, "run", &short(""), &keep);
    let mut log = String::new();
    run.until(|_| {
        for folder in directories(&machine) {
            if let Ok(text) = std::fs::read_to_string(folder.join("log/server.log")) {
                log = text;
            }
        }
        log.contains("Terminated client")
    });
    assert!(log.contains("Terminated client"), "{log}");
    signal(run.pid(), "INT");
    drop(run.end());
    assert_clean(&machine);
}

#[test]
fn check_refuses_the_key_where_there_is_no_mps() {
    let _alone = alone();
    let machine = machine("");
    let file = machine.path().join("wrong.toml");
    let text = scenario(1, 1, "10ms", &["time-slicing"]) + "mps_daemon = \"running\"\n";
    std::fs::write(&file, text).expect("the scenario");
    say(&machine, &["check", file.to_str().expect("UTF-8")]).ended(2, &["mps_daemon", "it has no MPS"]);
}

#[test]
fn in_mig_every_instance_has_a_server_of_its_own() {
    let _alone = alone();
    let toml = "[[gpu]]\nmodel = \"a30\"\nmig = [\"2g.12gb\", \"2g.12gb\"]\n[mps]\n";
    let inside = scenario(1, 1, "10ms", &[])
        + "[[arrangement]]\nname = \"inside\"\nsharing = \"mig+mps\"\nlayout = [{ profile = \"2g.12gb\", tenants = 2, sms = \"50%\" }, \"2g.12gb\"]\nvictim_at = [\"0.0\"]\n";
    let machine = StandIn::new(toml);
    let mut run = Run::start(&machine, "run", &inside, &[]);
    let dir = run.dir.clone();
    run.until_committed(1);
    assert_eq!((daemons(&machine).len(), directories(&machine).len()), (4, 2), "{:?}", daemons(&machine));
    run.end().ended(0, &[]);
    assert_clean(&machine);
    let proofs = proofs(&dir);
    let servers: Vec<&String> = proofs.iter().filter(|p| p.contains("of our control daemon")).collect();
    let clients = |p: &&String| p.split("has the clients ").nth(1).expect("clients").split(", ").count();
    let mut counts: Vec<usize> = servers.iter().map(clients).collect();
    counts.sort_unstable();
    // At each of two restarts.
    assert_eq!(counts, [1, 1, 2, 2], "{proofs:#?}");
    assert!(servers.iter().all(|p| p.contains(" on MIG-")), "{servers:#?}");
    assert!(proofs.iter().any(|p| p.contains("share a MIG device, through MPS")), "{proofs:#?}");
    // Half of the 28 SMs of 2g.12gb.
    assert!(proofs.iter().any(|p| p.contains("seat 0.0 sees 14 of 28 SMs under its cap of 50%")), "{proofs:#?}");

    machine.configure(&format!("{toml}fall_back_from = 1\n"));
    gives_up(&machine, &inside, &["runs without MPS"]);
}

#[test]
fn restore_takes_away_what_a_killed_run_left_of_mps() {
    let _alone = alone();
    let machine = machine("orphan_server = true");
    let mut run = Run::start(&machine, "killed", &short(""), &[]);
    run.until_committed(1);
    say(&machine, &["restore"]).ended(0, &["nothing to put back"]);
    assert_eq!(daemons(&machine).len(), 2, "what lives is left alone");
    run.kill();
    assert_no_tenants(&machine);
    say(&machine, &["restore"]).ended(0, &["of a run that was killed", "and killed nvidia-cuda-mps"]);
    assert_clean(&machine);
}
