//! The hazard `capacity` on the stand-in: two processes, one memory or two.

use serde_json::Value;

use crate::mps::assert_clean;
use crate::support::alone;
use crate::support::run::{Run, assert_no_tenants, document, of_kind, path, say};
use crate::support::stand_in::StandIn;

const GIB: u64 = 1 << 30;

/// A scenario of this hazard alone.
fn scenario(arrangement: &str, params: &str) -> String {
    format!(
        "schema = 1\nname = \"capacity\"\nallow_oom = true\n[[hazard]]\nhazard = \"capacity\"\nparams = {{ {params} }}\n\
         [[arrangement]]\nname = \"here\"\n{arrangement}\n"
    )
}

/// Runs it; the record, and the judgement of the report.
fn tried(machine: &StandIn, arrangement: &str, params: &str, code: i32) -> (Value, Value) {
    let run = Run::start(machine, "run", &scenario(arrangement, params), &[]);
    let dir = run.dir.clone();
    run.end().ended(code, &[]);
    assert_no_tenants(machine);
    say(machine, &["verify", path(&dir)]).ended(0, &[]);
    let [mut tried] = of_kind(&dir, "tried").try_into().expect("one hazard was tried");
    let report = say(machine, &["report", path(&dir), "--format", "json"]).ended(0, &[]);
    let report: Value = serde_json::from_str(&report.out).expect("a report");
    (tried["came"]["capacity"].take(), report["runs"][0]["hazards"][0].clone())
}

fn attempts<'v>(record: &'v Value, who: &str, step: &str) -> Vec<&'v Value> {
    record[who].as_array().expect("attempts").iter().filter(|a| a["step"] == step).collect()
}

fn failed<'v>(attempts: &[&'v Value]) -> Vec<&'v Value> {
    attempts.iter().copied().filter(|a| a["outcome"] == "oom").collect()
}

fn at(attempt: &Value) -> u64 {
    attempt["at_ns"].as_u64().expect("a time")
}

fn view<'v>(record: &'v Value, seat: u64, when: &str) -> &'v Value {
    let views = record["views"].as_array().expect("views");
    views
        .iter()
        .find(|v| v["seat"] == seat && v["when"] == when)
        .unwrap_or_else(|| panic!("{when} of {seat} in {views:#?}"))
}

#[test]
fn under_time_slicing_the_victim_runs_out_of_memory_and_it_is_the_neighbours_doing() {
    let _alone = alone();
    let machine = StandIn::new("[[gpu]]\nmodel = \"h100-sxm\"\n");
    let arrangement = "sharing = \"time-slicing\"\ntenants = 2\nrequire = { capacity = \"isolated\" }";
    let (record, judged) = tried(&machine, arrangement, "until_oom = true", 1);
    assert_eq!((judged["verdict"].as_str(), judged["requirement"].as_str()), (Some("violated"), Some("not-met")));

    let work = attempts(&record, "victim", "work");
    let lost = failed(&work);
    assert!(work.len() >= 480 && lost.len() > 30, "{} of {}", lost.len(), work.len());
    // Its context, its budget, then its work; all well until the neighbour had taken what there was.
    assert_eq!(
        (record["victim"][0]["step"].as_str(), record["victim"][1]["step"].as_str()),
        (Some("context"), Some("budget"))
    );
    let taken: Vec<&Value> = attempts(&record, "neighbour", "take");
    let came = at(taken[0]);
    // Thirty by itself; how many more before the neighbour, told to begin then, takes its first is the machine's affair.
    assert!(work.iter().filter(|a| at(a) < came).count() >= 30 && at(lost[0]) > came);
    assert!(taken.iter().any(|t| at(t) > at(work[40]) && at(t) < at(work[200])), "it took while the victim worked");
    // As the victim saw it then: less than what it asked for was free.
    let seen = |i: usize| lost[0]["seen"][i].as_u64().expect("a view");
    assert!(seen(0) < lost[0]["asked"].as_u64().unwrap() && seen(1) > 79 * GIB, "{:#}", lost[0]);
    // A context that finds no room is told apart from an allocation that finds none.
    assert_eq!(failed(&attempts(&record, "victim", "context")).len(), 1);
    // And with the neighbour gone all is well again.
    assert!(failed(&work[work.len() - 30..]).is_empty());
    assert_eq!(record["promised"], serde_json::json!([null, null]));
    let reach = |of: &str| record[of]["total"].as_u64().expect("a reach");
    assert!(reach("victim_alone") > 70 * GIB && reach("victim_beside") < 25 * GIB, "{record:#}");
    let sum = reach("victim_beside") + reach("neighbour_beside");
    assert!(sum > 75 * GIB && sum < 81 * GIB, "{sum}");
    // From inside and from NVML.
    let most = view(&record, 1, "neighbour at its most");
    let (held, process) = (most["held"].as_u64().unwrap(), most["nvml_process"].as_u64().expect("it tells"));
    assert!(held > 50 * GIB && process >= held && process < held + 2 * GIB, "{most:#}");
    let (used, all) = (most["nvml_device"][0].as_u64().unwrap(), most["nvml_device"][1].as_u64().unwrap());
    assert!(used > 75 * GIB && all > 79 * GIB && most["inside"][0].as_u64().unwrap() <= all - used, "{most:#}");
}

