//! What a tenant does with its requests: arrivals, outstanding limit, lateness, recording. One code for both backends;
//! how time passes is the backend's.

mod arrivals;
pub mod fault;
pub mod memory;
pub mod pattern;
pub mod protocol;
pub mod question;
mod region;
mod requests;

pub use arrivals::{arrival_stream, arrivals};
pub use region::{Progress, Region, Row};
pub use requests::{LATE, Place, Requests, Stamps};
