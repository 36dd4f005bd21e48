//! Time-slicing: processes take turns on the whole GPU. Memory is shared, with no limit per tenant.

use super::Mode;
use super::flat;
use crate::machine::{Policy, SmShare};

pub(super) const MODE: Mode = Mode {
    resolve: |r| flat::alike(r, "whole GPU in turns"),
    topology: |s| Ok(flat::whole_gpu(s, Policy::TimeSliced, false, |_, _| SmShare::All)),
    one_process: false,
    live: true,
    own_share: |_, _| false,
};