#[test]
fn an_instance_keeps_its_memory_whatever_the_other_one_takes() {
    let _alone = alone();
    let machine = StandIn::new("[[gpu]]\nmodel = \"h100-sxm\"\nmig = [\"3g.40gb\", \"3g.40gb\"]\n");
    let arrangement = "sharing = \"mig\"\nlayout = [\"3g.40gb\", \"3g.40gb\"]\nrequire = { capacity = \"isolated\" }";
    let (record, judged) = tried(&machine, arrangement, "until_oom = true", 0);
    assert_eq!(judged["verdict"], "isolated", "{judged:#}");
    assert!(judged["hits"] == 0 && judged["of"].as_u64().unwrap() >= 459);
    assert!(judged["at_most"].as_f64().unwrap() <= 0.01, "{judged:#}");
    assert!(record["victim"].as_array().unwrap().iter().all(|a| a["outcome"] == "ok"));
    assert!(!failed(&attempts(&record, "neighbour", "take")).is_empty(), "the neighbour went to its end");
    for (i, who) in ["victim", "neighbour"].into_iter().enumerate() {
        let promised = record["promised"][i].as_u64().expect("an instance promises its memory");
        assert!(promised > 39 * GIB && promised < 40 * GIB);
        let [alone, beside] = ["alone", "beside"].map(|how| record[format!("{who}_{how}")]["total"].as_u64().unwrap());
        assert!(alone < promised && alone + GIB > promised, "{who}: {alone} of {promised}");
        assert!(alone.abs_diff(beside) < GIB / 4, "{who}: {alone} alone and {beside} beside");
    }
}

#[test]
fn a_memory_limit_of_mps_holds_for_each_process() {
    let _alone = alone();
    let machine = StandIn::new("[[gpu]]\nmodel = \"h100-sxm\"\n");
    let arrangement = "sharing = \"mps\"\nlayout = [{ sms = \"50%\", memory = \"30GiB\" }, { sms = \"50%\", memory = \"40GiB\" }]\n\
                       victim_at = [\"0\"]\nrequire = { capacity = \"isolated\" }";
    let (record, judged) = tried(&machine, arrangement, "until_oom = true, budget = \"20GiB\"", 0);
    assert_eq!(judged["verdict"], "isolated", "{judged:#}");
    assert_eq!(record["promised"], serde_json::json!([30 * GIB, 40 * GIB]));
    let reach = |of: &str| record[of]["total"].as_u64().expect("a reach");
    // What a context takes may count.
    for (of, limit) in [("victim_beside", 30 * GIB), ("neighbour_beside", 40 * GIB)] {
        assert!(reach(of) <= limit && reach(of) + GIB > limit, "{of}: {}", reach(of));
    }
    assert_clean(&machine);
}

