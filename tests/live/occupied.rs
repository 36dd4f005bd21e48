//! Do no harm: a GPU on which somebody else works, and one on which another crosstalk runs.

use crate::support::alone;
use crate::support::run::{A30, Run, document, of_kind, say, scenario};
use crate::support::stand_in::StandIn;

const GPU: &str = "GPU-11111111-2222-8333-8444-555555555555";

fn short() -> String {
    scenario(1, 1, "10ms", &["time-slicing"])
}

#[test]
fn a_gpu_with_somebody_elses_work_is_left_alone_unless_the_user_vouches_for_it() {
    let _alone = alone();
    let stranger = "processes = [{ pid = 4711, name = \"python3\", memory_mib = 2048 }]";
    let machine = StandIn::new(&format!("{A30}uuid = \"{GPU}\"\n{stranger}\n"));
    say(&machine, &["doctor"]).ended(3, &["in use by python3 (pid 4711", "--gpu-is-mine"]);
    let run = Run::start(&machine, "refused", &short(), &[]);
    let dir = run.dir.clone();
    run.end().ended(3, &["in use by python3 (pid 4711", &format!("--gpu-is-mine {GPU}")]);
    assert!(!dir.exists());
    let other = "GPU-61111111-2222-8333-8444-555555555555";
    Run::start(&machine, "refused", &short(), &["--gpu-is-mine", other]).end().ended(3, &["python3"]);

    let run = Run::start(&machine, "mine", &short(), &["--gpu-is-mine", GPU]);
    let dir = run.dir.clone();
    run.end().ended(0, &["exclusive use assumed"]);
    let device = document(&dir, "manifest.json")["device"].to_string();
    assert!(device.contains("exclusive use assumed") && device.contains("python3"), "{device}");
    assert_eq!(of_kind(&dir, "committed").len(), 2);
}

#[test]
fn one_run_at_a_time_has_the_gpu_and_the_next_one_waits() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let mut first = Run::start(&machine, "first", &short(), &[]);
    assert!(first.until(|run| !run.tenants().is_empty()));
    let holder = format!("pid {}", first.pid());
    let refused = Run::start(&machine, "second", &short(), &[]);
    let dir = refused.dir.clone();
    refused.end().ended(3, &["in use by crosstalk run", &holder, "--wait"]);
    assert!(!dir.exists());

    let waiting = Run::start(&machine, "third", &short(), &["--wait", "5m"]);
    let dir = waiting.dir.clone();
    first.end().ended(0, &[]);
    waiting.end().ended(0, &[]);
    assert_eq!(of_kind(&dir, "committed").len(), 2);
}
