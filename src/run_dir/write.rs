//! Writing a run: arms are committed one by one, and what is committed survives a crash at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::event::{self, Committed, Event, Header, Note};
use super::files::{self, DIGEST, EVENTS, FINISHED, MANIFEST, SUMS};
use super::hlog::{self, ArmIntervals};
use super::samples::{self, Label};
use super::sums::{Finished, Sums, sums_text};
use super::{ArmData, Calibration, Digest, Manifest, RecordedRun, RunDirError, read};
use crate::backend::{ArmKey, ArmRecord, Company, Evidence, Purpose};
use crate::hazard::Tried;
use crate::observation::Observed;
use crate::provenance::Provenance;

/// A run directory, open for writing by this process alone.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    manifest: Manifest,
    /// The event log; locked.
    events: File,
    /// Length of the event log, bytes.
    length: u64,
    arms: BTreeMap<ArmKey, Kept>,
}

/// Of a committed arm, what the end of the run writes.
#[derive(Debug)]
struct Kept {
    file: String,
    sha256: String,
    samples: u64,
    intervals: ArmIntervals,
}

/// Files that are synced beside one another within one commit.
const SYNCS_AT_A_TIME: usize = 16;

/// An arm ready to be committed: its bytes, its event and its histograms.
#[derive(Debug)]
pub struct Encoded {
    committed: Committed,
    bytes: Vec<u8>,
    intervals: ArmIntervals,
    data: ArmData,
}

/// Encodes one arm: pure, and the greater part of a commit's work, so that threads can do it beside one another.
///
/// # Errors
/// Where the record cannot be represented: an arm that the plan lacks, a sample of an unknown series, a number that is
/// not finite.
pub fn encode(manifest: &Manifest, key: &ArmKey, record: &ArmRecord) -> Result<Encoded, RunDirError> {
    let file = files::arm_file(&manifest.plan, key)?;
    let label = Label::new(manifest.provenance, &file, key.grid, &record.series);
    let bytes = samples::encode(&label, &record.samples)?;
    let data = ArmData::from_record(record);
    let committed = Committed {
        arm: key.clone(),
        sha256: files::sha256(&bytes),
        samples: record.samples.len() as u64,
        series: event::counts(&data),
        summary: record.summary.clone(),
        file,
    };
    Ok(Encoded { intervals: ArmIntervals::new(&data)?, committed, bytes, data })
}

impl RunDir {
    /// Begins a run in a directory that is empty or not there yet. The manifest is durable on return.
    ///
    /// # Errors
    /// Where the directory holds something, or cannot be written.
    pub fn create(path: &Path, manifest: &Manifest) -> Result<Self, RunDirError> {
        if (manifest.format.as_str(), manifest.version) != (Manifest::FORMAT, Manifest::VERSION) {
            let found = format!("{:?} version {}", manifest.format, manifest.version);
            return Err(RunDirError::not_recordable("the manifest", format!("it calls itself {found}")));
        }
        if manifest.provenance != manifest.plan.inventory.provenance {
            return Err(RunDirError::not_recordable("the manifest", "its provenance is not that of its plan"));
        }
        fs::create_dir_all(path).map_err(RunDirError::io("create", path))?;
        let mut entries = fs::read_dir(path).map_err(RunDirError::io("read", path))?;
        if entries.next().is_some() {
            return Err(RunDirError::NotEmpty { path: path.to_owned() });
        }
        let text = files::to_json("the manifest", manifest)?;
        unchanged("the manifest", manifest, &text)?;
        // Whoever places the manifest owns the directory: another run may have found it empty at the same moment.
        if !files::claim(path, MANIFEST, &text)? {
            return Err(RunDirError::NotEmpty { path: path.to_owned() });
        }
        begin_events(path, manifest.provenance, &text)?;
        Self::open(path, manifest.clone())
    }

