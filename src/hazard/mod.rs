//! What a neighbour may do to a victim beside slowing it: take its memory, read what it left, change what it holds, bring it
//! down. A hazard is tried a number of times, each try by processes of its own, and judged by how often it came true.
//!
//! What is tried is a [`Hazard`] of the catalogue with its parameters; what came of it is a [`Tried`], which holds all that
//! the verdict needs. Backends try, [`crate::verdict`] judges.

mod catalogue;
mod record;
mod render;
mod timeline;
mod xids;

pub(crate) use catalogue::takes;
pub use catalogue::{CAPACITY, CATALOGUE, FAULT, FaultKind, Hazard, INTEGRITY, LEFTOVERS, Leave, find};
pub use record::{
    Act, Attempt, Came, Capacity, Changed, Check, Exit, FaultTrial, Faults, Integrity, Kept, Leftovers, Newcomer,
    Reach, Round, Service, Step, Trespass, Tried, View, XidSeen,
};
pub use render::{list_json, markdown, table};
pub use timeline::{Disagreement, Fragmentation, Refused, Seen, Side};
pub use xids::foretold;
