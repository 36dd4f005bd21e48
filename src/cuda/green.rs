//! Green contexts: sets of SMs within the primary context of a device (CUDA driver API, "Green Contexts", from 12.4 on).
//!
//! The device's SMs are split *once* in a process, and every green context is made of groups of that split: only groups of
//! one split are disjoint by the driver's promise, and only they may be joined in one description.

use std::ptr;

use cudarc::driver::sys::{CUcontext, CUdevResource, CUgreenCtx};

use super::context::{NON_BLOCKING, Stream, flags};
use super::{CudaError, Device, Driver};

/// CU_DEV_RESOURCE_TYPE_SM.
const SMS: u32 = 1;
/// CU_GREEN_CTX_DEFAULT_STREAM: required.
const DEFAULT_STREAM: u32 = 1;
/// CUDA_ERROR_NOT_SUPPORTED.
const NOT_SUPPORTED: u32 = 801;

/// A resource as the driver describes it (CUdevResource), of integers alone: a kind that this program has never heard of
/// must not become an enum.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct DevResource {
    kind: u32,
    internal: [u8; 92],
    /// Of SMs: how many.
    sms: u32,
    rest: [u8; 44],
}

const _: () = assert!(size_of::<DevResource>() == size_of::<CUdevResource>());

impl DevResource {
    const NONE: Self = Self { kind: 0, internal: [0; 92], sms: 0, rest: [0; 44] };
}

/// The answer of a call that a driver may lack.
fn checked(driver: &Driver, call: &'static str, code: Option<u32>) -> Result<(), CudaError> {
    let needs = || {
        let has = driver.version().ok().filter(|version| *version > 0);
        let has = has.map_or(String::new(), |v| format!(", this one has CUDA {}.{}", v / 1_000, v % 1_000 / 10));
        format!("green contexts need a driver of CUDA 12.4 or later (R550){has}")
    };
    match code {
        None => Err(CudaError::other(call, format!("this driver has no such call: {}", needs()))),
        Some(code) => driver.check(call, code).map_err(|mut error| {
            if code == NOT_SUPPORTED {
                error.what.push_str(&format!(" ({})", needs()));
            }
            error
        }),
    }
}

/// The SMs of a device in disjoint sets.
pub(crate) struct SmSets {
    driver: &'static Driver,
    device: Device,
    /// The groups of each set.
    sets: Vec<Vec<DevResource>>,
}

impl SmSets {
    /// Splits the SMs of `device` into sets of these sizes, or a little larger where the driver rounds groups up; how many
    /// SMs a green context really has it says itself.
    ///
    /// # Errors
    /// The driver's own; where it has no such calls; where its groups are too few.
    pub(crate) fn split(driver: &'static Driver, device: Device, sizes: &[u32]) -> Result<Self, CudaError> {
        let mut whole = DevResource::NONE;
        // SAFETY: the pointer is valid for the call.
        let code = unsafe { driver.cuDeviceGetDevResource(device.handle(), &raw mut whole, SMS) };
        checked(driver, "cuDeviceGetDevResource", code)?;
        // Groups of a split are equal, so they are as large as divides every set.
        let size = sizes.iter().fold(0, |all, size| gcd(all, *size));
        if sizes.is_empty() || sizes.contains(&0) {
            return Err(CudaError::other(
                "cuDevSmResourceSplitByCount",
                format!("a share of {} SMs that is less than one group: ask for larger shares", whole.sms),
            ));
        }
        let wanted: u32 = sizes.iter().map(|sms| sms / size).sum();
        let mut groups = vec![DevResource::NONE; wanted as usize];
        let mut made = wanted;
        // SAFETY: room for as many groups as `made` says, and pointers valid for the call; what remains is not asked for.
        let code = unsafe {
            driver.cuDevSmResourceSplitByCount(
                groups.as_mut_ptr(),
                &raw mut made,
                &raw const whole,
                ptr::null_mut(),
                0,
                size,
            )
        };
        checked(driver, "cuDevSmResourceSplitByCount", code)?;
        groups.truncate(made as usize);
        // Of groups that are larger than asked for, a set takes fewer.
        let real = groups.first().map_or(size, |group| group.sms.max(size));
        let each: Vec<usize> = sizes.iter().map(|sms| sms.div_ceil(real) as usize).collect();
        let needed: usize = each.iter().sum();
        if needed > groups.len() {
            return Err(CudaError::other(
                "cuDevSmResourceSplitByCount",
                format!(
                    "sets of {sizes:?} of {} SMs take {needed} groups of {real}, and the driver makes {made}: ask for \
                     smaller shares, or for equal ones",
                    whole.sms
                ),
            ));
        }
        let mut groups = groups.into_iter();
        let sets = each.into_iter().map(|count| groups.by_ref().take(count).collect()).collect();
        Ok(Self { driver, device, sets })
    }

