//! What a reader of a bad file is told: its text is a promise, so these are snapshots.

use insta::assert_snapshot;

use super::{CATALOGUE, DENSE, GOOD};
use crate::scenario::read;

/// The diagnostic for `text`.
fn told(text: &str) -> String {
    let mistakes = read("bad.toml", text, CATALOGUE).expect_err("the file is bad");
    mistakes.render(false)
}

/// The good scenario with each first `from` replaced by `to`.
fn spoilt(changes: &[(&str, &str)]) -> String {
    changed(GOOD, changes)
}

/// The scenario of equal tenants, spoilt likewise.
fn dense(changes: &[(&str, &str)]) -> String {
    changed(DENSE, changes)
}

fn changed(good: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(good.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in the good scenario");
        text.replacen(from, to, 1)
    })
}

#[test]
fn the_good_scenario_is_good() {
    read("good.toml", GOOD, CATALOGUE).expect("no mistakes");
}

#[test]
fn unknown_keys() {
    assert_snapshot!(told(&spoilt(&[
        ("name = \"good\"", "nmae = \"good\""),
        ("params = { footprint = \"25%\" }", "params = { foot_print = \"25%\" }\nintensity = 3"),
    ])));
}

#[test]
fn wrong_units() {
    assert_snapshot!(told(&spoilt(&[
        ("[victim]", "[design]\nwindow = 400\nwashout = \"1 sec\"\ndrain = \"2h\"\n\n[victim]"),
        ("\"1GiB\"", "\"20GB\""),
        ("noise = \"idle\"", "noise = \"idle\"\nduty = 0.5"),
    ])));
}

#[test]
fn illegal_words() {
    assert_snapshot!(told(&spoilt(&[
        ("\"time-slicing\"", "\"timeslicing\""),
        ("idle = \"isolated\"", "idle = \"isolate\""),
        ("expect = { hbm-bandwidth = \"violated\" }", "expect = \"any\""),
        ("channel = \"hbm-bandwidth\"", "channel = \"hbm\""),
    ])));
}

#[test]
fn an_empty_panel() {
    let (before, after) = GOOD.split_once("panel = ").expect("a panel");
    let after = after.split_once('\n').expect("a line").1.replace(", \"hog/llm-decode/token\" = \"any\"", "");
    assert_snapshot!(told(&format!("{before}panel = []\n{after}")));
}

#[test]
fn zero_blocks() {
    assert_snapshot!(told(&spoilt(&[("[victim]", "[design]\nblocks = 0\n\n[victim]")])));
}

#[test]
fn looks_that_do_not_add_up() {
    assert_snapshot!(told(&spoilt(&[(
        "[victim]",
        "[design]\nblocks = 20\nlooks = [12, 8, 24]\ncontrols = { presence = -1, placebo = 1 }\nmax_duration = 60\n\n[victim]"
    )])));
    assert_snapshot!(told(&spoilt(&[(
        "[victim]",
        "[design]\nlooks = [{ blocks = 5, spends = \"60%\" }, { blocks = 9, spends = \"40%\" }]\n\n[victim]"
    )])));
    assert_snapshot!(told(&spoilt(&[(
        "[victim]",
        "[design]\nlooks = [5, { blocks = 9, spends = \"4%\" }]\n\n[victim]"
    )])));
    assert_snapshot!(told(&spoilt(&[("[victim]", "[design]\nlooks = \"some\"\n\n[victim]")])));
}

#[test]
fn duplicate_names() {
    assert_snapshot!(told(&spoilt(&[
        ("{ probe = \"launch\" }", "{ probe = \"launch\" }, { probe = \"launch\" }"),
        ("[[arrangement]]", "[[neighbour]]\nname = \"hog\"\nnoise = \"d2h\"\n\n[[arrangement]]"),
        ("[[accept]]", "[[arrangement]]\nname = \"sliced\"\nsharing = \"mps\"\n\n[[accept]]"),
    ])));
}

#[test]
fn three_mistakes_at_once() {
    assert_snapshot!(told(&spoilt(&[
        ("probe = \"hbm-chase\"", "probe = \"hbm-read\""),
        ("noise = \"idle\"", "noise = \"idel\""),
        ("by = \"platform team\"\n", ""),
    ])));
}

#[test]
fn broken_toml_with_other_mistakes() {
    assert_snapshot!(told(&spoilt(&[
        ("name = \"good\"", "name = \"good"),
        ("tenants = 2", "tenants = 2\ntenants = 3"),
        ("channel =", "chanel ="),
    ])));
}

#[test]
fn a_newer_version() {
    assert_snapshot!(told(&spoilt(&[("schema = 1", "schema = 2\nhologram = true")])));
}

