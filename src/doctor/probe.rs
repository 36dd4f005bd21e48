//! Asking the driver from a child that can be killed.
//!
//! A driver call may hang (a process in D state cannot even be killed) or crash its process. So whatever is asked before
//! a run is asked by `crosstalk probe-driver`, which says what it is about to call, and has a deadline.

use std::ffi::{CStr, OsString, c_char, c_int, c_uint};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::host::environment::without_cuda_settings;
use crate::nvml::{Nvml, NvmlError, NvmlErrorKind, Survey, cuda_version, is_stand_in};

/// How long a probe may take: without persistence mode a node with eight GPUs takes seconds to initialise.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long a killed child is waited for. One in D state stays.
const REAP: Duration = Duration::from_secs(1);
const LIBCUDA: &str = "libcuda.so.1";
/// CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT.
const MULTIPROCESSOR_COUNT: c_int = 16;

/// What the driver says of the machine, by its two libraries.
#[derive(Clone, Debug, PartialEq)]
pub struct DriverReport {
    /// By libnvidia-ml.
    pub nvml: Result<Survey, ProbeFailure>,
    /// By libcuda.
    pub cuda: Result<CudaSurvey, ProbeFailure>,
}

/// What libcuda says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CudaSurvey {
    /// Whether it is the stand-in.
    pub stand_in: bool,
    /// The newest CUDA version that the driver supports ("12.8").
    pub version: String,
    /// The devices that a CUDA program sees here, in its order.
    pub devices: Vec<CudaDevice>,
}

/// A device as a CUDA program sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CudaDevice {
    /// UUID without its prefix: of the instance under MIG, else of the GPU.
    pub uuid: String,
    /// Name.
    pub name: String,
    /// SMs.
    pub sms: Option<u32>,
}

/// Why the driver did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{what}")]
#[serde(deny_unknown_fields)]
pub struct ProbeFailure {
    /// What happened.
    pub what: String,
    /// Which kind of failure.
    pub kind: FailureKind,
}

/// Which kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// libnvidia-ml says so.
    Nvml(NvmlErrorKind),
    /// A CUDA error code.
    Cuda(u32),
    /// libcuda is not installed, or not visible here.
    NoLibcuda,
    /// libcuda lacks a symbol.
    NoSymbol,
    /// No answer by the deadline.
    Hung,
    /// The child died, or could not be started.
    Died,
}

impl From<NvmlError> for ProbeFailure {
    fn from(error: NvmlError) -> Self {
        Self { what: error.what, kind: FailureKind::Nvml(error.kind) }
    }
}

/// The two libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Library {
    /// libnvidia-ml.
    Nvml,
    /// libcuda.
    Cuda,
}

/// One line of the child.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Line<T> {
    /// About to be called.
    Calling(String),
    /// The end.
    Done(Result<T, ProbeFailure>),
}

/// Asks both libraries, each in a child of its own, at the same time.
pub fn probe() -> DriverReport {
    std::thread::scope(|scope| {
        let nvml = scope.spawn(survey);
        let cuda = Asked::of("cuda").answer(DEADLINE);
        let died =
            |_| Err(ProbeFailure { what: "the probe of libnvidia-ml failed".to_owned(), kind: FailureKind::Died });
        DriverReport { nvml: nvml.join().unwrap_or_else(died), cuda }
    })
}

/// Asks libnvidia-ml alone.
///
/// # Errors
/// Where it does not answer.
pub fn survey() -> Result<Survey, ProbeFailure> {
    Asked::of("nvml").answer(DEADLINE)
}

/// A report of a machine without a driver.
pub fn no_driver() -> DriverReport {
    let missing = |name: &str, kind| ProbeFailure { what: format!("{name} cannot be loaded"), kind };
    DriverReport {
        nvml: Err(missing(crate::nvml::LIBRARY, FailureKind::Nvml(NvmlErrorKind::NoLibrary))),
        cuda: Err(missing(LIBCUDA, FailureKind::NoLibcuda)),
    }
}

/// A child to ask.
struct Asked {
    program: OsString,
    args: Vec<OsString>,
}

impl Asked {
    fn of(library: &str) -> Self {
        // Where this program cannot be found again, whatever has its name: never this process, which would hang with the driver.
        let program = std::env::current_exe().map_or_else(|_| "crosstalk".into(), Into::into);
        Self { program, args: vec!["probe-driver".into(), library.into()] }
    }

