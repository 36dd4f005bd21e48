//! Integration tests: the library and the binary as a user has them.
#![expect(clippy::unwrap_used, reason = "what helpers of a test cannot do fails the test")]

mod awake;
mod bad_input;
mod bands;
mod catalogue;
mod claims;
mod claims_observed;
mod cli;
mod compare;
mod controls;
mod crash;
mod delays;
mod density;
mod determinism;
mod gate;
mod leaks;
mod modes;
mod observations;
mod quickstart;
mod ready_made;
mod saturated;
mod support;
mod turns;
