//! The private directories of a control daemon: its pipes and its logs. They go with the run, and what a run that was
//! killed left behind goes at the start of the next.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::control::PIPE;
use crate::host::clock::now;
use crate::nvml::is_mps;
use crate::units::Nanos;

/// Every private directory begins so.
const PREFIX: &str = "crosstalk-mps-";
/// Bytes of a pipe directory at most: sockets lie in it, and the path of a socket has 107 (unix(7)).
const LONGEST: usize = 72;
/// A directory without a lock is of a run that is about to take it, unless it is older than this.
const FRESH: Duration = Duration::from_secs(60);
/// Directories that one process makes at most before it gives up.
const ATTEMPTS: u32 = 100;
/// How long killed processes are waited for.
const GONE: Nanos = Nanos::secs(5);

/// A private directory with `pipe` and `log` in it, locked while its run lives. Removed when dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The kernel frees the lock with the process.
    _lock: File,
}

impl Folder {
    /// Makes one that nobody else can enter.
    pub(super) fn create() -> io::Result<Self> {
        Self::create_in(&bases())
    }

    fn create_in(bases: &[PathBuf]) -> io::Result<Self> {
        let mut last = io::Error::other("no directory with a path short enough for sockets; set XDG_RUNTIME_DIR");
        for base in bases {
            for n in 0..ATTEMPTS {
                let path = base.join(format!("{PREFIX}{}-{n}", std::process::id()));
                if path.join("pipe").as_os_str().len() > LONGEST {
                    break;
                }
                match Self::at(path.clone()) {
                    Ok(folder) => return Ok(folder),
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                    Err(e) => {
                        last = io::Error::new(e.kind(), format!("{}: {e}", path.display()));
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    fn at(path: PathBuf) -> io::Result<Self> {
        let private = |path: &Path| DirBuilder::new().mode(0o700).create(path);
        private(&path)?;
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(path.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        private(&path.join("pipe"))?;
        private(&path.join("log"))?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn pipe(&self) -> PathBuf {
        self.path.join("pipe")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next run.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Where private directories may lie: nobody else's, and short enough.
fn bases() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute() && p.is_dir());
    let mut bases: Vec<PathBuf> = runtime.into_iter().chain([std::env::temp_dir(), PathBuf::from("/tmp")]).collect();
    bases.dedup();
    bases
}

/// Removes what runs that were killed left of MPS: their daemons and servers, and their private directories. What was
/// removed, in words.
pub fn sweep() -> Vec<String> {
    bases().iter().flat_map(|base| sweep_in(base)).collect()
}

fn sweep_in(base: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(base) else { return Vec::new() };
    let mut swept = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let named = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if !named || !abandoned(&path) {
            continue;
        }
        let killed = kill_all(&path.join("pipe"));
        if std::fs::remove_dir_all(&path).is_ok() {
            let killed = if killed.is_empty() { String::new() } else { format!(", and killed {}", killed.join(", ")) };
            swept.push(format!("removed {} of a run that was killed{killed}", path.display()));
        }
    }
    swept
}

/// Whether a directory is ours to remove: made by this user, and its run is gone.
fn abandoned(path: &Path) -> bool {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return false };
    if !meta.is_dir() || meta.uid() != geteuid().as_raw() {
        return false;
    }
    match File::options().write(true).open(path.join("lock")) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(_) => meta.modified().ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age > FRESH),
    }
}

/// Kills the daemons and servers of a pipe directory, and waits for their end: their names.
pub(super) fn kill_all(pipe: &Path) -> Vec<String> {
    let found = daemons_of(pipe);
    for (pid, _) in &found {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            // One that has just ended needs none.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let until = now() + GONE;
    while !daemons_of(pipe).is_empty() && now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    found.into_iter().map(|(pid, name)| format!("{name} (pid {pid})")).collect()
}

/// Daemons of MPS whose environment names this pipe directory.
fn daemons_of(pipe: &Path) -> Vec<(u32, String)> {
    let wanted = [PIPE.as_bytes(), b"=", pipe.as_os_str().as_encoded_bytes()].concat();
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let of = |pid: u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let name = name.trim_end();
        // The environment of another user's process cannot be read, and it is none of ours. A zombie has none.
        let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let ours = is_mps(name) && environ.split(|b| *b == 0).any(|variable| variable == wanted);
        ours.then(|| (pid, name.to_owned()))
    };
    all.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_directory_goes_with_its_owner_and_is_left_alone_before() {
        let base = tempfile::tempdir().unwrap();
        let bases = [base.path().to_owned()];
        let folder = Folder::create_in(&bases).unwrap();
        assert_eq!(std::fs::metadata(&folder.path).unwrap().mode() & 0o777, 0o700);
        let second = Folder::create_in(&bases).unwrap();
        assert_ne!(folder.path, second.path);
        assert_eq!(sweep_in(base.path()), Vec::<String>::new(), "both live");
        let (kept, gone) = (folder.path.clone(), second.path.clone());
        drop(second);
        assert!(kept.exists() && !gone.exists());
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let left = base.path().join(format!("{PREFIX}4711-0"));
        std::fs::create_dir_all(left.join("pipe")).unwrap();
        std::fs::write(left.join("lock"), "").unwrap();
        let fresh = base.path().join(format!("{PREFIX}4712-0"));
        std::fs::create_dir(&fresh).unwrap();
        let other = base.path().join("nvidia-mps");
        std::fs::create_dir(&other).unwrap();
        let swept = sweep_in(base.path());
        assert!(swept.len() == 1 && swept[0].contains("4711-0"), "{swept:?}");
        assert!(!left.exists() && fresh.exists() && other.exists());
    }

    #[test]
    fn a_path_too_long_for_sockets_is_not_taken() {
        let base = tempfile::tempdir().unwrap();
        let long = base.path().join("x".repeat(80));
        std::fs::create_dir(&long).unwrap();
        assert!(Folder::create_in(std::slice::from_ref(&long)).unwrap_err().to_string().contains("short enough"));
        let folder = Folder::create_in(&[long, base.path().to_owned()]).unwrap();
        assert!(folder.pipe().starts_with(base.path()));
    }
}
