//! What a GPU was like before crosstalk changed it, on disk until it is put back.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Compute, Part, ReconfigureError, level, make, words};
use crate::gpu::{Gpu, GpuModel, Instance};
use crate::nvml::Divide;
use crate::provenance::Provenance;
use crate::scenario::TimeSlice;

/// Version of the file.
const SCHEMA: u32 = 2;
/// Every file begins so. The name is the first version's, which kept layouts alone: it finds a later file, and refuses it.
const PREFIX: &str = "mig-before-";

/// What was there: one file a GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    schema: u32,
    created_by: String,
    /// UUID of the GPU.
    pub gpu: String,
    /// When, in words.
    pub since: String,
    /// The process that changed it.
    pub pid: u32,
    /// What was there, and what was to be.
    pub former: Former,
}

/// What of a GPU was changed: how it was, and how it was to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Former {
    /// How it was divided.
    Layout {
        /// What was there.
        before: Vec<Part>,
        /// Its MIG devices, with the ids and UUIDs that they had.
        devices: Vec<Instance>,
        /// What was to be made.
        asked: Vec<Part>,
    },
    /// The level of its time slice.
    TimeSlice {
        /// What was there.
        before: TimeSlice,
        /// What was to be set.
        asked: TimeSlice,
    },
}

impl std::fmt::Display for Former {
    /// What was there.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Layout { before, .. } => f.write_str(&words(before)),
            Self::TimeSlice { before, .. } => write!(f, "time-slice level {before}"),
        }
    }
}

/// The first version: layouts alone, compute instances by their slices.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    #[serde(rename = "schema")]
    _schema: u32,
    created_by: String,
    gpu: String,
    since: String,
    pid: u32,
    before: Vec<FirstPart>,
    devices: Vec<Instance>,
    asked: Vec<FirstPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstPart {
    profile: String,
    start: u32,
    size: u32,
    compute: Vec<u32>,
}

impl From<FirstPart> for Part {
    fn from(part: FirstPart) -> Self {
        let compute = part.compute.into_iter().map(Compute::of).collect();
        Self { profile: part.profile, start: part.start, size: part.size, compute }
    }
}

impl From<First> for Saved {
    fn from(first: First) -> Self {
        let parts = |all: Vec<FirstPart>| all.into_iter().map(Part::from).collect();
        let former = Former::Layout { before: parts(first.before), devices: first.devices, asked: parts(first.asked) };
        let (created_by, gpu, since) = (first.created_by, first.gpu, first.since);
        Self { schema: SCHEMA, created_by, gpu, since, pid: first.pid, former }
    }
}

/// Of a file of any version.
#[derive(Deserialize)]
struct AnyVersion {
    schema: u32,
    created_by: String,
}

/// What is saved, and cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("what was there before, in {}: {why}", .path.display())]
pub struct SavedError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub why: String,
}

impl SavedError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self { path: path.to_owned(), why: error.to_string() }
    }
}

/// Folders that may hold what is saved, the one to write to first. That of a stand-in is the stand-in's own: equal UUIDs
/// in two folders are two GPUs.
pub fn folders(provenance: Provenance) -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let (Provenance::StandIn, Some(folder)) = (provenance, variable("CROSSTALK_STAND_IN")) {
        return vec![folder];
    }
    let all = PathBuf::from("/var/lib/crosstalk");
    let own = variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("crosstalk"));
    // Dividing a GPU takes root as a rule, and root's state is the machine's, whoever root was before sudo.
    if rustix::process::geteuid().is_root() {
        std::iter::once(all).chain(own).collect()
    } else {
        own.into_iter().chain([all]).collect()
    }
}

/// A UUID comes from a driver: it names a file, never a path.
fn file_name(gpu: &str) -> String {
    let name: String = gpu.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    format!("{PREFIX}{name}.json")
}

impl Saved {
    /// What is to be written down before `gpu`, which is divided as `before`, is divided as `asked`.
    pub fn layout(gpu: &Gpu, before: Vec<Part>, asked: Vec<Part>) -> Self {
        Self::new(&gpu.uuid, Former::Layout { before, devices: gpu.instances.clone(), asked })
    }

