//! A scenario: text → validated [`Scenario`]. Parsing validates everything that needs no hardware.

mod arrangement;
mod builtin;
mod density;
mod design;
mod expectation;
mod hazard;
mod init;
mod keys;
mod mistake;
mod model;
mod observe;
mod read;
mod reference;
mod schema;
mod suite;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
mod write;

pub(crate) use arrangement::word;
pub(crate) use builtin::read_text;
pub use builtin::{BUILTIN, LoadError, list_json, load, table};
pub use design::{Controls, Design, FALSE_PASS, Look, Margins, Quantile, Tier};
pub use expectation::{Expectation, Rule, Word};
pub use init::init;
pub use keys::SCHEMA_VERSION;
pub(crate) use keys::words_of;
pub(crate) use mistake::nearest;
pub use mistake::{Mistake, Mistakes};
pub use model::{
    Accept, Arrangement, Arrivals, Density, LayoutEntry, MpsDaemon, Neighbour, Probe, Scenario, SharingMode, Slo,
    TimeSlice, Trial,
};
pub(crate) use read::mistake_at;
pub use read::{read, read_at_tier};
pub use reference::reference_markdown;
pub use schema::schema;
pub(crate) use schema::{document as schema_document, text as schema_text, words as schema_words};
