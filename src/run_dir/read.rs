//! Reading a run back: from its histograms where it is finished, from its samples where it is not, and from both in
//! [`verify`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::event::{self, Committed, Event, at_line};
use super::files::{self, DIGEST, EVENTS, FINISHED, MANIFEST, SUMS};
use super::samples::{self, Label};
use super::sums::Sums;
use super::{ArmData, Digest, Manifest, Proof, RecordedRun, RunDirError, SeriesData, check, hlog, sums};
use crate::backend::{ArmKey, ArmRecord};
use crate::hazard::Tried;
use crate::observation::Observed;
use crate::provenance::Provenance;

/// Reads a run, finished or not. Whatever is read is compared with its checksum first.
///
/// # Errors
/// Where there is no run, or it is damaged, or from a newer crosstalk.
pub fn load(path: &Path) -> Result<RecordedRun, RunDirError> {
    Ok(open(path)?.run)
}

/// What an interrupted run is of: its manifest, with nothing opened for writing and nothing changed.
///
/// # Errors
/// Where there is no run, or it is finished, or its manifest is damaged or from a newer crosstalk.
pub fn manifest(path: &Path) -> Result<Manifest, RunDirError> {
    let manifest = parse_manifest(&manifest_bytes(path)?)?;
    if path.join(FINISHED).exists() {
        return Err(RunDirError::Finished { path: path.to_owned() });
    }
    Ok(manifest)
}

/// The digest of a finished run and the root hash that stands for it; `None`: it is not finished. Both files and the manifest are
/// compared with their checksums, and nothing else is read.
///
/// # Errors
/// Where there is no run, or what is read is damaged, or from a newer crosstalk.
pub fn digest(path: &Path) -> Result<Option<(Digest, String)>, RunDirError> {
    let manifest_text = manifest_bytes(path)?;
    let Some((finished, sums)) = sums::read(path)? else { return Ok(None) };
    files::read_checked(path, MANIFEST, SUMS, sum_of(&sums, MANIFEST)?)?;
    let manifest = parse_manifest(&manifest_text)?;
    let digest = read_digest(path, &sums, &manifest)?;
    if digest.manifest != manifest {
        return Err(RunDirError::damaged(DIGEST, format!("the manifest of {MANIFEST}"), "another one"));
    }
    Ok(Some((digest, finished.root_sha256)))
}

/// What [`verify`] has compared.
#[derive(Debug)]
pub struct Verified {
    /// The run, its histograms rebuilt from raw samples.
    pub run: RecordedRun,
    /// The digest, to be compared with the verdict on `run`; `None`: the run is not finished.
    pub digest: Option<Digest>,
    /// SHA-256 of `SHA256SUMS`, which stands for every byte of the run; `None`: the run is not finished.
    pub root_sha256: Option<String>,
    /// Arms rebuilt.
    pub arms: u64,
    /// Samples in them.
    pub samples: u64,
    /// Files whose checksums were compared.
    pub files: u64,
    /// Files that nothing in the run names, sorted: left by a crash, or by somebody else.
    pub ignored: Vec<String>,
}

/// Compares every checksum and, where the run is finished, every arm's histograms with its samples. The caller has
/// [`recheck`](super::recheck) compute again what events conclude, judges the run that comes back and compares the verdict with
/// the digest's.
///
/// # Errors
/// Where anything is missing or differs, and as [`load`].
pub fn verify(path: &Path) -> Result<Verified, RunDirError> {
    let stated = sums::read(path)?;
    if let Some((_, sums)) = &stated {
        for (file, sum) in sums {
            files::read_checked(path, file, SUMS, sum)?;
        }
    }
    let mut opened = open(path)?;
    let mut samples = 0;
    for committed in &opened.committed {
        samples += committed.samples;
        // Arms of an unfinished run come from their samples as it is.
        if stated.is_some() {
            let rebuilt = read_arm(path, &opened.run.manifest, committed)?;
            if let Some(kept) = opened.run.arms.get(&committed.arm) {
                compare(committed, kept, &rebuilt)?;
            }
            opened.run.arms.insert(committed.arm.clone(), rebuilt);
        }
    }
    let arms = opened.committed.len() as u64;
    if let Some((finished, _)) = &stated
        && (finished.arms, finished.samples) != (arms, samples)
    {
        let stated = format!("{} arms with {} samples", finished.arms, finished.samples);
        return Err(RunDirError::damaged(FINISHED, format!("{arms} arms with {samples} samples"), stated));
    }
    let named: BTreeSet<String> = match &stated {
        Some((_, sums)) => sums.keys().cloned().chain([SUMS.to_owned(), FINISHED.to_owned()]).collect(),
        None => opened.committed.iter().map(|c| c.file.clone()).chain([MANIFEST, EVENTS].map(str::to_owned)).collect(),
    };
    let ignored = tree(path)?.into_iter().filter(|file| !named.contains(file)).collect();
    // The manifest's sum is in the event log, whose own is nowhere until the run is finished.
    let files = stated.as_ref().map_or(arms + 1, |(_, sums)| sums.len() as u64 + 1);
    let digest = match &stated {
        Some((_, sums)) => Some(read_digest(path, sums, &opened.run.manifest)?),
        None => None,
    };
    let root_sha256 = stated.map(|(finished, _)| finished.root_sha256);
    Ok(Verified { run: opened.run, digest, root_sha256, arms, samples, files, ignored })
}