    fn answer<T: DeserializeOwned + Send + 'static>(&self, deadline: Duration) -> Result<T, ProbeFailure> {
        let died = |what: String| ProbeFailure { what, kind: FailureKind::Died };
        let mut command = Command::new(&self.program);
        without_cuda_settings(&mut command);
        let mut child = command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| died(format!("the probe of the driver cannot be started: {e}")))?;
        let Some(out) = child.stdout.take() else {
            return Err(died("the probe of the driver has no output".to_owned()));
        };
        // A thread of its own, left behind with a child that cannot be killed.
        let (sender, lines) = mpsc::channel();
        let reader = std::thread::Builder::new().name("probe-reader".to_owned()).spawn(move || {
            for line in BufReader::new(out).lines() {
                let parsed = line.ok().and_then(|l| serde_json::from_str::<Line<T>>(&l).ok());
                if sender.send(parsed).is_err() {
                    return;
                }
            }
        });
        if let Err(e) = reader {
            end(&mut child);
            return Err(died(format!("the probe of the driver cannot be read: {e}")));
        }
        let until = Instant::now() + deadline;
        let mut calling = "its start".to_owned();
        loop {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Some(Line::Calling(call))) => calling = call,
                Ok(Some(Line::Done(answer))) => {
                    end(&mut child);
                    return answer;
                }
                Ok(None) => {
                    end(&mut child);
                    return Err(died(format!("the probe of the driver printed what crosstalk does not, at {calling}")));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    end(&mut child);
                    let what = format!("the driver has not answered within {} s: {calling} hangs", deadline.as_secs());
                    return Err(ProbeFailure { what, kind: FailureKind::Hung });
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let how = match end(&mut child) {
                        Some(status) => status.signal().map_or_else(
                            || format!("ended with {}", status.code().unwrap_or_default()),
                            |signal| format!("was killed by signal {signal}"),
                        ),
                        None => "closed its output".to_owned(),
                    };
                    return Err(died(format!("the probe of the driver {how} in {calling}")));
                }
            }
        }
    }
}

/// Waits for the child's own end for a moment, then kills it. `None`: it lives on, in a call that cannot be ended.
fn end(child: &mut Child) -> Option<std::process::ExitStatus> {
    let wait = |child: &mut Child, long: Duration| {
        let until = Instant::now() + long;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
                _ => return None,
            }
        }
    };
    wait(child, Duration::from_millis(200)).or_else(|| {
        let _ = child.kill();
        wait(child, REAP)
    })
}

/// The child's part: asks one library and prints what it says, a line before each call that may hang.
///
/// # Errors
/// Where nobody reads.
pub fn answer(library: Library, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    match library {
        Library::Nvml => {
            say(out, &Line::<Survey>::Calling("nvmlInit_v2".to_owned()))?;
            let loaded = Nvml::load();
            say(out, &Line::<Survey>::Calling("NVML's survey of the GPUs".to_owned()))?;
            let survey = loaded.and_then(|nvml| nvml.survey()).map_err(ProbeFailure::from);
            say(out, &Line::Done(survey))
        }
        Library::Cuda => {
            let survey = cuda(&mut |call| say(out, &Line::<CudaSurvey>::Calling(call.to_owned())));
            say(out, &Line::Done(survey))
        }
    }
}

fn say<T: Serialize>(out: &mut dyn std::io::Write, line: &Line<T>) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")?;
    out.flush()
}

type CuInit = unsafe extern "C" fn(c_uint) -> u32;
type CuVersion = unsafe extern "C" fn(*mut c_int) -> u32;
type CuCount = unsafe extern "C" fn(*mut c_int) -> u32;
type CuGet = unsafe extern "C" fn(*mut c_int, c_int) -> u32;
type CuName = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> u32;
type CuUuid = unsafe extern "C" fn(*mut [u8; 16], c_int) -> u32;
type CuAttribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> u32;
type CuErrorName = unsafe extern "C" fn(u32, *mut *const c_char) -> u32;

