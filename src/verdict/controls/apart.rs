//! Controls that ask whether something can be told from its absence: a neighbour's idle process, the thread that samples
//! clocks and power.

use super::super::cell::counts;
use super::super::estimate::interval;
use super::super::looks::{Extent, FALSE_ALARM};
use super::super::types::{Control, ControlOutcome, Reason};
use super::{GridControls, Of, words};
use crate::backend::Purpose;
use crate::run_dir::{ArmData, JudgedBy};
use crate::stats::{holm, t_bounds, t_exceeds};

/// An arm without it, and the quiet arms with it that it is compared with.
type Pair<'a> = (&'a ArmData, Vec<&'a ArmData>);

/// What it does to everything that is judged by blocks, as far as that can be told.
#[derive(Default)]
struct Apart {
    /// What moves significantly by more than its margin, in words.
    moved: Vec<String>,
    /// Series × quantiles within their margins, and too wide to say.
    fine: usize,
    open: usize,
    /// The largest difference, in words.
    largest: String,
}

impl<'a> Of<'a> {
    /// An idle neighbour against none, generation by generation.
    pub(super) fn presence(&self, controls: &mut GridControls) {
        let planned = self.plan.presence(self.arrangement, self.index);
        if planned == 0 {
            return;
        }
        let (first, end) = (self.grid.first_block, self.grid.first_block + self.plan.design.blocks);
        let each = self.plan.design.blocks_per_generation.max(1);
        let generations: Vec<Pair<'a>> = (first..end)
            .step_by(each as usize)
            .filter_map(|from| {
                let alone = (from..(from + each).min(end)).find_map(|b| self.arm(b, None, Purpose::Alone))?;
                let quiet = (from..(from + each).min(end)).filter_map(|b| self.arm(b, None, Purpose::Block));
                Some((alone, quiet.collect::<Vec<_>>()))
            })
            .filter(|(_, quiet)| !quiet.is_empty())
            .collect();
        if generations.is_empty() {
            let row = self.absent(Control::Presence, Purpose::Alone);
            if row.outcome == ControlOutcome::NotMeasured {
                controls.unmeasured.get_or_insert(Reason::ControlNotMeasured { control: Control::Presence });
            }
            controls.rows.push(row);
            return;
        }
        let Apart { moved, fine, open, largest } = self.told_apart(&generations);
        let over = format!("{} of {planned} generations", generations.len());
        // Early looks end a grid, and its generations with it.
        let extent = Extent::of_quiet(self.run, self.arrangement, self.index);
        let least = planned.min(extent.blocks.div_ceil(each)) as usize;
        let (outcome, text) = if !moved.is_empty() {
            controls.failed.get_or_insert(Reason::ControlFailed { control: Control::Presence });
            (
                ControlOutcome::Failed,
                format!("an idle neighbour's process moves the victim, {over}: {}", moved.join(", ")),
            )
        } else if generations.len() < least {
            controls.unmeasured.get_or_insert(Reason::ControlNotMeasured { control: Control::Presence });
            (ControlOutcome::NotMeasured, format!("the victim was alone in {over}"))
        } else if open > 0 {
            let text = format!("no significant difference to an empty seat, {over}; {open} too wide to bound{largest}");
            (ControlOutcome::Undecided, text)
        } else if fine > 0 {
            (
                ControlOutcome::Passed,
                format!("an idle neighbour's process is not to be told from none, {over}{largest}"),
            )
        } else {
            (ControlOutcome::Undecided, "no quantile is judged by blocks here".to_owned())
        };
        controls.rows.push(self.row(Control::Presence, outcome, text));
    }

    /// Quiet arms with the thread that samples clocks and power against quiet arms without it, block by block. What the first
    /// grid of an arrangement shows holds for all of them.
    pub(super) fn sampler(&self, controls: &mut GridControls) {
        let Some(first) = self.plan.sampler_grid(self.arrangement) else { return };
        if first == self.index {
            self.sampler_here(controls);
        } else if let Some(first) = Of::new(self.run, self.arrangement, first) {
            let mut there = GridControls::default();
            first.sampler_here(&mut there);
            controls.failed = controls.failed.take().or(there.failed);
            controls.unmeasured = controls.unmeasured.take().or(there.unmeasured);
        }
    }

