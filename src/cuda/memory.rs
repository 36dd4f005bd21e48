//! Memory: of the device, and pinned on the host.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::{CudaError, Driver};

/// CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP.
const PORTABLE_AND_MAPPED: u32 = 0x01 | 0x02;

/// Device memory of the current context. Plain, never from a pool: what is freed is free for others.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    driver: &'static Driver,
    address: u64,
    bytes: u64,
}

impl DeviceBuffer {
    /// Allocates; the context must be current, here and where it is dropped.
    ///
    /// # Errors
    /// Code 2 where no memory is left; the text says how much there was.
    pub(crate) fn new(driver: &'static Driver, bytes: u64) -> Result<Self, CudaError> {
        let mut address = 0;
        // SAFETY: the pointer is valid for the call.
        let code = unsafe { driver.cuMemAlloc_v2(&raw mut address, usize::try_from(bytes).unwrap_or(usize::MAX)) };
        driver.check("cuMemAlloc_v2", code).map_err(|mut error| {
            if let Ok((free, total)) = memory_info(driver) {
                error.what.push_str(&format!(" (asked for {bytes} bytes; {free} of {total} are free)"));
            }
            error
        })?;
        Ok(Self { driver, address, bytes })
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once. Where the context is lost the memory is gone with it.
        let _ = unsafe { self.driver.cuMemFree_v2(self.address) };
    }
}

/// Free and total device memory as the current context sees it, bytes.
///
/// # Errors
/// The driver's own.
pub(crate) fn memory_info(driver: &Driver) -> Result<(u64, u64), CudaError> {
    let (mut free, mut total) = (0usize, 0usize);
    // SAFETY: both pointers are valid for the call.
    driver.check("cuMemGetInfo_v2", unsafe { driver.cuMemGetInfo_v2(&raw mut free, &raw mut total) })?;
    Ok((free as u64, total as u64))
}

/// Waits until what was asked of the default stream is done. A fill of device memory, and a copy from pageable memory,
/// may still be under way when the call returns, and streams that are non-blocking do not wait for it.
///
/// # Errors
/// The driver's own.
pub(crate) fn settle_default_stream(driver: &Driver) -> Result<(), CudaError> {
    // SAFETY: the null stream is the default one of the current context.
    driver.check("cuStreamSynchronize", unsafe { driver.cuStreamSynchronize(std::ptr::null_mut()) })
}

/// Page-locked host memory that every context of the process sees, zeroed, mapped into the device's address space.
#[derive(Debug)]
pub(crate) struct PinnedBuffer {
    driver: &'static Driver,
    host: NonNull<u8>,
    device: u64,
}

// SAFETY: an owned piece of memory, free of thread affinity; all access goes through raw pointers whose users say how.
unsafe impl Send for PinnedBuffer {}
// SAFETY: as above: a shared reference gives out addresses only.
unsafe impl Sync for PinnedBuffer {}

impl PinnedBuffer {
    /// Allocates `bytes`, at least one; the context must be current.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn new(driver: &'static Driver, bytes: usize) -> Result<Self, CudaError> {
        let bytes = bytes.max(1);
        let mut host: *mut c_void = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        let code = unsafe { driver.cuMemHostAlloc(&raw mut host, bytes, PORTABLE_AND_MAPPED) };
        driver.check("cuMemHostAlloc", code)?;
        let Some(host) = NonNull::new(host.cast::<u8>()) else {
            return Err(CudaError::other("cuMemHostAlloc", "succeeded without an address: the driver is broken"));
        };
        let mut buffer = Self { driver, host, device: 0 };
        // SAFETY: allocated just now with this length, and nobody else has it.
        unsafe { host.as_ptr().write_bytes(0, bytes) };
        // SAFETY: the memory is mapped by the flags above; the pointer is valid for the call.
        let code =
            unsafe { driver.cuMemHostGetDevicePointer_v2(&raw mut buffer.device, host.as_ptr().cast::<c_void>(), 0) };
        driver.check("cuMemHostGetDevicePointer_v2", code)?;
        Ok(buffer)
    }

    /// Where the host sees it.
    pub(crate) fn host(&self) -> *mut u8 {
        self.host.as_ptr()
    }

    /// Where the device sees it.
    pub(crate) fn device(&self) -> u64 {
        self.device
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once.
        let _ = unsafe { self.driver.cuMemFreeHost(self.host.as_ptr().cast::<c_void>()) };
    }
}
