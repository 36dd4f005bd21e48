//! A small run built by hand, and the means to bend it. No measuring, no judging: what a report shows is put in.

use std::collections::BTreeMap;

use jiff::civil::date;

use crate::channel::Channel;
use crate::gpu::{Gpu, Inventory};
use crate::plan::{Grid, Plan, PlannedArrangement, PlannedNeighbour, PlannedProbe, Seat};
use crate::provenance::Provenance;
use crate::run_dir::{Calibration, JudgedBy, Manifest, ProbeCalibration, RecordedRun, Turns};
use crate::scenario::{
    Accept, Arrivals, Controls, Design, Expectation, LayoutEntry, Margins, MpsDaemon, Quantile, Rule, SharingMode, Slo,
    Tier, Word,
};
use crate::units::{Bytes, Nanos, Rate, Share};
use crate::verdict::{
    Cause, CellVerdict, Control, ControlOutcome, ControlVerdict, Interval, Reason, RequirementState, RunVerdict,
    Saturated, SeriesVerdict, SloState, SloVerdict, Verdict, Warning,
};

/// The design of the sample.
fn design() -> Design {
    Design {
        tier: Tier::Acceptance,
        blocks: 24,
        blocks_per_generation: 4,
        window: Nanos::millis(400),
        max_window: Nanos::secs(2),
        washout: Nanos::secs(1),
        drain: Nanos::secs(2),
        judged: vec![Quantile::P50, Quantile::P99],
        margins: Margins::default(),
        looks: Vec::new(),
        controls: Controls::default(),
        max_duration: None,
    }
}

fn probe(name: &str, channel: Channel, arrivals: Arrivals) -> PlannedProbe {
    PlannedProbe {
        name: name.to_owned(),
        workload: name.to_owned(),
        params: BTreeMap::new(),
        channels: vec![channel],
        series: vec![name.to_owned()],
        arrivals,
        outstanding: 32,
        slos: Vec::new(),
    }
}

fn neighbour(name: &str, workload: &str, channels: &[Channel]) -> PlannedNeighbour {
    PlannedNeighbour {
        name: name.to_owned(),
        workload: workload.to_owned(),
        params: BTreeMap::new(),
        channels: channels.to_vec(),
        duty: Share::percent(100),
        burst: Nanos::millis(100),
        queued: 2,
    }
}

/// An arrangement of two seats, the victim in the first.
fn arrangement(name: &str, sharing: SharingMode, shares: [&str; 2]) -> PlannedArrangement {
    let entry = LayoutEntry { profile: None, sms: None, reserved: false, memory: None, tenants: 1 };
    PlannedArrangement {
        name: name.to_owned(),
        sharing,
        mps_daemon: MpsDaemon::Own,
        time_slice: None,
        layout: vec![entry.clone(), entry],
        as_found: false,
        seats: shares
            .iter()
            .enumerate()
            .map(|(i, share)| Seat { id: i.to_string(), share: (*share).to_owned(), entry: i })
            .collect(),
        skipped: None,
        grids: vec![Grid {
            victim: 0,
            neighbour_seats: vec![1],
            probes: vec![0, 1],
            neighbours: vec![0, 1, 2],
            first_block: 0,
        }],
        require: Expectation::default(),
        expect: Expectation::default(),
        hazards: Vec::new(),
        observe: Vec::new(),
        against: None,
        density: None,
    }
}

