//! The sentences of a report: reasons, what moved, what was required.

use crate::provenance::Provenance;
use crate::run_dir::JudgedBy;
use crate::scenario::{Tier, Word};
use crate::verdict::{Control, ControlOutcome, Reason, RequirementState};

use super::format::{NONE, count, percent, ratio_interval, time};
use super::model::{Cell, Progress, RunReport, Series, Turns, VerdictWord, Why};

/// The name of a tier.
pub(super) const fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Smoke => "smoke",
        Tier::Acceptance => "acceptance",
        Tier::Certify => "certify",
    }
}

/// "3 arrangements × 7 neighbours × 4 probes", "2 curves of 1 to 8 equal tenants": those that there are.
pub(super) fn size(run: &RunReport) -> Vec<String> {
    let h = &run.header;
    let curves = super::density::how_many(run);
    let mut parts = Vec::new();
    // Densities alone have no arrangements beside them.
    if h.arrangements > 0 || curves.is_none() {
        let size = [(h.arrangements, "arrangement"), (h.neighbours, "neighbour"), (h.probes, "probe")];
        parts.push(size.map(|(n, one)| count(n, one)).join(" × "));
    }
    parts.extend(curves);
    parts
}

/// "7 of 192 planned arms", "12 arms of densities (96 at most)": how far an interrupted run came.
pub(super) fn recorded(p: &Progress) -> String {
    let mut parts = Vec::new();
    if p.planned > 0 || p.density_most == 0 {
        parts.push(format!("{} of {}", p.arms, count(p.planned, "planned arm")));
    }
    if p.density_most > 0 {
        parts.push(format!("{} of densities ({} at most)", count(p.density_arms, "arm"), p.density_most));
    }
    parts.join(" and ")
}

/// A state of requirements as in the JSON report.
pub(super) const fn requirement_id(state: RequirementState) -> &'static str {
    match state {
        RequirementState::NotRequired => "not-required",
        RequirementState::Met => "met",
        RequirementState::Accepted => "accepted",
        RequirementState::Undecided => "undecided",
        RequirementState::NotMet => "not-met",
    }
}

/// How a quantile was judged, as in the JSON report.
pub(super) const fn judged_id(by: JudgedBy) -> &'static str {
    match by {
        JudgedBy::Blocks => "blocks",
        JudgedBy::Pooled => "pooled",
        JudgedBy::TooFew => "too-few",
    }
}

/// What came of a control, as in the JSON report.
pub(super) const fn outcome_id(outcome: ControlOutcome) -> &'static str {
    match outcome {
        ControlOutcome::Passed => "passed",
        ControlOutcome::Undecided => "undecided",
        ControlOutcome::Impossible => "impossible",
        ControlOutcome::NotMeasured => "not-measured",
        ControlOutcome::Failed => "failed",
    }
}

/// Where numbers come from, as in the JSON report.
pub(super) const fn provenance_id(provenance: Provenance) -> &'static str {
    match provenance {
        Provenance::Measured => "measured",
        Provenance::StandIn => "stand-in",
        Provenance::Simulated => "simulated",
    }
}

