//! The progress display: a bar per arrangement, with the time left.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::experiment::{Progress, planned_arms};
use crate::plan::Plan;

/// One bar per arrangement, on standard error; nothing where that is no terminal.
pub(super) struct Bars {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
}

impl Bars {
    pub(super) fn new(plan: &Plan, quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let all = MultiProgress::with_draw_target(target);
        let width = plan.arrangements.iter().map(|a| a.name.chars().count()).max().unwrap_or(0);
        let style = ProgressStyle::with_template("{prefix} {bar:32} {pos}/{len} arms · {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bars = plan
            .arrangements
            .iter()
            .enumerate()
            .map(|(index, arrangement)| {
                let bar = all.add(ProgressBar::new(planned_arms(plan, index)));
                bar.set_style(style.clone());
                bar.set_prefix(format!("{:width$}", arrangement.name));
                bar.set_message("waiting");
                bar
            })
            .collect();
        Self { all, bars }
    }

    pub(super) fn show(&self, progress: &Progress) {
        match progress {
            Progress::Calibrating { index } => self.bars[*index].set_message("calibrating"),
            Progress::Arrangement { index, arms } => {
                let bar = &self.bars[*index];
                bar.set_position(bar.length().unwrap_or(*arms).saturating_sub(*arms));
                bar.reset_eta();
            }
            Progress::Committed { index } => {
                let bar = &self.bars[*index];
                bar.inc(1);
                let left = bar.eta();
                bar.set_message(if left > Duration::ZERO {
                    format!("{} s left", left.as_secs().max(1))
                } else {
                    "done".to_owned()
                });
            }
            Progress::Hazard { index, name } => self.bars[*index].set_message(format!("hazard {name}")),
            Progress::Lost { index, reason } => self.bars[*index].set_message(format!("an arm was lost: {reason}")),
            Progress::Skipped { index, reason } => self.bars[*index].abandon_with_message(format!("skipped: {reason}")),
        }
    }

    /// Leaves the terminal to the report.
    pub(super) fn finish(&self) {
        // Where the terminal is gone there is nothing to clear.
        let _ = self.all.clear();
    }
}
