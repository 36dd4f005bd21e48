//! A stand-in for libcuda.so: the driver API over the machine model, several processes sharing its GPUs, in real time.
//!
//! What it is comes from `stand-in.toml` in the folder that `CROSSTALK_STAND_IN` names; tests/fake-driver/README.md
//! describes the file. Kernels are those of crosstalk's catalogue: their demands meet on the machine, their references
//! are what they return.

#[path = "shared/blast.rs"]
mod blast;
#[path = "shared/config.rs"]
#[expect(dead_code, reason = "the other library uses the rest")]
mod config;
#[path = "cuda/context.rs"]
mod context;
#[path = "cuda/copies.rs"]
mod copies;
#[path = "cuda/delivery.rs"]
mod delivery;
#[path = "cuda/device.rs"]
mod device;
#[path = "shared/entry.rs"]
#[expect(dead_code, reason = "the other library uses the rest")]
mod entry;
#[path = "cuda/faults.rs"]
mod faults;
#[path = "cuda/graphs.rs"]
mod graphs;
#[path = "cuda/green.rs"]
mod green;
#[path = "cuda/heap.rs"]
mod heap;
#[path = "cuda/launch.rs"]
mod launch;
#[path = "shared/layout.rs"]
#[expect(dead_code, reason = "the other library uses the rest")]
mod layout;
#[path = "shared/lost.rs"]
mod lost;
#[path = "cuda/modules.rs"]
mod modules;
#[path = "cuda/mps.rs"]
mod mps;
#[path = "shared/parts.rs"]
#[expect(dead_code, reason = "the other library uses the rest")]
mod parts;
#[path = "cuda/peers.rs"]
mod peers;
#[path = "shared/pipe.rs"]
mod pipe;
#[path = "cuda/process.rs"]
mod process;
#[path = "cuda/results.rs"]
mod results;
#[path = "shared/state.rs"]
#[expect(dead_code, reason = "libnvidia-ml uses the rest")]
mod state;
#[path = "cuda/streams.rs"]
mod streams;
#[path = "cuda/touch.rs"]
mod touch;
#[path = "shared/traces.rs"]
mod traces;

use entry::Code;

/// CUDA_ERROR_INVALID_VALUE: what a null argument yields.
const INVALID: Code = results::INVALID_VALUE;
/// CUDA_ERROR_UNKNOWN: what a defect of the stand-in yields.
const UNKNOWN: Code = results::UNKNOWN;

/// Its presence says that this is no driver of NVIDIA's.
#[unsafe(no_mangle)]
extern "C" fn crosstalk_stand_in() -> u32 {
    1
}
