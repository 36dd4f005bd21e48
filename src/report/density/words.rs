//! The sentences about curves.

use super::{Bound, CurveHere, DensityHere, DensityState, LoneRatio, Multiple};
use crate::report::controls::share;
use crate::report::format::{NONE, percent, rate, ratio_interval};
use crate::report::model::Ratio;
use crate::scenario::SharingMode;
use crate::units::{significant, trimmed};

/// "p99 ≤ 50 ms at 20 req/s".
pub(super) fn asked(c: &CurveHere) -> String {
    let bounds: Vec<&str> = c.objectives.iter().map(|b| b.text.as_str()).collect();
    let bounds = if bounds.is_empty() { "no objective".to_owned() } else { bounds.join(" and ") };
    let load = c.rate.map_or_else(|| format!("{NONE} (not known)"), |r| rate(r).trim_end_matches("/s").to_owned());
    format!("{bounds} at {load} req/s")
}

/// The same of so many tenants: "… each", where there are several.
fn of_each(c: &CurveHere, tenants: u32) -> String {
    format!("{}{}", asked(c), if tenants == 1 { "" } else { " each" })
}

fn tenants(n: u32) -> String {
    format!("{n} tenant{}", if n == 1 { "" } else { "s" })
}

const fn are(first: u32, last: u32) -> &'static str {
    if first == last && last == 1 { "is" } else { "are" }
}

fn range(first: u32, last: u32) -> String {
    if first == last { first.to_string() } else { format!("{first}–{last}") }
}

/// How many tenants meet their objectives, in one sentence. What is between the largest density that meets and the smallest
/// that misses, or beyond the largest where none misses, is never left out.
pub(super) fn crossing(c: &CurveHere) -> String {
    let mut parts = Vec::new();
    match (c.met, c.missed) {
        (Some(met), missed) => {
            let meet = if met == 1 { "meets" } else { "meet" };
            parts.push(format!("{} {meet} {}", tenants(met), of_each(c, met)));
            parts.extend(between(c, Some(met), missed));
            match missed {
                Some(missed) => parts.push(format!("{missed} do not")),
                None if c.densities.iter().all(|d| d.tenants <= met) => {
                    parts.push("more were not asked for".to_owned());
                }
                None => {}
            }
        }
        (None, Some(1)) => parts.push(format!("not even 1 tenant meets {}", of_each(c, 1))),
        (None, Some(missed)) => {
            parts.push(format!("{} do not meet {}", tenants(missed), of_each(c, missed)));
            parts.extend(between(c, None, Some(missed)));
            if c.densities.iter().all(|d| d.tenants >= missed) {
                parts.push("fewer were not asked for".to_owned());
            }
        }
        (None, None) => {
            parts.push(format!("how many tenants meet {} is not known", of_each(c, 2)));
            parts.extend(between(c, None, None));
        }
    }
    if !c.complete {
        parts.push("the search is not finished".to_owned());
    }
    if c.met.or(c.missed).is_some() {
        parts.push(c.confidence.map_or_else(|| format!("{NONE} (error rate not known)"), percent));
    }
    format!("{}.", parts.join("; "))
}

/// What is neither shown to meet nor to miss above `met` and below `missed`, neighbours of one state together.
fn between(c: &CurveHere, met: Option<u32>, missed: Option<u32>) -> Vec<String> {
    let inside = |d: &&DensityHere| met.is_none_or(|m| d.tenants > m) && missed.is_none_or(|m| d.tenants < m);
    let all: Vec<&DensityHere> = c.densities.iter().filter(inside).collect();
    let mut groups: Vec<Vec<&DensityHere>> = Vec::new();
    for d in &all {
        match groups.last_mut() {
            Some(group) if group[0].state == d.state && group[group.len() - 1].tenants + 1 == d.tenants => {
                group.push(d)
            }
            _ => groups.push(vec![d]),
        }
    }
    let mut parts: Vec<String> = groups.iter().map(|group| of_group(group)).collect();
    if let (Some(met), Some(missed)) = (met, missed)
        && (all.len() as u64) < u64::from(missed.saturating_sub(met).saturating_sub(1))
    {
        let not = if all.is_empty() { "what lies between was" } else { "others between were" };
        parts.push(format!("{not} not asked for"));
    }
    parts
}

fn of_group(group: &[&DensityHere]) -> String {
    let (first, last) = (group[0].tenants, group[group.len() - 1].tenants);
    let who = range(first, last);
    let why = group[0].reason.as_ref().map_or_else(String::new, |reason| {
        let reason = reason.trim_end_matches('.');
        if group.iter().all(|d| d.reason == group[0].reason) {
            format!(" ({reason})")
        } else {
            format!(" ({first}: {reason})")
        }
    });
    let are = are(first, last);
    match group[0].state {
        // Why is said of each in its own row: it would bury the answer.
        DensityState::Undecided => format!("{who} {are} undecided"),
        DensityState::Skipped => format!("{who} {are} not possible{why}"),
        DensityState::NotRun => format!("{who} {} not measured", if are == "is" { "was" } else { "were" }),
        // Neither lies between by what the two ends mean.
        DensityState::Met => format!("{who} {}", if are == "is" { "does" } else { "do" }),
        DensityState::Missed => format!("{who} do not"),
    }
}

