//! Memory of other devices and of other processes. Calls that a driver may lack, each of which may be refused: what is
//! refused here is what is asked.

use std::ffi::{c_char, c_void};

use super::context::make_current;
use super::{CudaError, Device, DeviceBuffer, Driver, PinnedBuffer, settle_default_stream};

/// CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS, which cuIpcOpenMemHandle requires.
const LAZY_PEER_ACCESS: u32 = 1;
/// Bytes of a handle (CU_IPC_HANDLE_SIZE).
const HANDLE: usize = 64;

/// CUipcMemHandle: passed by value.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct IpcHandle {
    reserved: [c_char; HANDLE],
}

const _: () = assert!(size_of::<IpcHandle>() == size_of::<cudarc::driver::sys::CUipcMemHandle>());

impl IpcHandle {
    const NONE: Self = Self { reserved: [0; HANDLE] };

    /// In hexadecimal digits.
    pub(crate) fn to_hex(self) -> String {
        hex::encode(self.reserved.map(|byte| byte as u8))
    }

    /// From hexadecimal digits.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0u8; HANDLE];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self { reserved: bytes.map(|byte| byte as c_char) })
    }
}

/// The answer of a call that a driver may lack.
fn checked(driver: &Driver, call: &'static str, code: Option<u32>) -> Result<(), CudaError> {
    match code {
        Some(code) => driver.check(call, code),
        None => Err(CudaError::other(call, "this driver has no such call")),
    }
}

/// Whether `device` may reach the memory of `peer`.
///
/// # Errors
/// The driver's own.
pub(crate) fn can_access_peer(driver: &Driver, device: &Device, peer: &Device) -> Result<bool, CudaError> {
    let mut can = 0;
    // SAFETY: the pointer is valid for the call; handles of devices stay valid.
    let code = unsafe { driver.cuDeviceCanAccessPeer(&raw mut can, device.handle(), peer.handle()) };
    checked(driver, "cuDeviceCanAccessPeer", code)?;
    Ok(can != 0)
}

/// The primary context of a device, current on the thread that took it: what the CUDA runtime, and what builds on it, works
/// in.
#[derive(Debug)]
pub(crate) struct Primary {
    driver: &'static Driver,
    device: Device,
    context: cudarc::driver::sys::CUcontext,
}

impl Primary {
    /// Takes it and makes it current.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn take(driver: &'static Driver, device: Device) -> Result<Self, CudaError> {
        let mut context = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        let code = unsafe { driver.cuDevicePrimaryCtxRetain(&raw mut context, device.handle()) };
        checked(driver, "cuDevicePrimaryCtxRetain", code)?;
        let taken = Self { driver, device, context };
        taken.make_current()?;
        Ok(taken)
    }

    /// Makes it the calling thread's.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn make_current(&self) -> Result<(), CudaError> {
        make_current(self.driver, self.context)
    }

    /// Lets the current context reach the memory of this one.
    ///
    /// # Errors
    /// The driver's own: the answer to whether it does.
    pub(crate) fn reach_from_current(&self) -> Result<(), CudaError> {
        // SAFETY: the context is alive; no flags are defined.
        let code = unsafe { self.driver.cuCtxEnablePeerAccess(self.context, 0) };
        checked(self.driver, "cuCtxEnablePeerAccess", code)
    }

    /// Copies `bytes` from memory of this context to memory of `to`'s, on the default stream of the current context.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn copy_to(&self, from: &DeviceBuffer, to: (&Self, &DeviceBuffer), bytes: u64) -> Result<(), CudaError> {
        let bytes = usize::try_from(bytes.min(from.bytes()).min(to.1.bytes())).unwrap_or(usize::MAX);
        // SAFETY: both contexts are alive and each buffer holds that many bytes in its own; the null stream is the default.
        let code = unsafe {
            self.driver.cuMemcpyPeerAsync(
                to.1.address(),
                to.0.context,
                from.address(),
                self.context,
                bytes,
                std::ptr::null_mut(),
            )
        };
        checked(self.driver, "cuMemcpyPeerAsync", code)
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        // SAFETY: taken by `take`, given back once; what lived in it was dropped before.
        let _ = unsafe { self.driver.cuDevicePrimaryCtxRelease_v2(self.device.handle()) };
    }
}

/// Hands out device memory to other processes.
///
/// # Errors
/// The driver's own.
pub(crate) fn hand_out(driver: &Driver, buffer: &DeviceBuffer) -> Result<IpcHandle, CudaError> {
    let mut handle = IpcHandle::NONE;
    // SAFETY: the pointer is valid for the call; the address is the start of an allocation, which is alive.
    let code = unsafe { driver.cuIpcGetMemHandle(&raw mut handle, buffer.address()) };
    checked(driver, "cuIpcGetMemHandle", code)?;
    Ok(handle)
}

/// Device memory of another process, mapped into the current context.
#[derive(Debug)]
pub(crate) struct Mapped {
    driver: &'static Driver,
    address: u64,
}

impl Mapped {
    /// Maps it.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn open(driver: &'static Driver, handle: IpcHandle) -> Result<Self, CudaError> {
        let mut address = 0;
        // SAFETY: the pointer is valid for the call; the handle is bytes that the driver checks.
        let code = unsafe { driver.cuIpcOpenMemHandle_v2(&raw mut address, handle, LAZY_PEER_ACCESS) };
        checked(driver, "cuIpcOpenMemHandle_v2", code)?;
        Ok(Self { driver, address })
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, closed once.
        let _ = unsafe { self.driver.cuIpcCloseMemHandle(self.address) };
    }
}

/// Writes `bytes` to device memory, and waits.
///
/// # Errors
/// The driver's own.
pub(crate) fn write(driver: &Driver, to: &DeviceBuffer, bytes: &[u8]) -> Result<(), CudaError> {
    let length = bytes.len().min(usize::try_from(to.bytes()).unwrap_or(usize::MAX));
    // SAFETY: the buffer holds that many bytes, and so does the slice.
    let code = unsafe { driver.cuMemcpyHtoD_v2(to.address(), bytes.as_ptr().cast::<c_void>(), length) };
    driver.check("cuMemcpyHtoD_v2", code)?;
    settle_default_stream(driver)
}

/// Reads `length` bytes of device memory at `address`, which the caller knows to hold as many.
///
/// # Errors
/// The driver's own.
pub(crate) fn read(driver: &'static Driver, address: u64, length: usize) -> Result<Vec<u8>, CudaError> {
    let host = PinnedBuffer::new(driver, length)?;
    // SAFETY: pinned memory of that length, and device memory by the caller's word; the null stream is the default one, and is
    // waited for before the memory is read or freed.
    let code =
        unsafe { driver.cuMemcpyDtoHAsync_v2(host.host().cast::<c_void>(), address, length, std::ptr::null_mut()) };
    let copied = driver.check("cuMemcpyDtoHAsync_v2", code).and_then(|()| settle_default_stream(driver));
    copied?;
    // SAFETY: `length` bytes that were zeroed on allocation, and that nothing writes any more.
    Ok(unsafe { std::slice::from_raw_parts(host.host(), length) }.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_reads_back_and_what_is_none_is_refused() {
        let text: String = (0..HANDLE).map(|byte| format!("{:02x}", byte * 3 + 60)).collect();
        assert_eq!(IpcHandle::from_hex(&text).unwrap().to_hex(), text);
        for wrong in ["", "00", &format!("{text}00"), "zz"] {
            assert!(IpcHandle::from_hex(wrong).is_none(), "{wrong}");
        }
    }
}
