//! Shapes of launches that hold on every part since Volta, and readers of their arguments.
//!
//! An SM has 65 536 registers on every supported part, while its limits on threads (1024 to 2048) and blocks (16 to 32)
//! differ. Kernels that are meant to fill an SM use 64 registers a thread: 1024 threads then fill any of them, whatever
//! its other limits. Kernels that must leave room use few registers and one warp, or one block an SM.

use super::{Arg, GpuView, LaunchArgs};

/// Threads of a block of every kernel but the one-warp ones.
pub(super) const THREADS: u32 = 256;
/// Warps of such a block.
pub(super) const WARPS: u32 = THREADS / WARP;
/// Threads of a warp.
pub(super) const WARP: u32 = 32;
/// Registers of an SM, Volta to Blackwell (CUDA programming guide, compute capabilities).
const REGISTERS_PER_SM: u32 = 65_536;
/// Registers of a thread, pinned by the launch bounds of the kernels that use [`resident`].
const REGISTERS_PER_THREAD: u32 = 64;
/// Blocks of one warp that any SM holds: the limit of Turing, the smallest of all supported parts.
pub(super) const LIGHT_BLOCKS_PER_SM: u32 = 16;
/// Bytes of an L2 cache line.
pub(super) const LINE: u64 = 128;
/// Bytes of a sector: the least that L2 delivers.
pub(super) const SECTOR: u64 = 32;
/// Bytes of a page of device memory.
pub(super) const PAGE: u64 = 2 << 20;

/// Blocks of `threads` threads with 64 registers each that fit on an SM at a time.
pub(super) const fn resident(threads: u32) -> u32 {
    let blocks = REGISTERS_PER_SM / (REGISTERS_PER_THREAD * if threads == 0 { 1 } else { threads });
    if blocks == 0 { 1 } else { blocks }
}

/// Blocks that fill every SM that the tenant sees.
pub(super) const fn filling(view: &GpuView) -> u32 {
    view.sms.saturating_mul(resident(THREADS))
}

/// Pages of 2 MiB that `bytes` span.
pub(super) const fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE)
}

impl LaunchArgs<'_> {
    /// The number at `index`; 0 where it is a buffer or absent (a test checks every launch against its kernel's types).
    pub(super) fn number(&self, index: usize) -> u64 {
        match self.args.get(index) {
            Some(Arg::U32(n)) => u64::from(*n),
            Some(Arg::U64(n)) => *n,
            Some(Arg::Buffer(_)) | None => 0,
        }
    }

    /// Warps of the grid.
    pub(super) fn warps(&self) -> u64 {
        u64::from(self.grid) * self.warps_per_block()
    }

    /// Warps of a block.
    pub(super) fn warps_per_block(&self) -> u64 {
        u64::from(self.block.div_ceil(WARP))
    }
}
