//! From a recorded run and its verdict to the model of a report.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{Plan, PlannedArrangement};
use crate::run_dir::RecordedRun;
use crate::scenario::{Accept, SharingMode};
use crate::verdict::{CellVerdict, Interval, Reason, RequirementState, RunVerdict, SeriesVerdict, Verdict};
use crate::verdict::{accept_names, scope_percent};

use super::format::{count, nine_digits};
use super::model::{
    AcceptState, AcceptedRisk, Calibrated, Cell, Column, Expected, Header, JudgedQuantile, Objective, Progress, Ratio,
    Report, RequiredOf, Requirement, Requirements, Row, RunReport, Scope, Series, Surprise, Turns, TurnsSeen,
    VerdictWord, Why,
};
use super::observed::ObservedHere;
use super::{controls, density, words};

/// What no run of crosstalk says anything about.
const NEVER_TESTED: &[&str] = &["capacity of side channels", "driver, firmware and container escape"];

/// What a run says of itself that has curves alone, and of which nothing is required.
const NOTHING_REQUIRED_OF_CURVES: &str =
    "Nothing is required: this run shows how many tenants meet their objectives, and it cannot fail.";

impl Report {
    /// The report of one run.
    pub fn build(run: &RecordedRun, verdict: &RunVerdict) -> Self {
        Self::over([(run, verdict)])
    }

    /// What a report says of one run.
    pub(crate) fn one(run: &RecordedRun, verdict: &RunVerdict) -> RunReport {
        run_report(run, verdict)
    }

    /// A report over several runs, in their order.
    pub(super) fn over<'a>(runs: impl IntoIterator<Item = (&'a RecordedRun, &'a RunVerdict)>) -> Self {
        let runs: Vec<RunReport> = runs.into_iter().map(|(run, verdict)| run_report(run, verdict)).collect();
        let banner = runs.iter().find_map(|r| r.header.banner.clone());
        Self { banner, format: Self::FORMAT.to_owned(), version: Self::VERSION, runs }
    }
}

fn run_report(run: &RecordedRun, verdict: &RunVerdict) -> RunReport {
    let plan = &run.manifest.plan;
    let cells: Vec<Cell> = verdict.cells.iter().map(cell).collect();
    let accepted = accepted(run, &verdict.cells);
    let observed = super::observed::of(plan, &verdict.observed);
    let objectives = controls::objectives(plan, verdict);
    let hazards = super::hazards::of(run, verdict);
    let mut requirements = requirements(plan, verdict, &cells, &objectives, &observed, &accepted);
    requirements.items.extend(hazards.iter().filter_map(super::hazards::requirement));
    let curves = density::of(plan, verdict);
    requirements.items.extend(curves.iter().filter_map(density::requirement));
    requirements.summary = match verdict.requires {
        false if verdict.cells.is_empty() && !curves.is_empty() => NOTHING_REQUIRED_OF_CURVES.to_owned(),
        requires => summary(requires, &requirements.items),
    };
    let columns = columns(plan, &verdict.cells);
    RunReport {
        header: header(run),
        requirements,
        rows: rows(plan, &verdict.cells, &columns),
        columns: columns.into_values().collect(),
        controls: controls::shown(plan, verdict),
        curves,
        objectives,
        surprises: surprises(verdict),
        warnings: verdict.warnings.clone(),
        scope: scope(plan, verdict),
        calibration: calibration(run),
        turns: turns(run),
        observed,
        hazards,
        accepted,
        cells,
    }
}

fn header(run: &RecordedRun) -> Header {
    let manifest = &run.manifest;
    let plan = &manifest.plan;
    let gpu = plan.gpu();
    let planned =
        plan.arrangements.iter().enumerate().filter(|(i, a)| a.skipped.is_none() && !run.skipped.contains_key(i));
    let is_density = |arrangement: usize| plan.arrangements.get(arrangement).is_some_and(|a| a.density.is_some());
    let arms = |of_densities| {
        let blocks = run.arms.keys().filter(|arm| arm.purpose.is_block());
        blocks.filter(|arm| is_density(arm.arrangement) == of_densities).count() as u64
    };
    Header {
        created_by: manifest.created_by.clone(),
        provenance: manifest.provenance,
        banner: manifest.provenance.banner().map(str::to_owned),
        device: manifest.device.clone(),
        gpu: gpu.name.clone(),
        uuid: gpu.uuid.clone(),
        driver: plan.inventory.driver.clone(),
        scenario: plan.scenario.clone(),
        description: plan.description.clone(),
        tier: plan.design.tier,
        arrangements: plan.arrangements.iter().filter(|a| a.density.is_none()).count() as u64,
        neighbours: plan.neighbours.len() as u64,
        probes: plan.panel.len() as u64,
        hazards: plan.hazards.len() as u64,
        curves: plan.curves.len() as u64,
        blocks: plan.design.blocks,
        seed: plan.seed,
        progress: Progress {
            finished: run.finished,
            arms: arms(false),
            density_arms: arms(true),
            density_most: plan.curves.iter().map(|c| u64::from(c.most) * u64::from(plan.design.blocks)).sum(),
            planned: planned
                .filter(|(_, a)| a.density.is_none())
                .flat_map(|(_, a)| &a.grids)
                // Where hazards alone are tried there are no arms.
                .filter(|grid| !grid.neighbours.is_empty())
                .map(|grid| u64::from(plan.design.blocks) * (1 + grid.neighbours.len() as u64))
                .sum(),
        },
    }
}

