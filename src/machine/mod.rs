//! The model of a shared GPU: demands meet shared resources in integer time.
//!
//! One engine serves the simulator (virtual time) and, later, the stand-in driver (real time). Isolation is nothing
//! but *which level of the tree a resource hangs on*; there is no table of outcomes.
//!
//! Read [`demand`](Demand) and [`topology`](Topology) first, then `state` and `engine` (the parts, queues and the event
//! loop), `rates` (how flows share), `share` (max–min), `caches` (who holds L2 and the TLB), `slicing` (turns), `slots`
//! (blocks, copy engines, the driver's lock), `power` (the clock), `memory` (allocation) and `residue` (what is left in
//! memory).

mod build;
mod caches;
mod demand;
mod engine;
mod memory;
mod power;
mod rates;
mod residue;
mod share;
mod slicing;
mod slots;
mod state;
mod tenancy;
#[cfg(test)]
mod tests;
mod topology;
mod work;

pub use build::{Leak, MachineError};
pub use demand::{Chain, CopyDemand, Demand, Direction, HostDemand, LaunchDemand, Traffic};
pub use engine::{Done, Machine, QueueId, Ticket, WorkId};
pub use memory::{AllocId, OutOfMemory};
pub use tenancy::Terms;
pub use topology::{Compute, Context, Domain, GpuPart, Policy, SmShare, Topology};
