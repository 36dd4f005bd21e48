//! Everything in real time, on the stand-in driver, through the loader that a real machine has. One test at a time.

#[cfg(test)]
mod self_check;
#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod support;
