//! Words that say whose they are, in device memory and elsewhere: written, held to what was written, and looked for.
//! kernels/pattern.cuh is the other side of this file.

use super::kernel::mix;
use super::shape::THREADS;
use super::stream::stream;
use super::{Kernel, LaunchArgs, ParamType};
use crate::machine::{Demand, LaunchDemand};

/// Bytes of a word.
pub const WORD: u64 = 8;
/// Bytes of one vector of the kernels: ranges are multiples of it.
pub const VECTOR: u64 = 16;
/// Bits of a tag.
pub const TAG_BITS: u32 = 48;
/// Samples that a report has room for.
const SAMPLES: usize = 14;
/// Shared memory that a block of `shared_fill` and `shared_scan` holds: what any part gives without being asked for more
/// (CUDA programming guide, compute capabilities).
pub const SHARED_BYTES: u64 = 48 << 10;
/// Such blocks for each SM: what fits on the largest, 228 KiB with one reserved for each block (compute capability 9.0).
/// Smaller ones run them one after the other.
const SHARED_BLOCKS: u32 = 4;

/// The word that the tag writes for this address.
pub const fn word(tag: u64, address: u64) -> u64 {
    let mixed = mix((address >> 3) as u32 ^ mix((address >> 35) as u32));
    tag << 16 | (mixed & 0xffff) as u64
}

/// Whether a word is one of the tag's, whatever address it was written for.
pub const fn is_of(tag: u64, word: u64) -> bool {
    word >> 16 == tag
}

/// A tag from bits drawn at random: never 0, so that memory that was cleared holds none of its words.
pub const fn tag(bits: u64) -> u64 {
    let tag = bits & ((1 << TAG_BITS) - 1);
    if tag == 0 { 1 } else { tag }
}

/// Words that came to notice: what the kernels write, all zeros before the first launch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many.
    pub count: u64,
    /// The complement of the offset of the first, bytes.
    pub first: u64,
    /// The offset of the last, bytes.
    pub last: u64,
    /// Threads that noticed any.
    pub samples: u64,
    /// Of the first few of those: the offset of a word, and the word.
    pub sample: [[u64; 2]; SAMPLES],
}

const _: () = assert!(size_of::<Report>() == 256);

impl Report {
    /// From device memory.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        let mut next = || words.next();
        let mut report = Self { count: next()?, first: next()?, last: next()?, samples: next()?, ..Self::default() };
        for sample in &mut report.sample {
            *sample = [next()?, next()?];
        }
        Some(report)
    }

    /// As it lies in device memory.
    pub fn bytes(&self) -> Vec<u8> {
        let head = [self.count, self.first, self.last, self.samples];
        head.iter().chain(self.sample.as_flattened()).flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Offsets of the first word and of the last, bytes.
    pub fn range(&self) -> Option<(u64, u64)> {
        (self.count > 0).then_some((!self.first, self.last))
    }

    /// The first word, where it is among the samples.
    pub fn first_word(&self) -> Option<u64> {
        let kept = usize::try_from(self.samples).unwrap_or(SAMPLES).min(SAMPLES);
        self.sample[..kept].iter().find(|[offset, _]| *offset == !self.first).map(|[_, word]| *word)
    }
}

const RANGE: [ParamType; 3] = [ParamType::Pointer, ParamType::U64, ParamType::U64];

/// `pattern_fill(buffer, bytes, tag, address)`: its checksum is the number of words.
pub static FILL: Kernel = Kernel {
    symbol: "pattern_fill",
    params: &[RANGE[0], RANGE[1], RANGE[2], ParamType::U64],
    demand: |l| stream(l, 0, l.number(1)),
    reference: words,
};

/// `pattern_check(buffer, bytes, tag, address, report)`: its checksum is the number of words that are right.
pub static CHECK: Kernel = Kernel {
    symbol: "pattern_check",
    params: &[RANGE[0], RANGE[1], RANGE[2], ParamType::U64, ParamType::Pointer],
    demand: |l| stream(l, l.number(1), 0),
    reference: words,
};

