//! The stand-in driver in a folder of its own: the libraries under their loader names, `stand-in.toml`, shared state.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A machine with the stand-in driver. Its folder goes when this is dropped.
pub(crate) struct StandIn {
    folder: tempfile::TempDir,
}

/// Which of the two libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    /// libcuda.
    Cuda,
    /// libnvidia-ml.
    Nvml,
}

impl Library {
    /// Names under which loaders look for it.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Cuda => ["libcuda.so.1", "libcuda.so"],
            Self::Nvml => ["libnvidia-ml.so.1", "libnvidia-ml.so"],
        }
    }

    /// Where cargo puts it.
    fn built(self) -> PathBuf {
        built(match self {
            Self::Cuda => "libcuda.so",
            Self::Nvml => "libnvidia_ml.so",
        })
    }
}

/// The program of MPS under its two names.
const MPS: [&str; 2] = ["nvidia-cuda-mps-control", "nvidia-cuda-mps-server"];
/// The same program under the name that reads and sets the compute policy.
const SMI: &str = "nvidia-smi";

/// Where cargo puts an example.
fn built(name: &str) -> PathBuf {
    // target/PROFILE/deps/live-… → target/PROFILE/examples.
    let me = std::env::current_exe().expect("the test binary has a path");
    let profile = me.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    let path = profile.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: `cargo test --test live` alone does not build the stand-in driver. Run `cargo build --examples` \
         first (with --release for the release profile); a plain `cargo test` builds it, too",
        path.display()
    );
    path
}

impl StandIn {
    /// A machine as `stand-in.toml` describes it (tests/fake-driver/README.md).
    pub(crate) fn new(toml: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for library in [Library::Cuda, Library::Nvml] {
            let built = library.built();
            for name in library.names() {
                std::os::unix::fs::symlink(&built, folder.path().join(name)).expect("a link");
            }
        }
        let mps = built("nvidia-cuda-mps-control");
        for name in MPS.into_iter().chain([SMI]) {
            std::os::unix::fs::symlink(&mps, folder.path().join(name)).expect("a link");
        }
        let machine = Self { folder };
        machine.configure(toml);
        machine
    }

    /// Writes `stand-in.toml` anew, for processes that start from now on.
    pub(crate) fn configure(&self, toml: &str) {
        std::fs::write(self.folder.path().join("stand-in.toml"), toml).expect("stand-in.toml");
    }

    /// The folder: what `CROSSTALK_STAND_IN` names.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Variables of the environment that select the stand-in.
    pub(crate) fn env(&self) -> [(&'static str, PathBuf); 2] {
        let folder = self.path().to_owned();
        [("LD_LIBRARY_PATH", folder.clone()), ("CROSSTALK_STAND_IN", folder)]
    }

    /// Makes a program see this machine and nothing of another: its driver, its MPS, and private directories in it.
    pub(crate) fn apply<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(self.path().to_owned()).chain(std::env::split_paths(&path)));
        command.env("PATH", path.expect("a PATH")).env("XDG_RUNTIME_DIR", self.path());
        // Where a control daemon of this machine's user would listen.
        command.env("CUDA_MPS_PIPE_DIRECTORY", self.path().join("usual"));
        command.env_remove("CUDA_VISIBLE_DEVICES").env_remove("NVIDIA_VISIBLE_DEVICES").envs(self.env())
    }

    /// The GPUs fall off the bus: every call fails from now on, and nothing that is queued ends.
    pub(crate) fn lose_device(&self) {
        std::fs::write(self.path().join("lost"), "").expect("the file `lost`");
    }

    /// A driver without these entry points: the library is replaced by a copy in which their names are misspelt. Lookups
    /// go by a hash of the name and compare the name then, so that they find nothing.
    pub(crate) fn without(&self, library: Library, symbols: &[&str]) {
        let mut bytes = std::fs::read(library.built()).expect("the library");
        for symbol in symbols {
            let name: Vec<u8> = [b"\0", symbol.as_bytes(), b"\0"].concat();
            let places: Vec<usize> =
                bytes.windows(name.len()).enumerate().filter(|(_, w)| *w == name).map(|(at, _)| at).collect();
            assert!(!places.is_empty(), "the stand-in exports no {symbol}");
            for at in places {
                bytes[at + 1] = b'~';
            }
        }
        for name in library.names() {
            let path = self.path().join(name);
            std::fs::remove_file(&path).expect("the link");
            std::fs::write(&path, &bytes).expect("the changed library");
        }
    }

    /// The machine has NCCL, too.
    pub(crate) fn add_nccl(&self) {
        std::os::unix::fs::symlink(built("libnccl.so"), self.path().join("libnccl.so.2")).expect("a link");
    }

    /// The machine has no MPS.
    pub(crate) fn remove_mps(&self) {
        for name in MPS {
            std::fs::remove_file(self.path().join(name)).expect("the link");
        }
    }

    /// The machine has no nvidia-smi.
    pub(crate) fn remove_smi(&self) {
        std::fs::remove_file(self.path().join(SMI)).expect("the link");
    }

    /// The machine has no such library at all.
    pub(crate) fn remove(&self, library: Library) {
        for name in library.names() {
            std::fs::remove_file(self.path().join(name)).expect("the link");
        }
    }
}
