//! The resolved plan for `crosstalk check`: every default visible, who sits where, what will be judged.

use std::collections::BTreeMap;

use crate::channel::Channel;
use crate::experiment::{PlaceLength, calibration};
use crate::plan::{Grid, Plan, PlannedArrangement, PlannedProbe};
use crate::run_dir::JudgedBy;
use crate::scenario::{Arrivals, Design, Expectation, LayoutEntry, Look, Quantile};
use crate::stats::blocks_for_share;
use crate::units::{Nanos, Rate, Share};
use crate::verdict::Warning;

use super::duration;
use super::format::{NONE, count, rate, share, time};
use super::text::{Line, Page, Tint};
use super::{Options, curves_planned, hazards, observed, words};

/// The plan as text, with how long each of its `places` takes, what it would reconfigure, a line each, and what is risky
/// about it.
pub fn plan_text(
    plan: &Plan,
    places: &[PlaceLength],
    reconfigure: &[String],
    notes: &[Warning],
    options: &Options,
) -> String {
    let mut page = Page::new(options.width.max(60), options.style);
    if let Some(banner) = plan.inventory.provenance.banner() {
        page.paragraph(Line::of(Tint::Warn, banner), 0, 2);
    }
    head(&mut page, plan, places);
    // Hazards bring tenants of their own.
    if !plan.panel.is_empty() {
        design(&mut page, plan);
        panel(&mut page, plan);
        neighbours(&mut page, plan);
    }
    arrangements(&mut page, plan);
    curves_planned::planned(&mut page, plan, places);
    accepted(&mut page, plan);
    hazards::foretold(&mut page, plan);
    duration::section(&mut page, plan, places);
    page.heading("Reconfigures");
    if reconfigure.is_empty() {
        page.paragraph(plain("nothing: the machine is used as it is"), 2, 4);
    }
    for line in reconfigure {
        page.paragraph(plain(line), 2, 4);
    }
    if !notes.is_empty() {
        page.heading("Notes");
    }
    for note in notes {
        page.paragraph(Line::of(Tint::Warn, &note.what).with(Tint::Plain, &format!(" → {}", note.advice)), 2, 4);
    }
    page.finish()
}

fn plain(text: &str) -> Line {
    Line::of(Tint::Plain, text)
}

fn head(page: &mut Page, plan: &Plan, places: &[PlaceLength]) {
    let gpu = plan.gpu();
    let unknown = || format!("{NONE} (not known)");
    let mig = match gpu.mig {
        Some(true) => "on".to_owned(),
        Some(false) => "off".to_owned(),
        None => format!("{NONE} (none, or not readable)"),
    };
    let cells: usize = plan.arrangements.iter().map(cell_count).sum();
    let mut parts = Vec::new();
    let arrangements = plan.arrangements.iter().filter(|a| a.density.is_none()).count();
    if !plan.panel.is_empty() && !plan.all_densities() {
        parts.push(format!(
            "{} × {} × {} · {}",
            count(arrangements as u64, "arrangement"),
            count(plan.neighbours.len() as u64, "neighbour"),
            count(plan.panel.len() as u64, "probe"),
            count(cells as u64, "cell"),
        ));
    }
    parts.extend(hazards::how_many(arrangements, plan.hazards.len()));
    if !plan.curves.is_empty() {
        parts.push(count(plan.curves.len() as u64, "curve"));
    }
    let line = Line::of(Tint::Strong, &plan.scenario).with(
        Tint::Plain,
        &format!(" · {} · {} · seed {}", parts.join(" · "), duration::whole(plan, places), plan.seed),
    );
    page.paragraph(line, 0, 2);
    if let Some(description) = &plan.description {
        page.paragraph(Line::of(Tint::Faint, description), 0, 2);
    }
    let line = Line::of(Tint::Strong, &gpu.name).with(
        Tint::Plain,
        &format!(
            " · {} · driver {} · memory {} · SMs {} · MIG {mig}",
            gpu.uuid,
            plan.inventory.driver.clone().unwrap_or_else(unknown),
            gpu.memory.map_or_else(unknown, |m| m.to_string()),
            gpu.sms.map_or_else(unknown, |n| n.to_string()),
        ),
    );
    page.paragraph(line, 0, 2);
    for instance in &gpu.instances {
        page.paragraph(plain(&format!("{} {} · {}", instance.profile, instance.place(), instance.uuid)), 2, 4);
    }
}

