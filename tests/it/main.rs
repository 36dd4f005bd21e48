//! Integration tests: the library and the binary as a user has them.

mod crash;
mod determinism;
mod quickstart;
mod support;
