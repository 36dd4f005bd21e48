//! What must hold of a run directory as a whole, crashes and damage included.

mod damage;
mod fixture;
mod round_trip;
mod schema;