/// Cells of an arrangement: a victim's place may have several grids, each with neighbours of its own.
fn cell_count(a: &PlannedArrangement) -> usize {
    let cells: std::collections::BTreeSet<(usize, usize)> =
        a.grids.iter().flat_map(|g| g.neighbours.iter().map(|n| (g.victim, *n))).collect();
    cells.len()
}

fn design(page: &mut Page, plan: &Plan) {
    let d = &plan.design;
    page.heading("Design");
    if plan.all_densities() {
        // Neither looks, controls nor margins are of any density.
        let rows = [
            ("tier", words::tier(d.tier).to_owned()),
            ("blocks", format!("{} per density, tenants restart every {}", d.blocks, d.blocks_per_generation)),
            ("washout", format!("at least {}", natural(d.washout))),
            ("drain", format!("{}: what is open then is censored", natural(d.drain))),
        ];
        let table: Vec<Vec<Line>> = rows.iter().map(|(k, v)| vec![Line::of(Tint::Faint, k), plain(v)]).collect();
        page.table(2, 1, &table);
        return;
    }
    let rows = [
        ("tier", words::tier(d.tier).to_owned()),
        ("blocks", format!("{} per place and panel, tenants restart every {}", d.blocks, d.blocks_per_generation)),
        ("window", format!("{}, lengthened to {} at most for a slow probe", natural(d.window), natural(d.max_window))),
        ("washout", format!("at least {}", natural(d.washout))),
        ("drain", format!("{}: what is open then is censored", natural(d.drain))),
        ("looks", looks(d)),
        ("controls", controls(plan)),
        ("scope", scope(d)),
    ];
    let mut table: Vec<Vec<Line>> = rows.iter().map(|(k, v)| vec![Line::of(Tint::Faint, k), plain(v)]).collect();
    for q in &d.judged {
        let (isolated, violated) = match q.0 {
            ..95_000 => d.margins.p50,
            95_000..99_900 => d.margins.p99,
            _ => d.margins.p999,
        };
        let (by_blocks, pooled) = (calibration::needed_by_blocks(*q), calibration::needed_pooled(*q, d.blocks));
        let mut text = format!(
            "isolated within {}, violated above {}; judged by blocks from {by_blocks} requests a window",
            share(isolated),
            share(violated),
        );
        if pooled < by_blocks {
            text.push_str(&format!(", pooled from {pooled}"));
        }
        table.push(vec![Line::of(Tint::Faint, &q.to_string()), plain(&text)]);
    }
    page.table(2, 1, &table);
}

/// "after 12 and 24 blocks, which spend 10 % and 20 % of every error rate, and at the end".
fn looks(d: &Design) -> String {
    let [early @ .., last] = d.looks.as_slice() else { return "one, at the end".to_owned() };
    if early.is_empty() {
        return "one, at the end".to_owned();
    }
    let each: Vec<String> =
        early.iter().map(|look| format!("after {} blocks ({})", look.blocks, share(look.spends))).collect();
    format!(
        "{} and at the end ({}), in brackets what each may spend of every error rate; a neighbour of which everything is \
         decided stops there",
        each.join(", "),
        share(last.spends)
    )
}

/// What is run beside the cells.
fn controls(plan: &Plan) -> String {
    let c = plan.design.controls;
    let each = || plan.arrangements.iter().enumerate().flat_map(|(a, p)| (0..p.grids.len()).map(move |grid| (a, grid)));
    let (alone, pairs) =
        (each().any(|(a, g)| plan.presence(a, g) > 0), each().any(|(a, g)| plan.sensitivity(a, g) > 0));
    let mut parts = vec![if c.again { "a second quiet arm in every block (A/A)" } else { "no A/A" }.to_owned()];
    parts.push(match (alone, c.presence) {
        (_, 0) => "no presence".to_owned(),
        (false, _) => "presence does not apply".to_owned(),
        (true, _) => {
            let generations = c.presence.min(plan.design.generations());
            format!("the victim alone after {} (presence)", count(generations.into(), "generation"))
        }
    });
    parts.push(match (pairs, c.sensitivity) {
        (_, 0) => "no sensitivity".to_owned(),
        (false, _) => "sensitivity does not apply".to_owned(),
        (true, n) => {
            let pairs = n.min(plan.design.blocks);
            format!("{} with the noise within the victim's own place (sensitivity)", count(pairs.into(), "pair"))
        }
    });
    parts.push(match (each().map(|(a, g)| plan.delays(a, g)).max().unwrap_or(0), c.delay) {
        (_, 0) => "no injected delay".to_owned(),
        (0, _) => "an injected delay does not apply".to_owned(),
        (arms, _) => format!("{} in which requests are held back (delay)", count(arms.into(), "quiet arm")),
    });
    parts.push(match (each().map(|(a, g)| plan.unsampled(a, g)).max().unwrap_or(0), c.sampler) {
        (_, 0) => "no sampler control".to_owned(),
        (0, _) => "the sampler control does not apply".to_owned(),
        (arms, _) => format!("{} without clocks and power being read (sampler)", count(arms.into(), "quiet arm")),
    });
    parts.join("; ")
}