    /// A green context with the SMs of set `index`. The first of a process creates the device's primary context. `spin`:
    /// the driver's own waits spin instead of sleeping.
    ///
    /// # Errors
    /// The driver's own; where there is no such set.
    pub(crate) fn green_context(&self, index: usize, spin: bool) -> Result<GreenContext, CudaError> {
        let driver = self.driver;
        let mut groups = self
            .sets
            .get(index)
            .cloned()
            .ok_or_else(|| CudaError::other("cuGreenCtxCreate", format!("there is no set {index} of SMs")))?;
        // How the driver waits is the primary context's affair. A driver that does not take it waits as it likes.
        // SAFETY: takes no pointer.
        let _ = unsafe { driver.cuDevicePrimaryCtxSetFlags_v2(self.device.handle(), flags(spin)) };
        let mut description = ptr::null_mut();
        // SAFETY: as many groups as are told, all of one split; pointers valid for the call.
        let code =
            unsafe { driver.cuDevResourceGenerateDesc(&raw mut description, groups.as_mut_ptr(), groups.len() as u32) };
        checked(driver, "cuDevResourceGenerateDesc", code)?;
        let mut green = ptr::null_mut();
        // SAFETY: the pointer is valid for the call, the description just made.
        let code =
            unsafe { driver.cuGreenCtxCreate(&raw mut green, description, self.device.handle(), DEFAULT_STREAM) };
        checked(driver, "cuGreenCtxCreate", code)?;
        let mut made = GreenContext { driver, green, context: ptr::null_mut(), sms: 0 };
        // SAFETY: the green context is alive; the pointer is valid for the call.
        let code = unsafe { driver.cuCtxFromGreenCtx(&raw mut made.context, green) };
        checked(driver, "cuCtxFromGreenCtx", code)?;
        let mut has = DevResource::NONE;
        // SAFETY: as above.
        let code = unsafe { driver.cuGreenCtxGetDevResource(green, &raw mut has, SMS) };
        checked(driver, "cuGreenCtxGetDevResource", code)?;
        made.sms = has.sms;
        super::make_current(driver, made.context)?;
        Ok(made)
    }
}

/// A green context, current on the thread that made it.
#[derive(Debug)]
pub(crate) struct GreenContext {
    driver: &'static Driver,
    green: CUgreenCtx,
    context: CUcontext,
    sms: u32,
}

impl GreenContext {
    /// The driver's handle of the context that calls on it are made with.
    pub(crate) fn handle(&self) -> CUcontext {
        self.context
    }

    /// SMs that it has, as the driver counts them.
    pub(crate) fn sms(&self) -> u32 {
        self.sms
    }

    /// A stream on its SMs.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn stream(&self) -> Result<Stream, CudaError> {
        let mut handle = ptr::null_mut();
        // SAFETY: the green context is alive; the pointer is valid for the call.
        match unsafe { self.driver.cuGreenCtxStreamCreate(&raw mut handle, self.green, NON_BLOCKING, 0) } {
            Some(code) => {
                self.driver.check("cuGreenCtxStreamCreate", code)?;
                Ok(Stream::owned(self.driver, handle))
            }
            // CUDA 12.4 has not got the call yet: there a stream is of the green context that is current.
            None => Stream::new(self.driver),
        }
    }
}

impl Drop for GreenContext {
    fn drop(&mut self) {
        // SAFETY: created by `green_context`, destroyed once; what lived in it was dropped before.
        let _ = unsafe { self.driver.cuGreenCtxDestroy(self.green) };
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
