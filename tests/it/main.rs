//! Integration tests: the library and the binary as a user has them.

mod bad_input;
mod cli;
mod crash;
mod determinism;
mod quickstart;
mod support;
