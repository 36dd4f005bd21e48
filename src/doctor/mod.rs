//! Whether a run here could be trusted: what is wrong, why it matters, and what mends it.

pub mod probe;
