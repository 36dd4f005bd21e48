//! What a plan asks and cannot be told, and what it leaves out that an answer rests on: known before anything is measured.

use super::requirements;
use super::types::Warning;
use crate::experiment::{calibration, untold};
use crate::plan::{Plan, PlannedArrangement, delayed_channels};
use crate::provenance::Provenance;
use crate::run_dir::JudgedBy;
use crate::scenario::{Arrivals, SharingMode, Word};
use crate::sharing;

/// One warning each, in a fixed order.
pub(super) fn of(plan: &Plan) -> Vec<Warning> {
    let mut warnings = controls_off(plan);
    warnings.extend(clamped(plan));
    warnings.extend(skipped(plan));
    warnings.extend(too_few_requests(plan));
    warnings.extend(observations(plan));
    warnings
}

fn warning(what: String, advice: impl Into<String>) -> Warning {
    Warning { what, advice: advice.into() }
}

/// Whether a proof that there is no slowdown is required of an arrangement that will run.
fn asks_proof(arrangement: &PlannedArrangement) -> bool {
    let proof = |word: Word| matches!(word, Word::Isolated | Word::Degraded);
    let has_cells = arrangement.grids.iter().any(|grid| !grid.probes.is_empty() && !grid.neighbours.is_empty());
    arrangement.skipped.is_none() && has_cells && arrangement.require.0.iter().any(|rule| proof(rule.word))
}

/// Controls that the design leaves out, where isolation is required.
fn controls_off(plan: &Plan) -> Vec<Warning> {
    let design = &plan.design.controls;
    let asked: Vec<&PlannedArrangement> = plan.arrangements.iter().filter(|a| asks_proof(a)).collect();
    let mut warnings = Vec::new();
    if !asked.is_empty() && !design.again {
        warnings.push(warning(
            "the A/A control is off: nothing shows that quiet would be told from quiet, and no requirement of isolated or \
             degraded is met without it"
                .to_owned(),
            "set `again = true` in `[design] controls`, or leave it to the tier",
        ));
    }
    let shared = |a: &&&PlannedArrangement| a.sharing != SharingMode::Exclusive;
    let off = [
        ("presence", design.presence == 0, sharing::has_presence as fn(SharingMode) -> bool),
        ("sensitivity", design.sensitivity == 0, sharing::has_sensitivity),
        ("delay", design.delay == 0 && has_delays(plan), sharing::has_sensitivity),
        ("sampler", design.sampler == 0 && plan.inventory.provenance != Provenance::Simulated, |_| true),
    ];
    for (control, is_off, applies) in off {
        let without: Vec<&str> =
            asked.iter().filter(shared).filter(|a| is_off && applies(a.sharing)).map(|a| a.name.as_str()).collect();
        if !without.is_empty() {
            warnings.push(warning(
                format!("the {control} control is off: isolated of {} rests on one proof less", without.join(", ")),
                format!("set `{control}` in `[design] controls`, or leave it to the tier"),
            ));
        }
    }
    warnings
}

/// Whether any probe of the plan has an injected delay instead of noise inside the victim's own place.
fn has_delays(plan: &Plan) -> bool {
    let channels = |probe| plan.neighbours.iter().flat_map(|n| delayed_channels(probe, n)).next();
    plan.panel.iter().any(|probe| channels(probe).is_some())
}