/// A reason with its numbers, and what would decide.
pub(super) fn reason(reason: &Reason) -> Why {
    let (id, text, advice) = match reason {
        Reason::ControlFailed { control } => (
            "control-failed",
            format!("the {} control failed", control.words()),
            "find what differs between its arms; until it passes, nothing of this arrangement counts".to_owned(),
        ),
        Reason::ControlNotMeasured { control } => (
            "control-not-measured",
            format!("the {} control was planned, and arms of it are missing", control.words()),
            "go on with `crosstalk run --resume`, or plan without it".to_owned(),
        ),
        Reason::ControlOff { control } => (
            "control-off",
            format!(
                "the {} control is off, so nothing shows that quiet would be told from quiet here",
                control.words()
            ),
            "leave `controls` in `[design]` as the tier has them".to_owned(),
        ),
        Reason::ControlUndecided { control: Control::Delay, blocks_needed, .. } => (
            "control-undecided",
            "the quiet arms scatter too much for the injected delay to be told".to_owned(),
            blocks_needed.map_or_else(
                || "less noise in the quiet arms; how many arms with it would tell, the data cannot say".to_owned(),
                |arms| format!("about {arms} arms with it would tell: `delay` in `controls` of `[design]`"),
            ),
        ),
        Reason::ControlUndecided { control, detectable, blocks_needed } => (
            "control-undecided",
            format!(
                "the {} control is too wide to decide; the smallest effect that it would have found is {}",
                control.words(),
                detectable.map_or_else(|| format!("{NONE} (not known)"), percent)
            ),
            more_blocks(*blocks_needed),
        ),
        Reason::ChannelNotExercised { channel } => (
            "channel-not-exercised",
            format!("the same noise inside the victim's own place does not move it, so nothing is known of {channel}"),
            "take a stronger noise, or a probe that feels this channel".to_owned(),
        ),
        Reason::DelayNotSeen { injected_ns, seen_ns } => (
            "delay-not-seen",
            format!(
                "requests that were held back by {} took {} {}, so a change that an isolated excludes goes unseen here",
                time(*injected_ns as f64),
                time(seen_ns.abs()),
                if *seen_ns < 0.0 { "less" } else { "more" },
            ),
            "see what hides it in the probe's samples, or widen the margin of p50".to_owned(),
        ),
        Reason::HostMediated { change_ns, tolerated_ns } => (
            "host-mediated",
            format!(
                "the host's own pauses were {} longer in the {}, where a quarter of the margin is {}",
                time(change_ns.abs()),
                if *change_ns > 0.0 { "noisy arms" } else { "quiet arms, which hides interference" },
                time(*tolerated_ns)
            ),
            "give the tenants cores that share neither a cache nor a sibling with the victim's".to_owned(),
        ),
        Reason::DriverTrouble { what } => (
            "driver-trouble",
            format!("the GPU's health became worse between the arms: {what}"),
            "see `crosstalk doctor`, and measure again on a healthy GPU".to_owned(),
        ),
        Reason::ForeignWork { what } => (
            "foreign-work",
            format!("somebody else was on the GPU: {what}"),
            "end that work and measure again: what is in both arms hides what is in one".to_owned(),
        ),
        Reason::CarryOver { ratio } => (
            "carry-over",
            format!("quiet arms after a noisy one are {}× those after a quiet one", super::format::ratio(*ratio)),
            "lengthen the washout: what a noisy arm leaves behind hides interference".to_owned(),
        ),
        Reason::Drift { per_block } => (
            "drift",
            format!(
                "the quiet arms {} by {} from block to block",
                if *per_block > 0.0 { "rise" } else { "fall" },
                percent(per_block.abs())
            ),
            "let the machine come to rest before the run, or make its blocks shorter".to_owned(),
        ),
        Reason::ArmsLost { arms, what } => (
            "arms-lost",
            match arms {
                0 => format!("the arrangement was given up: {what}"),
                1 => format!("an arm was lost: {what}"),
                n => format!("{n} arms were lost, the first one so: {what}"),
            },
            "find out why, and measure again".to_owned(),
        ),
        Reason::LateRequests { share } => (
            "late-requests",
            format!("{} of the requests were sent late by a sender that was free", percent(*share)),
            "give the victim's sender a core of its own".to_owned(),
        ),
        Reason::NeighbourBelowIntensity { achieved } => (
            "neighbour-below-intensity",
            format!("the neighbour reached {} of the intensity required", percent(*achieved)),
            "see what held the neighbour back, or let it queue more".to_owned(),
        ),
        Reason::NeighbourNotOverlapping { gap_ns } => (
            "neighbour-not-overlapping",
            format!("the neighbour made no progress for {}", time(*gap_ns as f64)),
            "see what held the neighbour back".to_owned(),
        ),
        Reason::Timeouts { share } => (
            "timeouts",
            format!("{} of the requests were open at the deadline", percent(*share)),
            "lower the probe's rate or lengthen the drain".to_owned(),
        ),
        Reason::Failures { share } => (
            "failures",
            format!("{} of the requests failed", percent(*share)),
            "read their outcomes in the run directory".to_owned(),
        ),
        Reason::Backlog => (
            "backlog",
            "the backlog grew through the arms".to_owned(),
            "lower the probe's rate: beside this neighbour the seat cannot serve it".to_owned(),
        ),
        Reason::Throttled { share } => (
            "throttled",
            format!("the power cap held the clock down for {} of the time", percent(*share)),
            "lock the clock below the cap, or cool the GPU".to_owned(),
        ),
        Reason::QuietArmNotAwake => (
            "quiet-arm-not-awake",
            "the quiet arms were slower than the noisy ones".to_owned(),
            "keep the GPU awake in quiet arms: see the clocks and the washout".to_owned(),
        ),
        Reason::TooFewCores => (
            "too-few-cores",
            "the victim had fewer than two cores of its own, so its latencies hold the host's wake-ups".to_owned(),
            "give crosstalk two cores for the victim and one for each neighbour, or fewer tenants".to_owned(),
        ),
        Reason::TooFewRequests => (
            "too-few-requests",
            "too few requests for this quantile".to_owned(),
            "lengthen the window, raise the rate, or take a tier with more blocks".to_owned(),
        ),
        Reason::Underpowered { detectable, blocks_needed } => (
            "underpowered",
            format!(
                "the interval is too wide to decide; the smallest effect that this run would have found is {}",
                detectable.map_or_else(|| format!("{NONE} (not known)"), percent)
            ),
            more_blocks(*blocks_needed),
        ),
        Reason::Incomplete => (
            "incomplete",
            "arms are missing: the run was interrupted".to_owned(),
            "go on with `crosstalk run --resume`".to_owned(),
        ),
        Reason::TooFewTrials { trials, needed } => (
            "too-few-trials",
            format!("{trials} trials without an effect, where {needed} are needed"),
            "ask for more of them".to_owned(),
        ),
        Reason::Unproven { what } => {
            ("unproven", what.clone(), "see what was tried in events.jsonl, and try it again".to_owned())
        }
    };
    Why { reason: id.to_owned(), text, of: Vec::new(), advice: Some(advice) }
}

