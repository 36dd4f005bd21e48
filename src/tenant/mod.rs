//! What a tenant does with its requests: arrivals, outstanding limit, lateness, recording. One code for both backends;
//! how time passes is the backend's.

mod arrivals;
mod requests;

pub use arrivals::arrivals;
pub use requests::{LATE, Place, Requests, Stamps};