/// A run as read, with what only writers and `verify` need.
pub(super) struct Opened {
    pub(super) run: RecordedRun,
    pub(super) committed: Vec<Committed>,
    /// Length of the whole lines of the event log, bytes.
    pub(super) whole: u64,
}

/// See [`load`].
pub(super) fn open(path: &Path) -> Result<Opened, RunDirError> {
    let manifest_text = manifest_bytes(path)?;
    let manifest = parse_manifest(&manifest_text)?;
    let stated = sums::read(path)?;
    if let Some((finished, sums)) = &stated {
        same_provenance(FINISHED, finished.provenance, &manifest)?;
        for file in [MANIFEST, EVENTS] {
            files::read_checked(path, file, SUMS, sum_of(sums, file)?)?;
        }
    } else if !path.join(EVENTS).exists() {
        // Stopped between the first file and the second: nothing has happened yet.
        return Ok(Opened { run: RecordedRun::new(manifest), committed: Vec::new(), whole: 0 });
    }
    let log = event::read(path, stated.is_some())?;
    let found = files::sha256(&manifest_text);
    if log.header.manifest_sha256 != found {
        let expected = log.header.manifest_sha256;
        return Err(RunDirError::Checksum { file: MANIFEST.to_owned(), by: at_line(1), expected, found });
    }
    same_provenance(&at_line(1), log.header.provenance, &manifest)?;
    let mut opened = replay(manifest, log, stated.is_some())?;
    opened.run.proof.manifest_sha256 = Some(found);
    opened.run.proof.root_sha256 = stated.as_ref().map(|(finished, _)| finished.root_sha256.clone());
    opened.run.arms = match &stated {
        Some((_, sums)) => from_hlogs(path, &opened, sums)?,
        None => from_samples(path, &opened)?,
    };
    Ok(opened)
}

pub(super) fn manifest_bytes(path: &Path) -> Result<Vec<u8>, RunDirError> {
    let not_one = |why| RunDirError::NotARunDirectory { path: path.to_owned(), why };
    files::read(path, MANIFEST, "every run").map_err(|e| match e {
        RunDirError::Missing { .. } if path.exists() => not_one("it has no manifest.json"),
        RunDirError::Missing { .. } => not_one("there is nothing of that name"),
        RunDirError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotADirectory => not_one("it is a file"),
        other => other,
    })
}

pub(super) fn parse_manifest(bytes: &[u8]) -> Result<Manifest, RunDirError> {
    let manifest: Manifest = files::from_json(MANIFEST, bytes, Manifest::FORMAT, Manifest::VERSION)?;
    same_provenance(&format!("{MANIFEST}, plan.inventory"), manifest.plan.inventory.provenance, &manifest)?;
    Ok(manifest)
}

/// What calls itself measured must be so throughout: `found`, which `file` says, is what the manifest says.
fn same_provenance(file: &str, found: Provenance, manifest: &Manifest) -> Result<(), RunDirError> {
    if found == manifest.provenance {
        return Ok(());
    }
    let expected = format!("provenance {:?}, as {MANIFEST} says", manifest.provenance);
    Err(RunDirError::damaged(file, expected, format!("{found:?}")))
}

