//! What a process beside the tenants of the arms is asked to leave in device memory, to hold to what it left, and to look for.

use serde::{Deserialize, Serialize};

use super::question::Refusal;
use crate::hazard::Changed;

/// One question about patterns. Tags are at most 48 bits, and not 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PatternQuestion {
    /// Take so much memory, fill it with words of the tag, and hold it.
    Plant {
        /// Bytes, or a share of all memory that you see, as a scenario writes it.
        size: String,
        /// Of the pattern.
        tag: u64,
    },
    /// Is everything that you planted as you wrote it?
    Check {},
    /// Take all memory that you can get, and look for words of the tag before you write any. Hold it.
    Look {
        /// Of the pattern.
        tag: u64,
    },
    /// Fill the shared memory of the SMs with words of the tag.
    PlantShared {
        /// Of the pattern.
        tag: u64,
    },
    /// Look for words of the tag in the shared memory of the SMs before you write any there.
    LookShared {
        /// Of the pattern.
        tag: u64,
    },
    /// Reach for memory that is not yours. Where that is refused your context is lost.
    Trespass {
        /// Its address; absent: behind your own last allocation.
        address: Option<u64>,
        /// Whether to write there; else read.
        write: bool,
        /// The tag of which to look for words, or to write them.
        tag: u64,
    },
    /// End at once without freeing anything. There is no answer.
    Leave {},
}

/// The answer to the question of the same kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PatternAnswer {
    /// To [`PatternQuestion::Plant`] and [`PatternQuestion::PlantShared`].
    Planted(Planted),
    /// To [`PatternQuestion::Check`].
    Checked(Checked),
    /// To [`PatternQuestion::Look`] and [`PatternQuestion::LookShared`].
    Looked(Looked),
    /// To [`PatternQuestion::Trespass`].
    Trespassed(Trespassed),
}

/// What was planted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planted {
    /// Addresses and lengths of the pieces, bytes; of shared memory, which has no addresses outside a kernel, none.
    pub pieces: Vec<(u64, u64)>,
    /// Bytes.
    pub bytes: u64,
    /// Words of it that a look found at once.
    pub seen: u64,
    /// All memory of the device, bytes.
    pub all: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checked {
    /// Words.
    pub words: u64,
    /// Words that are not what was written.
    pub changed: u64,
    /// The first of them.
    pub first: Option<Changed>,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Looked {
    /// Bytes looked at.
    pub bytes: u64,
    /// Words of the tag.
    pub found: u64,
    /// Offsets of the first and the last of them into what was looked at, bytes.
    pub range: Option<(u64, u64)>,
    /// All memory of the device, bytes.
    pub all: u64,
}

/// What came of reaching for memory of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trespassed {
    /// Where.
    pub address: u64,
    /// Why not; absent: it was not refused.
    pub refused: Option<Refusal>,
    /// Words of the tag that a read brought.
    pub found: u64,
}
