//! Kernels: how they are called, what they ask of the hardware, and what they must return.
//!
//! Every entry point takes the catalogue's parameters in order, and then always three more: a [`State`] in device memory
//! (one a program, zeroed when it is loaded), a [`Stamp`] in mapped host memory or null, and the sequence word that the
//! stamp is closed with. kernels/common.cuh is the other side of this file.

use super::fault;
use super::pattern;
use crate::machine::{Demand, LaunchDemand};

/// A kernel, as its executor, the simulator and the stand-in driver see it.
pub struct Kernel {
    /// Name of the entry point.
    pub symbol: &'static str,
    /// Types of its arguments, those that every kernel takes at the end left out.
    pub params: &'static [ParamType],
    /// What a launch asks of the hardware.
    pub demand: fn(&LaunchArgs<'_>) -> Demand,
    /// The checksum (mod 2³²) that one launch adds where everything that it read was right: independent of where the
    /// launch before it stopped.
    pub reference: fn(&LaunchArgs<'_>) -> u32,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.symbol)
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.symbol == other.symbol
    }
}

/// Type of a kernel argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    /// 32-bit unsigned.
    U32,
    /// 64-bit unsigned.
    U64,
    /// Device pointer.
    Pointer,
}

impl ParamType {
    /// Bytes of an argument of this type, which is also its alignment.
    pub const fn bytes(self) -> usize {
        match self {
            Self::U32 => 4,
            Self::U64 | Self::Pointer => 8,
        }
    }
}

/// A kernel argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// 32-bit unsigned.
    U32(u32),
    /// 64-bit unsigned.
    U64(u64),
    /// The buffer with this index.
    Buffer(usize),
}

/// A launch as a kernel's demand and reference see it.
pub struct LaunchArgs<'a> {
    /// Blocks of the grid.
    pub grid: u32,
    /// Threads of a block.
    pub block: u32,
    /// Arguments.
    pub args: &'a [Arg],
}

/// What a program's launches keep in device memory from one to the next.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Highest complement of %globaltimer at the start of a block of the launch in progress: its earliest start.
    pub begun: u64,
    /// Streams: where the next launch goes on, in bytes.
    pub offset: u64,
    /// Blocks of the launch in progress that are done.
    pub done: u32,
    /// Sum of checksums since the last stamp.
    pub checksum: u32,
    /// Walkers: where each block's walk stands.
    pub cursor: [u32; 2042],
}

/// What a stamped launch writes to mapped host memory when its last block is done.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// %globaltimer at the start of the earliest block, nanoseconds on the device's axis.
    pub start_ns: u64,
    /// %globaltimer at the end of the last block.
    pub end_ns: u64,
    /// How long the last block ran, nanoseconds of %globaltimer.
    pub block_ns: u64,
    /// How long the last block ran, cycles of its SM (clock64).
    pub block_cycles: u64,
    /// %smid of the last block.
    pub sm: u32,
    /// Sum of checksums since the last stamp.
    pub checksum: u32,
    /// Unused.
    pub reserved: [u32; 5],
    /// The sequence word of the launch: written last.
    pub sequence: u32,
}

const _: () = assert!(size_of::<State>() == 8192 && size_of::<Stamp>() == 64);

/// A launch that does nothing but stamp: it ends requests whose last operation is a copy, and ties the clocks of device
/// and host together.
pub static STAMP: Kernel = Kernel { symbol: "stamp", params: &[], demand: light, reference: |_| 0 };

/// `fill_vectors(buffer, bytes, seed)`: see [`Fill::Vectors`](super::Fill::Vectors). Its checksum is that of the words
/// written.
static FILL_VECTORS: Kernel = Kernel {
    symbol: "fill_vectors",
    params: &[ParamType::Pointer, ParamType::U64, ParamType::U32],
    demand: light,
    reference: |l| vectors(l.number(1)),
};

/// `fill_cycle(buffer, span, distance, next)`: a node for each entry of `next`, a device array of one u32 a line. Its
/// checksum is the number of lines.
static FILL_CYCLE: Kernel = Kernel {
    symbol: "fill_cycle",
    params: &[ParamType::Pointer, ParamType::U64, ParamType::U64, ParamType::Pointer],
    demand: light,
    reference: |l| (l.number(1) / l.number(2).max(1)) as u32,
};

/// Kernels that no workload names: they fill buffers, stamp, leave and look for patterns, and take faults.
pub static SETUP: &[&Kernel] = &[
    &STAMP,
    &FILL_VECTORS,
    &FILL_CYCLE,
    &pattern::FILL,
    &pattern::CHECK,
    &pattern::SCAN,
    &pattern::SHARED_FILL,
    &pattern::SHARED_SCAN,
    &fault::ILLEGAL_ADDRESS,
    &fault::MISALIGNED_ADDRESS,
    &fault::TRAP,
    &fault::ASSERT,
    &fault::STACK_OVERFLOW,
    &fault::ENDLESS,
];

pub(super) fn light(l: &LaunchArgs<'_>) -> Demand {
    Demand::Launch(LaunchDemand { blocks: l.grid, blocks_per_sm: 1, ..LaunchDemand::default() })
}

/// The checksum of `bytes` of [`Fill::Vectors`](super::Fill::Vectors).
pub(super) fn vectors(bytes: u64) -> u32 {
    ((bytes / 16) as u32).wrapping_mul(2).wrapping_neg()
}

/// A bijection of 32-bit words that looks random: what kernels make data and tags from (kernels/common.cuh).
pub(super) const fn mix(x: u32) -> u32 {
    let x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
    let x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}