    /// What is to be written down before the time slice of the GPU `uuid`, which has the level `before`, gets `asked`.
    pub fn time_slice(uuid: &str, before: TimeSlice, asked: TimeSlice) -> Self {
        Self::new(uuid, Former::TimeSlice { before, asked })
    }

    fn new(uuid: &str, former: Former) -> Self {
        Self {
            schema: SCHEMA,
            created_by: concat!("crosstalk ", env!("CARGO_PKG_VERSION")).to_owned(),
            gpu: uuid.to_owned(),
            since: Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            pid: std::process::id(),
            former,
        }
    }

    /// Writes it down, durably and whole, for a GPU that has none saved: where to.
    ///
    /// # Errors
    /// Where no folder takes it.
    pub fn write(&self, provenance: Provenance) -> Result<PathBuf, SavedError> {
        let folder = folders(provenance).into_iter().next().ok_or_else(|| SavedError {
            path: PathBuf::from("crosstalk"),
            why: "neither XDG_STATE_HOME nor HOME says where to keep it: set one of them".to_owned(),
        })?;
        self.write_in(&folder)
    }

    fn write_in(&self, folder: &Path) -> Result<PathBuf, SavedError> {
        fs::create_dir_all(folder).map_err(SavedError::io(folder))?;
        let path = folder.join(file_name(&self.gpu));
        let write = || {
            let mut file = tempfile::Builder::new().prefix(".saving-").tempfile_in(folder)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            // Never over another: that one says how the machine was found.
            file.persist_noclobber(&path).map_err(|e| e.error)?;
            File::open(folder)?.sync_all()
        };
        match write() {
            Ok(()) => Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(SavedError {
                path,
                why: "what was there before an earlier change is kept here, and is not put back yet: run `crosstalk \
                      restore` first"
                    .to_owned(),
            }),
            Err(error) => Err(SavedError::io(&path)(error)),
        }
    }

    /// All that are saved, in order of their files. One that cannot be read is an error, never passed over.
    ///
    /// # Errors
    /// Where a file cannot be read, or is of another version.
    pub fn all(provenance: Provenance) -> Result<Vec<(PathBuf, Self)>, SavedError> {
        let mut found = Vec::new();
        for folder in folders(provenance) {
            found.extend(all_in(&folder)?);
        }
        Ok(found)
    }

    /// What is saved of one GPU.
    ///
    /// # Errors
    /// Where its file cannot be read, or is of another version.
    pub fn of(gpu: &str, provenance: Provenance) -> Result<Option<(PathBuf, Self)>, SavedError> {
        for folder in folders(provenance) {
            if let Some(saved) = read(&folder.join(file_name(gpu)))? {
                return Ok(Some(saved));
            }
        }
        Ok(None)
    }

    /// Puts back what was there before, and forgets it at `path`: what of it is otherwise, a line each. Does only what is
    /// left to do. `division` divides the GPU, whose model's data these are; nothing else than a layout needs it.
    ///
    /// # Errors
    /// Where it cannot be put back, or the file not removed: it stays then, for another attempt.
    pub fn put_back(
        &self,
        path: &Path,
        division: Option<(&dyn Divide, Option<&GpuModel>)>,
    ) -> Result<Vec<String>, ReconfigureError> {
        let otherwise = match (&self.former, division) {
            (Former::Layout { before, asked, .. }, Some((driver, model))) => {
                make(driver, model, before, &[before, asked])?
            }
            (Former::Layout { .. }, None) => {
                return Err(ReconfigureError::new("nothing divides this GPU here".to_owned()));
            }
            (Former::TimeSlice { before, asked }, _) => {
                level::put_back(&self.gpu, *before, *asked)?;
                Vec::new()
            }
        };
        fs::remove_file(path).map_err(|error| ReconfigureError {
            what: format!("it is put back, and {} cannot be removed: {error}", path.display()),
        })?;
        Ok(otherwise)
    }
}

fn all_in(folder: &Path) -> Result<Vec<(PathBuf, Saved)>, SavedError> {
    let mut paths: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(SavedError::io(folder)(error)),
    };
    let is_saved = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(PREFIX) && name.ends_with(".json")
    };
    paths.retain(is_saved);
    paths.sort();
    paths.iter().filter_map(|path| read(path).transpose()).collect()
}

