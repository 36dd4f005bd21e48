//! One run per GPU at a time: a lock that the kernel frees when its holder dies.

use std::fs::{File, Permissions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use crate::provenance::Provenance;

/// How often a waiting run looks again.
const POLL: Duration = Duration::from_millis(200);
/// The longest text of a holder that is believed.
const LONGEST: u64 = 256;

/// The lock of one physical GPU, held until dropped, or until the process dies.
#[derive(Debug)]
pub struct GpuLock {
    // Closing it frees the lock. The file stays: removing it would let two runs lock two files of one name.
    _file: File,
}

/// A lock that was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run holds it.
    #[error("GPU {uuid} is in use by crosstalk{holder}; wait for it with --wait 30m, or take another GPU")]
    Held {
        /// The GPU.
        uuid: String,
        /// Who holds it, as far as that is known.
        holder: String,
    },
    /// Asked to stop while waiting.
    #[error("stopped while waiting for GPU {uuid}")]
    Stopped {
        /// The GPU.
        uuid: String,
    },
    /// No lock file can be had.
    #[error("no lock file for GPU {uuid} can be had: {why}; make /run/lock or the temporary directory writable")]
    NoFile {
        /// The GPU.
        uuid: String,
        /// What was tried.
        why: String,
    },
}

impl GpuLock {
    /// Locks the physical GPU `uuid`, waiting for up to `wait` or until `stop`. The GPU of a stand-in is locked in the
    /// stand-in's own folder: equal UUIDs in two folders are two GPUs.
    ///
    /// # Errors
    /// Where another run holds it for all that time, or no lock file can be had.
    pub fn acquire(
        uuid: &str,
        provenance: Provenance,
        wait: Option<Duration>,
        stop: &AtomicBool,
    ) -> Result<Self, LockError> {
        let stand_in = std::env::var_os("CROSSTALK_STAND_IN").filter(|_| provenance == Provenance::StandIn);
        let folders = match stand_in {
            Some(folder) => vec![PathBuf::from(folder)],
            // Shared by all users, as the GPU is. XDG_RUNTIME_DIR would be one user's.
            None => vec![PathBuf::from("/run/lock"), std::env::temp_dir()],
        };
        Self::acquire_in(&folders, uuid, wait, stop)
    }

    fn acquire_in(
        folders: &[PathBuf],
        uuid: &str,
        wait: Option<Duration>,
        stop: &AtomicBool,
    ) -> Result<Self, LockError> {
        let mut file = open(folders, uuid)?;
        let begun = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => {}
                Err(e) => return Err(LockError::NoFile { uuid: uuid.to_owned(), why: e.to_string() }),
            }
            if stop.load(Ordering::Relaxed) {
                return Err(LockError::Stopped { uuid: uuid.to_owned() });
            }
            let left = wait.unwrap_or_default().saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(LockError::Held { uuid: uuid.to_owned(), holder: holder(&mut file) });
            }
            std::thread::sleep(POLL.min(left));
        }
        // Only for the words of whoever comes next: a lock file of another user may be readable only.
        let _ = name_holder(&mut file);
        Ok(Self { _file: file })
    }
}

/// Opens the lock file in the first folder that has or takes one.
fn open(folders: &[PathBuf], uuid: &str) -> Result<File, LockError> {
    // A UUID comes from a driver: it names a file, never a path.
    let name: String = uuid.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let mut why = Vec::new();
    for folder in folders {
        match open_at(&folder.join(format!("crosstalk-{name}.lock"))) {
            Ok(file) => return Ok(file),
            Err(e) => why.push(format!("{}: {e}", folder.display())),
        }
    }
    Err(LockError::NoFile { uuid: uuid.to_owned(), why: why.join("; ") })
}