/// Controls of which more were asked for than there is room for.
fn clamped(plan: &Plan) -> Vec<Warning> {
    let each = || plan.arrangements.iter().enumerate().flat_map(|(a, p)| (0..p.grids.len()).map(move |grid| (a, grid)));
    let design = &plan.design;
    let mut warnings = Vec::new();
    if plan.panel.is_empty() {
        return warnings;
    }
    // What a tier asks for where there is room is no slip of anybody's.
    let of_tier = design.tier.defaults().controls;
    let fit = each().map(|(a, g)| plan.presence(a, g)).max().unwrap_or(0);
    if fit > 0 && design.controls.presence > fit && design.controls.presence != of_tier.presence {
        warnings.push(warning(
            format!(
                "{} presence arms asked for, {fit} fit: {} blocks with a restart every {} are {fit} generations, and each \
                 ends with one",
                design.controls.presence, design.blocks, design.blocks_per_generation,
            ),
            "take more blocks, or fewer of them between restarts (`blocks_per_generation`)",
        ));
    }
    let fit = each().map(|(a, g)| plan.sensitivity(a, g)).max().unwrap_or(0);
    if fit > 0 && design.controls.sensitivity > fit && design.controls.sensitivity != of_tier.sensitivity {
        warnings.push(warning(
            format!(
                "{} pairs of the sensitivity control asked for, {fit} fit: there is one a block at most",
                design.controls.sensitivity
            ),
            "take more blocks, or ask for fewer pairs",
        ));
    }
    let further = [
        ("delay", design.controls.delay, of_tier.delay, each().map(|(a, g)| plan.delays(a, g)).max()),
        ("sampler", design.controls.sampler, of_tier.sampler, each().map(|(a, g)| plan.unsampled(a, g)).max()),
    ];
    for (control, asked, of_tier, fit) in further {
        let fit = fit.unwrap_or(0);
        if fit > 0 && asked > fit && asked != of_tier {
            warnings.push(warning(
                format!(
                    "{asked} arms of the {control} control asked for, {fit} fit: they are over before the first look"
                ),
                "take more blocks, or ask for fewer arms",
            ));
        }
    }
    warnings
}

/// Arrangements that cannot run here, of which something is required: exit 4 is certain.
fn skipped(plan: &Plan) -> Vec<Warning> {
    let asks = |a: &&PlannedArrangement| {
        let verdict = a.require.0.iter().any(|rule| rule.word != Word::Any);
        a.skipped.is_some() && (verdict || a.observe.iter().any(|asked| asked.required.is_some()))
    };
    let told = |a: &PlannedArrangement| {
        warning(
            format!("{} cannot run here, so what is required of it will not be decided (exit code 4)", a.name),
            "run it where its layout can be had, or require nothing of it here",
        )
    };
    plan.arrangements.iter().filter(asks).map(told).collect()
}

/// Quantiles that the user's own load gives too few requests for, where they are required.
fn too_few_requests(plan: &Plan) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (index, probe) in plan.panel.iter().enumerate().filter(|_| requirements::requires(plan)) {
        let used = plan.arrangements.iter().filter(|a| asks_proof(a)).flat_map(|a| &a.grids);
        let (Arrivals::Poisson(rate) | Arrivals::Fixed(rate), true) =
            (probe.arrivals, used.into_iter().any(|grid| grid.probes.contains(&index)))
        else {
            continue;
        };
        let (_, judged) = calibration::judged(&plan.design, rate);
        let few: Vec<String> =
            judged.iter().filter(|(_, by)| *by == JudgedBy::TooFew).map(|(q, _)| q.to_string()).collect();
        if !few.is_empty() {
            warnings.push(warning(
                format!(
                    "{} has too few requests for {}: its cells will not be called isolated",
                    probe.name,
                    few.join(", ")
                ),
                "raise its rate, lengthen `max_window`, take more blocks, or judge fewer quantiles",
            ));
        }
    }
    warnings
}

/// Observations that must come out in one way and cannot be told here: exit 4 is certain.
fn observations(plan: &Plan) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (index, arrangement) in plan.arrangements.iter().enumerate().filter(|(_, a)| a.skipped.is_none()) {
        for asked in arrangement.observe.iter().filter(|asked| asked.required.is_some()) {
            if let Some(why) = untold(plan, index, &asked.id) {
                warnings.push(warning(
                    format!(
                        "{} of {} is required and cannot be told here (exit code 4): {why}",
                        asked.id, arrangement.name
                    ),
                    format!("write `{} = \"any\"`, or run it where it can be told", asked.id),
                ));
            }
        }
    }
    warnings
}