    /// Goes on with an interrupted run: what is committed stays, a torn last event is cut off, files without an event
    /// are overwritten when their arm is run again.
    ///
    /// # Errors
    /// Where there is no run, or it is finished, damaged, from a newer crosstalk, or still being written.
    pub fn resume(path: &Path) -> Result<(Self, RecordedRun), RunDirError> {
        let manifest_text = read::manifest_bytes(path)?;
        let manifest = read::parse_manifest(&manifest_text)?;
        if path.join(FINISHED).exists() {
            return Err(RunDirError::Finished { path: path.to_owned() });
        }
        if !path.join(EVENTS).exists() {
            // Stopped between the first file and the second.
            begin_events(path, manifest.provenance, &manifest_text)?;
        }
        // The lock comes first: what is read must not change any more.
        let mut dir = Self::open(path, manifest)?;
        let opened = read::open(path)?;
        // What goes on is signed in the end: nothing is taken over unchecked.
        super::recheck(&opened.run)?;
        dir.cut_events(opened.whole)?;
        for committed in &opened.committed {
            let intervals = ArmIntervals::new(&opened.run.arms[&committed.arm])?;
            dir.arms.insert(committed.arm.clone(), Kept::new(committed.clone(), intervals));
        }
        dir.note(&Note::Resumed {})?;
        let mut run = opened.run;
        if run.manifest.provenance != Provenance::Simulated {
            dir.drop_incomplete(&mut run)?;
        }
        Ok((dir, run))
    }

    /// Drops every block, or pair within the victim's place, that lacks an arm: its tenants are gone, and new ones are no partners for what they left.
    fn drop_incomplete(&mut self, run: &mut RecordedRun) -> Result<(), RunDirError> {
        // Of a block that lost its first arm there is none: it is begun anew like the others.
        let begun = self.arms.keys().chain(run.lost.keys());
        let blocks: BTreeSet<_> =
            begun.map(|arm| (arm.arrangement, arm.grid, arm.block, arm.purpose.of_block())).collect();
        for (arrangement, grid, block, purpose) in blocks {
            let of_block = |arm: &ArmKey| arm.belongs(arrangement, grid, block, purpose);
            if run.planned(arrangement, grid, block, purpose).iter().all(|arm| self.arms.contains_key(arm)) {
                continue;
            }
            self.append(&[Event::Dropped { arrangement, grid, block, purpose }])?;
            self.arms.retain(|arm, kept| {
                if of_block(arm) {
                    // What no event names is ignored: it does not matter if this fails.
                    let _ = fs::remove_file(self.root.join(&kept.file));
                }
                !of_block(arm)
            });
            run.arms.retain(|arm, _| !of_block(arm));
            let (gone, kept): (BTreeMap<_, _>, _) =
                std::mem::take(&mut run.lost).into_iter().partition(|(arm, _)| of_block(arm));
            run.lost = kept;
            run.lost_before.extend(gone);
        }
        Ok(())
    }

