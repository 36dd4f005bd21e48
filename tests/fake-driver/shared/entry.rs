//! What every entry point has in common: no panic leaves it, and the configured faults come first.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::config::{self, Fault};

/// A result that is not success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) u32);

/// Defines exported functions with the C calling convention. The body yields `Result<(), Code>`.
macro_rules! entry_points {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name($($arg: $type),*) -> u32 {
            $crate::entry::enter(stringify!($name), || $body)
        }
    )*};
}
pub(crate) use entry_points;

/// A place of the caller's to write to.
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Writes `value`.
    pub(crate) fn put(&self, value: T) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(crate::INVALID);
        }
        // SAFETY: it comes from the caller of an entry point, whose contract is that it is null or can be written to.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Writes `value` unless the place is null.
    pub(crate) fn put_if(&self, value: T) {
        if !self.0.is_null() {
            let _ = self.put(value);
        }
    }

    /// Writes several values one after the other.
    pub(crate) fn put_all(&self, values: impl IntoIterator<Item = T>) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(crate::INVALID);
        }
        for (i, value) in values.into_iter().enumerate() {
            // SAFETY: the caller of the entry point says that its array is long enough; we write no more than it says.
            unsafe { self.0.add(i).write_unaligned(value) };
        }
        Ok(())
    }

    /// What is there now.
    pub(crate) fn get(&self) -> Result<T, Code>
    where
        T: Copy,
    {
        if self.0.is_null() {
            return Err(crate::INVALID);
        }
        // SAFETY: the caller of the entry point says that it is null or can be read.
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// Changes each of `count` values.
    pub(crate) fn each(&self, count: usize, change: impl Fn(&mut T)) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(crate::INVALID);
        }
        for i in 0..count {
            // SAFETY: the caller of the entry point says that its array is so long, and holds values.
            change(unsafe { &mut *self.0.add(i) });
        }
        Ok(())
    }

    /// The part of a struct that begins so many bytes behind its start.
    pub(crate) fn field<U>(&self, offset: usize) -> Out<U> {
        Out(if self.0.is_null() { std::ptr::null_mut() } else { self.0.wrapping_byte_add(offset).cast() })
    }

    /// Whether the caller wants nothing written.
    pub(crate) fn is_null(&self) -> bool {
        self.0.is_null()
    }
}

impl Out<u8> {
    /// Writes `text` and a zero byte into `room` bytes.
    pub(crate) fn put_text(&self, text: &str, room: usize) -> Result<(), Code> {
        if self.0.is_null() || room == 0 {
            return Err(crate::INVALID);
        }
        let fits = text.len().min(room - 1);
        self.put_all(text.as_bytes()[..fits].iter().copied().chain([0]))
    }
}

/// The C text at `text`.
pub(crate) fn text(text: *const std::ffi::c_char) -> Result<String, Code> {
    if text.is_null() {
        return Err(crate::INVALID);
    }
    // SAFETY: the caller of the entry point says that it is null or a text that ends with a zero byte.
    Ok(unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Runs an entry point.
pub(crate) fn enter(symbol: &'static str, body: impl FnOnce() -> Result<(), Code>) -> u32 {
    let run = || {
        let fault = config::loaded().map(|l| &l.config.fault).filter(|f| f.counts());
        let call = fault.map(|_| count(symbol));
        if let Some(code) = fault.zip(call).and_then(|(fault, call)| forced(symbol, call, fault)) {
            return code;
        }
        let result = body();
        if let Some((fault, call)) = fault.zip(call) {
            exit(symbol, call, fault, true);
        }
        match result {
            Ok(()) => 0,
            Err(Code(code)) => code,
        }
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        eprintln!("crosstalk stand-in driver: {symbol} panicked: a defect of the stand-in");
        crate::UNKNOWN.0
    })
}

impl Fault {
    /// Whether calls must be counted.
    fn counts(&self) -> bool {
        !(self.results.is_empty() && self.hang.is_empty() && self.exit_at.is_empty())
    }
}

/// Counts a call: its number, from 1.
fn count(symbol: &'static str) -> u64 {
    static CALLS: OnceLock<Mutex<HashMap<&'static str, u64>>> = OnceLock::new();
    let mut calls = CALLS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let call = calls.entry(symbol).or_default();
    *call += 1;
    *call
}

/// Kills this process where it is to end in this call.
fn exit(symbol: &str, call: u64, fault: &Fault, after: bool) {
    if let Some(at) = fault.exit_at.iter().find(|e| e.symbol == symbol && e.call == call && e.after == after) {
        if let Some(caller) = rustix::process::getppid().filter(|_| at.caller) {
            let _ = rustix::process::kill_process(caller, rustix::process::Signal::KILL);
        }
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Ends or hangs where it must, and says what the call returns whatever was asked.
fn forced(symbol: &'static str, call: u64, fault: &Fault) -> Option<u32> {
    exit(symbol, call, fault, false);
    let me = std::process::id();
    let mine = |pid: Option<u32>| pid.is_none_or(|pid| pid == me);
    for hang in fault.hang.iter().filter(|h| h.symbol == symbol && call >= h.from_call && mine(h.pid)) {
        std::thread::sleep(Duration::from_millis(hang.ms));
    }
    let due = |from: u64, calls: Option<u64>| call >= from && calls.is_none_or(|n| call < from + n);
    let found = fault.results.iter().find(|r| r.symbol == symbol && due(r.from_call, r.calls) && mine(r.pid));
    found.map(|r| r.code)
}
