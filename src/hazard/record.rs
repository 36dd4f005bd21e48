//! What came of trying a hazard: the record of a run directory. Times are nanoseconds from the beginning of the try; bytes
//! are bytes. Unknown is absent.

use serde::{Deserialize, Serialize};

use super::FaultKind;
use crate::backend::Outcome;
use crate::units::Nanos;

/// A hazard that was tried in one place of an arrangement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    /// Index of the arrangement.
    pub arrangement: usize,
    /// Index of the victim's seat.
    pub victim: usize,
    /// Index into the plan's hazards.
    pub hazard: usize,
    /// What came of it.
    pub came: Came,
}

/// What came of trying a hazard, by its kind.
#[expect(clippy::large_enum_variant, reason = "a run has a handful of them")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Came {
    /// Of `capacity`.
    Capacity(Capacity),
    /// Of `leftovers`.
    Leftovers(Leftovers),
    /// Of `integrity`.
    Integrity(Integrity),
    /// Of `fault`.
    Faults(Faults),
    /// It could not be tried here.
    Untold {
        /// Why, and what would let it.
        why: String,
    },
}

/// The victim held its budget and went on allocating a working amount while the neighbour took memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Bytes that the place promises its tenant, victim first; absent: the mode promises none.
    pub promised: [Option<u64>; 2],
    /// What the victim declared to need: held from the beginning.
    pub budget: u64,
    /// What it allocates, touches and frees over and over, beyond that.
    pub working: u64,
    /// What the neighbour was to take; absent: until it is out of memory.
    pub limit: Option<u64>,
    /// What the victim could take with the neighbour away.
    pub victim_alone: Option<Reach>,
    /// What it could take beside the neighbour, holding all that it took.
    pub victim_beside: Option<Reach>,
    /// What the neighbour could take with the victim holding nothing.
    pub neighbour_alone: Option<Reach>,
    /// What it took beside the victim.
    pub neighbour_beside: Option<Reach>,
    /// The victim's attempts, in order: the context, the budget, then the working amount.
    pub victim: Vec<Attempt>,
    /// The neighbour's, in order.
    pub neighbour: Vec<Attempt>,
    /// What was seen of the memory from inside and from outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<View>,
    /// How the victim's process ended, where it did before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died: Option<String>,
    /// Memory spills here instead of failing (WSL2, WDDM), or something else that makes the counts worthless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worthless: Option<String>,
}

/// What one tenant could take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// In pieces, all together.
    pub total: u64,
    /// In one piece, with nothing else held by it.
    pub largest: u64,
    /// What the driver called free just before.
    pub free: Option<u64>,
    /// No more than this was asked for; absent: until it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
}

/// What an attempt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Creating the context.
    Context,
    /// The budget, held from then on.
    Budget,
    /// The working amount: allocated, written to, and freed.
    Work,
    /// Memory that the neighbour takes and holds.
    Take,
}

/// One attempt to have memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// When it began.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
    /// How long the allocation took.
    #[serde(rename = "took_ns")]
    pub took: Nanos,
    /// What it is for.
    pub step: Step,
    /// Bytes asked for; of a context 0.
    pub asked: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Free and all memory as the driver told this tenant just after; absent: it does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<(u64, u64)>,
}

/// The memory as one tenant sees it and as NVML does, at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Index of the seat.
    pub seat: usize,
    /// When, in words ("after the budget", "neighbour at its most").
    pub when: String,
    /// What the tenant holds by its own count.
    pub held: u64,
    /// Free and all memory, inside.
    pub inside: Option<(u64, u64)>,
    /// Used by its process, by NVML.
    pub nvml_process: Option<u64>,
    /// Used and all memory of its device, by NVML.
    pub nvml_device: Option<(u64, u64)>,
}

/// A tenant wrote a pattern and ended; the next one in the neighbour's place took all it could and looked before it wrote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Leftovers {
    /// Rounds, in order.
    pub rounds: Vec<Round>,
}

/// How a tenant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// It freed its memory and ended.
    Clean,
    /// It ended without freeing anything.
    Abrupt,
    /// It was killed (SIGKILL).
    Killed,
    /// A kernel of its own took a fault, then it ended.
    Crashed,
}

/// Where something may be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// Device memory.
    Memory,
    /// Shared memory of the SMs.
    Shared,
    /// Registers.
    Registers,
}

