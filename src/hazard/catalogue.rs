//! The hazards that there are.

use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::field::{Field, Kind};
use crate::plan::PlannedHazard;
use crate::units::{Bytes, Nanos};
use crate::workload::{Params, resolve_fields};

/// Something that a neighbour may do to a victim beside slowing it.
#[derive(Debug)]
pub struct Hazard {
    /// Its id, as scenarios write it.
    pub id: &'static str,
    /// The channel that it uses.
    pub channel: Channel,
    /// What is tried, in one line.
    pub doc: &'static str,
    /// Its parameters.
    pub params: &'static [Field],
}

/// What a scenario must allow before something is tried on hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// `allow_oom`.
    Oom,
    /// `allow_faults`.
    Faults,
}

impl Hazard {
    /// What a scenario must allow for it on hardware.
    pub fn leave(&self, params: &Params) -> Option<Leave> {
        if self.id == FAULT.id || params.flag("faults") {
            return Some(Leave::Faults);
        }
        params.flag("until_oom").then_some(Leave::Oom)
    }
}

const fn size(key: &'static str, default: &'static str, doc: &'static str) -> Field {
    Field::with_default(key, Kind::Size { min: Bytes::mib(1), max: Bytes::gib(1024) }, default, doc)
}

const fn count(key: &'static str, max: u64, default: &'static str, doc: &'static str) -> Field {
    Field::with_default(key, Kind::Count { min: 1, max }, default, doc)
}

/// A neighbour takes memory; the victim needs its own.
pub static CAPACITY: Hazard = Hazard {
    id: "capacity",
    channel: Channel::HbmCapacity,
    doc: "The neighbour takes memory while the victim, which holds its budget, allocates, touches and frees a working amount: \
          whether any attempt within the budget fails.",
    params: &[
        Field::with_default(
            "how",
            Kind::Word(&["ramp", "hoard", "leak", "churn", "cold-start"]),
            "ramp",
            "How the neighbour takes it: in equal steps and back, all at once and held, slowly in small pieces, up and down \
             all the time, or once, late and large.",
        ),
        size("limit", "90%", "What the neighbour takes at most: bytes, or a share of what it sees."),
        Field::with_default(
            "until_oom",
            Kind::Flag,
            "false",
            "The neighbour takes memory until it gets none, whatever the limit: on hardware it needs `allow_oom = true`.",
        ),
        size(
            "budget",
            "25%",
            "What the victim declares to need, its working amount included: bytes, or a share of what it sees.",
        ),
        size("working", "64MiB", "What the victim allocates, touches and frees over and over."),
        count(
            "attempts",
            100_000,
            "480",
            "Attempts of the victim; 459 without a failure bound its probability to 1 % at 99 %.",
        ),
    ],
};

/// A tenant ends; the next reads what it left.
pub static LEFTOVERS: Hazard = Hazard {
    id: "leftovers",
    channel: Channel::ResidualMemory,
    doc: "A tenant writes a pattern and ends in several ways; the next takes all memory that it can and looks for the pattern \
          before it writes anything.",
    params: &[
        size("plant", "60%", "What the first tenant fills with the pattern: bytes, or a share of what it sees."),
        count("times", 1_000, "1", "Rounds of each way to end."),
        Field::with_default(
            "faults",
            Kind::Flag,
            "false",
            "Tenants also crash, by a fault of a kernel of their own: on hardware it needs `allow_faults = true`.",
        ),
    ],
};

/// A neighbour works beside a victim's pattern.
pub static INTEGRITY: Hazard = Hazard {
    id: "integrity",
    channel: Channel::ResidualMemory,
    doc: "The victim fills its budget with a pattern that depends on the address and checks it after everything that the \
          neighbour does, reads and writes outside its own memory included where faults may be taken.",
    params: &[
        size("budget", "25%", "What the victim fills: bytes, or a share of what it sees."),
        count("rounds", 1_000, "3", "Rounds of everything that the neighbour does."),
        Field::with_default(
            "faults",
            Kind::Flag,
            "false",
            "The neighbour also reads and writes outside its own memory, where it is to be refused, and takes the other faults \
             that a kernel can take: on hardware it needs `allow_faults = true`.",
        ),
    ],
};

/// A neighbour takes a fault.
pub static FAULT: Hazard = Hazard {
    id: "fault",
    channel: Channel::Fault,
    doc: "A neighbour takes a fault beside a victim that serves requests; a new tenant comes after. On hardware it needs \
          `allow_faults = true`.",
    params: &[
        Field::with_default(
            "fault",
            Kind::Word(FaultKind::WORDS),
            "all",
            "Which fault; all of them, one after the other.",
        ),
        count("times", 1_000, "3", "Trials of each fault."),
        Field::with_default(
            "settle",
            Kind::Duration { min: Nanos::millis(100), max: Nanos::secs(600) },
            "1s",
            "How long the victim is watched before the fault and after it.",
        ),
    ],
};

