//! A stand-in for nvidia-smi: the compute policy of a GPU, read (`compute-policy -i UUID --list`) and set
//! (`compute-policy -i UUID --set-timeslice N`), and nothing else.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crosstalk::gpu::named_uuid;

use crate::config::{self, Caller, Gpu, Loaded};

/// The levels by their numbers.
const LEVELS: [&str; 4] = ["Default", "Short", "Medium", "Long"];
/// How it ends where the device cannot (nvidia-smi(1), "RETURN VALUE").
const NOT_SUPPORTED: u8 = 3;
/// Where the user may not.
const NO_PERMISSION: u8 = 4;
/// Where there is no such device.
const NOT_FOUND: u8 = 6;
/// Where it is asked for something that it does not know.
const INVALID: u8 = 2;

pub(crate) fn main() -> ExitCode {
    let Some(loaded) = config::loaded() else { return ExitCode::FAILURE };
    if loaded.config.smi.hang {
        loop {
            std::thread::park();
        }
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["compute-policy", "-i", uuid, "--list"] => list(loaded, uuid),
        ["compute-policy", "-i", uuid, "--set-timeslice", level] => set(loaded, uuid, level),
        _ => Err((format!("Invalid combination of input arguments: {}", args.join(" ")), INVALID)),
    };
    match result {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err((said, code)) => {
            println!("{said}");
            ExitCode::from(code)
        }
    }
}

type Said = Result<String, (String, u8)>;

/// The GPU with this UUID and its index.
fn gpu<'l>(loaded: &'l Loaded, uuid: &str) -> Result<(usize, &'l Gpu), (String, u8)> {
    let own = |(index, gpu): (usize, &Gpu)| {
        let made = || format!("GPU-{}", named_uuid("crosstalk stand-in gpu 1", &[&index.to_string(), &gpu.model]));
        gpu.uuid.clone().unwrap_or_else(made)
    };
    let mut gpus = loaded.config.gpu.iter().enumerate();
    gpus.find(|one| own(*one).eq_ignore_ascii_case(uuid)).ok_or_else(|| ("No devices were found".to_owned(), NOT_FOUND))
}

/// Where the level of a GPU lies that somebody has set.
fn file(folder: &Path, gpu: usize) -> PathBuf {
    folder.join(format!("time-slice.{gpu}"))
}

fn level(loaded: &Loaded, index: usize, gpu: &Gpu) -> usize {
    let set = std::fs::read_to_string(file(&loaded.folder, index)).ok().and_then(|text| text.trim().parse().ok());
    set.unwrap_or(gpu.time_slice)
}

fn list(loaded: &Loaded, uuid: &str) -> Said {
    let (index, gpu) = gpu(loaded, uuid)?;
    if gpu.mig.is_some() {
        return Err((format!("Compute policy is not supported in MIG mode on GPU {index}"), NOT_SUPPORTED));
    }
    let name = LEVELS.get(level(loaded, index, gpu)).copied().unwrap_or("Unknown");
    Ok(format!(
        "+-----------------------------+\n| GPU compute policies:       |\n| {index:3}    timeslice    {name:8} |"
    ))
}

fn set(loaded: &Loaded, uuid: &str, number: &str) -> Said {
    let (index, gpu) = gpu(loaded, uuid)?;
    let wanted: usize = number
        .parse()
        .ok()
        .filter(|n| *n < LEVELS.len())
        .ok_or_else(|| (format!("Invalid timeslice {number}"), INVALID))?;
    if gpu.mig.is_some() {
        return Err((format!("Compute policy is not supported in MIG mode on GPU {index}"), NOT_SUPPORTED));
    }
    if gpu.time_slice_locked {
        return Err((format!("Unable to set timeslice for GPU {index}: Insufficient Permissions"), NO_PERMISSION));
    }
    let smi = &loaded.config.smi;
    kill_caller(smi.kills_caller, Caller::Before);
    if !smi.ignores {
        std::fs::write(file(&loaded.folder, index), wanted.to_string()).map_err(|e| (e.to_string(), 255))?;
    }
    kill_caller(smi.kills_caller, Caller::After);
    Ok(format!("Successfully set timeslice for GPU {index} to {}", LEVELS[wanted]))
}

/// Kills whoever asked, as if by `kill -9`, where that is due now; its child, which this is, ends with it.
fn kill_caller(due: Option<Caller>, now: Caller) {
    if due != Some(now) {
        return;
    }
    if let Some(parent) = rustix::process::getppid() {
        let _ = rustix::process::kill_process(parent, rustix::process::Signal::KILL);
    }
    loop {
        std::thread::park();
    }
}
