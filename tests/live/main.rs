//! Everything in real time, on the stand-in driver, through the loader that a real machine has. One test at a time.

mod stand_in;
mod support;