/// Columns by (arrangement, victim's seat), in the order of the plan.
fn columns(plan: &Plan, cells: &[CellVerdict]) -> BTreeMap<(usize, usize), Column> {
    let mut columns = BTreeMap::new();
    for cell in cells {
        let place = place_of(plan, cell);
        columns.entry(place).or_insert_with(|| Column {
            name: column_name(plan, cell),
            arrangement: plan.arrangements.get(cell.arrangement).map_or_else(String::new, |a| a.name.clone()),
            seat: cell.seat.clone(),
            layout: plan.arrangements.get(cell.arrangement).map_or_else(String::new, layout_words),
        });
    }
    columns
}

/// The cell's column: arrangement, and index of the victim's seat in it.
fn place_of(plan: &Plan, cell: &CellVerdict) -> (usize, usize) {
    let seats = plan.arrangements.get(cell.arrangement).map_or(&[][..], |a| &a.seats);
    (cell.arrangement, seats.iter().position(|s| s.id == cell.seat).unwrap_or(seats.len()))
}

/// A cell's name without its neighbour: the name of its column, as the verdict chose it.
fn column_name(plan: &Plan, cell: &CellVerdict) -> String {
    let neighbour = plan.neighbours.get(cell.neighbour).map_or("", |n| n.name.as_str());
    let place = cell.name.strip_suffix(neighbour).and_then(|rest| rest.strip_suffix('/'));
    place.unwrap_or(&cell.name).to_owned()
}

/// Sharing mode, where the name does not say it, and shares: "mig 4g.40gb + 3g.40gb", "50 % × 2".
fn layout_words(a: &PlannedArrangement) -> String {
    let shares: Vec<&str> = a.seats.iter().map(|s| s.share.as_str()).collect();
    let shares = match shares.first() {
        Some(first) if shares.len() > 1 && shares.iter().all(|s| s == first) => format!("{first} × {}", shares.len()),
        _ => shares.join(" + "),
    };
    let mode = if a.name == a.sharing.id() { "" } else { a.sharing.id() };
    format!("{mode} {shares}").trim().to_owned()
}

/// Rows by the first channel of the neighbour, in the order of the channels, those without one first.
fn rows(plan: &Plan, cells: &[CellVerdict], columns: &BTreeMap<(usize, usize), Column>) -> Vec<Row> {
    let mut order: Vec<usize> = (0..plan.neighbours.len()).collect();
    order.sort_by_key(|i| (plan.neighbours[*i].channels.first().copied(), *i));
    order
        .into_iter()
        .map(|i| {
            let neighbour = &plan.neighbours[i];
            Row {
                neighbour: neighbour.name.clone(),
                channel: neighbour.channels.first().copied(),
                placebo: neighbour.workload == crate::workload::PLACEBO,
                cells: columns
                    .keys()
                    .map(|place| cells.iter().position(|c| c.neighbour == i && place_of(plan, c) == *place))
                    .collect(),
            }
        })
        .filter(|row| row.cells.iter().any(Option::is_some))
        .collect()
}

fn cell(c: &CellVerdict) -> Cell {
    let mut cell = Cell {
        name: c.name.clone(),
        verdict: VerdictWord::from(&c.verdict),
        summary: String::new(),
        why: whys(c),
        notes: c.notes.iter().map(words::reason).collect(),
        expected: expected(c),
        requirement: c.requirement,
        neighbour_rate: c.neighbour_rate.and_then(nine_digits),
        decided_after: c.decided_after,
        worst: c.worst.filter(|i| *i < c.series.len()),
        series: c.series.iter().map(series).collect(),
    };
    cell.summary = match cell.verdict {
        VerdictWord::Isolated => words::isolated(&cell),
        VerdictWord::Degraded | VerdictWord::Violated => words::moved(&cell),
        VerdictWord::Inconclusive | VerdictWord::Skipped => words::open(&cell),
    };
    cell
}