    fn sampler_here(&self, controls: &mut GridControls) {
        let planned = self.plan.unsampled(self.arrangement, self.index);
        if planned == 0 {
            return;
        }
        let first = self.grid.first_block;
        let blocks: Vec<Pair<'a>> = (first..first + planned)
            .filter_map(|block| {
                let without = self.arm(block, None, Purpose::Unsampled)?;
                let with = [Purpose::Block, Purpose::Again].into_iter().filter_map(|p| self.arm(block, None, p));
                Some((without, with.collect::<Vec<_>>()))
            })
            .filter(|(_, quiet)| !quiet.is_empty())
            .collect();
        let Apart { moved, fine, open, largest } = self.told_apart(&blocks);
        let over = format!("{} of {planned} blocks", blocks.len());
        let (outcome, text) = if !moved.is_empty() {
            controls.failed.get_or_insert(Reason::ControlFailed { control: Control::Sampler });
            (
                ControlOutcome::Failed,
                format!("sampling clocks and power moves the victim, {over}: {}", moved.join(", ")),
            )
        } else if blocks.len() < planned as usize {
            controls.unmeasured.get_or_insert(Reason::ControlNotMeasured { control: Control::Sampler });
            (ControlOutcome::NotMeasured, format!("the sampler was off in {over}"))
        } else if open > 0 {
            let text =
                format!("no significant difference without the sampler, {over}; {open} too wide to bound{largest}");
            (ControlOutcome::Undecided, text)
        } else if fine > 0 {
            let text = format!("sampling clocks and power is not to be told from not, {over}{largest}");
            (ControlOutcome::Passed, text)
        } else {
            (ControlOutcome::Undecided, "no quantile is judged by blocks here".to_owned())
        };
        controls.rows.push(self.row(Control::Sampler, outcome, text));
    }

    /// ln(with ÷ without) of every series × quantile that is judged by blocks: significant beyond its margin, within it, or too
    /// wide to say.
    fn told_apart(&self, pairs: &[Pair<'_>]) -> Apart {
        let judged: Vec<_> = self.judged().into_iter().filter(|(_, _, by)| *by == JudgedBy::Blocks).collect();
        let level = FALSE_ALARM / (2 * judged.len().max(1)) as f64;
        let (mut apart, mut largest) = (Apart::default(), None::<(f64, String)>);
        // What may have moved, and the p-values of slower and faster than the margin.
        let (mut tested, mut p_values) = (Vec::new(), Vec::new());
        for (series, q, _) in judged {
            let of = |(without, with): &Pair<'_>| {
                let ln = |arm: &ArmData| counts(arm, series).quantile(q).map(libm::log);
                let with: Vec<f64> = with.iter().filter_map(|arm| ln(arm)).collect();
                let mean = with.iter().sum::<f64>() / with.len() as f64;
                ln(without).filter(|_| !with.is_empty()).map(|without| mean - without)
            };
            let values: Vec<f64> = pairs.iter().filter_map(of).collect();
            let Some((low, high)) = t_bounds(&values, (level, level)) else {
                apart.open += 1;
                continue;
            };
            let estimate = values.iter().sum::<f64>() / values.len() as f64;
            let margin = libm::log1p(self.plan.design.margins.of(q).0);
            let text = format!("{series} {q} {}", words(interval(estimate, Some(low), Some(high))));
            let faster: Vec<f64> = values.iter().map(|value| -value).collect();
            let sides = [t_exceeds(&values, margin), t_exceeds(&faster, margin)];
            p_values.extend(sides.map(|p| p.unwrap_or(1.0)));
            tested.push(text.clone());
            // A pair without requests says nothing.
            let whole = values.len() == pairs.len();
            if whole && high < margin && low > -margin {
                apart.fine += 1;
            } else {
                apart.open += 1;
            }
            if largest.as_ref().is_none_or(|(size, _)| libm::fabs(estimate) > *size) {
                largest = Some((libm::fabs(estimate), text));
            }
        }
        let falls = holm(&p_values, FALSE_ALARM);
        let moved = tested.into_iter().zip(falls.chunks(2)).filter(|(_, falls)| falls.contains(&true));
        apart.moved = moved.map(|(text, _)| text).collect();
        apart.largest = largest.map_or_else(String::new, |(_, text)| format!(", largest {text}"));
        apart
    }
}