    fn open(path: &Path, manifest: Manifest) -> Result<Self, RunDirError> {
        let log = path.join(EVENTS);
        let mut events = OpenOptions::new().write(true).open(&log).map_err(RunDirError::io("open", &log))?;
        // Held until this process ends, however it ends.
        events.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => RunDirError::Busy { path: path.to_owned() },
            TryLockError::Error(e) => RunDirError::io("lock", &log)(e),
        })?;
        let length = events.seek(SeekFrom::End(0)).map_err(RunDirError::io("read", &log))?;
        Ok(Self { root: path.to_owned(), manifest, events, length, arms: BTreeMap::new() })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where the run is written.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Records what calibration fixed for a grid.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn calibrated(&mut self, calibration: &Calibration) -> Result<(), RunDirError> {
        self.append(&[Event::Calibrated(calibration.clone())])
    }

    /// Records that an arrangement could not run, and why.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn skipped(&mut self, arrangement: usize, reason: &str) -> Result<(), RunDirError> {
        self.append(&[Event::Skipped { arrangement, reason: reason.to_owned() }])
    }

    /// Records what proves that the tenants of a grid are in their seats.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn arranged(
        &mut self,
        arrangement: usize,
        grid: usize,
        generation: Option<u32>,
        company: Company,
        evidence: Evidence,
    ) -> Result<(), RunDirError> {
        self.append(&[Event::Arranged { arrangement, grid, generation, company, evidence }])
    }

    /// Records that everything that is judged of a neighbour in a grid was decided at a look.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn stopped(
        &mut self,
        arrangement: usize,
        grid: usize,
        neighbour: usize,
        look: usize,
    ) -> Result<(), RunDirError> {
        self.append(&[Event::Stopped { arrangement, grid, neighbour, look }])
    }

    /// Records that the control whose arms are for `purpose` could not be run in a grid, and why.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn no_control(
        &mut self,
        arrangement: usize,
        grid: usize,
        purpose: Purpose,
        reason: &str,
    ) -> Result<(), RunDirError> {
        self.append(&[Event::NoControl { arrangement, grid, purpose, reason: reason.to_owned() }])
    }

    /// Records that an arrangement was given up before its end.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn given_up(&mut self, arrangement: usize, reason: &str) -> Result<(), RunDirError> {
        self.append(&[Event::GivenUp { arrangement, reason: reason.to_owned() }])
    }

    /// Records that an arm could not be measured to its end.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn lost(&mut self, arm: &ArmKey, reason: &str) -> Result<(), RunDirError> {
        self.append(&[Event::Lost { arm: arm.clone(), reason: reason.to_owned() }])
    }

    /// Records what was observed of an arrangement.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn observed(&mut self, arrangement: usize, observed: &Observed) -> Result<(), RunDirError> {
        self.append(&[Event::Observed { arrangement, observed: observed.clone() }])
    }

    /// Records what came of trying a hazard.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn tried(&mut self, tried: &Tried) -> Result<(), RunDirError> {
        self.append(&[Event::Tried(Box::new(tried.clone()))])
    }

    /// Records something beside what is measured.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn note(&mut self, note: &Note) -> Result<(), RunDirError> {
        self.append(&[Event::Note(note.clone())])
    }

    /// Commits arms in this order: all their files first, then all their events. The files are synced beside one
    /// another, their directory and the event log once for all: on a disk that takes 4 ms for a sync, eight arms or more
    /// at a time take about 1 ms each where one alone takes 13 ms. A crash loses those without a whole event. What comes
    /// back is what verdicts read.
    ///
    /// # Errors
    /// Where they cannot be written, or one is committed already.
    pub fn commit_encoded(&mut self, arms: Vec<Encoded>) -> Result<Vec<(ArmKey, ArmData)>, RunDirError> {
        self.write_arms(&arms)?;
        let events: Vec<Event> = arms.iter().map(|arm| Event::Committed(Box::new(arm.committed.clone()))).collect();
        self.append(&events)?;
        Ok(arms.into_iter().map(|arm| self.keep(arm)).collect())
    }

    /// Keeps of a committed arm what the end of the run writes; the rest goes to the caller.
    fn keep(&mut self, arm: Encoded) -> (ArmKey, ArmData) {
        let Encoded { committed, intervals, data, .. } = arm;
        let key = committed.arm.clone();
        self.arms.insert(key.clone(), Kept::new(committed, intervals));
        (key, data)
    }

    /// The arms' files, durable on return but without their events.
    pub(super) fn write_arms(&self, arms: &[Encoded]) -> Result<(), RunDirError> {
        let mut folders = BTreeMap::new();
        for (i, Encoded { committed, .. }) in arms.iter().enumerate() {
            let twice = self.arms.contains_key(&committed.arm)
                || arms[..i].iter().any(|earlier| earlier.committed.arm == committed.arm);
            if twice {
                return Err(RunDirError::not_recordable(&committed.file, "an arm is committed once"));
            }
            let folder = committed.file.rsplit_once('/').map_or("", |(folder, _)| folder);
            if folders.insert(folder, self.root.join(folder)).is_none() {
                files::create_dir(&self.root, folder)?;
            }
        }
        // A sync waits for the disk, not for a core: file systems join those that arrive together.
        let share = arms.len().div_ceil(SYNCS_AT_A_TIME).max(1);
        let write = |arms: &[Encoded]| {
            arms.iter().try_for_each(|arm| files::write_renamed(&self.root, &arm.committed.file, &arm.bytes))
        };
        std::thread::scope(|scope| {
            let writers: Vec<_> = arms.chunks(share).map(|arms| scope.spawn(move || write(arms))).collect();
            writers.into_iter().try_for_each(|writer| match writer.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        folders.values().try_for_each(|folder| files::sync_dir(folder))
    }

    /// Ends the run: histograms, digest, checksums, and last the file that says so.
    ///
    /// # Errors
    /// Where something cannot be written, or the digest holds a number that is not finite.
    pub fn finish(self, digest: &Digest) -> Result<(), RunDirError> {
        let mut sums = self.write_hlogs()?;
        let text = digest.to_json()?;
        unchanged("the digest", digest, &text)?;
        files::write_renamed(&self.root, DIGEST, &text)?;
        sums.insert(DIGEST.to_owned(), files::sha256(&text));
        for file in [MANIFEST, EVENTS] {
            sums.insert(file.to_owned(), files::sha256(&files::read(&self.root, file, MANIFEST)?));
        }
        sums.extend(self.arms.values().map(|arm| (arm.file.clone(), arm.sha256.clone())));
        let text = sums_text(&sums);
        files::write_durable(&self.root, SUMS, text.as_bytes())?;
        let (arms, samples) = (self.arms.len() as u64, self.arms.values().map(|arm| arm.samples).sum());
        let finished = Finished::new(self.manifest.provenance, &sums, arms, samples, text.as_bytes());
        files::write_durable(&self.root, FINISHED, &files::to_json(FINISHED, &finished)?)
    }

    /// Writes all `.hlog` files; their checksums.
    fn write_hlogs(&self) -> Result<Sums, RunDirError> {
        let plan = &self.manifest.plan;
        let mut sums = Sums::new();
        for (index, arrangement) in plan.arrangements.iter().enumerate() {
            let mut arms = Vec::new();
            for (key, kept) in self.arms.iter().filter(|(key, _)| key.arrangement == index) {
                arms.push((files::arm_stem(plan, key)?, &kept.intervals));
            }
            for (series, log) in hlog::write(self.manifest.provenance, &arrangement.name, arms.into_iter()) {
                let Some(file) = files::hlog_file(plan, index, &series) else { continue };
                let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
                files::create_dir(&self.root, folder)?;
                files::write_durable(&self.root, &file, log.as_bytes())?;
                sums.insert(file, files::sha256(log.as_bytes()));
            }
        }
        Ok(sums)
    }

    /// Appends events, durable on return. A failed append leaves nothing behind.
    fn append(&mut self, events: &[Event]) -> Result<(), RunDirError> {
        let mut text = Vec::new();
        for event in events {
            let line = event::line(event)?;
            unchanged("an event", event, &line)?;
            text.extend(line);
        }
        let result = self.events.write_all(&text).and_then(|()| self.events.sync_data());
        match result {
            Ok(()) => self.length += text.len() as u64,
            Err(e) => {
                // Nothing more can be done if this fails too: the reader tolerates a torn last line.
                let _ = self.cut_events(self.length);
                return Err(RunDirError::io("write", &self.root.join(EVENTS))(e));
            }
        }
        Ok(())
    }

    fn cut_events(&mut self, length: u64) -> Result<(), RunDirError> {
        let cut = |events: &mut File| {
            events.set_len(length)?;
            events.seek(SeekFrom::End(0))?;
            events.sync_all()
        };
        cut(&mut self.events).map_err(RunDirError::io("cut", &self.root.join(EVENTS)))?;
        self.length = length;
        Ok(())
    }
}

impl Kept {
    fn new(committed: Committed, intervals: ArmIntervals) -> Self {
        let Committed { file, sha256, samples, .. } = committed;
        Self { file, sha256, samples, intervals }
    }
}

/// Writes the event log with its first line.
fn begin_events(path: &Path, provenance: Provenance, manifest: &[u8]) -> Result<(), RunDirError> {
    let header = Header {
        format: event::FORMAT.to_owned(),
        version: event::VERSION,
        provenance,
        manifest_sha256: files::sha256(manifest),
    };
    files::write_durable(path, EVENTS, &event::line(&header)?)
}

/// Refuses what would read back as something else: JSON turns a number that is not finite into null.
fn unchanged<T: Serialize + DeserializeOwned + PartialEq>(
    what: &str,
    value: &T,
    text: &[u8],
) -> Result<(), RunDirError> {
    match serde_json::from_slice::<T>(text) {
        Ok(read) if read == *value => Ok(()),
        Ok(_) => Err(RunDirError::not_recordable(what, "it reads back as another value; is a number not finite?")),
        Err(e) => {
            Err(RunDirError::not_recordable(what, format!("it does not read back ({e}); is a number not finite?")))
        }
    }
}