fn read(path: &Path) -> Result<Option<(PathBuf, Saved)>, SavedError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SavedError::io(path)(error)),
    };
    let wrong = |why: String| SavedError { path: path.to_owned(), why };
    let garbled = |e: serde_json::Error| {
        wrong(format!(
            "{e}; it says how the GPU was: restore that by hand (`nvidia-smi mig`, `nvidia-smi compute-policy`), then remove it"
        ))
    };
    let version: AnyVersion = serde_json::from_str(&text).map_err(garbled)?;
    let saved: Saved = match version.schema {
        1 => serde_json::from_str::<First>(&text).map_err(garbled)?.into(),
        SCHEMA => serde_json::from_str(&text).map_err(garbled)?,
        other => {
            return Err(wrong(format!(
                "it is of version {other}, and this knows up to {SCHEMA}: {} wrote it; restore with that",
                version.created_by
            )));
        }
    };
    Ok(Some((path.to_owned(), saved)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(start: u32) -> Part {
        let compute = vec![Compute { slices: 3, profile: Some(2), place: Some((0, 3)) }];
        Part { profile: "3g.40gb".to_owned(), start, size: 4, compute }
    }

    fn saved() -> Saved {
        let gpu = Gpu { uuid: "GPU-1/../x".to_owned(), ..Gpu::default() };
        Saved::layout(&gpu, vec![part(0)], vec![part(4)])
    }

    #[test]
    fn what_is_saved_reads_back_from_one_file_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state/crosstalk");
        assert!(all_in(&state).unwrap().is_empty(), "no folder, nothing saved");
        // Of one moment: it holds the time.
        let saved = saved();
        let path = saved.write_in(&state).unwrap();
        assert_eq!(path.parent(), Some(state.as_path()), "a UUID is no path");
        assert_eq!(all_in(&state).unwrap(), [(path, saved)]);
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn what_was_there_first_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved().write_in(folder.path()).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        let changed = Saved::time_slice(&saved().gpu, TimeSlice::Default, TimeSlice::Long);
        assert!(changed.write_in(folder.path()).unwrap_err().to_string().contains("run `crosstalk restore` first"));
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_never_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved().write_in(folder.path()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(all_in(folder.path()).unwrap_err().to_string().contains("restore that by hand"));
        fs::write(&path, text.replace("\"schema\": 2", "\"schema\": 3")).unwrap();
        assert!(all_in(folder.path()).unwrap_err().to_string().contains("it is of version 3, and this knows up to 2"));
        let unknown = text.replace("\"pid\"", "\"more\": 1, \"pid\"");
        fs::write(&path, unknown).unwrap();
        assert!(all_in(folder.path()).unwrap_err().to_string().contains("unknown field `more`"));
    }

    #[test]
    fn the_first_version_is_read_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let first = r#"{"schema": 1, "created_by": "crosstalk 0.1.0", "gpu": "GPU-1", "since": "then", "pid": 7,
            "before": [{"profile": "3g.40gb", "start": 4, "size": 4, "compute": [1, 2]}], "devices": [], "asked": []}"#;
        fs::write(folder.path().join(file_name("GPU-1")), first).unwrap();
        let (_, saved) = all_in(folder.path()).unwrap().remove(0);
        let compute = vec![Compute::of(1), Compute::of(2)];
        let before = vec![Part { compute, ..part(4) }];
        assert_eq!(saved.former, Former::Layout { before, devices: vec![], asked: vec![] });
        assert_eq!(saved.former.to_string(), "3g.40gb at slice 4 in 1c + 2c");
    }

    #[test]
    fn a_level_is_saved_as_a_layout_is() {
        let folder = tempfile::tempdir().unwrap();
        let level = Saved::time_slice("GPU-1", TimeSlice::Default, TimeSlice::Short);
        level.write_in(folder.path()).unwrap();
        let (_, read) = all_in(folder.path()).unwrap().remove(0);
        assert_eq!((&read.former, read.former.to_string().as_str()), (&level.former, "time-slice level default"));
    }
}
