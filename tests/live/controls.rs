//! Controls on the stand-in: the victim alone, and noise within its own place, as processes on a machine.

use serde_json::Value;

use crate::support::alone;
use crate::support::run::{A30, Run, assert_no_tenants, document, of_kind, path, say, scenario};
use crate::support::stand_in::StandIn;

/// One launch probe beside bursts in `arrangement`, with every control once or twice.
fn with_controls(arrangement: &str) -> String {
    let off = "controls = { again = false, presence = 0, sensitivity = 0, delay = 0, sampler = 0 }";
    let text = scenario(2, 1, "20ms", &[]);
    assert!(text.contains(off), "{text}");
    text.replace(off, "controls = { again = true, presence = 1, sensitivity = 2, delay = 0, sampler = 0 }")
        + arrangement
}

fn purpose(arm: &Value) -> &str {
    arm["arm"]["purpose"].as_str().unwrap_or("block")
}

/// Runs it on `machine` and checks the processes of every company, the arms, and what the noise within did.
#[track_caller]
fn controls_run(machine: &StandIn, arrangement: &str) {
    let mut run = Run::start(machine, "run", &with_controls(arrangement), &[]);
    let company = |run: &Run<'_>, company: &str| {
        let arranged = of_kind(&run.dir, "arranged");
        arranged.last().is_some_and(|event| event["company"] == company)
    };
    // An arm takes a second and more from its restart on: there is time to look.
    assert!(run.until(|run| company(run, "within")), "no noise within the victim's place");
    assert_eq!(run.tenants().len(), 1, "probes and noise are of one process");
    assert!(run.until(|run| company(run, "alone")), "the victim is never alone");
    assert_eq!(run.tenants().len(), 1, "the other seats are empty");
    let dir = run.dir.clone();
    let said = run.end();
    assert!(said.code.is_some_and(|code| code != 3), "{said:#?}");
    assert_no_tenants(machine);

    let arranged = of_kind(&dir, "arranged");
    for event in &arranged {
        let seats = event["evidence"]["seats"].as_array().unwrap();
        let pids: Vec<&Value> = seats.iter().map(|seat| &seat["pid"]).collect();
        let proofs = event["evidence"]["proofs"].to_string();
        match event["company"].as_str() {
            None => assert!(pids.len() == 2 && pids[0] != pids[1], "{event:#?}"),
            Some("alone") => assert!(pids.len() == 1 && proofs.contains("is there alone"), "{event:#?}"),
            Some("within") => {
                assert!(pids.len() == 2 && pids[0] == pids[1], "{event:#?}");
                assert!(proofs.contains("the noise is within seat 0: streams of its process"), "{proofs}");
                assert_eq!(seats[0]["device"]["uuid"], seats[1]["device"]["uuid"], "one place");
            }
            other => panic!("{other:?}"),
        }
    }
    let companies: Vec<_> = arranged.iter().map(|event| event["company"].as_str().unwrap_or("beside")).collect();
    assert_eq!(companies, ["beside", "within", "beside", "alone", "beside"], "calibration, then as planned");

    let committed = of_kind(&dir, "committed");
    let count = |what: &str| committed.iter().filter(|arm| purpose(arm) == what).count();
    assert_eq!(["block", "again", "alone", "within"].map(count), [4, 2, 1, 4], "{:#?}", of_kind(&dir, "lost"));
    for arm in committed.iter().filter(|arm| purpose(arm) == "within") {
        let neighbours = arm["summary"]["neighbours"].as_array().unwrap();
        if arm["arm"]["neighbour"].is_null() {
            assert!(neighbours.is_empty(), "{arm:#?}");
        } else {
            assert_eq!((neighbours.len(), &neighbours[0]["seat"]), (1, &Value::from(0)), "{arm:#?}");
            assert!(neighbours[0]["completed"].as_u64().unwrap() > 0, "{arm:#?}");
        }
        assert!(arm["samples"].as_u64().unwrap() > 5, "{arm:#?}");
    }
    say(machine, &["verify", path(&dir)]).ended(0, &["11 arms"]);
    // Kernels of 20 ms fill every SM of the place: a launch waits for one, and for none without.
    let medians = within(machine, &dir);
    assert!(medians[1] > 3.0 * medians[0], "{medians:?} ms: quiet, and with the noise within");
}

/// Median latency of the quiet and of the noisy arms within the victim's place, in milliseconds: from the histogram log.
fn within(machine: &StandIn, dir: &std::path::Path) -> [f64; 2] {
    let name = document(dir, "manifest.json")["plan"]["arrangements"][0]["name"].as_str().unwrap().to_owned();
    let log = std::fs::read_to_string(dir.join("hlog").join(name).join("launch.hlog")).unwrap();
    assert!(machine.path().exists());
    ["quiet", "hog"].map(|arm| {
        let tag = |line: &&str| line.starts_with("Tag=") && line.contains(&format!("-{arm}#within:latency,"));
        // The third field is the largest value of an interval.
        let largest = log.lines().filter(tag).map(|line| line.split(',').nth(3).unwrap().parse::<f64>().unwrap());
        let all: Vec<f64> = largest.collect();
        assert_eq!(all.len(), 2, "{log}");
        all.iter().sum::<f64>() / 2.0
    })
}

#[test]
fn under_mig_the_controls_stay_within_the_victims_instance() {
    let _alone = alone();
    let machine = StandIn::new("[[gpu]]\nmodel = \"a30\"\nmig = [\"2g.12gb\", \"2g.12gb\"]\n");
    controls_run(&machine, "[[arrangement]]\nname = \"mig\"\nsharing = \"mig\"\nvictim_at = [\"0\"]\n");
}

