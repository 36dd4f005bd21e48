//! Integration tests: the library and the binary as a user has them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crash;
mod determinism;
mod quickstart;
mod support;