#[test]
fn nothing_at_all() {
    assert_snapshot!(told(""));
}

#[test]
fn layouts_that_their_mode_does_not_know() {
    let arrangement = |sharing: &str, layout: &str| {
        let old = "sharing = \"time-slicing\"\ntenants = 2";
        told(&spoilt(&[(old, &format!("sharing = \"{sharing}\"\n{layout}")), ("sliced@0/hog", "sliced/hog")]))
    };
    let told = [
        arrangement("time-slicing", "layout = [\"3g.40gb\", { sms = \"50%\" }]"),
        arrangement("mig", "layout = [{ tenants = 2 }, \"1c.3g.40gb\", \"3g40\"]"),
        arrangement("mig", "layout = [\"7g.80gb\"]"),
        arrangement("mig", "tenants = 2"),
        arrangement("mig+time-slicing", "layout = [\"3g.40gb\", \"3g.40gb\"]"),
        arrangement("mig-compute-instances", "layout = [\"1c.3g.40gb\", { profile = \"2c.3g\", sms = \"50%\" }]"),
        arrangement("mps", "layout = [{ sms = \"50%\", reserved = true }, { sms = \"50%\" }]"),
        arrangement("green-contexts", "layout = [{ sms = \"60%\", tenants = 2 }]"),
        arrangement("mps", "layout = [{ reserved = true }, { memory = \"50%\" }]"),
        arrangement("exclusive", "layout = [{ tenants = 2 }]"),
        arrangement("time-slicing", "tenants = { count = 4, all = \"hbm-read\" }"),
        arrangement("time-slicing", "tenants = 1"),
        arrangement("time-slicing", "tenants = 2\nlayout = [{ tenants = 2 }]"),
        arrangement("time-slicing", "tenants = 2\nvictim_at = [\"2\", 0]\nneighbour_at = [\"0.1\"]"),
    ];
    assert_snapshot!(told.join("\n"));
}

#[test]
fn names_that_name_nothing() {
    assert_snapshot!(told(&spoilt(&[
        ("tenants = 2", "tenants = 2\nneighbours = [\"hogg\", \"idle\"]\npanel = [\"launch\", \"launch\"]"),
        ("expect = { hbm-bandwidth", "expect = { l2"),
        ("sliced@0/hog", "slice/hog"),
    ])));
    assert_snapshot!(told(&spoilt(&[("sliced@0/hog", "sliced@7/hog")])));
}

#[test]
fn objectives_and_arrivals() {
    assert_snapshot!(told(&spoilt(&[(
        "{ probe = \"launch\" }",
        "{ probe = \"launch\", slo = { p99 = \"50ms\" } }, { probe = \"h2d\", arrivals = { poisson = \"20\" } }, \
         { probe = \"h2d\", name = \"b\", arrivals = \"poisson\", slo = { p100 = \"1s\" } }",
    )])));
}

#[test]
fn designs_that_contradict_themselves() {
    assert_snapshot!(told(&spoilt(&[(
        "[victim]",
        "[design]\nwindow = \"1s\"\nmax_window = \"500ms\"\njudged = [\"p99\", \"p50\", \"p99.0\", \"99\"]\n\
         margins = { p50 = [\"25%\", \"5%\"], p99 = [\"10%\"] }\n\n[victim]",
    )])));
}

#[test]
fn names_that_are_channels() {
    // "pcie" loads memory, and "launch" is a channel that "storm" is named by.
    assert_snapshot!(told(&spoilt(&[(
        "[[arrangement]]",
        "[[neighbour]]\nname = \"pcie\"\nnoise = \"hbm-read\"\n\n[[neighbour]]\nname = \"block-slots\"\n\
         noise = \"compute-burst\"\n\n[[neighbour]]\nname = \"storm\"\nnoise = \"compute-burst\"\n\n\
         [[neighbour]]\nname = \"slo\"\nnoise = \"d2h\"\n\n[[arrangement]]",
    )])));
}

#[test]
fn slips_in_hazards() {
    // One name for two; a channel that two have, whichever kind they are; a channel of another; no such hazard, word or key.
    assert_snapshot!(told(&spoilt(&[(
        "[[arrangement]]",
        "[[neighbour]]\nname = \"hbm-bandwidth\"\nnoise = \"hbm-read\"\n\n[[hazard]]\nname = \"hog\"\nhazard = \"capacity\"\n\n\
         [[hazard]]\nhazard = \"fault\"\n\n[[hazard]]\nname = \"traps\"\nhazard = \"fault\"\nparams = { fault = \"trip\", time = 3 }\n\n\
         [[hazard]]\nname = \"pcie\"\nhazard = \"leftovers\"\n\n[[hazard]]\nhazard = \"capasity\"\n\n[[arrangement]]",
    )])));
}