/// What is known of the turns that tenants take.
pub(super) fn turns(seen: Option<&Turns>) -> String {
    let Some(t) = seen else {
        return "not measured; it takes a probe of short kernels (compute), a noise of long ones (compute-burst), and \
                tenants that always have work queued"
            .to_owned();
    };
    let switch = t.switch.map_or_else(
        || "the others' turns are shorter, so that the cost of a switch is not known".to_owned(),
        |switch| format!("a switch costs {}", time(switch.0 as f64)),
    );
    format!(
        "a tenant runs {}, then waits {} for {}; {switch} (means of the middle half of {} turns)",
        time(t.quantum.0 as f64),
        time(t.gap.0 as f64),
        count(t.others.into(), "other"),
        t.count
    )
}

/// What would decide.
fn more_blocks(needed: Option<u32>) -> String {
    needed.map_or_else(
        || "more blocks, or less noise in the quiet arms; how many, the data cannot say".to_owned(),
        |b| format!("about {b} blocks would decide"),
    )
}

/// Of two reasons of one kind, the one with the worse number.
pub(super) fn worse<'a>(a: &'a Reason, b: &'a Reason) -> &'a Reason {
    let badness = |r: &Reason| match r {
        Reason::LateRequests { share }
        | Reason::Timeouts { share }
        | Reason::Failures { share }
        | Reason::Throttled { share } => *share,
        Reason::NeighbourBelowIntensity { achieved } => -achieved,
        Reason::NeighbourNotOverlapping { gap_ns } => *gap_ns as f64,
        Reason::HostMediated { change_ns, tolerated_ns } => change_ns.abs() / tolerated_ns.max(1.0),
        Reason::CarryOver { ratio } => libm::fabs(libm::log(*ratio)),
        Reason::Drift { per_block } => libm::fabs(*per_block),
        // What cannot be said beats what can: the greater number would otherwise promise too much.
        Reason::Underpowered { blocks_needed, .. } | Reason::ControlUndecided { blocks_needed, .. } => {
            blocks_needed.map_or(f64::INFINITY, f64::from)
        }
        _ => 0.0,
    };
    if badness(b) > badness(a) { b } else { a }
}