#[test]
fn under_mps_the_controls_are_clients_of_the_same_server() {
    let _alone = alone();
    controls_run(&StandIn::new(A30), "[[arrangement]]\nname = \"mps\"\nsharing = \"mps\"\nvictim_at = [\"0\"]\n");
}

#[test]
fn noise_that_does_not_fit_beside_the_probes_is_told_and_the_cells_are_measured() {
    let _alone = alone();
    let machine = StandIn::new("[[gpu]]\nmodel = \"a30\"\nmig = [\"2g.12gb\", \"2g.12gb\"]\n");
    let text = with_controls("[[arrangement]]\nname = \"mig\"\nsharing = \"mig\"\nvictim_at = [\"0\"]\n")
        .replace(
            "noise = \"compute-burst\", params = { kernel = \"20ms\" }",
            "noise = \"hbm-read\", params = { footprint = \"90%\" }",
        )
        .replace("{ probe = \"launch\",", "{ probe = \"hbm-chase\", params = { footprint = \"20%\" },");
    let run = Run::start(&machine, "run", &text, &[]);
    let dir = run.dir.clone();
    run.end();
    let refused = of_kind(&dir, "no-control");
    assert_eq!(refused.len(), 1, "{refused:#?}");
    let reason = refused[0]["reason"].as_str().unwrap();
    for words in ["probes and noise in the victim's own place", "asked for ", "are free"] {
        assert!(reason.contains(words), "no {words:?} in {reason}");
    }
    let committed = of_kind(&dir, "committed");
    assert_eq!(committed.iter().filter(|arm| purpose(arm) == "block").count(), 4);
    assert_no_tenants(&machine);
}

/// Copies beside copies between two instances: no noise inside the victim's own reaches the link, so its requests are held
/// back. And nobody samples clocks and power in as many quiet arms.
#[test]
fn requests_are_held_back_and_the_sampler_is_off_where_the_plan_says_so() {
    let _alone = alone();
    let machine = StandIn::new("[[gpu]]\nmodel = \"a30\"\nmig = [\"2g.12gb\", \"2g.12gb\"]\n");
    let text = "schema = 1\nname = \"further\"\nneighbour = [{ name = \"copies\", noise = \"h2d\" }]\n\
         [design]\nblocks = 3\nblocks_per_generation = 3\nwindow = \"600ms\"\nmax_window = \"600ms\"\nwashout = \"1s\"\n\
         drain = \"500ms\"\njudged = [\"p50\"]\nmargins = { p50 = [\"200%\", \"400%\"] }\n\
         controls = { again = false, presence = 0, sensitivity = 0, delay = 2, sampler = 2 }\n\
         [victim]\npanel = [{ probe = \"h2d\", arrivals = { fixed = \"60/s\" } }]\n\
         [[arrangement]]\nname = \"mig\"\nsharing = \"mig\"\nvictim_at = [\"0\"]\n";
    let run = Run::start(&machine, "run", text, &[]);
    let dir = run.dir.clone();
    let said = run.end();
    assert!(said.code.is_some_and(|code| code != 3), "{said:#?}");
    assert_no_tenants(&machine);

    let committed = of_kind(&dir, "committed");
    let count = |what: &str| committed.iter().filter(|arm| purpose(arm) == what).count();
    assert_eq!(["block", "unsampled", "delayed"].map(count), [6, 2, 2], "{:#?}", of_kind(&dir, "lost"));
    // The first reading is taken at once, and one every half second: none while the sampler is off.
    for arm in &committed {
        let readings = arm["summary"]["readings"].as_array().map_or(0, Vec::len);
        assert_eq!(readings == 0, purpose(arm) == "unsampled", "{readings} readings: {arm:#?}");
    }

    let calibrated = of_kind(&dir, "calibrated");
    let delay = calibrated[0]["probes"][0]["delay_ns"].as_f64().unwrap() / 1e6;
    let log = std::fs::read_to_string(dir.join("hlog/mig/h2d.hlog")).unwrap();
    let largest = |tag: &str| {
        let line = log.lines().find(|line| line.starts_with(&format!("Tag={tag}:latency,")));
        line.unwrap_or_else(|| panic!("no {tag} in {log}")).split(',').nth(3).unwrap().parse::<f64>().unwrap()
    };
    for block in 0..2 {
        let held_back = largest(&format!("000{block}-quiet#delayed"));
        assert!(held_back >= delay, "{held_back} ms, held back by {delay} ms");
    }
    for arm in committed.iter().filter(|arm| purpose(arm) == "delayed") {
        let late = arm["summary"]["windows"][0]["late"].as_u64().unwrap();
        assert!(late < 18, "{late} of 36 are late: what is held back is not");
    }
    say(&machine, &["verify", path(&dir)]).ended(0, &["10 arms"]);
    let report = say(&machine, &["report", path(&dir), "--format", "json"]).ended(0, &[]);
    let report: Value = serde_json::from_str(&report.out).unwrap();
    let controls = report["runs"][0]["controls"].as_array().unwrap();
    for (control, words) in [("delay", "an injected delay of "), ("sampler", "2 of 2 blocks")] {
        let shown = controls.iter().find(|shown| shown["control"] == control);
        let shown = shown.unwrap_or_else(|| panic!("no {control} in {controls:#?}"));
        assert!(shown["summary"].as_str().unwrap().contains(words), "{shown:#?}");
    }
}