/// One round: a plant and a look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// Where.
    pub kept: Kept,
    /// How the one that planted ended.
    pub exit: Exit,
    /// Whether the one that looked was in the place of the one that planted, and not in the neighbour's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same_place: bool,
    /// Bytes written.
    pub planted: u64,
    /// Bytes looked at.
    pub scanned: u64,
    /// Bytes that there are for both, where they draw on one store: planted + scanned − all overlap at least. Absent: they do
    /// not share a store, or nobody knows its size.
    pub all: Option<u64>,
    /// 8-byte words of the plant's pattern that were found.
    pub found: u64,
    /// Offsets into what was looked at of the first and the last, bytes.
    pub range: Option<(u64, u64)>,
    /// Why the round proves nothing, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<String>,
}

/// The victim filled its budget with a pattern that depends on the address, and checked it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Integrity {
    /// Bytes filled.
    pub budget: u64,
    /// Checks, in order; the first is before any neighbour acts.
    pub checks: Vec<Check>,
    /// What the neighbour tried outside its own allocations.
    pub trespasses: Vec<Trespass>,
    /// What was not tried, and what would let it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// How the victim's process ended, where it did before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died: Option<String>,
}

/// One check of the whole budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// When it began.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
    /// After what of the neighbour's, in words ("nothing", "hbm-write", "fault trap").
    pub after: String,
    /// 8-byte words checked.
    pub words: u64,
    /// Words that are not what was written.
    pub changed: u64,
    /// The first of them.
    pub first: Option<Changed>,
}

/// A word that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// Its address on the device.
    pub address: u64,
    /// What was written.
    pub expected: u64,
    /// What is there.
    pub found: u64,
}

/// A read or write outside the neighbour's own allocations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trespass {
    /// What was tried, in words ("write behind its own allocation", "read at the victim's address").
    pub what: String,
    /// The driver's code for the refusal; absent: it was not refused.
    pub refused: Option<u32>,
    /// 8-byte words of the victim's pattern that a read brought.
    pub found: u64,
}

/// Trials of faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// Trials, in order. Those without a fault are controls: the neighbour came and went cleanly.
    pub trials: Vec<FaultTrial>,
    /// Why there are no more: the device was lost over the last one, and what an operator must do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// One trial: a victim served requests, a neighbour took a fault beside it, a newcomer came after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultTrial {
    /// The fault; absent: a control.
    pub fault: Option<FaultKind>,
    /// What became of the neighbour.
    pub act: Act,
    /// What the victim saw.
    pub victim: Service,
    /// Whether a new tenant could start in the neighbour's place afterwards.
    pub newcomer: Newcomer,
    /// Xids that the GPU told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xids: Vec<XidSeen>,
    /// What was needed to get the GPU back, in order, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery: Vec<String>,
}

/// The faulty neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// When it was told to.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
    /// The driver's code that it got itself; absent: none.
    pub code: Option<u32>,
    /// How it ended, in words.
    pub ended: String,
    /// Whether what was to happen did happen: without, the trial shows nothing.
    pub happened: bool,
}

/// What a victim that serves requests saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Requests that were done before the fault, from it to the end of the trial.
    pub done: [u64; 2],
    /// Requests that ended with an error, by the driver's code, with the time of the first.
    pub errors: Vec<(u32, Nanos)>,
    /// Requests whose result was wrong.
    pub wrong: u64,
    /// Requests that were sent and never ended.
    pub lost: u64,
    /// Longest stretch without a completion before the fault, and from it on.
    pub gaps_ns: [Nanos; 2],
    /// From the fault to the first completion that began after it, and after the last error; absent: none came.
    #[serde(rename = "recovered_ns")]
    pub recovered: Option<Nanos>,
    /// How its process ended, where it did before its time.
    pub died: Option<String>,
}

/// A tenant that starts after a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Newcomer {
    /// From the first try to its first request done; absent: it could not start.
    #[serde(rename = "started_ns")]
    pub started: Option<Nanos>,
    /// Tries that failed before, or in all.
    pub refused: u32,
    /// The driver's last words to it, where it was refused.
    pub why: Option<String>,
}

/// An Xid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct XidSeen {
    /// Its number; absent: the driver told of one without a number.
    pub code: Option<u32>,
    /// When.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
}