/// What the events say has happened.
fn replay(manifest: Manifest, log: event::Log, finished: bool) -> Result<Opened, RunDirError> {
    let mut calibrations = BTreeMap::new();
    let mut skipped = BTreeMap::new();
    let mut given_up = BTreeMap::new();
    let (mut stopped, mut no_control) = (BTreeMap::new(), BTreeMap::new());
    let (mut lost, mut lost_before) = (BTreeMap::new(), BTreeMap::new());
    let mut observed: BTreeMap<usize, Vec<Observed>> = BTreeMap::new();
    let mut tried: Vec<Tried> = Vec::new();
    let mut proof = Proof::default();
    let mut committed: Vec<Committed> = Vec::new();
    let mut seen = BTreeSet::new();
    // Arrangements of which an arm was ever committed.
    let mut measured = BTreeSet::new();
    for (line, event) in log.events {
        check::event(&manifest.plan, line, &event)?;
        match event {
            // A resumed run calibrates a grid again where it was stopped before the grid's first arm.
            Event::Calibrated(c) => {
                if let Some(arm) = committed.iter().find(|o| (o.arm.arrangement, o.arm.grid) == (c.arrangement, c.grid))
                {
                    let expected = format!("the calibration of grid {} before its arms", c.grid);
                    return Err(RunDirError::damaged(&at_line(line), expected, format!("it after {}", arm.file)));
                }
                calibrations.insert((c.arrangement, c.grid), c);
            }
            Event::Skipped { arrangement, reason } => drop(skipped.insert(arrangement, reason)),
            Event::Committed(c) => {
                let expected = files::arm_file(&manifest.plan, &c.arm)
                    .map_err(|_| RunDirError::damaged(&at_line(line), "an arm of the plan", format!("{:?}", c.arm)))?;
                if c.file != expected {
                    return Err(RunDirError::damaged(&at_line(line), format!("the file {expected}"), c.file));
                }
                if !seen.insert(expected) {
                    return Err(RunDirError::damaged(&at_line(line), "each arm once", format!("{} again", c.file)));
                }
                measured.insert(c.arm.arrangement);
                committed.push(*c);
            }
            Event::GivenUp { arrangement, reason } => drop(given_up.insert(arrangement, reason)),
            Event::Lost { arm, reason } => drop(lost.insert(arm, reason)),
            Event::Stopped { arrangement, grid, neighbour, look } => {
                // A cell ends once: the first look that decided it holds.
                stopped.entry((arrangement, grid, neighbour)).or_insert(look);
            }
            Event::NoControl { arrangement, grid, purpose, reason } => {
                no_control.insert((arrangement, grid, purpose), reason);
            }
            Event::Dropped { arrangement, grid, block, purpose } => {
                let of_block = |arm: &ArmKey| arm.belongs(arrangement, grid, block, purpose);
                committed.retain(|c| !(of_block(&c.arm) && seen.remove(&c.file)));
                let gone: BTreeMap<ArmKey, String>;
                (gone, lost) = std::mem::take(&mut lost).into_iter().partition(|(arm, _)| of_block(arm));
                lost_before.extend(gone);
            }
            Event::Observed { arrangement, observed: one } => observed.entry(arrangement).or_default().push(one),
            Event::Tried(one) => {
                let same = |t: &Tried| (t.arrangement, t.victim, t.hazard) == (one.arrangement, one.victim, one.hazard);
                if tried.iter().any(same) {
                    let found = format!("hazard {} of arrangement {} again", one.hazard, one.arrangement);
                    return Err(RunDirError::damaged(&at_line(line), "each hazard once", found));
                }
                tried.push(*one);
            }
            Event::Arranged { arrangement, grid, company, evidence, .. } => {
                proof.arranged(arrangement, grid, company, evidence);
            }
            Event::Note(_) => {}
        }
    }
    let run = RecordedRun {
        manifest,
        calibrations,
        arms: BTreeMap::new(),
        skipped,
        given_up,
        stopped,
        no_control,
        lost,
        lost_before,
        observed,
        tried,
        finished,
        proof,
    };
    check::contradictions(&run, &committed.iter().map(|c| &c.arm).collect::<Vec<_>>(), &measured)?;
    Ok(Opened { run, committed, whole: log.whole })
}

fn sum_of<'a>(sums: &'a BTreeMap<String, String>, file: &str) -> Result<&'a str, RunDirError> {
    sums.get(file).map(String::as_str).ok_or_else(|| RunDirError::damaged(SUMS, format!("the sum of {file}"), "none"))
}

/// Arms of an unfinished run.
fn from_samples(path: &Path, opened: &Opened) -> Result<BTreeMap<ArmKey, ArmData>, RunDirError> {
    opened.committed.iter().map(|c| Ok((c.arm.clone(), read_arm(path, &opened.run.manifest, c)?))).collect()
}

