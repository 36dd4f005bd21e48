//! The validation of the procedure: synthetic victims whose truth is known, judged as any run is.
//!
//! What the error rates of a verdict claim must come out here, under every noise (verdict.md, "What the procedure itself
//! must show"). A reduced grid runs with the other tests; the whole of it with
//! `cargo test --release --lib validation -- --ignored`, which writes docs/verdict-validation.md.

mod grid;
mod noise;
mod trial;
