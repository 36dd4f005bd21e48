//! The host's own part in a difference between arms.

use super::cell::Pair;
use super::looks::ALPHA;
use crate::backend::ArmSummary;
use crate::scenario::Quantile;
use crate::stats::{SignedRank, hodges_lehmann};

/// Pauses must take up this part of the time beyond a quantile to move it.
const TOUCHES: f64 = 0.25;

/// How the longest pauses of the host differ between the arms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HostMoved {
    /// Noisy less quiet, nanoseconds: the Hodges–Lehmann estimate over blocks.
    pub(super) change_ns: f64,
    /// Mean of the longest pauses of the quiet arms, nanoseconds.
    pub(super) quiet_ns: f64,
    /// Mean of the longest pauses of the noisy arms, nanoseconds.
    pub(super) noisy_ns: f64,
}

/// Whether the host itself was slower in the noisy arms by more than `tolerated_ns`, at the quantile `q`: its longest pauses
/// grew by more than that (the signed-rank bound at 1 % over blocks), and there is enough of them to touch the quantile.
/// `None` also where nobody watched it.
pub(super) fn moved(pairs: &[Pair<'_>], q: Quantile, tolerated_ns: f64) -> Option<HostMoved> {
    let known = pairs.iter().filter_map(|pair| Some((seen(&pair.quiet.summary)?, seen(&pair.noisy.summary)?)));
    let known: Vec<(Seen, Seen)> = known.collect();
    let n = known.len() as f64;
    let share = known.iter().map(|(_, noisy)| noisy.share).sum::<f64>() / n;
    let differences: Vec<f64> = known.iter().map(|(quiet, noisy)| noisy.longest_ns - quiet.longest_ns).collect();
    let change_ns = hodges_lehmann(&differences)?;
    let low = SignedRank::new(differences.len()).lower(&differences, ALPHA)?;
    (low > tolerated_ns && share >= TOUCHES * (1.0 - q.as_f64())).then(|| HostMoved {
        change_ns,
        quiet_ns: known.iter().map(|(quiet, _)| quiet.longest_ns).sum::<f64>() / n,
        noisy_ns: known.iter().map(|(_, noisy)| noisy.longest_ns).sum::<f64>() / n,
    })
}

/// What is known of the host in one arm.
struct Seen {
    longest_ns: f64,
    /// Part of the time that its pauses take, at most; of a sender that knows its longest alone, at least.
    share: f64,
}

/// The thread that does nothing else tells most; without it, the victim's own sender.
fn seen(arm: &ArmSummary) -> Option<Seen> {
    if let Some(probe) = &arm.host_probe {
        let longest_ns = probe.longest.0 as f64;
        return Some(Seen { longest_ns, share: probe.long as f64 * longest_ns / (probe.watched.0 as f64).max(1.0) });
    }
    let longest_ns = arm.host_pause?.0 as f64;
    let watched = arm.windows.iter().map(|w| w.length.0 as f64).sum::<f64>();
    Some(Seen { longest_ns, share: longest_ns / watched.max(1.0) })
}
