//! kill -9 and interruptions at any moment: no orphan, no committed arm lost, and the run goes on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crosstalk::random::{Key, Stream};

use crate::support::alone;
use crate::support::run::{A30, Run, assert_no_tenants, events, of_kind, path, say, scenario, signal};
use crate::support::stand_in::StandIn;

/// Rounds of killing: few in a plain `cargo test`, 20 in CI, 200 on demand.
fn rounds() -> u64 {
    std::env::var("CROSSTALK_KILL_ROUNDS").map_or(4, |n| n.parse().expect("CROSSTALK_KILL_ROUNDS is a number"))
}

/// Arms that count: those committed, less those of blocks that were dropped later.
fn arms(run: &std::path::Path) -> usize {
    let mut arms: Vec<(u64, bool)> = Vec::new();
    for event in events(run) {
        if let Some(committed) = event.get("committed") {
            arms.push((committed["arm"]["block"].as_u64().unwrap(), committed["arm"]["neighbour"].is_null()));
        }
        if let Some(dropped) = event.get("dropped") {
            arms.retain(|(block, _)| *block != dropped["block"].as_u64().unwrap());
        }
    }
    arms.len()
}

#[test]
fn killed_at_random_moments_nothing_is_orphaned_or_lost() {
    let _alone = alone();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    // A failure is told with the seed, by which it can be repeated as far as the machine repeats.
    println!("seed {seed}");
    let mut stream = Stream::new(u64::from(seed), &[Key::Name("kill")]);
    let machine = StandIn::new(A30);
    let (mut number, mut begun) = (0, false);
    for round in 0..rounds() {
        let name = format!("run-{number}");
        let mut run = if begun {
            Run::resume(&machine, &name)
        } else {
            Run::start(&machine, &name, &scenario(6, 2, "10ms", &["time-slicing"]), &[])
        };
        let dir = run.dir.clone();
        // By progress and not by the clock, so that a slow machine is hit everywhere as well; then at any moment of what
        // comes next.
        let reached = events(&dir).len() + stream.below(6) as usize;
        let going = run.until(|run| events(&run.dir).len() >= reached);
        std::thread::sleep(Duration::from_micros(stream.below(1_500_000)));
        let tenants = run.tenants();
        if going && round % 2 == 1 && !tenants.is_empty() {
            // A tenant first, and the controller while it deals with that.
            signal(tenants[stream.below(tenants.len() as u64) as usize], "KILL");
            std::thread::sleep(Duration::from_micros(stream.below(1_500_000)));
        }
        let before = arms(&dir);
        run.kill();
        assert_no_tenants(&machine);

        begun = dir.join("manifest.json").exists();
        if !begun {
            // Before anything was measured: the next run begins anew, elsewhere.
            number += 1;
            continue;
        }
        let kept = arms(&dir);
        assert!(kept >= before, "{kept} arms of {before}");
        say(&machine, &["verify", path(&dir)]).ended(0, &[&format!("{kept} arms")]);
        say(&machine, &["report", path(&dir)]).ended(0, &["STAND-IN"]);
        if dir.join("finished.json").exists() {
            (number, begun) = (number + 1, false);
        }
    }

    // After all that the machine is as it was: a run on it is clean, and one that was killed comes to its end.
    if begun {
        let run = Run::resume(&machine, &format!("run-{number}"));
        let dir = run.dir.clone();
        run.end().ended(0, &[]);
        say(&machine, &["verify", path(&dir)]).ended(0, &["verdict agree"]);
    }
    let run = Run::start(&machine, "clean", &scenario(1, 1, "10ms", &["time-slicing"]), &[]);
    let dir = run.dir.clone();
    run.end().ended(0, &[]);
    assert_eq!((arms(&dir), of_kind(&dir, "lost").len()), (2, 0));
    assert_no_tenants(&machine);
}

#[test]
fn an_interrupted_run_ends_with_130_and_goes_on_without_its_half_block() {
    let _alone = alone();
    let machine = StandIn::new(A30);
    let mut run = Run::start(&machine, "run", &scenario(3, 3, "10ms", &["time-slicing"]), &[]);
    // One arm into the second block, or a little further.
    run.until_committed(3);
    signal(run.pid(), "INT");
    let dir = run.dir.clone();
    run.end().ended(130, &["interrupted", "--resume"]);
    assert_no_tenants(&machine);
    let noted = of_kind(&dir, "note");
    assert_eq!(noted.len(), 1, "{noted:#?}");
    let before = arms(&dir);
    assert!((3..6).contains(&before), "{before} arms");
    say(&machine, &["verify", path(&dir)]).ended(0, &[&format!("{before} arms"), "not finished"]);

    Run::resume(&machine, "run").end().ended(0, &[]);
    assert_eq!(of_kind(&dir, "dropped").len(), before % 2, "a block of which one arm is there does not count");
    assert_eq!(arms(&dir), 6);
    assert_no_tenants(&machine);
    say(&machine, &["verify", path(&dir)]).ended(0, &["6 arms", "verdict agree"]);
    say(&machine, &["run", "--resume", path(&dir)]).ended(2, &["finished"]);
}
