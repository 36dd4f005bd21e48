//! Integration tests: the library and the binary as a user has them.
#![expect(clippy::unwrap_used, reason = "what helpers of a test cannot do fails the test")]

mod bad_input;
mod cli;
mod crash;
mod determinism;
mod quickstart;
mod support;
