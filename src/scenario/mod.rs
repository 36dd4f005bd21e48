//! A scenario: text → validated [`Scenario`]. Parsing validates everything that needs no hardware.

mod arrangement;
mod design;
mod expectation;
mod keys;
mod mistake;
mod model;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod tree;

pub use design::{Design, Margins, Quantile, Tier};
pub use expectation::{Expectation, Rule, Word};
pub use keys::SCHEMA_VERSION;
pub use mistake::{Mistake, Mistakes};
pub use model::{Accept, Arrangement, Arrivals, LayoutEntry, Neighbour, Probe, Scenario, SharingMode, Slo, seats_of};
pub use read::{read, read_at_tier};
pub use schema::schema;