/// Why something of the cell is not decided: each reason once, with its worst number and of what.
fn whys(c: &CellVerdict) -> Vec<Why> {
    if let Verdict::Skipped { reason } = &c.verdict {
        return vec![skipped(reason)];
    }
    let mut groups: Vec<(&Reason, Vec<String>)> = Vec::new();
    for s in &c.series {
        let Verdict::Inconclusive { reason } = &s.verdict else { continue };
        let of = format!("{} {}", s.series, s.quantile);
        match groups.iter_mut().find(|(r, _)| std::mem::discriminant(*r) == std::mem::discriminant(reason)) {
            Some((worst, names)) => {
                *worst = words::worse(worst, reason);
                names.push(of);
            }
            None => groups.push((reason, vec![of])),
        }
    }
    let mut whys: Vec<Why> = groups.into_iter().map(|(reason, of)| Why { of, ..words::reason(reason) }).collect();
    if let Verdict::Inconclusive { reason } = &c.verdict {
        let overall = words::reason(reason);
        // The reason that decides stands first, and it stands once.
        match whys.iter().position(|w| w.reason == overall.reason) {
            Some(at) => whys[..=at].rotate_right(1),
            None => whys.insert(0, overall),
        }
    }
    whys
}

pub(super) fn skipped(reason: &str) -> Why {
    Why { reason: "skipped".to_owned(), text: reason.to_owned(), of: Vec::new(), advice: None }
}

/// A surprise in any series makes the cell one, and an open verdict is neither; else what was expected of all that moved
/// was.
fn expected(c: &CellVerdict) -> Expected {
    if !c.surprises.is_empty() {
        return Expected::No;
    }
    if matches!(c.verdict, Verdict::Inconclusive { .. } | Verdict::Skipped { .. }) {
        return Expected::Undecided;
    }
    let moved = matches!(c.verdict, Verdict::Degraded | Verdict::Violated);
    let mut relevant = c.series.iter().filter(|s| !moved || matches!(s.verdict, Verdict::Degraded | Verdict::Violated));
    if !c.series.is_empty() && relevant.all(|s| s.expected.is_some()) { Expected::Yes } else { Expected::Unstated }
}

fn series(s: &SeriesVerdict) -> Series {
    let quiet_ns = s.quiet_ns.and_then(nine_digits);
    let noisy_ns = s.noisy_ns.and_then(nine_digits);
    Series {
        series: s.series.clone(),
        channel: s.channel,
        quantile: s.quantile,
        judged: s.judged,
        verdict: VerdictWord::from(&s.verdict),
        why: match &s.verdict {
            Verdict::Inconclusive { reason } => Some(words::reason(reason)),
            Verdict::Skipped { reason } => Some(skipped(reason)),
            Verdict::Isolated | Verdict::Degraded | Verdict::Violated => None,
        },
        ratio: s.ratio.map(ratio),
        paired: s.paired.map(ratio),
        pooled: s.pooled.map(ratio),
        change_ns: quiet_ns.zip(noisy_ns).and_then(|(quiet, noisy)| nine_digits(noisy - quiet)),
        quiet_ns,
        noisy_ns,
        quiet_requests: s.requests.0,
        noisy_requests: s.requests.1,
        blocks: s.blocks,
        cause: s.cause.clone(),
        saturated: s.saturated.map(controls::saturated),
        required: s.required,
        expected: s.expected,
    }
}

pub(super) fn ratio(i: Interval) -> Ratio {
    Ratio { estimate: nine_digits(i.estimate), low: i.low.and_then(nine_digits), high: i.high.and_then(nine_digits) }
}

fn requirements(
    plan: &Plan,
    verdict: &RunVerdict,
    cells: &[Cell],
    objectives: &[Objective],
    observed: &[ObservedHere],
    accepted: &[AcceptedRisk],
) -> Requirements {
    let mut items: Vec<Requirement> = cells
        .iter()
        .zip(&verdict.cells)
        .filter(|(c, _)| c.requirement != RequirementState::NotRequired)
        .map(|(c, judged)| {
            // One per accepted risk of the plan, in its order.
            let risks: Vec<String> = accepted
                .iter()
                .zip(&plan.accepted)
                .filter(|(a, risk)| a.state == AcceptState::InForce && covers(plan, risk, judged))
                .map(|(a, _)| format!("{} (by {}, until {})", a.reason, a.by, a.until))
                .collect();
            Requirement {
                cell: c.name.clone(),
                of: RequiredOf::Cell,
                state: c.requirement,
                text: words::requirement(c, &risks),
            }
        })
        .collect();
    items.extend(objectives.iter().filter_map(controls::requirement));
    items.extend(observed.iter().filter_map(super::observed::requirement));
    items.extend(controls::open(plan, verdict));
    Requirements { state: verdict.requirement, summary: String::new(), items }
}

