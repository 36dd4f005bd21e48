//! Integration tests: the library and the binary as a user has them.

mod awake;
mod bands;
mod catalogue;
mod crash;
mod determinism;
mod leaks;
mod modes;
mod quickstart;
mod saturated;
mod support;
mod turns;