/// Which densities were not run, and what follows. Those between the two ends of the crossing are in its sentence.
pub(super) fn notes(c: &CurveHere) -> Vec<String> {
    let inside = |n: u32| c.met.is_none_or(|met| n > met) && c.missed.is_none_or(|missed| n < missed);
    let not_run = c.densities.iter().filter(|d| d.state == DensityState::NotRun).map(|d| d.tenants);
    let spared: Vec<u32> = not_run.filter(|n| !inside(*n)).collect();
    let mut out = Vec::new();
    if !spared.is_empty() {
        let text = "the search did not need them, if more tenants never fare better, as is assumed";
        out.push(format!("Not run: {}; {text}.", ranges(&spared)));
    }
    let alone = c.densities.iter().find(|d| d.tenants == 1).map(|d| d.state);
    if c.sharing != SharingMode::Exclusive && matches!(alone, None | Some(DensityState::NotRun)) {
        out.push("What this way of sharing costs a lone tenant is not known: 1 tenant was not run.".to_owned());
    }
    out
}

/// "1, 3, 6–8".
fn ranges(numbers: &[u32]) -> String {
    let mut groups: Vec<(u32, u32)> = Vec::new();
    for n in numbers {
        match groups.last_mut() {
            Some((_, last)) if *last + 1 == *n => *last = *n,
            _ => groups.push((*n, *n)),
        }
    }
    groups.into_iter().map(|(first, last)| range(first, last)).collect::<Vec<_>>().join(", ")
}

/// Where the tail leaves multiples of the reference's: twofold first.
pub(super) fn knee(c: &CurveHere, reference: &str, of: u32) -> Option<String> {
    let quantile = c.objectives.iter().map(|b| b.quantile).max()?;
    // Against itself alone there is nothing to say.
    let others = c.densities.iter().filter(|d| reference != c.name || d.tenants != of);
    if !others.into_iter().any(|d| d.arms > 0) {
        return None;
    }
    let against = match of {
        1 if reference == c.name => "that of a lone tenant".to_owned(),
        n if reference == c.name => format!("that of {n} tenants"),
        1 => reference.to_owned(),
        n => format!("that of {n} tenants under {reference}"),
    };
    let mut known: Vec<(f64, &Multiple)> = c.factors.iter().filter_map(|f| Some((f.times?, f))).collect();
    known.sort_by(|(a, _), (b, _)| (*a != 2.0).cmp(&(*b != 2.0)).then(a.total_cmp(b)));
    let clause = |(at, (times, f)): (usize, (f64, &Multiple))| {
        let times = format!("{}×", trimmed(&significant(times, 2)));
        let beyond = f.beyond.map_or_else(|| "none is shown beyond".to_owned(), |n| format!("not with {n}"));
        match (f.within, f.beyond, at) {
            (Some(within), _, 0) => {
                format!("up to {} {quantile} stays within {times} of {against} ({beyond})", tenants(within))
            }
            (Some(within), ..) => format!("up to {within} within {times} ({beyond})"),
            (None, Some(_), 0) => {
                format!("no density is shown to keep {quantile} within {times} of {against} ({beyond})")
            }
            (None, Some(_), _) => format!("none within {times} ({beyond})"),
            (None, None, 0) => format!("whether {quantile} stays within {times} of {against} is not known"),
            (None, None, _) => format!("within {times}: not known"),
        }
    };
    let parts: Vec<String> = known.into_iter().enumerate().map(clause).collect();
    (!parts.is_empty()).then(|| format!("knee: {}.", parts.join("; ")))
}

/// "alone under mps: p99 1.02× [1.00 1.04] of exclusive".
pub(super) fn lone(name: &str, against: &str, ratios: &[LoneRatio]) -> String {
    let ratios: Vec<String> = ratios.iter().map(|r| format!("{} {}", r.quantile, ratio_interval(&r.ratio))).collect();
    let ratios = if ratios.is_empty() { format!("{NONE} (no quantile that both have)") } else { ratios.join(", ") };
    format!("alone under {name}: {ratios} of {against}")
}

/// "saturated: of the worst tenant 16.2/s of 20/s are served, and its backlog grows by 3.8/s".
pub(super) fn saturated(d: &DensityHere) -> Option<String> {
    let one = |x: Option<f64>| x.map_or_else(|| NONE.to_owned(), rate);
    let s = d.saturated.as_ref()?;
    Some(match s.growth {
        Some(growth) => format!(
            "saturated: of the worst tenant {} of {} are served, and its backlog grows by {}",
            one(s.served),
            one(s.planned),
            rate(growth)
        ),
        // Only all of them together show it.
        None => {
            let planned: Option<f64> = d.each.iter().map(|tenant| tenant.planned).sum();
            format!("saturated: of all tenants together {} of {} are served", one(d.served), one(planned))
        }
    })
}

/// "1.3 % [1.1 1.6] of all tenants' requests over p99 ≤ 50 ms, 1 % allowed".
pub(super) fn over(bound: &Bound, over: &Ratio) -> String {
    let allowed = percent(1.0 - bound.quantile.as_f64());
    format!("{} of all tenants' requests over {}, {allowed} allowed", share(over), bound.text)
}

/// "0.998 [0.99 1.00]".
pub(super) fn index(i: &Ratio) -> String {
    let one = |x: Option<f64>| x.map_or_else(|| NONE.to_owned(), |x| significant(x, 3));
    format!("{} [{} {}]", one(i.estimate), one(i.low), one(i.high))
}
