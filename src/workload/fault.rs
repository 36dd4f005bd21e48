//! Kernels that take a fault: hazards launch them, no workload does.

use super::kernel::{Kernel, ParamType, State, light};
use crate::machine::{Demand, LaunchDemand};

/// An address of which nothing is: the second page, which no driver hands out.
pub(crate) const NOWHERE: u64 = 0x1000;
/// Bytes by which a word is off.
pub(crate) const OFF: u32 = 1;
/// Calls within calls: 256 bytes each, twice what a thread can have of local memory (512 KiB; CUDA programming guide,
/// compute capabilities).
pub(crate) const DEPTH: u32 = 4096;
/// Threads of a block of the endless kernel, and blocks that an SM of 2048 threads has room for.
pub(crate) const SPIN_THREADS: u32 = 1024;
pub(crate) const SPIN_BLOCKS: u32 = 2;
/// Word of an endless kernel in mapped host memory: set, it stops.
pub const SPIN_STOP: usize = 0;
/// Another, which it sets when it runs.
pub const SPIN_RUNS: usize = 16;

/// Cycles that nobody waits for: a week at 2 GHz.
const FOR_EVER: u64 = 1 << 50;

const fn fault(symbol: &'static str, params: &'static [ParamType]) -> Kernel {
    Kernel { symbol, params, demand: light, reference: |_| 0 }
}

/// Writes to an address.
pub(crate) static ILLEGAL_ADDRESS: Kernel = fault("fault_illegal_address", &[ParamType::U64]);
/// Writes so many bytes behind a word.
pub(crate) static MISALIGNED_ADDRESS: Kernel = fault("fault_misaligned_address", &[ParamType::U32]);
/// Traps.
pub(crate) static TRAP: Kernel = fault("fault_trap", &[]);
/// An assertion fails.
pub(crate) static ASSERT: Kernel = fault("fault_assert", &[]);
/// Calls itself so often.
pub(crate) static STACK_OVERFLOW: Kernel = fault("fault_stack_overflow", &[ParamType::U32]);
/// Spins until a word in mapped host memory is set: [`SPIN_STOP`], [`SPIN_RUNS`].
pub(crate) static ENDLESS: Kernel = Kernel {
    symbol: "fault_endless",
    params: &[ParamType::Pointer],
    demand: |l| {
        Demand::Launch(LaunchDemand {
            blocks: l.grid,
            blocks_per_sm: SPIN_BLOCKS,
            wait_cycles: FOR_EVER,
            ..LaunchDemand::default()
        })
    },
    reference: |_| 0,
};

const _: () = assert!(size_of::<State>() > 64, "the misaligned word is within the state");
