//! Recorded runs of synthetic victims whose truth is known.

use std::collections::BTreeMap;

use jiff::civil::date;

use super::RunVerdict;
use crate::backend::{ArmKey, ArmSummary, NeighbourSummary, Purpose, WindowSummary};
use crate::channel::Channel;
use crate::cli::Exit;
use crate::gpu::{Gpu, Inventory};
use crate::plan::{Grid, Plan, PlannedArrangement, PlannedNeighbour, PlannedProbe, Seat};
use crate::provenance::Provenance;
use crate::random::{Key, Stream};
use crate::run_dir::{
    ArmData, Calibration, JudgedBy, Manifest, NeighbourCalibration, ProbeCalibration, RecordedRun, SeriesData,
};
use crate::scenario::{
    Arrivals, Controls, Design, Expectation, LayoutEntry, Look, Margins, MpsDaemon, Quantile, Rule, SharingMode, Tier,
    Word,
};
use crate::units::{Nanos, Rate, Share};

/// Which arm a value is drawn for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw {
    pub(crate) block: u32,
    pub(crate) neighbour: Option<usize>,
    pub(crate) probe: usize,
    /// The block's second quiet arm.
    pub(crate) again: bool,
}

/// What a synthetic run looks like.
pub(crate) struct Lab {
    pub(crate) seed: u64,
    pub(crate) blocks: u32,
    /// Every block has a second quiet arm.
    pub(crate) again: bool,
    pub(crate) requests: u64,
    pub(crate) sharing: SharingMode,
    pub(crate) judged: Vec<(Quantile, JudgedBy)>,
    /// (name, channel).
    pub(crate) panel: Vec<(&'static str, Channel)>,
    /// (name, workload, channel).
    pub(crate) neighbours: Vec<(&'static str, &'static str, Channel)>,
}

impl Default for Lab {
    fn default() -> Self {
        Self {
            seed: 1,
            blocks: 24,
            again: false,
            requests: 1_000,
            sharing: SharingMode::Mps,
            judged: vec![(Quantile::P99, JudgedBy::Blocks)],
            panel: vec![("hbm-chase", Channel::HbmBandwidth)],
            neighbours: vec![("hbm-hog", "hbm-read", Channel::HbmBandwidth)],
        }
    }
}

impl Lab {
    /// A run in which the requests of an arm are what `requests` draws.
    pub(crate) fn run_of(&self, requests: impl Fn(&mut Stream, Draw) -> SeriesData) -> RecordedRun {
        let mut arms = BTreeMap::new();
        for block in 0..self.blocks {
            let beside = (0..self.neighbours.len()).map(|n| (Some(n), Purpose::Block));
            let again = self.again.then_some((None, Purpose::Again));
            for (neighbour, purpose) in std::iter::once((None, Purpose::Block)).chain(beside).chain(again) {
                let again = purpose == Purpose::Again;
                let series = self.panel.iter().enumerate().map(|(probe, (name, _))| {
                    let arm = if again { u64::MAX } else { neighbour.map_or(0, |n| n as u64 + 1) };
                    let key = [Key::Name(name), Key::Number(u64::from(block)), Key::Number(arm)];
                    let mut stream = Stream::new(self.seed, &key);
                    ((*name).to_owned(), requests(&mut stream, Draw { block, neighbour, probe, again }))
                });
                let data = ArmData { summary: self.summary(), series: series.collect() };
                arms.insert(ArmKey { arrangement: 0, grid: 0, block, neighbour, purpose }, data);
            }
        }
        let probes = (0..self.panel.len()).map(|probe| ProbeCalibration {
            probe,
            closed_rate: None,
            rate: Rate::per_second(self.requests),
            window: Nanos::secs(1),
            judged: self.judged.clone(),
            delay: None,
        });
        let neighbours = (0..self.neighbours.len()).map(|neighbour| NeighbourCalibration { neighbour, solo_rate: 1e3 });
        let calibration = Calibration {
            arrangement: 0,
            grid: 0,
            probes: probes.collect(),
            neighbours: neighbours.collect(),
            turns: None,
        };
        RecordedRun {
            manifest: Manifest {
                format: "crosstalk-run".to_owned(),
                version: 1,
                created_by: "crosstalk test".to_owned(),
                date: date(2026, 6, 1),
                provenance: Provenance::Simulated,
                device: String::new(),
                plan: self.plan(),
                scenario_text: String::new(),
            },
            calibrations: BTreeMap::from([((0, 0), calibration)]),
            arms,
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

    /// A run in which each arm holds `self.requests` latencies in nanoseconds from `latency`.
    pub(crate) fn run(&self, latency: impl Fn(&mut Stream, Draw) -> f64) -> RecordedRun {
        self.run_of(|stream, draw| {
            let mut data = SeriesData::default();
            (0..self.requests).for_each(|_| record(&mut data, latency(stream, draw)));
            data
        })
    }

    /// What an arm without complaint reports.
    fn summary(&self) -> ArmSummary {
        let window = |probe| WindowSummary {
            probe,
            length: Nanos::secs(1),
            planned: self.requests,
            completed: self.requests,
            ..WindowSummary::default()
        };
        ArmSummary {
            windows: (0..self.panel.len()).map(window).collect(),
            neighbours: vec![NeighbourSummary {
                seat: 1,
                completed: 950,
                rate: 950.0,
                pending: 1.0,
                longest_gap: Nanos::millis(2),
            }],
            sm_mhz: Some(1_755.0),
            throttled: Some(0.0),
            ..ArmSummary::default()
        }
    }

    /// The plan of its runs.
    pub(crate) fn plan(&self) -> Plan {
        let panel = self.panel.iter().map(|(name, channel)| PlannedProbe {
            name: (*name).to_owned(),
            workload: (*name).to_owned(),
            params: BTreeMap::new(),
            channels: vec![*channel],
            series: vec![(*name).to_owned()],
            arrivals: Arrivals::Auto,
            outstanding: 4,
            slos: Vec::new(),
        });
        let neighbours = self.neighbours.iter().map(|(name, workload, channel)| PlannedNeighbour {
            name: (*name).to_owned(),
            workload: (*workload).to_owned(),
            params: BTreeMap::new(),
            channels: vec![*channel],
            duty: Share::percent(100),
            burst: Nanos::millis(10),
            queued: 2,
        });
        let entry = LayoutEntry { profile: None, sms: None, reserved: false, memory: None, tenants: 1 };
        let seat = |entry: usize| Seat { id: entry.to_string(), share: "50 %".to_owned(), entry };
        let gpu = Gpu {
            uuid: "GPU-0".to_owned(),
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            model: Some("h100-sxm".to_owned()),
            ..Gpu::default()
        };
        Plan {
            scenario: "synthetic".to_owned(),
            description: None,
            seed: self.seed,
            inventory: Inventory { provenance: Provenance::Simulated, driver: None, cuda: None, gpus: vec![gpu] },
            gpu: 0,
            design: Design {
                tier: Tier::Smoke,
                blocks: self.blocks,
                blocks_per_generation: 4,
                window: Nanos::secs(1),
                max_window: Nanos::secs(1),
                washout: Nanos::secs(1),
                drain: Nanos::secs(1),
                judged: self.judged.iter().map(|(q, _)| *q).collect(),
                margins: Margins::default(),
                looks: vec![Look { blocks: self.blocks, spends: Share::percent(100) }],
                controls: Controls { again: self.again, ..Controls::default() },
                max_duration: None,
            },
            panel: panel.collect(),
            neighbours: neighbours.collect(),
            hazards: Vec::new(),
            arrangements: vec![PlannedArrangement {
                name: "pair".to_owned(),
                sharing: self.sharing,
                mps_daemon: MpsDaemon::Own,
                time_slice: None,
                layout: vec![entry.clone(), entry],
                as_found: false,
                seats: vec![seat(0), seat(1)],
                skipped: None,
                grids: vec![Grid {
                    victim: 0,
                    neighbour_seats: vec![1],
                    probes: (0..self.panel.len()).collect(),
                    neighbours: (0..self.neighbours.len()).collect(),
                    first_block: 0,
                }],
                require: Expectation::default(),
                expect: Expectation::default(),
                hazards: Vec::new(),
                observe: Vec::new(),
                against: None,
                density: None,
            }],
            curves: Vec::new(),
            accepted: Vec::new(),
        }
    }
}

/// Adds one latency in nanoseconds.
pub(crate) fn record(data: &mut SeriesData, ns: f64) {
    data.latency.record(ns as u64);
}

/// Adds one request with its times on the device, and what the host adds.
pub(crate) fn record_parts(data: &mut SeriesData, queue: f64, service: f64, host: f64) {
    record(data, queue + service + host);
    data.queue.record(queue as u64);
    data.service.record(service as u64);
}

/// A lognormal latency with median 100 µs; σ = 0.3 puts its p99 at twice the median.
pub(crate) fn lognormal(stream: &mut Stream) -> f64 {
    1e5 * libm::exp(0.3 * stream.normal())
}

/// Rules in the order given.
pub(crate) fn rules(rules: &[(&str, Word)]) -> Expectation {
    Expectation(rules.iter().map(|(key, word)| Rule { key: (*key).to_owned(), word: *word }).collect())
}

/// What the shell would see.
pub(crate) fn exit_code(run: &RunVerdict) -> u8 {
    Exit::from(run.requirement).code()
}
