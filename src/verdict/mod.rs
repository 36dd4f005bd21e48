//! The verdict: from a recorded run to a judgement per series × quantile, per cell and per requirement. Pure.

mod types;

pub use types::{Cause, CellVerdict, Interval, Reason, RequirementState, RunVerdict, SeriesVerdict, Verdict, Warning};