/// "h2d p99 1.72× [1.66 1.79], 38 µs → 65 µs"; a quantile that is judged over all blocks together is marked.
pub(super) fn movement(s: &Series) -> String {
    // Its latency would measure the arm's length: the cause tells what is known.
    if s.saturated.is_some() && s.ratio.is_none() {
        return format!("{} saturated", s.name());
    }
    let ratio = s.ratio.as_ref().map_or_else(|| format!("{NONE} (no ratio)"), ratio_interval);
    let pooled = if s.judged == JudgedBy::Pooled { " (pooled)" } else { "" };
    let quiet = quantile_ns(s.quiet_ns, s.quiet_requests);
    let noisy = quantile_ns(s.noisy_ns, s.noisy_requests);
    format!("{}{pooled} {ratio}, {quiet} → {noisy}", s.name())
}

/// A quantile in natural units, or why there is none.
fn quantile_ns(ns: Option<f64>, requests: u64) -> String {
    match (ns, requests) {
        (Some(ns), _) => time(ns),
        (None, 0) => format!("{NONE} (no requests)"),
        (None, _) => "at or above the deadline".to_owned(),
    }
}

/// The line of a cell that is not isolated: the worst in full, the others that moved, what did not, what is open.
pub(super) fn moved(cell: &Cell) -> String {
    let mut parts = Vec::new();
    let worst = worst_moved(cell);
    if let Some(worst) = worst {
        let mut text = movement(worst);
        if let Some(cause) = &worst.cause {
            text.push_str(&format!(", {}", cause.text));
        }
        parts.push(text);
    }
    let others: Vec<String> = cell
        .series
        .iter()
        .filter(|s| s.verdict.moved() && !worst.is_some_and(|w| std::ptr::eq(w, *s)))
        .map(|s| match s.ratio.and_then(|r| r.estimate) {
            Some(estimate) => format!("{} {}×", s.name(), super::format::ratio(estimate)),
            None => s.name(),
        })
        .collect();
    if !others.is_empty() {
        parts.push(format!("also {}", others.join(", ")));
    }
    let unmoved = unmoved(cell);
    if !unmoved.is_empty() {
        parts.push(format!("{} unmoved", unmoved.join(", ")));
    }
    let open: Vec<String> = cell
        .why
        .iter()
        .filter(|w| !w.of.is_empty())
        .map(|w| format!("{} ({}{})", w.of.join(", "), w.reason, more(w)))
        .collect();
    if !open.is_empty() {
        parts.push(format!("undecided: {}", open.join(", ")));
    }
    parts.join("; ")
}

/// What would have been found, and what would decide, where power is all that lacks.
fn more(why: &Why) -> String {
    let advice = why.advice.as_ref().map_or_else(String::new, |advice| format!("; {advice}"));
    if matches!(why.reason.as_str(), "underpowered" | "control-undecided") {
        format!(": {}{advice}", why.text)
    } else {
        String::new()
    }
}

/// Of the series × quantiles that moved, the one that the matrix shows, else the first.
fn worst_moved(cell: &Cell) -> Option<&Series> {
    cell.worst
        .and_then(|i| cell.series.get(i))
        .filter(|s| s.verdict.moved())
        .or_else(|| cell.series.iter().find(|s| s.verdict.moved()))
}

/// Series that are Isolated at every quantile.
fn unmoved(cell: &Cell) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for s in &cell.series {
        if !names.contains(&s.series.as_str()) {
            names.push(&s.series);
        }
    }
    names.retain(|name| cell.series.iter().filter(|s| s.series == *name).all(|s| s.verdict == VerdictWord::Isolated));
    names
}

/// The line of a cell that is not decided: every reason, of what, and what would decide.
pub(super) fn open(cell: &Cell) -> String {
    let parts: Vec<String> = cell
        .why
        .iter()
        .map(|why| {
            let of = if why.of.is_empty() { String::new() } else { format!("{}: ", why.of.join(", ")) };
            let advice = why.advice.as_ref().map_or_else(String::new, |a| format!(" ({a})"));
            format!("{of}{}{advice}", why.text)
        })
        .collect();
    parts.join("; ")
}

