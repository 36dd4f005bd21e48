//! What processes beside the tenants of the arms are asked where a fault is tried, and what they answer: one that serves
//! requests, one that takes the fault, one that comes after it. Times are nanoseconds of CLOCK_MONOTONIC.

use serde::{Deserialize, Serialize};

use crate::hazard::{FaultKind, Service};
use crate::units::Nanos;

/// One question about faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultQuestion {
    /// Take a context, and do one request in it; where there is a fault, load what it takes.
    Prepare {
        /// The fault that is to follow.
        fault: Option<FaultKind>,
    },
    /// Do so many requests.
    Work {
        /// How many.
        times: u32,
    },
    /// Take the fault. Where it needs an endless kernel, that runs from here on.
    Commit {
        /// How long it may take to show.
        #[serde(rename = "patience_ns")]
        patience: Nanos,
    },
    /// End at once, with everything held and running.
    Leave {},
    /// Ask NVML who is on a GPU: of a process that may be killed where the call does not return.
    Listed {
        /// UUID of the whole GPU.
        gpu: String,
    },
    /// Take a context and serve requests, one in flight, until asked for the account.
    Serve {
        /// Between two requests.
        #[serde(rename = "pause_ns")]
        pause: Nanos,
    },
    /// Stop serving, and say what you saw.
    Account {
        /// When the fault was.
        #[serde(rename = "since_ns")]
        since: Nanos,
        /// How long a request may be in flight until it is lost.
        #[serde(rename = "patience_ns")]
        patience: Nanos,
    },
}

/// The answer to the question of the same kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultAnswer {
    /// To [`FaultQuestion::Prepare`] and [`FaultQuestion::Work`]: the results were right.
    Worked {},
    /// To [`FaultQuestion::Commit`].
    Committed(Committed),
    /// To [`FaultQuestion::Listed`].
    Listed {
        /// The processes; absent: it is not told here.
        pids: Option<Vec<u32>>,
    },
    /// To [`FaultQuestion::Serve`]: the first request is done.
    Serving {},
    /// To [`FaultQuestion::Account`]: times of errors are of the clock.
    Account(Service),
}

/// What came of taking a fault, as its own process saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Committed {
    /// When the driver was called.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
    /// The driver's code, where it got one.
    pub code: Option<u32>,
    /// Whether it came about: the error was seen, the endless kernel runs, the context is gone.
    pub happened: bool,
    /// In words.
    pub what: String,
}