/// How long trying it takes (assumed, on hardware: processes that start and end, and the times that its parameters ask for).
pub(crate) fn takes(planned: &PlannedHazard) -> Nanos {
    const PROCESS: Nanos = Nanos::secs(2);
    const FILL: Nanos = Nanos::secs(1);
    let Some(params) = find(&planned.hazard).and_then(|h| resolve_fields(h.id, h.params, &planned.params).ok()) else {
        return Nanos::ZERO;
    };
    let faults = u64::from(params.flag("faults"));
    let times = params.count("times").or_else(|| params.count("rounds")).unwrap_or(1);
    match planned.hazard.as_str() {
        // Alone and beside, each side once; an attempt allocates and touches its working amount.
        "capacity" => PROCESS * 4 + Nanos::millis(5) * params.count("attempts").unwrap_or(0),
        // Three ways to end and a fourth with faults, in two places: one process plants, another looks.
        "leftovers" => (PROCESS * 2 + FILL * 2) * ((6 + 2 * faults) * times),
        // A neighbour with two programs; each reach and each fault takes one more.
        "integrity" => PROCESS + (PROCESS + FILL * 2 + (PROCESS + FILL) * (9 * faults)) * times,
        _ => {
            let faults = FaultKind::of_word(params.text("fault").unwrap_or("all")).len() as u64;
            let settle = params.duration("settle").unwrap_or(Nanos::ZERO);
            // A trial without a fault for each round of all kinds; a victim, a neighbour and a newcomer each.
            (PROCESS * 3 + settle * 2) * (times * (faults + 1))
        }
    }
}

/// Everything that can be tried, in the order of lists and documents.
pub static CATALOGUE: &[&Hazard] = &[&CAPACITY, &LEFTOVERS, &INTEGRITY, &FAULT];

/// The hazard of this id.
pub fn find(id: &str) -> Option<&'static Hazard> {
    CATALOGUE.iter().copied().find(|hazard| hazard.id == id)
}

/// A fault of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// A kernel writes where nothing is mapped.
    IllegalAddress,
    /// A kernel writes at an address that the type does not allow.
    MisalignedAddress,
    /// A kernel traps.
    Trap,
    /// An assertion in a kernel fails.
    Assert,
    /// A kernel overflows its stack.
    StackOverflow,
    /// A kernel does not end; its process is killed.
    Endless,
    /// Its process is asked to end (SIGTERM) while a kernel runs.
    Terminated,
    /// Its process is interrupted (SIGINT) while a kernel runs.
    Interrupted,
    /// Its process is killed (SIGKILL) while a kernel runs.
    Killed,
    /// Its process ends while a kernel runs and memory is held.
    ExitDirty,
    /// Its context is destroyed while a kernel runs.
    ContextDestroyed,
}

impl FaultKind {
    /// Every fault, in the order in which they are tried: those that leave most behind last.
    pub const ALL: [Self; 11] = [
        Self::Terminated,
        Self::Interrupted,
        Self::Killed,
        Self::ExitDirty,
        Self::ContextDestroyed,
        Self::Assert,
        Self::Trap,
        Self::IllegalAddress,
        Self::MisalignedAddress,
        Self::StackOverflow,
        Self::Endless,
    ];
    /// What a scenario may write.
    pub const WORDS: &'static [&'static str] = &{
        let mut words = ["all"; Self::ALL.len() + 1];
        let mut i = 0;
        while i < Self::ALL.len() {
            words[i + 1] = Self::ALL[i].id();
            i += 1;
        }
        words
    };

    /// Its word.
    pub const fn id(self) -> &'static str {
        match self {
            Self::IllegalAddress => "illegal-address",
            Self::MisalignedAddress => "misaligned-address",
            Self::Trap => "trap",
            Self::Assert => "assert",
            Self::StackOverflow => "stack-overflow",
            Self::Endless => "endless",
            Self::Terminated => "terminated",
            Self::Interrupted => "interrupted",
            Self::Killed => "killed",
            Self::ExitDirty => "exit-dirty",
            Self::ContextDestroyed => "context-destroyed",
        }
    }

    /// The faults of a parameter `fault`.
    pub fn of_word(word: &str) -> Vec<Self> {
        Self::ALL.into_iter().filter(|fault| word == "all" || word == fault.id()).collect()
    }
}
