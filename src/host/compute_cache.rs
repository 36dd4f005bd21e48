//! Where the driver keeps what it compiled from PTX: without a place that can be written, every tenant compiles every kernel
//! anew at every start, for seconds (CUDA C++ Programming Guide, "CUDA Environment Variables").

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

/// Names the folder.
const VARIABLE: &str = "CUDA_CACHE_PATH";

/// Where compiled kernels are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComputeCache {
    /// Where the user says.
    Users,
    /// Not at all: the user says so (CUDA_CACHE_DISABLE).
    Disabled,
    /// In the driver's own place, below the home folder.
    Home(PathBuf),
    /// The driver's own place cannot be written: tenants are sent to this folder of ours.
    Ours(PathBuf),
    /// Nowhere: no folder can be written.
    Nowhere,
}

/// Finds where compiled kernels are kept below `root`, by the environment that `variable` reads. Creates nothing.
pub fn find(root: &Path, variable: &dyn Fn(&str) -> Option<String>) -> ComputeCache {
    if variable("CUDA_CACHE_DISABLE").is_some_and(|value| value.trim() != "0") {
        return ComputeCache::Disabled;
    }
    if variable(VARIABLE).is_some() {
        return ComputeCache::Users;
    }
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let home = variable("HOME").filter(|home| home.starts_with('/')).map(|home| below(&home));
    // A home folder that is not there is not made by the driver either.
    if let Some(home) = home.filter(|home| home.is_dir()) {
        let cache = home.join(".nv/ComputeCache");
        if can_be_made(&cache) {
            return ComputeCache::Home(cache);
        }
    }
    // The last is in memory, and can be written in a container whose file system cannot.
    let usual = ["/tmp", "/dev/shm"].map(str::to_owned);
    let temporary = variable("TMPDIR").filter(|folder| folder.starts_with('/')).into_iter().chain(usual);
    // One for each user: what lies in it is run.
    let name = format!("crosstalk-compute-cache-{}", geteuid().as_raw());
    let mut ours =
        temporary.map(|folder| below(&folder)).filter(|folder| folder.is_dir()).map(|folder| folder.join(&name));
    ours.find(|ours| can_be_made(ours) && is_private_or_absent(ours)).map_or(ComputeCache::Nowhere, ComputeCache::Ours)
}

/// What tenants need in their environment: the folder, where it is one of ours. It is made where it is not there.
pub fn environment() -> Vec<(OsString, OsString)> {
    let ComputeCache::Ours(folder) = find(Path::new("/"), &|name| std::env::var(name).ok()) else { return Vec::new() };
    // It may be there: then it is what `find` saw, or somebody has put something in its place since.
    let _ = DirBuilder::new().mode(0o700).create(&folder);
    if is_private(&folder) { vec![(VARIABLE.into(), folder.into())] } else { Vec::new() }
}

/// Whether files can be made in `folder`, once it and what is missing above it are made.
fn can_be_made(folder: &Path) -> bool {
    let there = folder.ancestors().find(|path| path.symlink_metadata().is_ok());
    there.is_some_and(|there| there.is_dir() && access(there, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

fn is_private_or_absent(folder: &Path) -> bool {
    folder.symlink_metadata().is_err() || is_private(folder)
}

/// A folder of this user's, no link, that nobody else may write: compiled kernels of another's would run as ours.
fn is_private(folder: &Path) -> bool {
    folder
        .symlink_metadata()
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == geteuid().as_raw() && meta.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A machine with a home folder and a folder for temporary files.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["home/user", "tmp"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        root
    }

    fn found(root: &Path, variables: &[(&str, &str)]) -> ComputeCache {
        find(root, &|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    fn ours(root: &Path) -> PathBuf {
        root.join(format!("tmp/crosstalk-compute-cache-{}", geteuid().as_raw()))
    }

    #[test]
    fn the_drivers_own_place_is_taken_where_it_can_be_written() {
        let root = machine();
        let cache = root.path().join("home/user/.nv/ComputeCache");
        assert_eq!(found(root.path(), &[("HOME", "/home/user")]), ComputeCache::Home(cache.clone()));
        assert!(!cache.exists(), "looking makes nothing");
        // A file in its way, as good as a read-only file system: root may write everywhere else.
        fs::write(root.path().join("home/user/.nv"), "").unwrap();
        assert_eq!(found(root.path(), &[("HOME", "/home/user")]), ComputeCache::Ours(ours(root.path())));
    }

    #[test]
    fn a_home_that_is_not_there_is_no_place() {
        let root = machine();
        for variables in [&[][..], &[("HOME", "/nobody")], &[("HOME", "relative")]] {
            assert_eq!(found(root.path(), variables), ComputeCache::Ours(ours(root.path())), "{variables:?}");
        }
        assert_eq!(found(root.path(), &[("TMPDIR", "/nowhere")]), ComputeCache::Ours(ours(root.path())));
        let ComputeCache::Ours(there) = found(root.path(), &[("TMPDIR", "/home")]) else { panic!("nowhere") };
        assert_eq!(there.parent(), Some(root.path().join("home").as_path()));
    }

    #[test]
    fn a_folder_in_memory_is_the_last_resort() {
        let root = machine();
        fs::remove_dir(root.path().join("tmp")).unwrap();
        assert_eq!(found(root.path(), &[]), ComputeCache::Nowhere);
        fs::create_dir_all(root.path().join("dev/shm")).unwrap();
        let ComputeCache::Ours(there) = found(root.path(), &[]) else { panic!("nowhere") };
        assert_eq!(there.parent(), Some(root.path().join("dev/shm").as_path()));
    }

    #[test]
    fn what_the_user_says_stands() {
        let root = machine();
        assert_eq!(found(root.path(), &[("CUDA_CACHE_PATH", "/data/cache")]), ComputeCache::Users);
        assert_eq!(found(root.path(), &[("CUDA_CACHE_DISABLE", "1")]), ComputeCache::Disabled);
        assert_eq!(found(root.path(), &[("CUDA_CACHE_DISABLE", "0")]), ComputeCache::Ours(ours(root.path())));
    }

    #[test]
    fn a_folder_that_others_may_have_filled_is_not_used() {
        let root = machine();
        let folder = ours(root.path());
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(found(root.path(), &[]), ComputeCache::Nowhere);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(found(root.path(), &[]), ComputeCache::Ours(folder.clone()));
        fs::remove_dir(&folder).unwrap();
        symlink(root.path().join("home/user"), &folder).unwrap();
        assert_eq!(found(root.path(), &[]), ComputeCache::Nowhere);
    }
}