/// All requirements in one sentence.
fn summary(requires: bool, items: &[Requirement]) -> String {
    if !requires {
        return "Nothing is required: this run can show what is not isolated, and it cannot fail.".to_owned();
    }
    if items.is_empty() {
        return "What the scenario requires applies to no cell of this run.".to_owned();
    }
    let of = |state| items.iter().filter(|i| i.state == state).count() as u64;
    let (met, accepted) = (of(RequirementState::Met), of(RequirementState::Accepted));
    let (open, failed) = (of(RequirementState::Undecided), of(RequirementState::NotMet));
    if open == 0 && failed == 0 && accepted == 0 {
        return format!("All requirements met, in {}.", of_what(items, RequirementState::Met));
    }
    let mut parts = Vec::new();
    for (n, state, what) in [
        (failed, RequirementState::NotMet, "not met"),
        (open, RequirementState::Undecided, "undecided"),
        (accepted, RequirementState::Accepted, "not met and accepted"),
        (met, RequirementState::Met, "met"),
    ] {
        if n > 0 {
            parts.push(format!("{what} in {}", of_what(items, state)));
        }
    }
    format!("Requirements: {}.", parts.join(", "))
}

/// "3 cells, 2 objectives and 1 observation".
fn of_what(items: &[Requirement], state: RequirementState) -> String {
    let kinds = [
        (RequiredOf::Cell, "cell"),
        (RequiredOf::Objective, "objective"),
        (RequiredOf::Observation, "observation"),
        (RequiredOf::Hazard, "hazard"),
        (RequiredOf::Curve, "curve"),
    ];
    let of = |kind| items.iter().filter(|item| item.state == state && item.of == kind).count() as u64;
    let parts: Vec<String> =
        kinds.into_iter().filter(|(kind, _)| of(*kind) > 0).map(|(kind, what)| count(of(kind), what)).collect();
    match parts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => parts.concat(),
    }
}

/// Accepted risks, with what became of each. The day of the run decides whether one had run out.
fn accepted(run: &RecordedRun, cells: &[CellVerdict]) -> Vec<AcceptedRisk> {
    let plan = &run.manifest.plan;
    let holds = |c: &&CellVerdict| matches!(c.requirement, RequirementState::Met | RequirementState::NotRequired);
    let state = |a: &Accept| {
        let covered: Vec<&CellVerdict> = cells.iter().filter(|c| covers(plan, a, c)).collect();
        if covered.is_empty() {
            AcceptState::NoSuchCell
        } else if a.until < run.manifest.date {
            AcceptState::Expired
        } else if covered.iter().all(holds) {
            AcceptState::NotNeeded
        } else {
            AcceptState::InForce
        }
    };
    let one = |a: &Accept| AcceptedRisk {
        cell: a.cell.clone(),
        channel: a.channel.clone(),
        reason: a.reason.clone(),
        by: a.by.clone(),
        until: a.until,
        state: state(a),
    };
    plan.accepted.iter().map(one).collect()
}

/// Whether an accepted risk is one of this cell's, by the rule from which the exit code follows.
fn covers(plan: &Plan, risk: &Accept, cell: &CellVerdict) -> bool {
    let place = plan.arrangements.get(cell.arrangement).zip(plan.neighbours.get(cell.neighbour));
    place.is_some_and(|(arrangement, neighbour)| accept_names(risk, cell, &arrangement.name, &neighbour.name))
}

fn surprises(verdict: &RunVerdict) -> Vec<Surprise> {
    let of = |c: &CellVerdict| -> Vec<Surprise> {
        c.surprises.iter().map(|text| Surprise { cell: c.name.clone(), text: text.clone() }).collect()
    };
    let hazards =
        verdict.hazards.iter().filter_map(|h| Some(Surprise { cell: h.name.clone(), text: h.surprise.clone()? }));
    verdict.cells.iter().flat_map(of).chain(hazards).collect()
}

