//! Statistics of a verdict: pure functions over counts and differences, each formula with its source.
//!
//! Everything is computed with `libm` and with keyed random streams: equal inputs give equal bytes on every machine.
//! A request that was not served (open at the deadline, or failed) lies at +∞ in every quantile, never outside of it.

mod bootstrap;
mod counts;
mod durations;
#[cfg(test)]
mod reference;
mod signed_rank;
mod sizes;

pub use bootstrap::{LogBounds, LogRatio, bootstrap_log_ratio, log_ratio};
pub use counts::{Counts, Pool};
pub use durations::{Bucket, Durations, resolution};
pub use signed_rank::{SignedRank, hodges_lehmann};
pub use sizes::{blocks_for_share, blocks_to_decide, detectable_effect, episode_share, min_requests, normal_quantile};