/// One arm from its samples, which must be those of its event.
fn read_arm(path: &Path, manifest: &Manifest, committed: &Committed) -> Result<ArmData, RunDirError> {
    let Committed { file, sha256, .. } = committed;
    let bytes = files::read_checked(path, file, EVENTS, sha256)?;
    let (label, samples) = samples::decode(file, bytes)?;
    let expected = Label::new(manifest.provenance, file, committed.arm.grid, &label.series);
    if label != expected {
        return Err(RunDirError::damaged(file, format!("{expected:?}"), format!("{label:?}")));
    }
    if samples.len() as u64 != committed.samples {
        let expected = format!("{} samples, as {EVENTS} says", committed.samples);
        return Err(RunDirError::damaged(file, expected, samples.len().to_string()));
    }
    let record = ArmRecord { series: label.series, samples, summary: committed.summary.clone() };
    check::windows(&manifest.plan, committed.arm.arrangement, file, &record)?;
    let data = ArmData::from_record(&record);
    let counts = event::counts(&data);
    if counts != committed.series {
        let expected = format!("{:?}, as {EVENTS} says", committed.series);
        return Err(RunDirError::damaged(file, expected, format!("{counts:?}")));
    }
    Ok(data)
}

/// Arms of a finished run, from its histograms and events; their files must be there.
fn from_hlogs(path: &Path, opened: &Opened, sums: &Sums) -> Result<BTreeMap<ArmKey, ArmData>, RunDirError> {
    let plan = &opened.run.manifest.plan;
    let mut arms = BTreeMap::new();
    let mut stems = BTreeMap::new();
    let mut logs = BTreeSet::new();
    for c in &opened.committed {
        if sum_of(sums, &c.file)? != c.sha256 {
            let (by, expected) = (EVENTS.to_owned(), c.sha256.clone());
            return Err(RunDirError::Checksum { file: c.file.clone(), by, expected, found: sums[&c.file].clone() });
        }
        if !path.join(&c.file).exists() {
            return Err(RunDirError::Missing { file: c.file.clone(), by: EVENTS.to_owned() });
        }
        stems.insert((c.arm.arrangement, files::arm_stem(plan, &c.arm)?), c.arm.clone());
        let mut series = BTreeMap::new();
        for s in &c.series {
            series.insert(s.name.clone(), SeriesData { censored: s.censored, failed: s.failed, ..Default::default() });
            if s.completed > 0 {
                logs.insert((c.arm.arrangement, s.name.clone()));
            }
        }
        arms.insert(c.arm.clone(), ArmData { summary: c.summary.clone(), series });
    }
    for (arrangement, name) in logs {
        let Some(file) = files::hlog_file(plan, arrangement, &name) else { continue };
        let bytes = files::read_checked(path, &file, SUMS, sum_of(sums, &file)?)?;
        for hlog::Read { stem, kind, durations } in hlog::read(&file, &bytes)? {
            let series = stems
                .get(&(arrangement, stem.to_owned()))
                .and_then(|key| arms.get_mut(key))
                .and_then(|arm| arm.series.get_mut(&name))
                .ok_or_else(|| RunDirError::damaged(&file, "committed arms", format!("the tag {stem:?}")))?;
            *kind.of_mut(series) = durations;
        }
    }
    for c in &opened.committed {
        let found = event::counts(&arms[&c.arm]);
        if found != c.series {
            let (expected, found) = (format!("{:?} in its histograms", c.series), format!("{found:?} in the .hlog"));
            return Err(RunDirError::damaged(&c.file, expected, found));
        }
    }
    Ok(arms)
}

/// Histograms kept against histograms rebuilt.
fn compare(committed: &Committed, kept: &ArmData, rebuilt: &ArmData) -> Result<(), RunDirError> {
    for (name, series) in &rebuilt.series {
        if kept.series.get(name) != Some(series) {
            let expected = format!("the histograms of its samples for series {name:?}");
            return Err(RunDirError::damaged(&committed.file, expected, "others in the .hlog"));
        }
    }
    Ok(())
}

fn read_digest(path: &Path, sums: &Sums, manifest: &Manifest) -> Result<Digest, RunDirError> {
    let digest = Digest::from_json(&files::read_checked(path, DIGEST, SUMS, sum_of(sums, DIGEST)?)?)?;
    same_provenance(DIGEST, digest.provenance, manifest)?;
    Ok(digest)
}

/// Every file below `root`, sorted, by its path from there.
fn tree(root: &Path) -> Result<Vec<String>, RunDirError> {
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        for entry in std::fs::read_dir(&path).map_err(RunDirError::io("read", &path))? {
            let entry = entry.map_err(RunDirError::io("read", &path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let below = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type().map_err(RunDirError::io("read", &entry.path()))?;
            if kind.is_dir() { folders.push(below) } else { files.push(below) }
        }
    }
    files.sort();
    Ok(files)
}
