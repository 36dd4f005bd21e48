//! The validation of the procedure: synthetic victims whose truth is known, judged as any run is.
//!
//! What the error rates of a verdict claim must come out here, under every noise (docs/verdict.md, "How often it errs"). A
//! reduced grid runs with the other tests; the whole of it with `cargo test --release --lib validation -- --ignored`, which
//! writes docs/verdict-validation.md.

mod example;
mod grid;
mod mutants;
mod noise;
mod power;
mod reference;
mod retries;
mod rules;
mod slo;
mod trial;
