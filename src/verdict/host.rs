//! The host's own part in a difference between arms.

use super::cell::Pair;
use super::looks::ALPHA;
use crate::backend::ArmSummary;
use crate::provenance::Provenance;
use crate::scenario::Quantile;
use crate::stats::{SignedRank, hodges_lehmann};

/// Pauses must take up this part of the time beyond a quantile to move it.
const TOUCHES: f64 = 0.25;

/// How the longest pauses of the host differ between the arms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HostMoved {
    /// Noisy less quiet, nanoseconds: the Hodges–Lehmann estimate over blocks. Negative: the quiet arms had the longer ones,
    /// and hide what the noise does.
    pub(super) change_ns: f64,
    /// Mean of the longest pauses of the quiet arms, nanoseconds.
    pub(super) quiet_ns: f64,
    /// Mean of the longest pauses of the noisy arms, nanoseconds.
    pub(super) noisy_ns: f64,
}

/// Whether the host itself was slower in the arms of one side by more than `tolerated_ns`, at the quantile `q`: its longest
/// pauses were longer by more than that (the signed-rank bound at 1 % over blocks), and there were enough of them to touch the
/// quantile. `None` also where nobody watched it: see [`is_watched`].
pub(super) fn moved(pairs: &[Pair<'_>], q: Quantile, tolerated_ns: f64) -> Option<HostMoved> {
    let known: Vec<(Seen, Seen)> = pairs.iter().filter_map(seen).collect();
    let n = known.len() as f64;
    let mean = |of: fn(&(Seen, Seen)) -> f64| known.iter().map(of).sum::<f64>() / n;
    let differences: Vec<f64> = known.iter().map(|(quiet, noisy)| noisy.longest_ns - quiet.longest_ns).collect();
    let change_ns = hodges_lehmann(&differences)?;
    let table = SignedRank::new(differences.len());
    let beyond = |least: Option<f64>| least.is_some_and(|least| least > tolerated_ns);
    let touches = |share: f64| share >= TOUCHES * (1.0 - q.as_f64());
    let noisy = beyond(table.lower(&differences, ALPHA)) && touches(mean(|(_, noisy)| noisy.share));
    let quiet = beyond(table.upper(&differences, ALPHA).map(|high| -high)) && touches(mean(|(quiet, _)| quiet.share));
    (noisy || quiet).then(|| HostMoved {
        change_ns,
        quiet_ns: mean(|(quiet, _)| quiet.longest_ns),
        noisy_ns: mean(|(_, noisy)| noisy.longest_ns),
    })
}

/// Whether every arm was watched by a thread that does nothing else, in as many blocks as a bound takes. Virtual time has no
/// other host than the sender's.
pub(super) fn is_watched(pairs: &[Pair<'_>], provenance: Provenance) -> bool {
    let both = |of: fn(&ArmSummary) -> bool, pair: &Pair<'_>| of(&pair.quiet.summary) && of(&pair.noisy.summary);
    let watched = |pair: &Pair<'_>| match provenance {
        Provenance::Simulated => seen(pair).is_some(),
        _ => both(|arm| arm.host_probe.is_some(), pair),
    };
    // 0.5^n ≤ α: below, the signed-rank bound does not exist.
    0.5f64.powi(pairs.len() as i32) <= ALPHA && pairs.iter().all(watched)
}

/// What is known of the host in one arm.
struct Seen {
    longest_ns: f64,
    /// Part of the time that its pauses take, at most; of a sender that knows its longest alone, at least.
    share: f64,
}

/// What one and the same thread saw in both arms of a block: the one that does nothing else tells most; without it, the
/// victim's own sender.
fn seen(pair: &Pair<'_>) -> Option<(Seen, Seen)> {
    let (quiet, noisy) = (&pair.quiet.summary, &pair.noisy.summary);
    by_probe(quiet).zip(by_probe(noisy)).or_else(|| by_sender(quiet).zip(by_sender(noisy)))
}

fn by_probe(arm: &ArmSummary) -> Option<Seen> {
    let probe = arm.host_probe.as_ref()?;
    let longest_ns = probe.longest.0 as f64;
    Some(Seen { longest_ns, share: probe.long as f64 * longest_ns / (probe.watched.0 as f64).max(1.0) })
}

fn by_sender(arm: &ArmSummary) -> Option<Seen> {
    let longest_ns = arm.host_pause?.0 as f64;
    let watched = arm.windows.iter().map(|w| w.length.0 as f64).sum::<f64>();
    Some(Seen { longest_ns, share: longest_ns / watched.max(1.0) })
}
