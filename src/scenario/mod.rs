//! A scenario: text → validated [`Scenario`]. Parsing validates everything that needs no hardware.

mod model;

pub use model::{
    Accept, Arrangement, Arrivals, Design, Expectation, LayoutEntry, Margins, Neighbour, Probe, Quantile, Rule,
    Scenario, SharingMode, Slo, Tier, Word,
};
