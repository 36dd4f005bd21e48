//! The model of a shared GPU: demands meet shared resources in integer time.
//!
//! One engine serves the simulator (virtual time) and, later, the stand-in driver (real time). Isolation is nothing
//! but *which level of the tree a resource hangs on*; there is no table of outcomes.

mod demand;
mod topology;

pub use demand::{Chain, CopyDemand, Demand, Direction, HostDemand, LaunchDemand, Traffic};
pub use topology::{Compute, Context, Domain, GpuPart, Policy, SmShare, Topology};