fn scope(plan: &Plan, verdict: &RunVerdict) -> Scope {
    let isolated = |share: f64| super::format::percent(share).trim_end_matches(" %").to_owned();
    let margins: Vec<String> = plan.design.judged.iter().map(|q| isolated(plan.design.margins.of(*q).0)).collect();
    let quantiles: Vec<String> = plan.design.judged.iter().map(ToString::to_string).collect();
    let share = verdict.scope_share.and_then(nine_digits);
    let episodes = match (verdict.scope_share, share) {
        (None, _) => "medians alone see no episodes".to_owned(),
        (_, Some(s)) => format!("for episodes in ≥ {} % of arms", scope_percent(s)),
        (_, None) => "for episodes in –, for what share of arms is not known".to_owned(),
    };
    // Nothing makes noise but equal tenants: channel by channel there is nothing to say.
    let curves_alone = verdict.cells.is_empty() && !plan.curves.is_empty();
    let mut not_tested =
        if curves_alone { vec!["any neighbour but equal tenants".to_owned()] } else { verdict.not_tested.clone() };
    not_tested.extend(NEVER_TESTED.iter().map(|s| (*s).to_owned()));
    let mut means = Vec::new();
    if !plan.panel.is_empty() && !curves_alone {
        means.push(format!(
            "against these neighbours, within {} % at {}, {episodes}",
            margins.join("/"),
            quantiles.join("/"),
        ));
    }
    if !plan.hazards.is_empty() {
        means.push("of a hazard, that it never came true, with the bound (99 %) beside it".to_owned());
    }
    let mut texts = Vec::new();
    if !means.is_empty() {
        texts.push(format!("Isolated means: {}.", means.join("; ")));
    }
    if !plan.curves.is_empty() {
        let episodes = share.filter(|_| curves_alone).map_or_else(String::new, |s| {
            format!("; an episode that hits less than {} % of the arms may be missed", scope_percent(s))
        });
        texts.push(format!(
            "A density is met where every tenant meets every objective at its own load while all are at work and nothing \
             else is{episodes}."
        ));
    }
    Scope { assumed: verdict.assumed.clone(), text: texts.join(" "), share, not_tested }
}

/// `arrangement[@seat]` of a grid.
fn place(planned: &PlannedArrangement, grid: usize) -> String {
    let victims: BTreeSet<usize> = planned.grids.iter().map(|g| g.victim).collect();
    match planned.grids.get(grid).and_then(|g| planned.seats.get(g.victim)) {
        Some(seat) if victims.len() > 1 => format!("{}@{}", planned.name, seat.id),
        _ => planned.name.clone(),
    }
}

/// One row per arrangement in which tenants take turns.
fn turns(run: &RecordedRun) -> Vec<TurnsSeen> {
    let row = |(index, planned): (usize, &PlannedArrangement)| {
        // How tenants of a density take turns is in their latencies.
        let in_turns = planned.density.is_none()
            && matches!(planned.sharing, SharingMode::TimeSlicing | SharingMode::MigTimeSlicing);
        let grids = || run.calibrations.range((index, 0)..(index + 1, 0));
        let ((_, grid), calibration) = grids().find(|(_, c)| c.turns.is_some()).or_else(|| grids().next())?;
        let seen = calibration.turns.map(|t| Turns {
            others: t.others,
            count: t.seen,
            quantum: t.quantum,
            gap: t.gap,
            switch: t.switch,
        });
        in_turns.then(|| TurnsSeen { place: place(planned, *grid), seen })
    };
    run.manifest.plan.arrangements.iter().enumerate().filter_map(row).collect()
}

/// One row per grid and probe.
fn calibration(run: &RecordedRun) -> Vec<Calibrated> {
    let plan = &run.manifest.plan;
    let mut out = Vec::new();
    for ((arrangement, grid), calibration) in &run.calibrations {
        // The load of a density is the user's, and stands with its curve.
        let Some(planned) = plan.arrangements.get(*arrangement).filter(|a| a.density.is_none()) else { continue };
        let place = place(planned, *grid);
        for probe in &calibration.probes {
            out.push(Calibrated {
                place: place.clone(),
                probe: plan.panel.get(probe.probe).map_or_else(String::new, |p| p.name.clone()),
                closed_rate: probe.closed_rate.and_then(|r| nine_digits(r.as_f64())),
                rate: probe.rate.as_f64(),
                window: probe.window,
                blocks: plan.design.blocks,
                judged: probe
                    .judged
                    .iter()
                    .map(|(quantile, by)| JudgedQuantile { quantile: *quantile, by: *by })
                    .collect(),
            });
        }
    }
    out
}