/// What an Isolated of this tier needs: π*, and how many blocks that takes at each look that may call anything so.
fn scope(d: &Design) -> String {
    let least = |(look, level): (&Look, &f64)| {
        let least = blocks_for_share(d.tier.scope(), *level);
        let more = if look.blocks < least { " (there are fewer)" } else { "" };
        format!("{least} blocks at the look after {}{more}", look.blocks)
    };
    let passes = d.passes();
    let whole = [Look { blocks: d.blocks, spends: Share::percent(100) }];
    let looks = if d.looks.is_empty() { &whole[..] } else { &d.looks };
    format!(
        "an Isolated of {} is for episodes in {:.0} % of the arms or more, which takes {}",
        words::tier(d.tier),
        d.tier.scope() * 100.0,
        looks.iter().zip(&passes).filter(|(_, level)| **level > 0.0).map(least).collect::<Vec<_>>().join(", ")
    )
}

fn natural(n: Nanos) -> String {
    time(n.0 as f64)
}

fn panel(page: &mut Page, plan: &Plan) {
    page.heading(if plan.all_densities() { "Probes" } else { "Victim's panel" });
    for probe in &plan.panel {
        let mut line = Line::of(Tint::Strong, &probe.name);
        line.push(Tint::Plain, &workload(&probe.name, &probe.workload, &probe.params));
        line.push(Tint::Plain, &format!(" · feels {}", channels(&probe.channels)));
        line.push(Tint::Plain, &format!(" · {}, {} in flight at most", arrivals(probe), probe.outstanding));
        for slo in &probe.slos {
            line.push(Tint::Plain, &format!(" · SLO {} ≤ {}", slo.quantile, natural(slo.bound)));
        }
        if probe.series.len() > 1 {
            line.push(Tint::Plain, &format!(" · series {}", probe.series.join(", ")));
        }
        page.paragraph(line, 2, 4);
        if !plan.all_densities() {
            page.paragraph(Line::of(Tint::Faint, &judged(plan, probe)), 4, 6);
        }
    }
}

/// How each quantile of a probe will be judged, as calibration decides it: said where the rate is the user's, a condition
/// where it is calibrated.
fn judged(plan: &Plan, probe: &PlannedProbe) -> String {
    let d = &plan.design;
    let user = match probe.arrivals {
        Arrivals::Poisson(r) | Arrivals::Fixed(r) => r,
        Arrivals::Auto => {
            let of = |q: &Quantile| {
                let by_blocks = calibration::lowest_rate(d, *q, false);
                let pooled = calibration::lowest_rate(d, *q, true);
                let mut text = format!("{q} by blocks from {}", rate(by_blocks.as_f64()));
                if pooled < by_blocks {
                    text.push_str(&format!(", pooled from {}", rate(pooled.as_f64())));
                }
                text
            };
            return format!("judged: {}", d.judged.iter().map(of).collect::<Vec<_>>().join("; "));
        }
    };
    let (window, how) = calibration::judged(d, user);
    let of = |(q, by): &(Quantile, JudgedBy)| match by {
        JudgedBy::Blocks => format!("{q} by blocks"),
        JudgedBy::Pooled => format!("{q} pooled"),
        JudgedBy::TooFew => {
            let requests = count(expected(user, window), "request");
            format!("{q} NOT: {} give {requests} a window", rate(user.as_f64()))
        }
    };
    let longer = if window > d.window { format!("; in windows of {}", natural(window)) } else { String::new() };
    format!("judged: {}{longer}", how.iter().map(of).collect::<Vec<_>>().join("; "))
}

