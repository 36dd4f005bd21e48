//! Runs made by hand: what a comparison reads, and nothing that was measured.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Alike, Asked, Blocks, CellSummary, Evidence, Group, HazardSummary, Layout, Level, Model, Quiet, SeriesSummary,
    Shares, Sizes, Summary,
};
use crate::channel::Channel;
use crate::plan::{PlannedNeighbour, PlannedProbe};
use crate::provenance::Provenance;
use crate::report::{Ratio, VerdictWord};
use crate::scenario::{Arrivals, LayoutEntry, Margins, MpsDaemon, Quantile, SharingMode, Tier};
use crate::units::{Bytes, Nanos, Rate, Share};

/// The one cell of the fixture.
pub(crate) const CELL: &str = "mig/hog";

fn probe(name: &str) -> PlannedProbe {
    PlannedProbe {
        name: name.to_owned(),
        workload: "hbm-chase".to_owned(),
        params: BTreeMap::new(),
        channels: vec![Channel::HbmBandwidth],
        series: vec![name.to_owned()],
        arrivals: Arrivals::Poisson(Rate::per_second(400)),
        outstanding: 8,
        slos: Vec::new(),
    }
}

fn hog() -> PlannedNeighbour {
    PlannedNeighbour {
        name: "hog".to_owned(),
        workload: "hbm-read".to_owned(),
        params: BTreeMap::new(),
        channels: vec![Channel::HbmBandwidth],
        duty: Share::percent(100),
        burst: Nanos::millis(100),
        queued: 4,
    }
}

/// What every run of the fixture is of.
pub(crate) fn alike() -> Alike {
    let entry =
        LayoutEntry { profile: Some("3g.40gb".to_owned()), sms: None, reserved: false, memory: None, tenants: 1 };
    let shares = Shares {
        sharing: SharingMode::Mig,
        mps_daemon: MpsDaemon::Own,
        time_slice: None,
        shares: vec![entry.clone(), entry],
        seats: vec!["0: 3g.40gb".to_owned(), "1: 3g.40gb".to_owned()],
    };
    Alike {
        provenance: Provenance::Measured,
        uuid: "GPU-1".to_owned(),
        model: Model {
            name: "NVIDIA H100".to_owned(),
            id: Some("h100-sxm".to_owned()),
            memory: Some(Bytes::gib(80)),
            sms: Some(132),
        },
        layout: Layout {
            instances: vec!["3g.40gb@0".to_owned(), "3g.40gb@4".to_owned()],
            arrangements: [("mig".to_owned(), shares)].into(),
        },
        scenario: Asked {
            probes: [("chase".to_owned(), probe("chase"))].into(),
            neighbours: [("hog".to_owned(), hog())].into(),
            hazards: BTreeMap::new(),
            margins: Margins::default(),
            cells: BTreeSet::from([CELL.to_owned()]),
        },
        tier: Sizes {
            tier: Tier::Smoke,
            blocks: 24,
            blocks_per_generation: 4,
            window: Nanos::millis(250),
            max_window: Nanos::secs(2),
            judged: vec![Quantile::P50, Quantile::P99],
        },
    }
}

/// Another run, told by its number.
pub(crate) fn run(number: u64) -> Evidence {
    let run = Summary {
        root_sha256: format!("{number:064x}"),
        date: jiff::civil::date(2026, 11, 1 + (number % 28) as i8),
        created_by: "crosstalk 0.1.0".to_owned(),
        device: "GPU 0".to_owned(),
        driver: Some("570.86.10".to_owned()),
        cuda: Some("12.8".to_owned()),
        scenario: "sample".to_owned(),
        seed: number,
        digits: 3,
        quiet: vec![quiet("mig", "chase", 10_000.0)],
        cells: vec![cell(CELL, VerdictWord::Isolated, vec![series("chase", VerdictWord::Isolated, &[])])],
        hazards: Vec::new(),
        observed: Vec::new(),
    };
    Evidence { alike: alike(), run }
}

/// A quiet series of which p50 and p99 are this many nanoseconds, and p99.9 is, too.
pub(crate) fn quiet(place: &str, series: &str, ns: f64) -> Quiet {
    let levels = [Quantile::P50, Quantile::P99, Quantile::P999];
    Quiet {
        place: place.to_owned(),
        series: series.to_owned(),
        rate: Some(400.0),
        closed_rate: None,
        served: Some(400.0),
        requests: 10_000,
        unserved: 0,
        levels: levels.map(|quantile| Level { quantile, ns: Some(ns) }).to_vec(),
    }
}

pub(crate) fn cell(name: &str, verdict: VerdictWord, series: Vec<SeriesSummary>) -> CellSummary {
    CellSummary {
        name: name.to_owned(),
        verdict,
        why: verdict.open().then(|| "too few blocks".to_owned()),
        neighbour_rate: Some(1.0),
        neighbour_served: Some(100.0),
        series,
        noisy: vec![quiet(name.split_once('/').map_or(name, |(place, _)| place), "chase", 12_000.0)],
    }
}

/// A series at p99 whose blocks differ by these logarithms.
pub(crate) fn series(name: &str, verdict: VerdictWord, blocks: &[f64]) -> SeriesSummary {
    let mean = blocks.iter().sum::<f64>() / blocks.len().max(1) as f64;
    SeriesSummary {
        series: name.to_owned(),
        quantile: Quantile::P99,
        verdict,
        ratio: Some(Ratio { estimate: Some(mean.exp()), low: None, high: None }),
        blocks: Blocks(blocks.iter().map(|d| Some((d * 1e6).round() as i64)).collect()),
    }
}

pub(crate) fn hazard(verdict: VerdictWord, hits: u64) -> HazardSummary {
    HazardSummary { name: "mig/kill".to_owned(), verdict, hits, of: 35, unit: "trials".to_owned() }
}

pub(crate) fn group(runs: impl IntoIterator<Item = Evidence>) -> Group {
    Group { alike: alike(), runs: runs.into_iter().map(|evidence| evidence.run).collect() }
}