/// `pattern_scan(buffer, bytes, tag, report)`: its checksum is the number of words looked at.
pub static SCAN: Kernel = Kernel {
    symbol: "pattern_scan",
    params: &[RANGE[0], RANGE[1], RANGE[2], ParamType::Pointer],
    demand: |l| stream(l, l.number(1), 0),
    reference: words,
};

/// `shared_fill(tag)`: its checksum is the number of words.
pub static SHARED_FILL: Kernel =
    Kernel { symbol: "shared_fill", params: &[ParamType::U64], demand: shared, reference: shared_words };

/// `shared_scan(tag, report)`: its checksum is the number of words looked at.
pub static SHARED_SCAN: Kernel = Kernel {
    symbol: "shared_scan",
    params: &[ParamType::U64, ParamType::Pointer],
    demand: shared,
    reference: shared_words,
};

/// The checksum counts modulo 2³².
fn words(l: &LaunchArgs<'_>) -> u32 {
    (l.number(1) / VECTOR * (VECTOR / WORD)) as u32
}

fn shared_words(l: &LaunchArgs<'_>) -> u32 {
    l.grid.wrapping_mul((SHARED_BYTES / WORD) as u32)
}

/// One warp a block moves a word a lane and issue cycle.
fn shared(l: &LaunchArgs<'_>) -> Demand {
    let issue_cycles = SHARED_BYTES / WORD / u64::from(l.block.max(1));
    Demand::Launch(LaunchDemand {
        blocks: l.grid,
        blocks_per_sm: SHARED_BLOCKS,
        issue_cycles,
        ..LaunchDemand::default()
    })
}

/// Blocks and threads of the kernels that go over memory.
pub fn over_memory(sms: u32) -> (u32, u32) {
    (sms.max(1).saturating_mul(super::shape::resident(THREADS)), THREADS)
}

/// Blocks and threads of the kernels that go over shared memory.
pub fn over_shared(sms: u32) -> (u32, u32) {
    (sms.max(1).saturating_mul(SHARED_BLOCKS), super::shape::WARP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_whose_it_is_and_where_it_belongs() {
        let mine = tag(0x1234_5678_9abc_def0);
        let all: Vec<u64> = (0..512).map(|i| word(mine, 0x7f00_0000_0000 + 8 * i)).collect();
        assert!(all.iter().all(|w| is_of(mine, *w) && !is_of(mine ^ 1, *w)));
        // Two pages that changed places do not look the same.
        let other = (0..512).filter(|i| word(mine, 0x7f00_0020_0000 + 8 * i) == all[*i as usize]).count();
        assert!(other < 8, "{other} of 512 words are those of another page");
        let beyond = (0..512).filter(|i| word(mine, 0x7e00_0000_0000 + 8 * i) == all[*i as usize]).count();
        assert!(beyond < 8, "{beyond} of 512 words are those of an address that differs above bit 35");
    }

    #[test]
    fn cleared_memory_is_nobodys() {
        for bits in [0, 1 << TAG_BITS, u64::MAX, 7] {
            assert!(!is_of(tag(bits), 0) && tag(bits) < 1 << TAG_BITS, "{bits:#x}");
        }
    }

    #[test]
    fn a_report_reads_back() {
        let mut report = Report { count: 3, first: !40, last: 80, samples: 2, ..Report::default() };
        report.sample[0] = [80, 5];
        report.sample[1] = [40, 6];
        assert_eq!(Report::read(&report.bytes()), Some(report));
        assert_eq!((report.range(), report.first_word()), (Some((40, 80)), Some(6)));
        assert_eq!((Report::default().range(), Report::default().first_word()), (None, None));
        assert_eq!(Report::read(&[0; 255]), None);
        report.samples = 1;
        assert_eq!(report.first_word(), None, "what is beyond the samples is no sample");
    }
}