/// Requests expected in a window, rounded down.
fn expected(r: Rate, window: Nanos) -> u64 {
    // Thousandths per second × nanoseconds.
    (u128::from(r.0) * u128::from(window.0) / 1_000_000_000_000) as u64
}

fn arrivals(probe: &PlannedProbe) -> String {
    match probe.arrivals {
        Arrivals::Auto => "Poisson at 10 % of its closed-loop rate".to_owned(),
        Arrivals::Poisson(r) => format!("Poisson at {}", rate(r.as_f64())),
        Arrivals::Fixed(r) => format!("evenly spaced at {} (can phase-lock with time slices)", rate(r.as_f64())),
    }
}

/// The workload behind a name and its parameters.
fn workload(name: &str, workload: &str, params: &BTreeMap<String, String>) -> String {
    let mut text = if name == workload { String::new() } else { format!(" = {workload}") };
    for (key, value) in params {
        text.push_str(&format!(" {key}={value}"));
    }
    text
}

fn channels(channels: &[Channel]) -> String {
    if channels.is_empty() {
        return "no channel".to_owned();
    }
    channels.iter().map(|c| c.id()).collect::<Vec<_>>().join(", ")
}

fn neighbours(page: &mut Page, plan: &Plan) {
    if plan.neighbours.is_empty() {
        return;
    }
    page.heading("Neighbours");
    for n in &plan.neighbours {
        let mut line = Line::of(Tint::Strong, &n.name);
        line.push(Tint::Plain, &workload(&n.name, &n.workload, &n.params));
        line.push(Tint::Plain, &format!(" · loads {} · {} queued", channels(&n.channels), n.queued));
        if n.duty == Share::percent(100) {
            line.push(Tint::Plain, " · all the time");
        } else {
            line.push(Tint::Plain, &format!(" · {} of every {}", share(n.duty), natural(n.burst)));
        }
        page.paragraph(line, 2, 4);
    }
}

fn arrangements(page: &mut Page, plan: &Plan) {
    for (index, a) in plan.arrangements.iter().enumerate().filter(|(_, a)| a.density.is_none()) {
        page.heading(&format!("Arrangement {}: {}", a.name, a.sharing));
        if let Some(reason) = &a.skipped {
            page.paragraph(Line::of(Tint::Warn, "SKIPPED").with(Tint::Plain, &format!(": {reason}")), 2, 4);
        }
        for seat in &a.seats {
            let entry = a.layout.get(seat.entry).map_or_else(String::new, settings);
            page.paragraph(plain(&format!("seat {}: {}{entry}", seat.id, seat.share)), 2, 4);
        }
        for grid in a.grids.iter().filter(|grid| !grid.neighbours.is_empty()) {
            page.paragraph(plain(&grid_words(plan, a, grid)), 2, 4);
        }
        let empty = "any: it decides no exit code";
        page.paragraph(plain(&format!("require {}", rules(&a.require, empty))), 2, 4);
        page.paragraph(plain(&format!("expect {}", rules(&a.expect, "nothing"))), 2, 4);
        hazards::planned(page, plan, a);
        observed::planned(page, plan, index, a);
    }
}

/// Settings of a share, beside its words.
fn settings(entry: &LayoutEntry) -> String {
    let mut text = String::new();
    if let Some(sms) = entry.sms {
        text.push_str(&format!(
            " · {} of the SMs{}",
            share(sms),
            if entry.reserved { ", reserved" } else { " at most" }
        ));
    }
    if let Some(memory) = entry.memory {
        text.push_str(&format!(" · {memory} of memory at most"));
    }
    text
}