#[test]
fn a_share_of_the_sms_is_none_of_the_memory() {
    let _alone = alone();
    let machine = StandIn::new("[[gpu]]\nmodel = \"h100-sxm\"\n");
    let (record, judged) = tried(&machine, "sharing = \"mps\"\nvictim_at = [\"0\"]", "how = \"hoard\"", 0);
    assert_eq!(judged["verdict"], "violated", "{judged:#}");
    assert_eq!(record["promised"], serde_json::json!([null, null]));
    assert_clean(&machine);
}

#[test]
fn memory_that_is_free_and_in_pieces_is_told_from_memory_that_is_gone() {
    let _alone = alone();
    let machine = StandIn::new("[[gpu]]\nmodel = \"h100-sxm\"\nlargest_piece_mib = 8192\n");
    let arrangement = "sharing = \"time-slicing\"\ntenants = 2";
    let (record, judged) = tried(&machine, arrangement, "how = \"hoard\", limit = \"20%\"", 0);
    assert_eq!(judged["verdict"], "isolated", "there is room for both: {judged:#}");
    for of in ["victim_alone", "victim_beside", "neighbour_alone", "neighbour_beside"] {
        assert_eq!(record[of]["largest"], 8 * GIB, "{of}");
        assert!(record[of]["total"].as_u64().unwrap() > 14 * GIB, "{of}");
    }
    // The neighbour asked for all of it at once and was refused, with most of the memory free.
    let refused = failed(&attempts(&record, "neighbour", "take"));
    assert!(!refused.is_empty());
    assert!(refused.iter().all(|a| a["seen"][0].as_u64() > a["asked"].as_u64()), "{refused:#?}");
}

#[test]
fn too_few_attempts_prove_nothing() {
    let _alone = alone();
    let machine = StandIn::new("[[gpu]]\nmodel = \"a30\"\nmig = [\"2g.12gb\", \"2g.12gb\"]\n");
    let arrangement = "sharing = \"mig\"\nrequire = { capacity = \"isolated\" }";
    let (record, judged) = tried(&machine, arrangement, "attempts = 100, how = \"churn\"", 4);
    assert_eq!(judged["verdict"], "inconclusive", "{judged:#}");
    assert!(failed(&attempts(&record, "victim", "work")).is_empty());
}

#[test]
fn a_victim_whose_driver_fails_otherwise_is_no_finding_about_the_neighbour() {
    let _alone = alone();
    let fault = "[fault]\nresults = [{ symbol = \"cuMemAlloc_v2\", from_call = 400, code = 999 }]\n";
    let machine = StandIn::new(&format!("[[gpu]]\nmodel = \"a30\"\nmig = [\"2g.12gb\", \"2g.12gb\"]\n{fault}"));
    let (record, judged) = tried(&machine, "sharing = \"mig\"", "", 0);
    assert_eq!(judged["verdict"], "inconclusive", "{judged:#}");
    let work = attempts(&record, "victim", "work");
    assert!(work.iter().any(|a| a["outcome"]["error"] == 999), "{:#?}", work.last());
}

#[test]
fn a_victim_that_dies_is_inconclusive_and_leaves_nobody() {
    let _alone = alone();
    let fault = "[fault]\nexit_at = [{ symbol = \"cuMemFree_v2\", call = 300 }]\n";
    let machine = StandIn::new(&format!("[[gpu]]\nmodel = \"a30\"\nmig = [\"2g.12gb\", \"2g.12gb\"]\n{fault}"));
    let (record, judged) = tried(&machine, "sharing = \"mig\"", "", 0);
    assert_eq!(judged["verdict"], "inconclusive", "{judged:#}");
    assert!(record["died"].as_str().is_some_and(|how| how.contains("killed")), "{:#}", record["died"]);
    assert!(document(&machine.path().join("run"), "finished.json").is_object());
}