#[test]
fn what_is_written_twice() {
    let risk = "[[accept]]\ncell = \"sliced@0/hog\"\nchannel = \"hbm-bandwidth\"\nreason = \"again\"\nby = \"me\"\n\
                until = 2027-06-30\n\n[[accept]]";
    assert_snapshot!(told(&spoilt(&[
        (
            "{ probe = \"launch\" }",
            "{ probe = \"launch\", arrivals = { poisson = \"9/s\" }, slo = { p99 = \"50ms\", \"p99.0\" = \"9s\" } }",
        ),
        ("[[accept]]", risk),
        ("\"hog/llm-decode/token\" = \"any\"", "hog = \"any\", \"hog/*\" = \"isolated\""),
    ])));
}

#[test]
fn comparisons_without_a_partner() {
    let alone = "tenants = 2\nobserve = { alone = \"any\" }";
    let other = "[[arrangement]]\nname = \"other\"\nsharing = \"mps\"\ntenants = 2\n\n[[accept]]";
    let told = [
        told(&spoilt(&[("tenants = 2", alone)])),
        told(&spoilt(&[("tenants = 2", alone), ("[[accept]]", other)])),
        told(&spoilt(&[("tenants = 2", "tenants = 2\nagainst = \"othre\""), ("[[accept]]", other)])),
        told(&spoilt(&[("tenants = 2", "tenants = 2\nagainst = \"other\""), ("[[accept]]", other)])),
        told(&spoilt(&[("tenants = 2", "tenants = 2\nagainst = \"sliced\"")])),
    ];
    assert_snapshot!(told.join("\n"));
}

#[test]
fn numbers_of_equal_tenants_that_make_no_curve() {
    assert_snapshot!(told(&dense(&[("[1, 2, 4]", "[1, 4, 2, 2, 61]"), ("at_least = 3", "at_leats = 3")])));
    assert_snapshot!(told(&dense(&[("[1, 2, 4]", "\"all\""), ("at_least = 3", "memory = \"20GB\"")])));
    assert_snapshot!(told(&dense(&[("at_least = 3", "at_least = 5")])));
    assert_snapshot!(told(&dense(&[("time-slicing", "exclusive")])));
}

#[test]
fn equal_tenants_of_a_probe_without_an_objective_or_a_load() {
    assert_snapshot!(told(&dense(&[("\"launch\", at", "\"lunch\", at")])));
    assert_snapshot!(told(&dense(&[("\"launch\", at", "\"hbm-chase\", at")])));
    assert_snapshot!(told(&dense(&[("\"launch\", at", "\"llm-decode\", at")])));
    assert_snapshot!(told(&dense(&[("arrivals = { poisson = \"20/s\" }, slo", "slo")])));
}

#[test]
fn equal_tenants_under_a_mode_that_has_none_or_divided_wrongly() {
    assert_snapshot!(told(&dense(&[("time-slicing", "green-contexts"), ("at_least = 3", "instances = 2")])));
    assert_snapshot!(told(&dense(&[("time-slicing", "mig+time-slicing")])));
    assert_snapshot!(told(&dense(&[("time-slicing", "mig+time-slicing"), ("at_least = 3", "instances = 2")])));
}

#[test]
fn keys_that_mean_nothing_beside_equal_tenants() {
    assert_snapshot!(told(&dense(&[(
        "time-slicing\"",
        "time-slicing\"\nlayout = \"as-found\"\nvictim_at = [\"0\"]\nneighbour_at = [\"1\"]\nneighbours = [\"idle\"]\nhazards = \
         [\"x\"]\nobserve = { turns = \"any\" }\nrequire = \"isolated\"\nexpect = \"violated\"\npanel = [\"launch\"]\nagainst = \
         \"alone\"\nmps_daemon = \"own\""
    )])));
}

#[test]
fn hazards_that_no_arrangement_tries_and_equal_tenants_of_nobody() {
    assert_snapshot!(told(&dense(&[("[[arrangement]]", "[[hazard]]\nhazard = \"capacity\"\n\n[[arrangement]]")])));
    let (head, _) = DENSE.split_once("[victim]").expect("a victim");
    let (_, tail) = DENSE.split_once("[[arrangement]]").expect("an arrangement");
    assert_snapshot!(told(&format!("{head}[[arrangement]]{tail}")));
    // With one arrangement that has a victim, neighbours are needed as ever.
    assert_snapshot!(told(&format!("{DENSE}\n[[arrangement]]\nname = \"pair\"\nsharing = \"time-slicing\"\n")));
}