/// Two probes, three neighbours, MIG and time-slicing.
pub(super) fn plan() -> Plan {
    let mut hog = neighbour("hbm-hog", "hbm-read", &[Channel::HbmBandwidth, Channel::L2]);
    hog.params = BTreeMap::from([("footprint".to_owned(), "50%".to_owned())]);
    hog.duty = Share::percent(80);
    let mut inference = probe("inference", Channel::Launch, Arrivals::Poisson(Rate::per_second(2_500)));
    inference.slos = vec![Slo { quantile: Quantile::P99, bound: Nanos::millis(50) }];
    inference.params = BTreeMap::from([("batch".to_owned(), "8".to_owned())]);
    let mut mig = arrangement("mig", SharingMode::Mig, ["3g.40gb", "3g.40gb"]);
    mig.layout.iter_mut().for_each(|e| e.profile = Some("3g.40gb".to_owned()));
    mig.require = Expectation(vec![rule("default", Word::Isolated), rule("pcie", Word::Any)]);
    mig.expect = Expectation(vec![rule("pcie", Word::NotIsolated)]);
    Plan {
        scenario: "sample".to_owned(),
        description: Some("Does MIG keep memory noise away?".to_owned()),
        seed: 1,
        inventory: Inventory {
            provenance: Provenance::Simulated,
            driver: None,
            cuda: None,
            gpus: vec![Gpu {
                uuid: "GPU-00000000-0000-0000-0000-000000000001".to_owned(),
                name: "NVIDIA H100 80GB HBM3".to_owned(),
                model: Some("h100-sxm".to_owned()),
                memory: Some(Bytes::mib(81_559)),
                sms: Some(132),
                mig: Some(true),
                ..Gpu::default()
            }],
        },
        gpu: 0,
        design: design(),
        panel: vec![probe("hbm-chase", Channel::HbmBandwidth, Arrivals::Auto), inference],
        neighbours: vec![
            neighbour("d2h", "d2h", &[Channel::Pcie, Channel::CopyEngine]),
            hog,
            neighbour("idle", "idle", &[]),
        ],
        hazards: Vec::new(),
        arrangements: vec![mig, arrangement("turns", SharingMode::TimeSlicing, ["whole GPU", "whole GPU"])],
        curves: Vec::new(),
        accepted: Vec::new(),
    }
}

fn rule(key: &str, word: Word) -> Rule {
    Rule { key: key.to_owned(), word }
}

/// One series × quantile: `ratio` as (estimate, low, high).
pub(super) fn series(name: &str, quantile: Quantile, verdict: Verdict, ratio: (f64, f64, f64)) -> SeriesVerdict {
    let interval = Interval { estimate: ratio.0, low: Some(ratio.1), high: Some(ratio.2) };
    let quiet = if quantile == Quantile::P50 { 31_000.0 } else { 38_000.0 };
    SeriesVerdict {
        series: name.to_owned(),
        channel: if name == "inference" { Channel::Launch } else { Channel::HbmBandwidth },
        quantile,
        judged: JudgedBy::Blocks,
        verdict,
        paired: Some(interval),
        pooled: Some(interval),
        ratio: Some(interval),
        quiet_ns: Some(quiet),
        noisy_ns: Some(quiet * ratio.0),
        requests: (24_000, 24_013),
        blocks: 24,
        level: 0.01,
        cause: None,
        blocked: None,
        unwatched: Vec::new(),
        saturated: None,
        required: None,
        expected: None,
    }
}

/// A cell whose worst series is its last.
pub(super) fn cell(name: &str, at: (usize, usize), verdict: Verdict, series: Vec<SeriesVerdict>) -> CellVerdict {
    CellVerdict {
        name: name.to_owned(),
        arrangement: at.0,
        seat: "0".to_owned(),
        neighbour: at.1,
        verdict,
        worst: series.len().checked_sub(1),
        series,
        notes: Vec::new(),
        neighbour_rate: Some(0.9973),
        decided_after: None,
        requirement: RequirementState::NotRequired,
        surprises: Vec::new(),
    }
}

/// A cell whose series are all isolated.
pub(super) fn quiet_cell(name: &str, at: (usize, usize)) -> CellVerdict {
    let one = |s: &str, q| series(s, q, Verdict::Isolated, (1.002, 0.991, 1.014));
    let all = vec![
        one("hbm-chase", Quantile::P50),
        one("hbm-chase", Quantile::P99),
        one("inference", Quantile::P50),
        one("inference", Quantile::P99),
    ];
    cell(name, at, Verdict::Isolated, all)
}

/// What was required of a cell and of its series.
pub(super) fn require(mut cell: CellVerdict, word: Word, state: RequirementState) -> CellVerdict {
    cell.series.iter_mut().for_each(|s| s.required = Some(word));
    cell.requirement = state;
    cell
}

/// What was expected of a cell's series.
pub(super) fn expect(mut cell: CellVerdict, word: Word) -> CellVerdict {
    cell.series.iter_mut().for_each(|s| s.expected = Some(word));
    cell
}