/// Opens without creating first: in a sticky directory the kernel refuses to "create" a file of another user. Links are
/// not followed: anybody may place one in a shared directory. A lock needs no right to write.
fn open_at(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let existing = || {
        rustix::fs::open(path, flags | OFlags::RDWR, Mode::empty()).or_else(|error| match error {
            Errno::ACCESS | Errno::PERM | Errno::ROFS => rustix::fs::open(path, flags | OFlags::RDONLY, Mode::empty()),
            other => Err(other),
        })
    };
    match existing() {
        Err(Errno::NOENT) => {}
        found => return found.map(File::from),
    }
    match rustix::fs::open(path, flags | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(0o666)) {
        Ok(created) => {
            let file = File::from(created);
            // Whatever the umask: other users name themselves in it too.
            let _ = file.set_permissions(Permissions::from_mode(0o666));
            Ok(file)
        }
        // Another run was faster.
        Err(Errno::EXIST) => existing().map(File::from),
        Err(error) => Err(error),
    }
}

fn name_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "pid {}, since {}", std::process::id(), Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC"))
}

/// ", pid 123, since …", or nothing where that is not known.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(LONGEST).read_to_string(&mut text));
    // Anybody may have written it: one printable line.
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    match read {
        Ok(_) if line.starts_with("pid ") => format!(" run, {line}"),
        _ => " in another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: &str = "GPU-11111111-2222-3333-4444-555555555555";
    static GO_ON: AtomicBool = AtomicBool::new(false);

    fn acquire(folder: &Path, uuid: &str) -> Result<GpuLock, LockError> {
        GpuLock::acquire_in(&[folder.to_owned()], uuid, None, &GO_ON)
    }

    #[test]
    fn a_second_run_is_refused_with_the_first_ones_name_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let first = acquire(folder.path(), GPU).unwrap();
        let text = acquire(folder.path(), GPU).unwrap_err().to_string();
        for part in [GPU, &format!("pid {}", std::process::id()), "--wait"] {
            assert!(text.contains(part), "{part} not in: {text}");
        }
        assert!(acquire(folder.path(), "GPU-0").is_ok(), "another GPU is free");
        drop(first);
        assert!(acquire(folder.path(), GPU).is_ok());
    }

    #[test]
    fn a_waiting_run_takes_over() {
        let folder = tempfile::tempdir().unwrap();
        let first = acquire(folder.path(), GPU).unwrap();
        let folders = [folder.path().to_owned()];
        std::thread::scope(|scope| {
            let wait = Some(Duration::from_secs(60));
            let second = scope.spawn(move || GpuLock::acquire_in(&folders, GPU, wait, &GO_ON).is_ok());
            drop(first);
            assert!(second.join().unwrap());
        });
    }

    #[test]
    fn a_waiting_run_can_be_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let _first = acquire(folder.path(), GPU).unwrap();
        let wait = Some(Duration::from_secs(3600));
        let stopped = GpuLock::acquire_in(&[folder.path().to_owned()], GPU, wait, &AtomicBool::new(true));
        assert!(matches!(stopped, Err(LockError::Stopped { .. })));
    }

    #[test]
    fn a_link_is_not_followed_and_an_unusable_folder_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("precious");
        std::fs::write(&target, "text").unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join(format!("crosstalk-{GPU}.lock"))).unwrap();
        assert!(matches!(acquire(folder.path(), GPU), Err(LockError::NoFile { .. })));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "text");
        let other = tempfile::tempdir().unwrap();
        let folders = [folder.path().join("absent"), other.path().to_owned()];
        assert!(GpuLock::acquire_in(&folders, GPU, None, &GO_ON).is_ok());
    }

    #[test]
    fn a_holders_text_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("crosstalk-{GPU}.lock"));
        let held = acquire(folder.path(), GPU).unwrap();
        std::fs::write(path, "\u{1b}[2Jrubbish").unwrap();
        let text = acquire(folder.path(), GPU).unwrap_err().to_string();
        assert!(text.contains("another process") && !text.contains('\u{1b}'), "{text}");
        drop(held);
    }
}