/// The line of a cell that is isolated.
pub(super) fn isolated(cell: &Cell) -> String {
    match cell.worst.and_then(|i| cell.series.get(i)) {
        Some(worst) => format!("worst {}", movement(worst)),
        None => "every judged quantile lies within its margin".to_owned(),
    }
}

/// What a word asks, after a cell's name.
pub(super) fn demand(word: Word) -> &'static str {
    match word {
        Word::Isolated => "must be isolated",
        Word::Degraded => "must be no worse than degraded",
        Word::Violated => "must be violated",
        Word::NotIsolated => "must be degraded or violated",
        Word::Any => "may be anything",
        Word::Met => "must be met",
    }
}

/// Whether a requirement holds; `None`: not decided.
pub(super) fn holds(word: Word, verdict: VerdictWord) -> Option<bool> {
    use VerdictWord as V;
    match (word, verdict) {
        (Word::Any | Word::Met, _) => Some(true),
        (_, V::Inconclusive | V::Skipped) => None,
        (Word::Isolated, v) => Some(v == V::Isolated),
        (Word::Degraded, v) => Some(v != V::Violated),
        (Word::Violated, v) => Some(v == V::Violated),
        (Word::NotIsolated, v) => Some(v != V::Isolated),
    }
}

/// What is required of a cell and how that stands, after its name. The state was decided by the verdict.
pub(super) fn requirement(cell: &Cell, accepted: &[String]) -> String {
    let against: Vec<(&Series, Word)> = cell
        .series
        .iter()
        .filter_map(|s| Some((s, s.required?)))
        .filter(|(s, word)| match cell.requirement {
            RequirementState::NotMet | RequirementState::Accepted => holds(*word, s.verdict) == Some(false),
            RequirementState::Undecided => holds(*word, s.verdict).is_none(),
            RequirementState::Met | RequirementState::NotRequired => false,
        })
        .collect();
    let shown = worst_of(cell, &against);
    let what = match shown {
        Some((s, word)) => {
            let how = match (&s.why, s.ratio) {
                (Some(why), _) => {
                    let power = matches!(why.reason.as_str(), "underpowered" | "control-undecided");
                    let advice = why.advice.as_ref().filter(|_| power);
                    let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
                    format!("is {}: {}{advice}", s.verdict.id(), why.text)
                }
                (None, Some(r)) => format!("is {}, {}", s.verdict.id(), ratio_interval(&r)),
                (None, None) => format!("is {}", s.verdict.id()),
            };
            let more = match against.len() - 1 {
                0 => String::new(),
                n => format!(
                    "; {n} more of its series × quantiles {}",
                    if n == 1 { "does not hold" } else { "do not hold" }
                ),
            };
            format!("{}, and {} {how}{more}", demand(word), s.name())
        }
        None if cell.requirement == RequirementState::Met => return format!("is {}, as required", met_words(cell)),
        None => {
            // What moved, and has no bound that can be relied on: the notes say why.
            let why = cell.why.first().or(cell.notes.first()).map_or_else(String::new, |w| format!(": {}", w.text));
            format!("is required, and is {}{why}", cell.verdict.id())
        }
    };
    if cell.requirement == RequirementState::Accepted && !accepted.is_empty() {
        return format!("{what}; accepted: {}", accepted.join("; "));
    }
    what
}

/// Of the series × quantiles against a requirement, the one that the matrix shows, else the first.
fn worst_of<'a>(cell: &'a Cell, against: &[(&'a Series, Word)]) -> Option<(&'a Series, Word)> {
    let worst = cell.worst.and_then(|i| cell.series.get(i));
    let shown = against.iter().find(|(s, _)| worst.is_some_and(|w| std::ptr::eq(w, *s)));
    shown.or(against.first()).copied()
}

/// The cell's verdict in a sentence that says that a requirement holds.
fn met_words(cell: &Cell) -> String {
    match cell.verdict {
        VerdictWord::Isolated => "isolated".to_owned(),
        other => format!("{} where that is allowed", other.id()),
    }
}