/// A cell that is Inconclusive with this reason in its last series.
pub(super) fn open_cell(name: &str, at: (usize, usize), reason: &Reason) -> CellVerdict {
    let mut cell = quiet_cell(name, at);
    cell.verdict = Verdict::Inconclusive { reason: reason.clone() };
    if let Some(last) = cell.series.last_mut() {
        last.verdict = Verdict::Inconclusive { reason: reason.clone() };
    }
    cell
}

/// Every reason.
pub(super) fn reasons() -> Vec<Reason> {
    vec![
        Reason::ControlFailed { control: Control::Placebo },
        Reason::ControlNotMeasured { control: Control::Sensitivity },
        Reason::ControlUndecided { control: Control::Again, detectable: Some(0.21), blocks_needed: Some(70) },
        Reason::ChannelNotExercised { channel: Channel::HbmBandwidth },
        Reason::DelayNotSeen { injected_ns: 3_100, seen_ns: -240.0 },
        Reason::ControlUndecided { control: Control::Delay, detectable: None, blocks_needed: Some(13) },
        Reason::ControlOff { control: Control::Again },
        Reason::HostMediated { change_ns: 812_000.0, tolerated_ns: 950.0 },
        Reason::HostMediated { change_ns: -812_000.0, tolerated_ns: 950.0 },
        Reason::DriverTrouble { what: "the PCIe link has 8 lanes where it had 16".to_owned() },
        Reason::ForeignWork { what: "GPU GPU-1 is in use by python3 (pid 77)".to_owned() },
        Reason::CarryOver { ratio: 1.07 },
        Reason::Drift { per_block: -0.021 },
        Reason::ArmsLost { arms: 2, what: "the driver reports: Xid 31 on GPU 0".to_owned() },
        Reason::LateRequests { share: 0.0042 },
        Reason::NeighbourBelowIntensity { achieved: 0.43 },
        Reason::NeighbourNotOverlapping { gap_ns: 320_000_000 },
        Reason::Timeouts { share: 0.012 },
        Reason::Failures { share: 0.000_02 },
        Reason::Backlog,
        Reason::Throttled { share: 0.31 },
        Reason::QuietArmNotAwake,
        Reason::TooFewCores,
        Reason::TooFewRequests,
        Reason::Underpowered { detectable: Some(0.14), blocks_needed: Some(62) },
        Reason::Underpowered { detectable: None, blocks_needed: None },
        Reason::Incomplete,
    ]
}

/// The sample's cells: isolated, degraded, violated (once with no upper bound), inconclusive, accepted, a surprise.
pub(super) fn verdict() -> RunVerdict {
    let cause = |word: &str, text: &str| Some(Cause { word: word.to_owned(), text: text.to_owned(), channel: None });
    let mut d2h = quiet_cell("mig/d2h", (0, 0));
    d2h.verdict = Verdict::Violated;
    d2h.series[3] = series("inference", Quantile::P99, Verdict::Violated, (1.7181, 1.6602, 1.7925));
    d2h.series[3].cause = cause("service", "service time 31 µs → 58 µs");
    let mut turns_d2h = quiet_cell("turns/d2h", (1, 0));
    turns_d2h.verdict = Verdict::Degraded;
    turns_d2h.decided_after = Some(12);
    turns_d2h.series[3] = series("inference", Quantile::P99, Verdict::Degraded, (1.22, 1.18, 1.27));
    turns_d2h.series[3].cause = cause("queue", "queueing 4 µs → 12 µs");
    turns_d2h.surprises = vec!["inference p99 is degraded, and violated was expected".to_owned()];
    let mut hog = quiet_cell("turns/hbm-hog", (1, 1));
    hog.verdict = Verdict::Violated;
    for (at, s) in hog.series.iter_mut().enumerate() {
        let q = s.quantile;
        *s = series(&s.series.clone(), q, Verdict::Violated, (175.6 - at as f64, 168.3, 182.7));
        s.cause = cause("turns", "it waits for turns of 2.09 ms");
    }
    if let Some(last) = hog.series.last_mut() {
        last.noisy_ns = None;
        last.ratio = Some(Interval { estimate: 172.6, low: Some(168.3), high: None });
    }
    hog.notes = vec![Reason::Throttled { share: 0.31 }];
    hog.neighbour_rate = None;
    let underpowered = Reason::Underpowered { detectable: Some(0.14), blocks_needed: Some(62) };
    RunVerdict {
        curves: Vec::new(),
        cells: vec![
            expect(require(d2h, Word::Isolated, RequirementState::Accepted), Word::NotIsolated),
            require(quiet_cell("mig/hbm-hog", (0, 1)), Word::Isolated, RequirementState::Met),
            require(open_cell("mig/idle", (0, 2), &underpowered), Word::Isolated, RequirementState::Undecided),
            expect(turns_d2h, Word::Violated),
            require(hog, Word::Degraded, RequirementState::NotMet),
            quiet_cell("turns/idle", (1, 2)),
        ],
        requires: true,
        requirement: RequirementState::NotMet,
        scope_share: Some(0.174_596),
        controls: controls(),
        slos: slos(),
        assumed: vec![
            "host placebo not run in turns".to_owned(),
            "pcie: by an injected delay, not through the channel itself".to_owned(),
        ],
        warnings: vec![Warning {
            what: "fixed arrivals can phase-lock with time slices".to_owned(),
            advice: "prefer Poisson arrivals".to_owned(),
        }],
        observed: Vec::new(),
        hazards: Vec::new(),
        not_tested: vec!["tlb".to_owned(), "nvlink".to_owned()],
    }
}

