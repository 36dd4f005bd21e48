//! CUDA, by the driver alone: loaded at run time, no toolkit, no panic where it is missing or says something unheard of.
//!
//! cudarc gives types and constants. Its functions are not used: they panic where a symbol is missing, and turn codes
//! into an enum at the boundary, where an unknown one is undefined behaviour.

mod context;
mod device;
mod driver;
mod error;
mod green;
mod memory;
pub(crate) mod peer;

pub(crate) use context::{Context, Graph, Module, Stream, make_current};
pub(crate) use device::Device;
pub use driver::Driver;
pub use error::CudaError;
pub(crate) use error::{NOT_READY, OUT_OF_MEMORY, SUCCESS, is_sticky};
pub(crate) use green::{GreenContext, SmSets};
pub(crate) use memory::{DeviceBuffer, PinnedBuffer, memory_info, settle_default_stream};
