//! The claims that observations of the driver decide: what comes out by mode and by model, and where nothing can be told.

use crosstalk::claims::CLAIMS;
use crosstalk::observation::{By, CATALOGUE};
use crosstalk::verdict::RunVerdict;

use crate::claims::{holds, run, text};

/// The scenario of a claim with one thing in it otherwise.
fn instead(id: &str, from: &str, to: &str) -> RunVerdict {
    let before = text(id);
    let after = before.replace(from, to);
    assert_ne!(before, after, "{id}");
    run(&after, &[])
}

const AS_FOUND: &str = "sharing = \"mig\"\nlayout = \"as-found\"";
const SLICED: &str = "sharing = \"time-slicing\"\ntenants = 2";

#[test]
fn each_comes_out_as_the_catalogue_says() {
    for id in ["mig-nccl", "mig-whole", "mig-metrics", "mig-static", "ts-bill"] {
        let claim = CLAIMS.iter().find(|claim| claim.id == id).unwrap();
        assert_eq!(Some(holds(&run(&text(id), &[]))), claim.simulated(), "{id}");
    }
}

#[test]
fn each_can_come_out_the_other_way() {
    assert!(!holds(&instead("mig-nccl", AS_FOUND, SLICED)), "processes on one device map each other's memory");
    assert!(!holds(&instead("mig-whole", AS_FOUND, SLICED)), "without MIG a process sees the whole GPU");
    assert!(holds(&instead("mig-metrics", "sim:h100-sxm/3g.40gb", "sim:a100-80gb/3g.40gb")), "no GPM before Hopper");
    assert!(holds(&instead("mig-static", "3g.40gb+2g.20gb", "3g.40gb+3g.40gb")), "nothing else fits");
    assert!(holds(&instead("ts-bill", SLICED, "sharing = \"streams\"")), "one process has one account");
}

/// What was found, by the arrangement's index and the observation's id: the finding and why.
fn found(verdict: &RunVerdict, arrangement: usize, id: &str) -> (Option<String>, String) {
    let one = verdict.observed.iter().find(|o| (o.arrangement, o.observed.id.as_str()) == (arrangement, id));
    let observed = &one.unwrap_or_else(|| panic!("{id} of arrangement {arrangement} is not there")).observed;
    (observed.finding.clone(), observed.why.clone())
}

/// Every observation that a backend makes, in each mode: nothing is made up where no source tells.
#[test]
fn where_two_tenants_hang_decides_what_is_known_of_them() {
    let ids: Vec<&str> = CATALOGUE.iter().filter(|o| matches!(o.by, By::Backend { .. })).map(|o| o.id).collect();
    assert_eq!(ids.len(), 7, "{ids:?}");
    let observe: Vec<String> = ids.iter().map(|id| format!("{id} = \"any\"")).collect();
    let modes = [
        "exclusive\"",
        "streams\"",
        "time-slicing\"",
        "mps\"",
        "separate-gpus\"",
        "mig\"\nlayout = [\"3g.40gb\", \"2g.20gb\"]",
        "mig-compute-instances\"\nlayout = [\"1c.3g.40gb\", \"1c.3g.40gb\"]",
        "mig+time-slicing\"\nlayout = [{ profile = \"3g.40gb\", tenants = 2 }]",
    ];
    let arrangement = |(n, mode): (usize, &&str)| {
        let observe = observe.join(", ");
        format!("[[arrangement]]\nname = \"a{n}\"\nsharing = \"{mode}\nobserve = {{ {observe} }}\n")
    };
    let claim = text("mig-whole");
    let head = claim.split("[[arrangement]]").next().unwrap();
    let all: String = modes.iter().enumerate().map(arrangement).collect();
    let verdict = run(&format!("{head}{all}"), &[]);

    let table: [(&str, [Option<&str>; 8]); 7] = [
        (
            "peer-access",
            [
                None,
                Some("same-device"),
                Some("same-device"),
                Some("same-device"),
                None,
                None,
                None,
                Some("same-device"),
            ],
        ),
        ("ipc", [None, None, Some("supported"), None, None, Some("refused"), Some("supported"), Some("supported")]),
        ("all-reduce", [None; 8]),
        (
            "visibility",
            [
                None,
                Some("whole-gpu"),
                Some("whole-gpu"),
                Some("whole-gpu"),
                Some("whole-gpu"),
                Some("one-instance"),
                Some("one-instance"),
                Some("one-instance"),
            ],
        ),
        (
            "accounting",
            [
                None,
                Some("does-not-tell"),
                Some("tells"),
                None,
                Some("tells"),
                Some("does-not-tell"),
                Some("does-not-tell"),
                Some("does-not-tell"),
            ],
        ),
        (
            "metrics",
            [
                None,
                Some("device-only"),
                Some("per-tenant"),
                None,
                Some("per-tenant"),
                Some("per-tenant"),
                Some("device-only"),
                Some("device-only"),
            ],
        ),
        ("layout-change", [None, None, None, None, None, Some("in-place"), Some("in-place"), Some("in-place")]),
    ];
    for (id, findings) in table {
        for (index, expected) in findings.into_iter().enumerate() {
            let (finding, why) = found(&verdict, index, id);
            assert_eq!(finding.as_deref(), expected, "{id} under {}: {why}", modes[index]);
            // Words that name a source, or say why nothing is known.
            assert!(why.len() > 20, "{id} under {}: {why}", modes[index]);
        }
    }
}