/// The sample's controls: passed, undecided, failed, impossible.
fn controls() -> Vec<ControlVerdict> {
    use ControlOutcome::{Failed, Impossible, Passed, Undecided};
    let one = |control, arrangement, outcome, text: &str| ControlVerdict {
        control,
        arrangement,
        seat: "0".to_owned(),
        grid: Some(0),
        neighbour: None,
        probe: None,
        outcome,
        text: text.to_owned(),
    };
    let pair = |neighbour, probe: &str, outcome, text: &str| ControlVerdict {
        neighbour: Some(neighbour),
        probe: Some(probe.to_owned()),
        ..one(Control::Sensitivity, 0, outcome, text)
    };
    let again = "quiet against quiet within the margins over 24 blocks, worst inference p99 1.01× [0.98 1.04]";
    let wide = "quiet against quiet is too wide after 24 blocks: inference p99 1.02× [0.93 1.12]; about 31 blocks would decide";
    let apart = "an idle neighbour's process is not to be told from none, 6 of 6 generations, largest inference p99 1.01× [0.97 1.05]";
    let moved =
        "hbm-chase p50 service time 1.84× in the victim's own place, slower in 5 of 5 pairs, through hbm-bandwidth";
    let still =
        "inference p50 service time 1.01× in the victim's own place, slower in 3 of 5 pairs: l2 was not exercised";
    let delay = "an injected delay of 3.1 µs on d2h was seen as 3 µs [2.9 µs 3.2 µs] at p50 in 5 blocks";
    let sampler =
        "sampling clocks and power is not to be told from not, 5 of 5 blocks, largest inference p50 1.00× [0.99 1.01]";
    vec![
        one(Control::Again, 0, Passed, again),
        one(Control::Presence, 0, Passed, apart),
        pair(1, "hbm-chase", Passed, moved),
        pair(1, "inference", Failed, still),
        ControlVerdict { probe: Some("d2h".to_owned()), ..one(Control::Delay, 0, Passed, delay) },
        one(Control::Again, 1, Undecided, wide),
        one(Control::Presence, 1, Impossible, "no room for a process of its own"),
        one(Control::Sampler, 1, Passed, sampler),
    ]
}

/// The sample's objectives: met, missed, saturated, undecided.
fn slos() -> Vec<SloVerdict> {
    let one = |arrangement, neighbour, state, over: Option<(f64, f64, f64)>| SloVerdict {
        arrangement,
        seat: "0".to_owned(),
        neighbour,
        probe: "inference".to_owned(),
        quantile: Quantile::P99,
        bound_ns: 50_000_000,
        state,
        over: over.map(|(estimate, low, high)| Interval { estimate, low: Some(low), high: Some(high) }),
        arms: 24,
        saturated: None,
        requirement: RequirementState::NotRequired,
    };
    let near = "the share of requests over it lies too near to what it allows; take more blocks";
    let saturated = Saturated { growth: 412.3, served: 1_980.0, planned: 2_500.0, service_ns: Some(504_000.0) };
    vec![
        one(0, None, SloState::Met, Some((0.001_2, 0.000_8, 0.001_7))),
        SloVerdict {
            requirement: RequirementState::NotMet,
            ..one(0, Some(0), SloState::Missed, Some((0.031, 0.025, 0.038)))
        },
        one(0, Some(1), SloState::Met, Some((0.004, 0.003, 0.006))),
        SloVerdict { saturated: Some(saturated), ..one(1, Some(1), SloState::Missed, None) },
        one(1, None, SloState::Undecided { reason: near.to_owned() }, Some((0.009, 0.007, 0.012))),
    ]
}

