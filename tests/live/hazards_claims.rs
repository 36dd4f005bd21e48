//! Claims that the simulator says nothing of, or says by the book alone: on the stand-in each comes out as the machine is.

use crate::support::alone;
use crate::support::run::{A30, Run, assert_no_tenants};
use crate::support::stand_in::StandIn;

const MIG: &str = "[[gpu]]\nmodel = \"a30\"\nmig = [\"2g.12gb\", \"2g.12gb\"]\n";

/// The claim's own scenario on this machine, with parameters that keep it short.
#[track_caller]
fn comes_out(claim: &str, machine: &str, (from, to): (&str, &str), code: i32, words: &[&str]) {
    let file = format!("{}/scenarios/claims/{claim}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(file).expect("the claim's scenario");
    assert!(text.contains(from), "{claim} has other parameters");
    let machine = StandIn::new(machine);
    Run::start(&machine, claim, &text.replace(from, to), &["--device", "cuda"]).end().ended(code, words);
    assert_no_tenants(&machine);
}

#[test]
fn claims_about_faults_hold_or_not_as_the_machine_is() {
    let _alone = alone();
    let blast = |machine: &str, among: &str| {
        format!("{machine}[fault]\nblast = [{{ fault = \"all\", among = \"{among}\", code = 999 }}]\n")
    };
    let short = "fault = \"trap\", times = 2, settle = \"150ms\"";
    let (three, five) = (("fault = \"all\", times = 3", short), ("fault = \"all\", times = 5", short));
    comes_out("mig-fault", MIG, three, 0, &["All requirements met"]);
    comes_out("mig-fault", &blast(MIG, "mig"), three, 1, &["999"]);
    comes_out("ts-fault", A30, five, 1, &["must be not-isolated"]);
    comes_out("ts-fault", &blast(A30, "time-slicing"), five, 0, &["999"]);
}

#[test]
fn claims_about_contents_hold_or_not_as_the_machine_is() {
    let _alone = alone();
    let leftovers = ("{ faults = true }", "{ faults = false }");
    comes_out("mig-read", MIG, leftovers, 0, &["nothing found"]);
    comes_out("mig-read", &format!("{MIG}unscrubbed = {{ at_mib = 3000, kib = 4 }}\n"), leftovers, 1, &["from byte"]);
    let rounds = ("budget = \"50%\", rounds = 5", "budget = \"25%\", rounds = 1");
    comes_out("mig-write", MIG, rounds, 0, &["no word of"]);
    let flip = format!("{MIG}[fault]\nflip = {{ before_check = 3, offset = 1234568 }}\n");
    comes_out("mig-write", &flip, rounds, 1, &["had changed after"]);
}
