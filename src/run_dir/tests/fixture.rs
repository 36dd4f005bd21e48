//! A small plan with awkward names, arms that hold everything an arm can hold, and whole runs of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::backend::{
    ArmKey, ArmRecord, ArmSummary, DcgmReading, DcgmValue, EccErrors, GpuActivity, GpuHealth, GpuReading,
    NeighbourSummary, OomEvent, Outcome, PcieLink, Purpose, RemappedRows, Sample, WindowSummary,
};
use crate::channel::Channel;
use crate::gpu::{Gpu, Inventory};
use crate::host::probe::HostPauses;
use crate::plan::{Grid, Plan, PlannedArrangement, PlannedNeighbour, PlannedProbe, Seat};
use crate::provenance::Provenance;
use crate::run_dir::{
    ArmData, Calibration, Digest, JudgedBy, Manifest, NeighbourCalibration, ProbeCalibration, RecordedRun, RunDir,
    RunDirError, counted, encode, load,
};
use crate::scenario::{Arrivals, Controls, Design, Expectation, Look, Margins, MpsDaemon, Quantile, SharingMode, Tier};
use crate::units::{Nanos, Rate, Share};
use crate::verdict::{RequirementState, RunVerdict};

/// Series of the fixture's probe and of its mark.
pub(super) const SERIES: [&str; 2] = ["llm-decode", "llm-decode/token"];

/// At 100 requests a second: a tenth more than the 500 that p99 needs over two blocks.
const WINDOW: Nanos = Nanos::millis(5_500);

/// Commits one arm.
pub(super) fn commit(dir: &mut RunDir, key: &ArmKey, record: &ArmRecord) -> Result<ArmData, RunDirError> {
    let encoded = encode(dir.manifest(), key, record)?;
    Ok(dir.commit_encoded(vec![encoded])?.remove(0).1)
}

/// Two arrangements of two blocks, each with a quiet arm and two neighbours, one of them named as the quiet arm is.
pub(super) fn manifest() -> Manifest {
    let gpu = Gpu { uuid: "GPU-1".to_owned(), name: "NVIDIA H100".to_owned(), model: None, ..Gpu::default() };
    let plan = Plan {
        scenario: "fixture".to_owned(),
        description: None,
        seed: 1,
        inventory: Inventory { provenance: Provenance::Simulated, driver: None, cuda: None, gpus: vec![gpu] },
        gpu: 0,
        design: Design {
            tier: Tier::Smoke,
            blocks: 2,
            blocks_per_generation: 1,
            window: Nanos::millis(250),
            max_window: Nanos::secs(6),
            washout: Nanos::secs(1),
            drain: Nanos::millis(100),
            judged: vec![Quantile::P50, Quantile::P99],
            margins: Margins::default(),
            looks: vec![Look { blocks: 1, spends: Share::percent(30) }, Look { blocks: 2, spends: Share::percent(70) }],
            controls: Controls { again: true, presence: 1, sensitivity: 1, ..Controls::default() },
            max_duration: None,
        },
        panel: vec![PlannedProbe {
            name: SERIES[0].to_owned(),
            workload: SERIES[0].to_owned(),
            params: BTreeMap::new(),
            channels: vec![Channel::HbmBandwidth],
            series: SERIES.map(str::to_owned).to_vec(),
            arrivals: Arrivals::Auto,
            outstanding: 4,
            slos: Vec::new(),
        }],
        neighbours: ["quiet", "../hog, 50 %"].map(neighbour).to_vec(),
        hazards: Vec::new(),
        arrangements: ["mps 50/50", "mig+mps"].map(arrangement).to_vec(),
        curves: Vec::new(),
        accepted: Vec::new(),
    };
    Manifest {
        format: Manifest::FORMAT.to_owned(),
        version: Manifest::VERSION,
        created_by: "crosstalk 0.1.0".to_owned(),
        date: jiff::civil::date(2027, 1, 31),
        provenance: Provenance::Simulated,
        device: "the scenario asks for it".to_owned(),
        plan,
        scenario_text: "schema = 1\n".to_owned(),
    }
}

fn neighbour(name: &str) -> PlannedNeighbour {
    PlannedNeighbour {
        name: name.to_owned(),
        workload: "hbm-read".to_owned(),
        params: BTreeMap::new(),
        channels: vec![Channel::HbmBandwidth],
        duty: Share::percent(100),
        burst: Nanos::ZERO,
        queued: 2,
    }
}

