//! What live tests share.

pub(crate) mod driver;
pub(crate) mod stand_in;