/// The sample's run.
pub(super) fn run() -> RecordedRun {
    let mut plan = plan();
    plan.accepted = vec![accept("mig/d2h", date(2027, 6, 30)), accept("mig/hbm-hog", date(2025, 1, 31))];
    let calibrated = |arrangement| Calibration {
        arrangement,
        grid: 0,
        probes: vec![
            ProbeCalibration {
                probe: 0,
                closed_rate: Some(Rate(123_456_789)),
                rate: Rate(12_345_678),
                window: Nanos::millis(400),
                judged: vec![(Quantile::P50, JudgedBy::Blocks), (Quantile::P99, JudgedBy::Pooled)],
                delay: None,
            },
            ProbeCalibration {
                probe: 1,
                closed_rate: None,
                rate: Rate::per_second(20),
                window: Nanos::secs(2),
                judged: vec![(Quantile::P50, JudgedBy::Pooled), (Quantile::P99, JudgedBy::TooFew)],
                delay: None,
            },
        ],
        neighbours: Vec::new(),
        // The second arrangement takes turns.
        turns: (arrangement == 1).then_some(Turns {
            probe: 0,
            neighbour: 0,
            others: 1,
            seen: 48,
            quantum: Nanos(2_090_400),
            gap: Nanos(2_430_100),
            switch: Some(Nanos(169_850)),
        }),
    };
    RecordedRun {
        manifest: Manifest {
            format: "crosstalk-run".to_owned(),
            version: 1,
            created_by: "crosstalk 0.1.0".to_owned(),
            date: date(2026, 5, 1),
            provenance: Provenance::Simulated,
            device: "sim:h100-sxm, an NVIDIA H100 80GB HBM3: the scenario asks for it".to_owned(),
            plan,
            scenario_text: String::new(),
        },
        calibrations: BTreeMap::from([((0, 0), calibrated(0)), ((1, 0), calibrated(1))]),
        arms: BTreeMap::new(),
        skipped: BTreeMap::new(),
        given_up: BTreeMap::new(),
        stopped: BTreeMap::new(),
        no_control: BTreeMap::new(),
        lost: BTreeMap::new(),
        lost_before: BTreeMap::new(),
        observed: BTreeMap::new(),
        tried: Vec::new(),
        finished: true,
        proof: crate::run_dir::Proof::default(),
    }
}

/// The sample with names that nobody vouches for: `evil` and `long` wherever a scenario or a host names something.
pub(super) fn hostile(evil: &str, long: &str) -> (RecordedRun, RunVerdict) {
    let (mut run, mut verdict) = (run(), verdict());
    let plan = &mut run.manifest.plan;
    plan.scenario = evil.to_owned();
    plan.description = Some(long.to_owned());
    plan.neighbours[0].name = evil.to_owned();
    plan.neighbours[1].name = long.to_owned();
    plan.arrangements[0].name = evil.to_owned();
    plan.arrangements[1].name = long.to_owned();
    plan.arrangements[1].seats[0].share = evil.to_owned();
    plan.panel[0].name = evil.to_owned();
    run.manifest.device = format!("{evil}\u{7}{long}");
    for cell in &mut verdict.cells {
        let arrangement = &plan.arrangements[cell.arrangement].name;
        cell.name = format!("{arrangement}/{}", plan.neighbours[cell.neighbour].name);
        cell.series[0].series = evil.to_owned();
        cell.series[3].series = long.to_owned();
        cell.surprises = vec![evil.to_owned()];
    }
    (run, verdict)
}

fn accept(cell: &str, until: jiff::civil::Date) -> Accept {
    Accept {
        cell: cell.to_owned(),
        channel: Some("pcie".to_owned()),
        reason: "tenants copy at start only".to_owned(),
        by: "platform team".to_owned(),
        until,
    }
}