fn arrangement(name: &str) -> PlannedArrangement {
    let seat = |id: &str| Seat { id: id.to_owned(), share: "50 % of SMs".to_owned(), entry: 0 };
    PlannedArrangement {
        name: name.to_owned(),
        sharing: SharingMode::Mps,
        mps_daemon: MpsDaemon::Own,
        time_slice: None,
        layout: Vec::new(),
        as_found: false,
        seats: vec![seat("0"), seat("1")],
        skipped: None,
        grids: vec![Grid {
            victim: 0,
            neighbour_seats: vec![1],
            probes: vec![0],
            neighbours: vec![0, 1],
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

/// Every arm of the fixture, in order.
pub(super) fn keys() -> Vec<ArmKey> {
    let mut keys = Vec::new();
    for arrangement in 0..2 {
        for block in 0..2 {
            for neighbour in [None, Some(0), Some(1)] {
                keys.push(ArmKey { arrangement, grid: 0, block, neighbour, purpose: Purpose::Block });
            }
        }
    }
    keys
}

pub(super) fn calibration(arrangement: usize) -> Calibration {
    let neighbour = |neighbour| NeighbourCalibration { neighbour, solo_rate: 0.1 + 0.2 };
    Calibration {
        arrangement,
        grid: 0,
        probes: vec![ProbeCalibration {
            probe: 0,
            closed_rate: Some(Rate::per_second(1_000)),
            rate: Rate::per_second(100),
            window: WINDOW,
            judged: vec![(Quantile::P50, JudgedBy::Blocks), (Quantile::P99, JudgedBy::Pooled)],
            delay: None,
        }],
        neighbours: vec![neighbour(0), neighbour(1)],
        turns: None,
    }
}

/// An arm whose content depends on its key: latencies of 1 ms and more, one outcome of each kind.
pub(super) fn record(key: &ArmKey) -> ArmRecord {
    let salt = key.arrangement as u64 * 7 + u64::from(key.block) * 3 + key.neighbour.map_or(0, |n| n as u64 + 1);
    let sample = |i: u64| {
        let planned = Nanos::millis(i + 5);
        let latency = Nanos::micros(1_000 + (i * 37 + salt * 11) % 500);
        Sample {
            series: (i % 2) as u16,
            window: 0,
            planned,
            sent: Some(planned + Nanos(70 + i)),
            gpu_start: (!i.is_multiple_of(3)).then(|| planned + Nanos::micros(3)),
            gpu_end: (!i.is_multiple_of(3)).then(|| planned + latency - Nanos::micros(2)),
            completed: Some(planned + latency),
            outcome: Outcome::Ok,
        }
    };
    let mut samples: Vec<Sample> = (0..200).map(sample).collect();
    for (i, outcome) in
        [Outcome::Oom, Outcome::Error(u32::MAX), Outcome::WrongResult, Outcome::Timeout].into_iter().enumerate()
    {
        samples[i * 9 + 1].outcome = outcome;
    }
    samples[28] = Sample { sent: None, gpu_start: None, gpu_end: None, completed: None, ..samples[28] };
    let window = WindowSummary { start: Nanos::millis(5), length: WINDOW, ..Default::default() };
    let summary = ArmSummary {
        windows: vec![window],
        neighbours: vec![NeighbourSummary { seat: 1, completed: salt, rate: 1.0 / 3.0, ..Default::default() }],
        sm_mhz: Some(1_979.000_000_000_1),
        oom: vec![OomEvent { seat: 1, at: Nanos(1), asked: 2, free: 3, total: 4 }],
        host_probe: Some(HostPauses { longest: Nanos::millis(1), long: 2, watched: Nanos::millis(250) }),
        health_before: Some(GpuHealth { persistence: Some(true), ..Default::default() }),
        health: Some(health(salt)),
        activity: vec![GpuActivity { gpu_instance: Some(3), dram: Some(0.1 + 0.2), ..Default::default() }],
        dcgm: vec![DcgmReading {
            gpu_instance: Some(3),
            values: vec![DcgmValue { name: "DCGM_FI_DEV_FB_USED".to_owned(), value: 5.0 }],
        }],
        ..Default::default()
    };
    with_counts(0, ArmRecord { series: SERIES.map(str::to_owned).to_vec(), samples, summary })
}

/// With the counts of windows that its samples make; `series` is the place of the probe's first series.
fn with_counts(series: usize, mut record: ArmRecord) -> ArmRecord {
    let windows = std::mem::take(&mut record.summary.windows);
    let windows = windows.iter().enumerate().map(|(index, window)| counted(window, index, series, &record));
    record.summary.windows = windows.collect();
    record
}

fn health(salt: u64) -> GpuHealth {
    let ecc = EccErrors { corrected: salt, uncorrected: 0 };
    GpuHealth {
        ecc: Some(ecc),
        ecc_lifetime: Some(ecc),
        remapped: Some(RemappedRows { correctable: 1, uncorrectable: 0, pending: true, failed: false }),
        pcie: Some(PcieLink { generation: 5, width: 16, max_generation: None, max_width: Some(16), replays: None }),
        ..GpuHealth::default()
    }
}

/// A verdict on nothing, which the run directory carries and does not look into.
pub(super) fn verdict() -> RunVerdict {
    RunVerdict {
        curves: Vec::new(),
        cells: Vec::new(),
        requires: false,
        requirement: RequirementState::NotRequired,
        scope_share: Some(0.1 + 0.2),
        warnings: Vec::new(),
        observed: Vec::new(),
        hazards: Vec::new(),
        controls: Vec::new(),
        slos: Vec::new(),
        assumed: Vec::new(),
        not_tested: vec!["nvlink".to_owned()],
    }
}

/// A run with all of its arms but not finished.
pub(super) fn unfinished(path: &Path) -> RunDir {
    let mut dir = RunDir::create(path, &manifest()).unwrap();
    for arrangement in 0..2 {
        dir.calibrated(&calibration(arrangement)).unwrap();
    }
    for key in keys() {
        commit(&mut dir, &key, &record(&key)).unwrap();
    }
    dir
}

/// A finished run, as it reads back.
pub(super) fn finished(path: &Path) -> RecordedRun {
    let dir = unfinished(path);
    let digest = Digest::build(&load(path).unwrap(), &verdict()).unwrap();
    dir.finish(&digest).unwrap();
    load(path).unwrap()
}

/// Every file below a folder, with its bytes.
pub(super) fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

/// Any time that a file can hold.
fn any_time() -> impl Strategy<Value = Nanos> {
    prop_oneof![0..10_000_000u64, 0..=i64::MAX.cast_unsigned(), Just(i64::MAX.cast_unsigned())].prop_map(Nanos)
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Ok),
        1 => Just(Outcome::Oom),
        1 => any::<u32>().prop_map(Outcome::Error),
        1 => Just(Outcome::WrongResult),
        1 => Just(Outcome::Timeout),
    ]
}

fn any_sample(series: u16) -> impl Strategy<Value = Sample> {
    let maybe = || prop::option::of(any_time());
    (0..series, any::<u16>(), any_time(), maybe(), maybe(), maybe(), maybe(), any_outcome()).prop_map(
        |(series, window, planned, sent, gpu_start, gpu_end, completed, outcome)| Sample {
            series,
            window,
            planned,
            sent,
            gpu_start,
            gpu_end,
            completed,
            outcome,
        },
    )
}

fn any_summary() -> impl Strategy<Value = ArmSummary> {
    let number = || prop::num::f64::NORMAL | prop::num::f64::ZERO;
    let window = (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(start, length, planned)| WindowSummary {
        start: Nanos(start),
        length: Nanos(length),
        planned,
        ..Default::default()
    });
    let neighbour = (number(), number(), any::<u64>()).prop_map(|(rate, pending, gap)| NeighbourSummary {
        rate,
        pending,
        longest_gap: Nanos(gap),
        ..Default::default()
    });
    let maybe = || prop::option::of(number());
    let lists = (prop::collection::vec(window, 0..3), prop::collection::vec(neighbour, 0..3));
    (lists, maybe(), maybe(), maybe(), prop::option::of(any::<u64>())).prop_map(
        |((windows, neighbours), sm_mhz, power_w, throttled, pause)| ArmSummary {
            windows,
            neighbours,
            sm_mhz,
            power_w,
            throttled,
            readings: pause
                .map(|at| GpuReading { at: Nanos(at), throttle: Some(at), ..Default::default() })
                .into_iter()
                .collect(),
            too_few_cores: pause.is_none(),
            host_pause: pause.map(Nanos),
            ..ArmSummary::default()
        },
    )
}

/// Any arm at all, sensible or not.
pub(super) fn any_record() -> impl Strategy<Value = ArmRecord> {
    (1..4u16).prop_flat_map(|series| {
        let names = (0..series).map(|i| format!("probe {i}/mark")).collect::<Vec<_>>();
        (prop::collection::vec(any_sample(series), 0..300), any_summary())
            // None of these series is one of the plan's probe.
            .prop_map(move |(samples, summary)| {
                with_counts(usize::MAX, ArmRecord { series: names.clone(), samples, summary })
            })
    })
}
