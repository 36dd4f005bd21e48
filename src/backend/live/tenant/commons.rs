//! What the seats of one process have in common on its device: a context, or the sets of SMs that green contexts are made
//! of.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use cudarc::driver::sys::CUcontext;

use super::gpu::failed;
use crate::cuda::{Context, CudaError, Device, Driver, GreenContext, SmSets, Stream, make_current};
use crate::sharing::green_sms;
use crate::tenant::protocol::{Failed, Load, Together};
use crate::units::Share;

/// Where the work of a tenant lives. What is in it is dropped before it.
pub(super) enum Home {
    /// A context of its own.
    Own(Context),
    /// The context of its process: destroyed when the last seat leaves it.
    Shared(Arc<Context>),
    /// A green context of its own.
    Green(GreenContext),
}

impl Home {
    /// The driver's handle.
    pub(super) fn handle(&self) -> CUcontext {
        match self {
            Self::Own(context) => context.handle(),
            Self::Shared(context) => context.handle(),
            Self::Green(green) => green.handle(),
        }
    }

    /// SMs of its green context; `None`: it has none.
    pub(super) fn green_sms(&self) -> Option<u32> {
        if let Self::Green(green) = self { Some(green.sms()) } else { None }
    }

    /// A stream, which waits for no other.
    ///
    /// # Errors
    /// The driver's own.
    pub(super) fn stream(&self, driver: &'static Driver) -> Result<Stream, CudaError> {
        match self {
            Self::Own(_) | Self::Shared(_) => Stream::new(driver),
            Self::Green(green) => green.stream(),
        }
    }
}

/// What the seats of this process have in common. The first seat to need it makes it; the others wait for that.
#[derive(Default)]
pub(super) struct Commons {
    context: Mutex<Weak<Context>>,
    /// The sets of SMs, and the shares that they were made for: split once in the life of a process.
    sets: Mutex<Option<(Vec<Share>, Arc<SmSets>)>>,
}

impl Commons {
    /// Where the tenant of `load` lives on `device`; current on the calling thread from here on.
    ///
    /// # Errors
    /// The driver's own, or where the seats of the process were ordered to share the device in different ways.
    pub(super) fn home(&self, driver: &'static Driver, device: Device, load: &Load) -> Result<Home, Failed> {
        match &load.together {
            None => Ok(Home::Own(Context::new(&device, driver, load.spin)?)),
            Some(Together::Streams {}) => {
                let mut shared = self.context.lock().unwrap_or_else(PoisonError::into_inner);
                let context = match shared.upgrade() {
                    Some(context) => {
                        make_current(driver, context.handle())?;
                        context
                    }
                    None => Arc::new(Context::new(&device, driver, load.spin)?),
                };
                *shared = Arc::downgrade(&context);
                Ok(Home::Shared(context))
            }
            Some(Together::GreenContexts { shares, index }) => {
                let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
                let split = match &*sets {
                    Some((of, _)) if of != shares => {
                        return Err(failed("two seats of this process were given different divisions of its SMs"));
                    }
                    Some((_, split)) => Arc::clone(split),
                    None => {
                        let (sms, (major, _)) = (device.sms()?, device.compute_capability()?);
                        let sizes: Vec<u32> = shares.iter().map(|share| green_sms(*share, sms, major)).collect();
                        let split = Arc::new(SmSets::split(driver, device, &sizes)?);
                        *sets = Some((shares.clone(), Arc::clone(&split)));
                        split
                    }
                };
                // One at a time: the first of them creates the primary context for all.
                Ok(Home::Green(split.green_context(*index, load.spin)?))
            }
        }
    }
}