/// "victim at 0, neighbours at 1: hbm-chase | launch beside d2h, hbm-hog; blocks 0 to 23, 4 arms each".
fn grid_words(plan: &Plan, a: &PlannedArrangement, grid: &Grid) -> String {
    let seat = |i: &usize| a.seats.get(*i).map_or_else(|| NONE.to_owned(), |s| s.id.clone());
    let names = |all: Vec<&str>| all.join(", ");
    let probes = names(grid.probes.iter().filter_map(|i| plan.panel.get(*i)).map(|p| p.name.as_str()).collect());
    let beside =
        names(grid.neighbours.iter().filter_map(|i| plan.neighbours.get(*i)).map(|n| n.name.as_str()).collect());
    let seats: Vec<String> = grid.neighbour_seats.iter().map(seat).collect();
    format!(
        "victim at {}, neighbours at {}: {probes} beside {beside}; blocks {} to {}, {} each",
        seat(&grid.victim),
        if seats.is_empty() { NONE.to_owned() + " (no seat)" } else { seats.join(", ") },
        grid.first_block,
        (u64::from(grid.first_block) + u64::from(plan.design.blocks)).saturating_sub(1),
        count(1 + u64::from(plan.design.controls.again) + grid.neighbours.len() as u64, "arm"),
    )
}

fn rules(expectation: &Expectation, empty: &str) -> String {
    if expectation.0.is_empty() {
        return empty.to_owned();
    }
    expectation.0.iter().map(|r| format!("{} = {}", r.key, r.word.id())).collect::<Vec<_>>().join(", ")
}

fn accepted(page: &mut Page, plan: &Plan) {
    if plan.accepted.is_empty() {
        return;
    }
    page.heading("Accepted risks");
    for a in &plan.accepted {
        let channel = a.channel.as_ref().map_or_else(String::new, |c| format!(", {c} only"));
        let text = format!("{channel}: {} (by {}, until {})", a.reason, a.by, a.until);
        page.paragraph(Line::of(Tint::Strong, &a.cell).with(Tint::Plain, &text), 2, 4);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Style, fixture};
    use super::*;
    use crate::experiment::Length;

    fn check(width: usize) -> String {
        let mut plan = fixture::plan();
        plan.arrangements[1].skipped = Some("MIG mode: the GPU has MIG on".to_owned());
        let length = |tenants, windows| Length {
            tenants: Nanos::secs(tenants),
            calibration: Nanos::secs(20),
            between: Nanos::secs(240),
            windows: Nanos::secs(windows),
            controls: Nanos::secs(70),
            hazards: Nanos::ZERO,
            early: Nanos::ZERO,
            stretch: Nanos::secs(90),
        };
        let places = [
            PlaceLength { arrangement: 0, victim: 0, length: length(40, 240) },
            PlaceLength { arrangement: 0, victim: 1, length: length(50, 240) },
        ];
        let lines = ["creates 2 × 3g.40gb on GPU 0; put back at the end".to_owned()];
        plan_text(&plan, &places, &lines, &[], &Options { width, style: Style::Plain })
    }

    #[test]
    fn every_default_is_visible() {
        insta::assert_snapshot!(check(110));
    }

    #[test]
    fn it_fits_narrow_terminals() {
        for width in [60, 80, 200] {
            for line in check(width).lines() {
                assert!(Line::of(Tint::Plain, line).width() <= width, "{line:?} is wider than {width}");
            }
        }
    }

    #[test]
    fn a_plan_that_changes_nothing_says_so() {
        let text = plan_text(&fixture::plan(), &[], &[], &[], &Options::default());
        assert!(text.contains("nothing: the machine is used as it is"));
    }

    #[test]
    fn a_rate_of_the_users_own_decides_what_is_judged_before_the_run() {
        let mut plan = fixture::plan();
        let mut at = |rate| {
            plan.panel[1].arrivals = Arrivals::Poisson(Rate::per_second(rate));
            judged(&plan, &plan.panel[1])
        };
        // 2500/s × 0.4 s = 1000 requests a window: p99 just by blocks. With fewer it is pooled, not given more time.
        assert_eq!(at(2_500), "judged: p50 by blocks; p99 by blocks");
        assert_eq!(at(600), "judged: p50 by blocks; p99 pooled");
        assert_eq!(at(100), "judged: p50 by blocks; p99 pooled; in windows of 462 ms");
        assert_eq!(at(20), "judged: p50 by blocks; p99 NOT: 20/s give 40 requests a window; in windows of 2 s");
    }

    #[test]
    fn what_is_said_of_a_calibrated_rate_holds_at_that_rate() {
        let mut plan = fixture::plan();
        plan.panel[1].arrivals = Arrivals::Auto;
        let text = "judged: p50 by blocks from 10/s; p99 by blocks from 2500/s, pooled from 21/s";
        assert_eq!(judged(&plan, &plan.panel[1]), text);
    }
}
