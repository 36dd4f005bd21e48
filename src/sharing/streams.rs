//! Streams: tenants are streams of one process and one context. Order is kept within a stream only.

use super::Mode;
use super::flat;
use crate::machine::{Policy, SmShare};

pub(super) const MODE: Mode = Mode {
    resolve: |r| flat::alike(r, "a stream"),
    topology: |s| Ok(flat::whole_gpu(s, Policy::Concurrent, true, |_, _| SmShare::All)),
    one_process: true,
    live: None,
    own_share: |_, _| false,
};
