//! The sentences about curves.

use super::{CurveHere, DensityHere, DensityState, LoneRatio, Multiple, Overload};
use crate::report::format::{NONE, percent, rate, ratio_interval};
use crate::report::model::Ratio;
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
        DensityState::Undecided => format!("{who} {are} undecided{why}"),
        DensityState::Skipped => format!("{who} {are} not possible{why}"),
        DensityState::NotRun => format!("{who} {} not measured", if are == "is" { "was" } else { "were" }),
        // Neither lies between by what the two ends mean.
        DensityState::Met => format!("{who} {}", if are == "is" { "does" } else { "do" }),
        DensityState::Missed => format!("{who} do not"),
    }
}

/// What the crossing rests on beside the measurements.
pub(super) fn notes(c: &CurveHere) -> Vec<String> {
    let mut out = Vec::new();
    let better: Vec<String> = c
        .densities
        .iter()
        .filter(|d| d.state == DensityState::Met && c.missed.is_some_and(|missed| d.tenants > missed))
        .map(|d| d.tenants.to_string())
        .collect();
    if let (Some(missed), false) = (c.missed, better.is_empty()) {
        out.push(format!(
            "More tenants fared better than fewer: {} meet, though {missed} do not. That is against what is assumed.",
            better.join(", ")
        ));
    }
    let not_run = |outside: bool| -> Vec<u32> {
        let inside = |n: u32| c.met.is_none_or(|met| n > met) && c.missed.is_none_or(|missed| n < missed);
        let all = c.densities.iter().filter(|d| d.state == DensityState::NotRun);
        all.map(|d| d.tenants).filter(|n| inside(*n) != outside).collect()
    };
    let spared = not_run(true);
    if !spared.is_empty() {
        out.push(format!("Not run: {}; the search did not need them.", ranges(&spared)));
        out.push(
            "Assumed: more tenants never fare better, so what was not run does as its measured neighbours do: fewer than a \
             density that meets meet, more than one that misses miss."
                .to_owned(),
        );
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
    let against = match of {
        1 if reference == c.name => "that of a lone tenant".to_owned(),
        1 => reference.to_owned(),
        n => format!("that of {n} tenants under {reference}"),
    };
    let mut known: Vec<(f64, &Multiple)> = c.factors.iter().filter_map(|f| Some((f.times?, f))).collect();
    known.sort_by(|(a, _), (b, _)| (*a != 2.0).cmp(&(*b != 2.0)).then(a.total_cmp(b)));
    let mut parts = Vec::new();
    for (at, (times, f)) in known.into_iter().enumerate() {
        let times = format!("{}×", trimmed(&significant(times, 2)));
        let times = if at == 0 { format!("{times} of {against}") } else { times };
        let subject = if at == 0 { format!("{quantile} ") } else { String::new() };
        parts.push(match (f.within, f.beyond) {
            (Some(within), Some(beyond)) => {
                format!("up to {} {subject}stays within {times}, with {beyond} it does not", tenants(within))
            }
            (Some(within), None) => {
                format!("up to {} {subject}stays within {times}, and no density is shown beyond", tenants(within))
            }
            (None, Some(beyond)) => format!("{subject}is beyond {times} with {}", tenants(beyond)),
            (None, None) => format!("whether {subject}stays within {times} is not known"),
        });
    }
    (!parts.is_empty()).then(|| format!("{}.", parts.join("; ")))
}

/// "alone under mps: p99 1.02× [1.00 1.04] of exclusive".
pub(super) fn lone(name: &str, against: &str, ratios: &[LoneRatio]) -> String {
    let ratios: Vec<String> = ratios.iter().map(|r| format!("{} {}", r.quantile, ratio_interval(&r.ratio))).collect();
    let ratios = if ratios.is_empty() { format!("{NONE} (no quantile that both have)") } else { ratios.join(", ") };
    format!("alone under {name}: {ratios} of {against}")
}

/// "saturated: 16.2/s of 20/s served, the backlog grows by 3.8/s".
pub(super) fn saturated(s: &Overload) -> String {
    let one = |x: Option<f64>| x.map_or_else(|| NONE.to_owned(), rate);
    format!(
        "saturated: {} of {} served of the worst tenant, its backlog grows by {}; no latency means anything",
        one(s.served),
        one(s.planned),
        one(s.growth)
    )
}

/// "0.998 [0.99 1.00]".
pub(super) fn index(i: &Ratio) -> String {
    let one = |x: Option<f64>| x.map_or_else(|| NONE.to_owned(), |x| significant(x, 3));
    format!("{} [{} {}]", one(i.estimate), one(i.low), one(i.high))
}
