//! A stand-in for libnvidia-ml.so over the same state as that of libcuda.so: inventory, memory, processes, clocks, power
//! and health of the GPUs that `stand-in.toml` describes.

#[path = "nvml/accounts.rs"]
mod accounts;
#[path = "shared/blast.rs"]
mod blast;
#[path = "shared/config.rs"]
#[expect(dead_code, reason = "the other library uses the rest")]
mod config;
#[path = "nvml/division.rs"]
mod division;
#[path = "shared/entry.rs"]
#[expect(dead_code, reason = "the other library uses the rest")]
mod entry;
#[path = "nvml/events.rs"]
mod events;
#[path = "nvml/gpm.rs"]
mod gpm;
#[path = "nvml/health.rs"]
mod health;
#[path = "nvml/identity.rs"]
mod identity;
#[path = "nvml/instances.rs"]
mod instances;
#[path = "shared/layout.rs"]
mod layout;
#[path = "nvml/library.rs"]
mod library;
#[path = "shared/lost.rs"]
mod lost;
#[path = "shared/parts.rs"]
#[expect(dead_code, reason = "the other library uses the rest")]
mod parts;
#[path = "nvml/results.rs"]
mod results;
#[path = "shared/state.rs"]
#[expect(dead_code, reason = "the other library uses the rest")]
mod state;
#[path = "shared/traces.rs"]
#[expect(dead_code, reason = "the other library uses the rest")]
mod traces;
#[path = "nvml/usage.rs"]
mod usage;

use entry::Code;

/// NVML_ERROR_INVALID_ARGUMENT: what a null argument yields.
const INVALID: Code = results::INVALID_ARGUMENT;
/// NVML_ERROR_UNKNOWN: what a defect of the stand-in yields.
const UNKNOWN: Code = results::UNKNOWN;

/// Its presence says that this is no library of NVIDIA's.
#[unsafe(no_mangle)]
extern "C" fn crosstalk_stand_in() -> u32 {
    1
}
