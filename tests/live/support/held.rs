//! Processes that no signal ends: what a driver does to whoever waits in it, without a driver.

use std::ffi::{c_int, c_long, c_void};
use std::sync::mpsc;
use std::thread::JoinHandle;

unsafe extern "C" {
    fn ptrace(request: c_int, ...) -> c_long;
}

/// PTRACE_SEIZE and PTRACE_O_TRACEEXIT of <sys/ptrace.h>.
const SEIZE: c_int = 0x4206;
const TRACE_EXIT: usize = 0x40;

/// A descendant of this process that, killed by whatever signal, stays in the kernel until this is dropped: on its way out it
/// stops for a tracer that never lets it go on. Its files stay open, and no further signal reaches it.
pub(crate) struct Held {
    release: Option<mpsc::Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl Held {
    /// Holds the process `pid`, which goes on until it is killed.
    pub(crate) fn on(pid: u32) -> Self {
        let (release, released) = mpsc::channel();
        let (seized, ready) = mpsc::channel();
        // A tracer is a thread: what it traces is let go with it.
        let tracer = std::thread::spawn(move || {
            let (none, options) = (std::ptr::null_mut::<c_void>(), TRACE_EXIT as *mut c_void);
            // SAFETY: the prototype of glibc and musl; this request reads no memory of ours.
            let code = unsafe { ptrace(SEIZE, pid as c_int, none, options) };
            seized.send((code == 0).then_some(()).ok_or_else(std::io::Error::last_os_error)).expect("it listens");
            let _ = released.recv();
        });
        ready.recv().expect("the tracer answers").expect("a descendant may be traced");
        Self { release: Some(release), tracer: Some(tracer) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(tracer) = self.tracer.take() {
            let _ = tracer.join();
        }
    }
}
