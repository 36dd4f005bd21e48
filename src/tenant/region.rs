//! The file that a tenant and its controller both map: samples of a window in fixed rows, and the progress of noise.
//!
//! It is faulted in before the first window, so that writing a row is a few stores; and what was written can be read
//! after the writer's death. One side writes each word (see the fields), the other reads it.

use std::fs::File;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::MmapRaw;

use crate::backend::Outcome;
use crate::units::Nanos;

const MAGIC: u64 = 0x6b6c_6174_7373_6f72;
const VERSION: u32 = 1;
/// Rows begin here.
const HEADER: usize = 4096;

/// The head of the file.
#[repr(C)]
struct Header {
    magic: AtomicU64,
    version: AtomicU32,
    /// The controller's: counts up; the tenant begins its progress anew when it sees another number.
    epoch: AtomicU32,
    progress: Progress,
}

/// The progress of noise since the epoch began. All written by the tenant, `epoch` last when it begins anew.
#[repr(C)]
pub struct Progress {
    /// Epoch that the other words belong to.
    pub epoch: AtomicU32,
    /// 1 while it is posting.
    pub active: AtomicU32,
    /// Requests completed.
    pub completed: AtomicU64,
    /// Nanoseconds with work pending behind the running one; of host calls: with one in progress.
    pub pending: AtomicU64,
    /// Longest time between two completions, nanoseconds.
    pub longest_gap: AtomicU64,
    /// When the last request completed.
    pub last: AtomicU64,
    /// Requests whose result was wrong or that failed.
    pub failed: AtomicU64,
}

/// One sample: a request, or a mark within one. Zero is absent: none of these clocks stands at zero. The sender writes
/// `sent` and `busy_until`; whoever sees the completion writes the rest, `completed` last.
#[repr(C)]
pub struct Row {
    /// When it was sent.
    pub sent: AtomicU64,
    /// End of the driver calls that sent it.
    pub busy_until: AtomicU64,
    /// When the device began with it, on the device's axis.
    pub gpu_start: AtomicU64,
    /// When the device was done with it, on the device's axis.
    pub gpu_end: AtomicU64,
    /// When it was seen done.
    pub completed: AtomicU64,
    /// See [`Row::set_outcome`].
    outcome: AtomicU64,
    unused: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Row>() == 64 && size_of::<Header>() <= HEADER);

impl Row {
    /// How it ended.
    pub fn set_outcome(&self, outcome: Outcome) {
        let (kind, code) = match outcome {
            Outcome::Ok => (0, 0),
            Outcome::Oom => (1, 0),
            Outcome::Error(code) => (2, code),
            Outcome::WrongResult => (3, 0),
            Outcome::Timeout => (4, 0),
        };
        self.outcome.store(u64::from(code) << 32 | kind, Ordering::Relaxed);
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        let word = self.outcome.load(Ordering::Relaxed);
        match word as u32 {
            0 => Outcome::Ok,
            1 => Outcome::Oom,
            2 => Outcome::Error((word >> 32) as u32),
            3 => Outcome::WrongResult,
            _ => Outcome::Timeout,
        }
    }

    /// The time in `word`, where it is there.
    pub fn time(word: &AtomicU64) -> Option<Nanos> {
        match word.load(Ordering::Acquire) {
            0 => None,
            at => Some(Nanos(at)),
        }
    }

    fn clear(&self) {
        for word in [&self.sent, &self.busy_until, &self.gpu_start, &self.gpu_end, &self.completed, &self.outcome] {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// The mapped file.
pub struct Region {
    map: MmapRaw,
    rows: usize,
}

impl Region {
    /// Bytes of a file with this many rows.
    pub fn bytes(rows: usize) -> u64 {
        (HEADER + rows * size_of::<Row>()) as u64
    }

    /// Makes `file` a region of `rows` rows, and maps it.
    ///
    /// # Errors
    /// Where the file cannot be sized or mapped.
    pub fn create(file: &File, rows: usize) -> std::io::Result<Self> {
        file.set_len(Self::bytes(rows))?;
        let region = Self::map(file, rows)?;
        let header = region.header();
        header.version.store(VERSION, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        Ok(region)
    }

    /// Maps a region that somebody else made.
    ///
    /// # Errors
    /// Where it is no region of this version, or cannot be mapped.
    pub fn open(file: &File) -> std::io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        let wrong = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
        if length < HEADER {
            return Err(wrong("the file is shorter than the head of a sample region"));
        }
        let region = Self::map(file, (length - HEADER) / size_of::<Row>())?;
        let header = region.header();
        if header.magic.load(Ordering::Acquire) != MAGIC || header.version.load(Ordering::Relaxed) != VERSION {
            return Err(wrong("the file is no sample region of this version"));
        }
        Ok(region)
    }

    fn map(file: &File, rows: usize) -> std::io::Result<Self> {
        // Populated: no page fault in the timed path.
        let map = memmap2::MmapOptions::new().len(Self::bytes(rows) as usize).populate().map_raw(file)?;
        Ok(Self { map, rows })
    }

    fn header(&self) -> &Header {
        // SAFETY: the map is page-aligned and at least HEADER long; Header is made of atomics, for which any bytes are
        // valid and which may be written by another process at any time. The map lives as long as `self`.
        unsafe { &*self.map.as_ptr().cast::<Header>() }
    }

    /// Rows that it holds.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Row number `index`; `None` beyond the end.
    pub fn row(&self, index: usize) -> Option<&Row> {
        (index < self.rows).then(|| {
            // SAFETY: within the map by the check above; rows are 64 bytes from a page boundary on, so aligned; Row is
            // made of atomics, as in `header`.
            unsafe { &*self.map.as_ptr().add(HEADER + index * size_of::<Row>()).cast::<Row>() }
        })
    }

    /// Clears the first `rows` rows: before a window, by the tenant.
    pub fn clear(&self, rows: usize) {
        for row in (0..rows.min(self.rows)).filter_map(|index| self.row(index)) {
            row.clear();
        }
    }

    /// Progress of noise.
    pub fn progress(&self) -> &Progress {
        &self.header().progress
    }

    /// The controller: begins a new epoch of progress, and returns its number.
    pub fn begin_epoch(&self) -> u32 {
        self.header().epoch.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The epoch that the controller wants.
    pub fn epoch(&self) -> u32 {
        self.header().epoch.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let file = tempfile::tempfile().unwrap();
        let ours = Region::create(&file, 3).unwrap();
        let theirs = Region::open(&file).unwrap();
        assert_eq!(theirs.rows(), 3);
        let row = ours.row(2).unwrap();
        row.sent.store(7, Ordering::Relaxed);
        row.set_outcome(Outcome::Error(719));
        let read = theirs.row(2).unwrap();
        assert_eq!((Row::time(&read.sent), Row::time(&read.completed)), (Some(Nanos(7)), None));
        assert_eq!(read.outcome(), Outcome::Error(719));
        assert!(theirs.row(3).is_none());
        assert_eq!((ours.begin_epoch(), theirs.epoch()), (1, 1));
        theirs.clear(3);
        assert_eq!(Row::time(&row.sent), None);
    }

    #[test]
    fn another_file_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(Region::open(&file).is_err(), "empty");
        file.set_len(8192).unwrap();
        assert!(Region::open(&file).is_err(), "no magic");
    }
}