/// Asks libcuda. Codes stay integers: a code unknown to an enum would be undefined behaviour.
fn cuda(calling: &mut dyn FnMut(&str) -> std::io::Result<()>) -> Result<CudaSurvey, ProbeFailure> {
    let _ = calling("loading libcuda");
    // SAFETY: the driver's library (or the stand-in): its initialisers are made to run in any process.
    let library = unsafe { libloading::Library::new(LIBCUDA) }.map_err(|e| ProbeFailure {
        what: format!("{LIBCUDA} cannot be loaded ({e})"),
        kind: FailureKind::NoLibcuda,
    })?;
    let cu = Libcuda { library };
    // SAFETY (all calls below): each type is the prototype in cuda.h of the symbol looked up under that name; every pointer
    // is to a local that outlives the call and is as large as the call writes; the library stays loaded.
    let (mut version, mut count) = (0, 0);
    // SAFETY: as above.
    unsafe {
        let (init, driver_version, device_count): (CuInit, CuVersion, CuCount) =
            (cu.get("cuInit")?, cu.get("cuDriverGetVersion")?, cu.get("cuDeviceGetCount")?);
        let _ = calling("cuInit");
        cu.check("cuInit", init(0))?;
        let _ = calling("cuDeviceGetCount");
        cu.check("cuDriverGetVersion", driver_version(&mut version))?;
        cu.check("cuDeviceGetCount", device_count(&mut count))?;
    }
    let mut devices = Vec::new();
    for ordinal in 0..count {
        let (mut device, mut sms, mut uuid, mut name) = (0, 0, [0u8; 16], [0 as c_char; 256]);
        // SAFETY: as above; the name's length is passed, and its last byte stays zero.
        let (sms, name) = unsafe {
            let (get, get_name, get_uuid, attribute): (CuGet, CuName, CuUuid, CuAttribute) = (
                cu.get("cuDeviceGet")?,
                cu.get("cuDeviceGetName")?,
                cu.get("cuDeviceGetUuid_v2")?,
                cu.get("cuDeviceGetAttribute")?,
            );
            cu.check("cuDeviceGet", get(&mut device, ordinal))?;
            cu.check("cuDeviceGetName", get_name(name.as_mut_ptr(), 255, device))?;
            cu.check("cuDeviceGetUuid_v2", get_uuid(&mut uuid, device))?;
            let known = attribute(&mut sms, MULTIPROCESSOR_COUNT, device) == 0;
            (known.then_some(sms), CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
        };
        let hex = hex::encode(uuid);
        let uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        devices.push(CudaDevice { uuid, name, sms: sms.and_then(|n| n.try_into().ok()) });
    }
    Ok(CudaSurvey { stand_in: is_stand_in(LIBCUDA), version: cuda_version(version), devices })
}

struct Libcuda {
    library: libloading::Library,
}

impl Libcuda {
    /// # Safety
    /// `T` is the prototype of the function `name`.
    unsafe fn get<T: Copy>(&self, name: &str) -> Result<T, ProbeFailure> {
        // SAFETY: the caller's promise; libloading adds the final zero.
        let symbol = unsafe { self.library.get::<T>(name) };
        symbol.map(|s| *s).map_err(|_| ProbeFailure {
            what: format!("{LIBCUDA} has no {name}: this driver is too old (R520 or later is needed), or not NVIDIA's"),
            kind: FailureKind::NoSymbol,
        })
    }

    fn check(&self, call: &str, code: u32) -> Result<(), ProbeFailure> {
        if code == 0 {
            return Ok(());
        }
        let mut name: *const c_char = std::ptr::null();
        // SAFETY: the prototype of cuGetErrorName in cuda.h; it writes a pointer to a static string, or leaves null for a
        // code that it does not know.
        let name = unsafe {
            match self.get::<CuErrorName>("cuGetErrorName") {
                Ok(error_name) if error_name(code, &mut name) == 0 && !name.is_null() => {
                    CStr::from_ptr(name).to_string_lossy().into_owned()
                }
                _ => "a code that the driver does not name".to_owned(),
            }
        };
        Err(ProbeFailure { what: format!("{call}: CUDA error {code} ({name})"), kind: FailureKind::Cuda(code) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(script: &str, deadline: Duration) -> Result<u32, ProbeFailure> {
        Asked { program: "sh".into(), args: vec!["-c".into(), script.into()] }.answer(deadline)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn an_answer_comes_through() {
        assert_eq!(ask(r#"echo '{"calling":"cuInit"}'; echo '{"done":{"Ok":7}}'"#, LONG), Ok(7));
    }

    #[test]
    fn a_driver_that_hangs_is_named_and_left() {
        let failure = ask(r#"echo '{"calling":"cuInit"}'; exec sleep 600"#, Duration::from_millis(500)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Hung);
        assert!(failure.what.contains("cuInit hangs"), "{failure}");
    }

    #[test]
    fn a_driver_that_crashes_is_named() {
        let failure = ask(r#"echo '{"calling":"nvmlInit_v2"}'; kill -SEGV $$"#, LONG).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Died);
        assert!(failure.what.contains("signal 11 in nvmlInit_v2"), "{failure}");
        assert!(ask("exit 9", LONG).unwrap_err().what.contains("ended with 9 in its start"));
    }

    #[test]
    fn garbage_is_no_answer() {
        assert_eq!(ask("echo hello", LONG).unwrap_err().kind, FailureKind::Died);
    }
}
