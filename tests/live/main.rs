//! Everything in real time, on the stand-in driver, through the loader that a real machine has. One test at a time.

#[cfg(test)]
mod broken;
#[cfg(test)]
mod containers;
#[cfg(test)]
mod controls;
#[cfg(test)]
mod density;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod hazards_capacity;
#[cfg(test)]
mod hazards_claims;
#[cfg(test)]
mod hazards_fault;
#[cfg(test)]
mod hazards_integrity;
#[cfg(test)]
mod hazards_leftovers;
#[cfg(test)]
mod health;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod mig;
#[cfg(test)]
mod modes_one_process;
#[cfg(test)]
mod mps;
#[cfg(test)]
mod observations;
#[cfg(test)]
mod occupied;
#[cfg(test)]
mod reconfigure;
#[cfg(test)]
mod reconfigure_inside;
#[cfg(test)]
mod self_check;
#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod support;
#[cfg(test)]
mod time_slice;
#[cfg(test)]
mod watcher;
#[cfg(test)]
mod whole;
