//! What a process beside the tenants of the arms is asked of the driver, and what it answers. It loads no program.

use serde::{Deserialize, Serialize};

use super::fault::{FaultAnswer, FaultQuestion};
use super::memory::{MemoryAnswer, MemoryQuestion};
use super::pattern::{PatternAnswer, PatternQuestion};

/// One question. What a driver refuses is an answer; what keeps the process from asking is a failed order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// Which devices do you see?
    Devices {},
    /// Do the first two devices that you see reach each other's memory?
    Peers {},
    /// Allocate memory on your device, write the pattern of this seed, and hand it out. It is kept until you end.
    Lend {
        /// Bytes.
        bytes: u64,
        /// Of the pattern.
        seed: u64,
    },
    /// Map what was handed out, and compare it with the pattern.
    Borrow {
        /// As [`Answer::Lent`] has it.
        handle: String,
        /// Bytes.
        bytes: u64,
        /// Of the pattern.
        seed: u64,
    },
    /// About faults.
    Fault(FaultQuestion),
    /// Make an identity for a communicator of NCCL's.
    Meet {},
    /// Reduce over NCCL.
    Reduce {
        /// As [`Answer::Met`] has it.
        identity: String,
        /// Which rank you are.
        rank: u32,
        /// How many there are.
        ranks: u32,
    },
    /// Do something with device memory.
    Memory(MemoryQuestion),
    /// About patterns in device memory.
    Pattern(PatternQuestion),
}

/// The answer to the question of the same kind, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// To [`Question::Devices`], in the driver's order.
    Devices(Vec<DeviceLine>),
    /// To [`Question::Peers`].
    Peers(PeersSeen),
    /// To [`Question::Lend`].
    Lent {
        /// In hexadecimal digits.
        handle: String,
    },
    /// To [`Question::Borrow`].
    Borrowed(Borrowed),
    /// To [`Question::Fault`].
    Fault(FaultAnswer),
    /// To [`Question::Meet`].
    Met {
        /// As ncclGetVersion encodes it.
        version: u32,
        /// In hexadecimal digits.
        identity: String,
    },
    /// To [`Question::Reduce`].
    Reduced(Reduced),
    /// To [`Question::Memory`].
    Memory(MemoryAnswer),
    /// To [`Question::Pattern`].
    Pattern(PatternAnswer),
    /// The driver, or the library, refuses what was asked for.
    Refused(Refusal),
    /// There is no library to ask.
    Absent {
        /// The loader's words.
        why: String,
    },
}

/// One device as a process sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceLine {
    /// Its UUID, without a prefix where the driver gives it to the process.
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// SMs.
    pub sms: u32,
    /// Memory, bytes.
    pub memory: u64,
}

impl DeviceLine {
    /// In words.
    pub(crate) fn words(&self) -> String {
        format!("{} ({}, {} SMs)", self.uuid, self.name, self.sms)
    }
}

/// Two devices as one process sees them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeersSeen {
    /// Those that it sees.
    pub devices: Vec<DeviceLine>,
    /// Whether the first may reach the second, and back; `None`: it sees fewer than two.
    pub can: Option<[bool; 2]>,
    /// Why reaching failed although it may.
    pub refused: Option<Refusal>,
    /// Rate of a copy between them; `None`: not reached, or a stand-in.
    pub bytes_per_second: Option<f64>,
}

/// Memory of another process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Borrowed {
    /// Whether it holds the pattern.
    pub matches: bool,
    /// Rate of a copy from it; `None`: a stand-in.
    pub bytes_per_second: Option<f64>,
}

/// One rank's part of an all-reduce.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduced {
    /// Whether the sum is right.
    pub right: bool,
    /// Bytes reduced per second and rank; `None`: a stand-in.
    pub bytes_per_second: Option<f64>,
}

/// A call that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The call.
    pub call: String,
    /// Its error, by name, and what else it says.
    pub what: String,
    /// Its code; `None`: the driver has no such call.
    pub code: Option<u32>,
}

impl Refusal {
    /// In words.
    pub(crate) fn words(&self) -> String {
        format!("{}: {}", self.call, self.what)
    }
}

/// Byte `index` of the pattern of `seed`.
pub(crate) fn pattern(seed: u64, index: usize) -> u8 {
    // SplitMix64's finaliser (Steele, Lea, Flood 2014): a mapping of zeros, or of another seed's memory, does not match.
    let mut x = seed.wrapping_add((index as u64 / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    x.to_le_bytes()[index % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_read_back() {
        let question = Question::Borrow { handle: "00ff".to_owned(), bytes: 7, seed: 9 };
        let text = serde_json::to_string(&question).unwrap();
        assert_eq!(text, "{\"borrow\":{\"handle\":\"00ff\",\"bytes\":7,\"seed\":9}}");
        assert_eq!(serde_json::from_str::<Question>(&text).unwrap(), question);
        let answer = Answer::Refused(Refusal { call: "cuX".to_owned(), what: "no".to_owned(), code: None });
        assert_eq!(serde_json::from_str::<Answer>(&serde_json::to_string(&answer).unwrap()).unwrap(), answer);
    }

    #[test]
    fn patterns_of_two_seeds_differ_and_are_no_zeros() {
        let of = |seed| (0..4096).map(|index| pattern(seed, index)).collect::<Vec<u8>>();
        let same = of(1).iter().zip(of(2)).filter(|(a, b)| **a == *b).count();
        assert!(same < 64, "{same} of 4096 bytes are the same");
        assert!(of(0).iter().filter(|byte| **byte == 0).count() < 64);
    }
}
