//! Files and names: durable writing, checksums, and names from scenarios made safe for file systems.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::RunDirError;
use crate::backend::{ArmKey, Purpose};
use crate::plan::Plan;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const EVENTS: &str = "events.jsonl";
pub(super) const DIGEST: &str = "digest.json";
pub(super) const SUMS: &str = "SHA256SUMS";
pub(super) const FINISHED: &str = "finished.json";

/// SHA-256 in lower-case hexadecimal, as `sha256sum` prints it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Makes the entries of a directory durable: a rename is not until its directory is synced.
pub(super) fn sync_dir(path: &Path) -> Result<(), RunDirError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(RunDirError::io("sync", path))
}

/// Creates `root/dir` and what is missing above it, each durable in its parent.
pub(super) fn create_dir(root: &Path, dir: &str) -> Result<(), RunDirError> {
    let mut path = root.to_owned();
    for part in dir.split('/') {
        let parent = path.clone();
        path.push(part);
        match fs::create_dir(&path) {
            Ok(()) => sync_dir(&parent)?,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(e) => return Err(RunDirError::io("create", &path)(e)),
        }
    }
    Ok(())
}

/// Writes `root/file` so that after a crash it is there whole, or not at all: temporary name, sync, rename. The rename
/// is durable once the caller has synced the directory.
pub(super) fn write_renamed(root: &Path, file: &str, bytes: &[u8]) -> Result<(), RunDirError> {
    let path = root.join(file);
    // One fixed temporary name per file: what a crash leaves behind is overwritten by the next attempt.
    let temporary = path.with_file_name(format!(".{}.tmp", file.rsplit('/').next().unwrap_or(file)));
    let write = || {
        let mut out = File::create(&temporary)?;
        out.write_all(bytes)?;
        out.sync_data()
    };
    write().map_err(RunDirError::io("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(RunDirError::io("rename into place", &path))
}

/// [`write_renamed`], durable on return.
pub(super) fn write_durable(root: &Path, file: &str, bytes: &[u8]) -> Result<(), RunDirError> {
    write_renamed(root, file, bytes)?;
    let path = root.join(file);
    sync_dir(path.parent().unwrap_or(root))
}

/// Writes `root/file` whole, durable on return, unless it is there already: of several processes one succeeds. Says
/// whether this one did.
pub(super) fn claim(root: &Path, file: &str, bytes: &[u8]) -> Result<bool, RunDirError> {
    let failed = |e| RunDirError::io("write", &root.join(file))(e);
    let mut temporary = tempfile::Builder::new()
        .prefix(".claim-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(root)
        .map_err(failed)?;
    temporary.write_all(bytes).and_then(|()| temporary.as_file().sync_data()).map_err(failed)?;
    match temporary.persist_noclobber(root.join(file)) {
        Ok(_) => sync_dir(root).map(|()| true),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(failed(e.error)),
    }
}

/// Reads `root/file`; `by` is who names it.
pub(super) fn read(root: &Path, file: &str, by: &str) -> Result<Vec<u8>, RunDirError> {
    let path = root.join(file);
    fs::read(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => RunDirError::Missing { file: file.to_owned(), by: by.to_owned() },
        _ => RunDirError::io("read", &path)(e),
    })
}

/// Reads `root/file` and compares its sum with what `by` says.
pub(super) fn read_checked(root: &Path, file: &str, by: &str, expected: &str) -> Result<Vec<u8>, RunDirError> {
    let bytes = read(root, file, by)?;
    let found = sha256(&bytes);
    if found == expected {
        return Ok(bytes);
    }
    Err(RunDirError::Checksum { file: file.to_owned(), by: by.to_owned(), expected: expected.to_owned(), found })
}

/// Indented JSON with a newline at its end: what every JSON file of a run directory but the event log is.
pub(super) fn to_json<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>, RunDirError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| RunDirError::not_recordable(what, e.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

/// Reads a JSON document that names its format and version: first these two, so that a newer file is named as such and
/// not by the first field that is unknown here.
pub(super) fn from_json<T: DeserializeOwned>(
    file: &str,
    bytes: &[u8],
    format: &str,
    version: u32,
) -> Result<T, RunDirError> {
    let value: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|e| RunDirError::damaged(file, "a JSON document", format!("{e} (of {} bytes)", bytes.len())))?;
    check_format(file, &value, format, version)?;
    serde_json::from_value(value)
        .map_err(|e| RunDirError::damaged(file, format!("{format} version {version}"), e.to_string()))
}

/// Format and version, before anything else is looked at.
pub(super) fn check_format(
    file: &str,
    value: &serde_json::Value,
    format: &str,
    version: u32,
) -> Result<(), RunDirError> {
    let expected = || format!("\"format\": {format:?} and a \"version\"");
    match (value["format"].as_str(), value["version"].as_u64()) {
        (Some(found), _) if found != format => {
            Err(RunDirError::damaged(file, expected(), format!("\"format\": {found:?}")))
        }
        (Some(_), Some(found)) if found > u64::from(version) => {
            Err(RunDirError::Newer { file: file.to_owned(), found, supported: version })
        }
        (Some(_), Some(found)) if found == u64::from(version) => Ok(()),
        (Some(_), Some(found)) => Err(RunDirError::damaged(file, expected(), format!("version {found}"))),
        (Some(_), None) => Err(RunDirError::damaged(file, expected(), "no version")),
        (None, _) => Err(RunDirError::damaged(file, expected(), "no format")),
    }
}

/// A name of the scenario as part of a path: another name gives another part, and none leaves its directory. Letters,
/// digits and `-_+@=` stay, as do dots but the first; `/` (it parts a series from its mark) becomes `~`; every other
/// byte is written as in a URL.
pub(super) fn safe(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (i, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'+' | b'@' | b'=' => out.push(char::from(byte)),
            b'.' if i > 0 => out.push('.'),
            b'/' => out.push('~'),
            _ => {
                let _ = write!(out, "%{byte:02x}");
            }
        }
    }
    out
}

/// What an arm is called within its arrangement: `0003-quiet`, `0003-hbm-hog`. The tag of its histograms.
pub(super) fn arm_stem(plan: &Plan, key: &ArmKey) -> Result<String, RunDirError> {
    let name = match key.neighbour {
        None => "quiet".to_owned(),
        Some(index) => match plan.neighbours.get(index).map(|n| safe(&n.name)) {
            // A neighbour of that name must not take the quiet arm's file.
            Some(name) if name == "quiet" => "%71uiet".to_owned(),
            Some(name) => name,
            None => return Err(not_of_plan(key)),
        },
    };
    // No name holds this character, which `safe` writes otherwise, and the tags of a histogram log take it.
    let purpose = match key.purpose {
        Purpose::Block => "",
        Purpose::Again => "#again",
        Purpose::Alone => "#alone",
        Purpose::Within => "#within",
        Purpose::Unsampled => "#unsampled",
        Purpose::Delayed => "#delayed",
    };
    Ok(format!("{:04}-{name}{purpose}", key.block))
}

/// The arm's file.
pub(super) fn arm_file(plan: &Plan, key: &ArmKey) -> Result<String, RunDirError> {
    let arrangement = plan.arrangements.get(key.arrangement).ok_or_else(|| not_of_plan(key))?;
    Ok(format!("arms/{}/{}.parquet", safe(&arrangement.name), arm_stem(plan, key)?))
}

/// The histograms of a series of an arrangement.
pub(super) fn hlog_file(plan: &Plan, arrangement: usize, series: &str) -> Option<String> {
    Some(format!("hlog/{}/{}.hlog", safe(&plan.arrangements.get(arrangement)?.name), safe(series)))
}

fn not_of_plan(key: &ArmKey) -> RunDirError {
    RunDirError::not_recordable(format!("arm {key:?}"), "the plan has no such arrangement or neighbour")
}
