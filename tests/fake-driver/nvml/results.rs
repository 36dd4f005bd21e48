//! Result codes of NVML (nvmlReturn_t of nvml.h), and their texts.

use std::ffi::{CStr, c_char};

use crate::entry::Code;

pub(crate) const UNINITIALIZED: Code = Code(1);
pub(crate) const INVALID_ARGUMENT: Code = Code(2);
pub(crate) const NOT_SUPPORTED: Code = Code(3);
pub(crate) const NO_PERMISSION: Code = Code(4);
pub(crate) const NOT_FOUND: Code = Code(6);
pub(crate) const INSUFFICIENT_SIZE: Code = Code(7);
pub(crate) const DRIVER_NOT_LOADED: Code = Code(9);
pub(crate) const TIMEOUT: Code = Code(10);
pub(crate) const IN_USE: Code = Code(19);
pub(crate) const INSUFFICIENT_RESOURCES: Code = Code(23);
pub(crate) const GPU_IS_LOST: Code = Code(15);
pub(crate) const ARGUMENT_VERSION_MISMATCH: Code = Code(25);
pub(crate) const UNKNOWN: Code = Code(999);

/// The texts of the library.
const TEXTS: &[(u32, &CStr)] = &[
    (0, c"Success"),
    (1, c"Uninitialized"),
    (2, c"Invalid Argument"),
    (3, c"Not Supported"),
    (4, c"Insufficient Permissions"),
    (6, c"Not Found"),
    (7, c"Insufficient Size"),
    (9, c"Driver Not Loaded"),
    (10, c"Timeout"),
    (12, c"Shared Library Not Found"),
    (13, c"Function Not Found"),
    (15, c"GPU is lost"),
    (16, c"GPU requires reset"),
    (18, c"Driver/library version mismatch"),
    (19, c"In use by another client"),
    (23, c"Insufficient Resources"),
    (25, c"Argument version mismatch"),
    (999, c"Unknown Error"),
];

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: u32) -> *const c_char {
    TEXTS.iter().find(|(c, _)| *c == code).map_or(c"Unknown Error", |(_, text)| text).as_ptr()
}
