//! Statistics of a verdict: pure functions over counts and differences, each formula with its source.
//!
//! Everything is computed with `libm` and with keyed random streams: equal inputs give equal bytes on every machine.
//! A request that was not served (open at the deadline, or failed) lies at +∞ in every quantile, never outside of it.

mod autocorrelation;
mod bootstrap;
mod counts;
mod distributions;
mod durations;
mod fairness;
mod prediction;
mod proportions;
mod rank;
mod rank_sum;
#[cfg(test)]
mod reference;
mod signed_rank;
mod sizes;
mod slo;
mod spending;

pub use autocorrelation::integrated_time;
pub use bootstrap::{LogBounds, LogRatio, bootstrap_log_ratio, bootstrap_worst_ratio, expansion, log_ratio};
pub use counts::{Counts, Pool};
pub use distributions::{normal_quantile, t_quantile};
pub use durations::{Bucket, Durations, resolution};
pub use fairness::jain;
pub use prediction::Prediction;
pub use proportions::{chance_of_none, holm, proportion_lower, proportion_upper};
pub use rank::{Ranks, quantile_ranks, rank_bounds};
pub use rank_sum::{RankSum, shift};
pub use signed_rank::{SignedRank, hodges_lehmann};
pub use sizes::{
    blocks_for_share, blocks_to_decide, detectable_effect, episode_share, least_blocks, min_requests, planned_requests,
};
pub use slo::{
    Over, ShareBounds, objective_arms, objective_bounds, objective_exceeds, share_bounds, t_bounds, t_exceeds,
    wide_mean_bounds,
};
pub use spending::spent;
