//! A stand-in for libnvidia-ml.so over the same state as that of libcuda.so.

/// Its presence says that this is no library of NVIDIA's.
#[unsafe(no_mangle)]
extern "C" fn crosstalk_stand_in() -> u32 {
    1
}
