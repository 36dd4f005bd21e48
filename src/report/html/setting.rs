//! Where and how a run was taken: the machine, the design, who sat where and what proves it, and the hashes that tie the
//! page to the run directory.

use crate::gpu::Gpu;
use crate::plan::{Plan, PlannedArrangement, PlannedNeighbour, PlannedProbe};
use crate::provenance::Provenance;
use crate::report::format::{NONE, count, rate, share, time};
use crate::report::words;
use crate::run_dir::{Placed, RecordedRun};
use crate::scenario::Arrivals;
use crate::units::Bytes;

/// Where and how.
pub(super) struct Setting {
    pub(super) machine: Vec<(&'static str, String)>,
    pub(super) design: Vec<(&'static str, String)>,
    pub(super) hashes: Vec<(&'static str, String)>,
    pub(super) layouts: Vec<Layout>,
    /// Why nothing proves who sat where; empty: something does.
    pub(super) unproved: &'static str,
    /// Name, workload with parameters, channels, load.
    pub(super) probes: Vec<[String; 4]>,
    pub(super) neighbours: Vec<[String; 4]>,
    pub(super) scenario: String,
}

/// One arrangement.
pub(super) struct Layout {
    pub(super) name: String,
    pub(super) mode: String,
    pub(super) seats: Vec<(String, String)>,
    pub(super) note: String,
    pub(super) placed: Vec<PlacedView>,
}

/// The proof of who was where.
pub(super) struct PlacedView {
    pub(super) title: String,
    pub(super) proofs: Vec<String>,
    /// Seat, device as its own context saw it, cores, programs.
    pub(super) seats: Vec<[String; 4]>,
}

pub(super) fn of(run: &RecordedRun) -> Setting {
    let plan = &run.manifest.plan;
    let absent = |what: &str| format!("{NONE} ({what})");
    let proof = &run.proof;
    Setting {
        machine: machine(run),
        design: design(plan),
        hashes: vec![
            (
                "Plan: SHA-256 of manifest.json",
                proof.manifest_sha256.clone().unwrap_or_else(|| absent("not read from a run directory")),
            ),
            (
                "Root: SHA-256 of SHA256SUMS, over every file of the run",
                proof.root_sha256.clone().unwrap_or_else(|| absent("the run is not finished")),
            ),
        ],
        layouts: (0..plan.arrangements.len())
            .filter(|index| shown(run, *index))
            .map(|index| layout(run, index))
            .collect(),
        unproved: match (run.manifest.provenance, proof.placed.is_empty()) {
            (_, false) => "",
            (Provenance::Simulated, true) => {
                "Simulated: in virtual time there are no processes whose places could be proved."
            }
            (_, true) => "No evidence of placement was recorded: nothing proves who sat where.",
        },
        probes: plan.panel.iter().map(probe).collect(),
        neighbours: plan.neighbours.iter().map(neighbour).collect(),
        scenario: run.manifest.scenario_text.clone(),
    }
}

/// Of the densities, those alone that were measured: the search leaves most of them out, and each has many seats.
fn shown(run: &RecordedRun, index: usize) -> bool {
    let measured = || run.arms.keys().any(|key| key.arrangement == index);
    run.manifest.plan.arrangements[index].density.is_none() || measured()
}

fn machine(run: &RecordedRun) -> Vec<(&'static str, String)> {
    let (plan, unknown) = (&run.manifest.plan, || format!("{NONE} (not known)"));
    let inventory = &plan.inventory;
    let gpu: &Gpu = plan.gpu();
    let or = |x: Option<String>| x.unwrap_or_else(unknown);
    let mig = match gpu.mig {
        Some(true) => "on".to_owned(),
        Some(false) => "off".to_owned(),
        None => format!("{NONE} (none, or not readable)"),
    };
    let mut facts = vec![
        ("Device", run.manifest.device.clone()),
        ("GPU", gpu.name.clone()),
        ("UUID", gpu.uuid.clone()),
        ("Driver", or(inventory.driver.clone())),
        ("CUDA of the driver", or(inventory.cuda.clone())),
        ("Memory", or(gpu.memory.map(|m| m.to_string()))),
        ("SMs", or(gpu.sms.map(|n| n.to_string()))),
        ("MIG as found", mig),
        ("PCI address", or(gpu.pci.clone())),
    ];
    for i in &gpu.instances {
        facts.push(("Instance as found", format!("{} {} {}", i.profile, i.place(), i.uuid)));
    }
    facts.push(("GPUs of the machine", inventory.gpus.len().to_string()));
    facts.push(("Taken by", run.manifest.created_by.clone()));
    facts
}

fn design(plan: &Plan) -> Vec<(&'static str, String)> {
    let d = &plan.design;
    let natural = |n: crate::units::Nanos| time(n.0 as f64);
    let mut facts = vec![
        ("Tier", words::tier(d.tier).to_owned()),
        ("Blocks", format!("{} per place and panel; tenants restart every {}", d.blocks, d.blocks_per_generation)),
        ("Window", format!("{}; {} at most for a slow probe", natural(d.window), natural(d.max_window))),
        ("Washout", format!("at least {}", natural(d.washout))),
        ("Drain", format!("{}: what is open then is censored", natural(d.drain))),
    ];
    if d.looks.len() > 1 {
        let looks: Vec<String> = d
            .looks
            .iter()
            .map(|l| format!("after {} blocks ({} of the error rates)", l.blocks, share(l.spends)))
            .collect();
        facts.push(("Looks", looks.join(", ")));
    }
    for q in &d.judged {
        let (isolated, violated) = d.margins.of(*q);
        let percent = crate::report::format::percent;
        facts.push((
            "Margins",
            format!("{q}: isolated within {}, violated above {}", percent(isolated), percent(violated)),
        ));
    }
    facts.push(("Seed", plan.seed.to_string()));
    facts
}

fn params(params: &std::collections::BTreeMap<String, String>) -> String {
    params.iter().map(|(key, value)| format!(" {key}={value}")).collect()
}

fn channels(channels: &[crate::channel::Channel]) -> String {
    if channels.is_empty() {
        return "none".to_owned();
    }
    channels.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn probe(p: &PlannedProbe) -> [String; 4] {
    let arrivals = match p.arrivals {
        Arrivals::Auto => "Poisson at 10 % of its closed-loop rate".to_owned(),
        Arrivals::Poisson(r) => format!("Poisson at {}", rate(r.as_f64())),
        Arrivals::Fixed(r) => format!("evenly spaced at {}", rate(r.as_f64())),
    };
    let load = format!("{arrivals}; {} in flight at most", p.outstanding);
    [p.name.clone(), format!("{}{}", p.workload, params(&p.params)), channels(&p.channels), load]
}

fn neighbour(n: &PlannedNeighbour) -> [String; 4] {
    let duty = format!("{} of the time, in bursts of {}; {} queued", share(n.duty), time(n.burst.0 as f64), n.queued);
    [n.name.clone(), format!("{}{}", n.workload, params(&n.params)), channels(&n.channels), duty]
}

fn layout(run: &RecordedRun, index: usize) -> Layout {
    let a: &PlannedArrangement = &run.manifest.plan.arrangements[index];
    let mut notes = Vec::new();
    if a.as_found {
        notes.push("as it was found".to_owned());
    }
    notes.extend(a.skipped.iter().chain(run.skipped.get(&index)).map(|why| format!("skipped: {why}")));
    notes.extend(run.given_up.get(&index).map(|why| format!("given up: {why}")));
    let lost = run.lost.iter().chain(&run.lost_before).filter(|(key, _)| key.arrangement == index).count();
    if lost > 0 {
        notes.push(format!("{} lost", count(lost as u64, "arm")));
    }
    let placed: Vec<PlacedView> = run
        .proof
        .placed
        .iter()
        .filter(|((arrangement, ..), _)| *arrangement == index)
        .map(|((_, grid, company), placed)| proof(a, *grid, company, placed))
        .collect();
    let victims: Vec<usize> = a.grids.iter().map(|g| g.victim).collect();
    let seats = a.seats.iter().enumerate().map(|(at, seat)| {
        let role = if victims.contains(&at) { ", a place of the victim" } else { "" };
        (seat.id.clone(), format!("{}{role}", seat.share))
    });
    let mode = if a.name == a.sharing.id() { "" } else { a.sharing.id() };
    Layout { name: a.name.clone(), mode: mode.to_owned(), seats: seats.collect(), note: notes.join("; "), placed }
}

fn proof(a: &PlannedArrangement, grid: usize, company: &str, placed: &Placed) -> PlacedView {
    let seat = |s: &crate::backend::SeatEvidence| {
        let id = a.seats.get(s.seat).map_or_else(|| s.seat.to_string(), |seat| seat.id.clone());
        let device = s.device.as_ref().map_or_else(
            || "touches no GPU".to_owned(),
            |d| {
                let green = d.green_sms.map_or_else(String::new, |n| format!(", {n} of them its green context's"));
                format!("{} {}, {} SMs{green}, {}", d.name, d.uuid, d.sms, Bytes(d.memory).for_people())
            },
        );
        let cores: Vec<String> = s.cores.iter().map(u32::to_string).collect();
        let cores = if cores.is_empty() { "none of its own".to_owned() } else { cores.join(", ") };
        let programs: Vec<String> = s
            .programs
            .iter()
            .map(|p| {
                format!(
                    "{}: {} ({}, once {})",
                    p.name,
                    p.resolved,
                    Bytes(p.footprint).for_people(),
                    time(p.once.0 as f64)
                )
            })
            .collect();
        [id, device, cores, programs.join("; ")]
    };
    PlacedView {
        title: format!("grid {grid}, {company}: proved {}, the first time so", count(placed.times.into(), "time")),
        proofs: placed.first.proofs.clone(),
        seats: placed.first.seats.iter().map(seat).collect(),
    }
}
