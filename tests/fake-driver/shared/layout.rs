//! The MIG layout that somebody made, beside the configuration's: a file `layout.N` for each GPU, from the first change on.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How a GPU is divided.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Made {
    /// Changes so far: what is made gets names that nothing had before.
    pub(crate) changes: u64,
    /// The GPU instances.
    pub(crate) instances: Vec<Instance>,
}

/// A GPU instance.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Instance {
    pub(crate) id: u32,
    pub(crate) profile: String,
    pub(crate) start: u32,
    pub(crate) compute: Vec<Compute>,
}

/// A compute instance.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Compute {
    pub(crate) id: u32,
    pub(crate) slices: u32,
    /// NVML_COMPUTE_INSTANCE_PROFILE_* of it: two of them have one slice.
    pub(crate) profile: u32,
    /// First compute slice in its GPU instance.
    pub(crate) start: u32,
    pub(crate) uuid: String,
}

/// The usual compute instance profile with so many slices: NVML_COMPUTE_INSTANCE_PROFILE_*.
pub(crate) fn compute_profile(slices: u32) -> u32 {
    match slices {
        7 => 4,
        8 => 5,
        6 => 6,
        n => n.saturating_sub(1),
    }
}

fn path(folder: &Path, gpu: usize) -> PathBuf {
    folder.join(format!("layout.{gpu}"))
}

/// What was made of a GPU; `None`: it is as configured.
pub(crate) fn read(folder: &Path, gpu: usize) -> Result<Option<Made>, String> {
    let path = path(folder, gpu);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| format!("{}: {e}", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

/// Writes it, whole or not at all.
pub(crate) fn write(folder: &Path, gpu: usize, made: &Made) -> Result<(), String> {
    let path = path(folder, gpu);
    let temporary = path.with_extension(format!("{gpu}.{}.tmp", std::process::id()));
    let write = || {
        std::fs::write(&temporary, serde_json::to_string_pretty(made)?)?;
        std::fs::rename(&temporary, &path)
    };
    write().map_err(|e| format!("{}: {e}", path.display()))
}

/// Differs where a layout was changed in between.
pub(crate) fn stamp(folder: &Path, gpus: usize) -> Vec<Option<(u64, i64)>> {
    use std::os::unix::fs::MetadataExt as _;
    let of = |gpu| std::fs::metadata(path(folder, gpu)).ok().map(|m| (m.ino(), m.mtime_nsec()));
    (0..gpus).map(of).collect()
}
