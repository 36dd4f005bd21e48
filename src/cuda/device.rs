//! A device as the driver shows it to this process.

use std::ffi::{CStr, c_char};

use cudarc::driver::sys::{CUdevice, CUdevice_attribute_enum as Attribute, CUuuid};

use super::{CudaError, Driver};

/// A device of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    driver: &'static Driver,
    handle: CUdevice,
}

impl Device {
    /// How many this process sees.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn count(driver: &Driver) -> Result<u32, CudaError> {
        let mut count = 0;
        // SAFETY: the pointer is valid for the call.
        driver.check("cuDeviceGetCount", unsafe { driver.cuDeviceGetCount(&raw mut count) })?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    /// The device with this number.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn get(driver: &'static Driver, ordinal: i32) -> Result<Self, CudaError> {
        let mut handle = 0;
        // SAFETY: the pointer is valid for the call.
        driver.check("cuDeviceGet", unsafe { driver.cuDeviceGet(&raw mut handle, ordinal) })?;
        Ok(Self { driver, handle })
    }

    /// The driver's handle.
    pub(crate) fn handle(&self) -> CUdevice {
        self.handle
    }

    /// Product name.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn name(&self) -> Result<String, CudaError> {
        let mut name: [c_char; 256] = [0; 256];
        // SAFETY: the length given is one less than the array's, so that it ends in a zero whatever the driver does.
        let code = unsafe { self.driver.cuDeviceGetName(name.as_mut_ptr(), 255, self.handle) };
        self.driver.check("cuDeviceGetName", code)?;
        // SAFETY: the last byte is zero.
        Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// UUID, without a prefix: of the GPU, or of the MIG device where CUDA_VISIBLE_DEVICES names one.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn uuid(&self) -> Result<String, CudaError> {
        let mut uuid = CUuuid { bytes: [0; 16] };
        // SAFETY: the pointer is valid for the call.
        self.driver
            .check("cuDeviceGetUuid_v2", unsafe { self.driver.cuDeviceGetUuid_v2(&raw mut uuid, self.handle) })?;
        let hex = hex::encode(uuid.bytes.map(|byte| byte as u8));
        Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
    }

    /// Memory in all, bytes.
    ///
    /// # Errors
    /// The driver's own.
    pub(crate) fn memory(&self) -> Result<u64, CudaError> {
        let mut bytes = 0usize;
        // SAFETY: the pointer is valid for the call.
        self.driver
            .check("cuDeviceTotalMem_v2", unsafe { self.driver.cuDeviceTotalMem_v2(&raw mut bytes, self.handle) })?;
        Ok(bytes as u64)
    }

    /// Compute capability.
    ///
    /// # Errors
    /// Where the driver does not say.
    pub(crate) fn compute_capability(&self) -> Result<(u32, u32), CudaError> {
        Ok((
            self.must(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            self.must(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ))
    }

    /// SMs.
    ///
    /// # Errors
    /// Where the driver does not say.
    pub(crate) fn sms(&self) -> Result<u32, CudaError> {
        self.must(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
    }

    /// Highest SM clock, MHz; `None` where the driver does not say.
    pub(crate) fn sm_mhz(&self) -> Option<u32> {
        self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE).ok().map(|khz| khz / 1_000).filter(|mhz| *mhz > 0)
    }

    /// L2 cache, bytes; `None` where the driver does not say.
    pub(crate) fn l2(&self) -> Option<u64> {
        self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).ok().map(u64::from).filter(|bytes| *bytes > 0)
    }

    fn must(&self, attribute: Attribute) -> Result<u32, CudaError> {
        match self.attribute(attribute)? {
            0 if attribute != Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR => Err(CudaError::other(
                "cuDeviceGetAttribute",
                format!("the driver gives 0 for {attribute:?}: nothing can be sized from that"),
            )),
            value => Ok(value),
        }
    }

    fn attribute(&self, attribute: Attribute) -> Result<u32, CudaError> {
        let mut value = 0;
        // SAFETY: the pointer is valid for the call.
        let code = unsafe { self.driver.cuDeviceGetAttribute(&raw mut value, attribute as i32, self.handle) };
        self.driver.check("cuDeviceGetAttribute", code)?;
        Ok(u32::try_from(value).unwrap_or(0))
    }
}
