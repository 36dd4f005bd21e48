//! Whether two tenants can reduce over NCCL.

use super::{By, Observation, Observed};
use crate::tenant::question::{Reduced, Refusal};
use crate::units::Nanos;

/// `all-reduce`.
pub const ALL_REDUCE: Observation = Observation {
    id: "all-reduce",
    what: "Whether NCCL reduces between a process in the victim's seat and one in the first neighbour's.",
    findings: &[
        ("works", "An all-reduce of two processes gives the right sum in both."),
        ("refused", "NCCL makes no communicator of them, or its sum is wrong."),
    ],
    by: By::Backend { takes: Nanos::secs(5) },
};

/// Judges what the ranks say, each its part or why it has none. `version`: as ncclGetVersion encodes it.
pub(crate) fn judge(version: u32, ranks: &[Result<Reduced, Refusal>]) -> Observed {
    let release = release(version);
    let figure = ("nccl_version", Some(f64::from(version)));
    let refused = ranks.iter().enumerate().find_map(|(rank, one)| Some((rank, one.as_ref().err()?)));
    if let Some((rank, refusal)) = refused {
        return ALL_REDUCE.told("refused", format!("NCCL {release}, rank {rank}: {}", refusal.words()), [figure]);
    }
    let done: Vec<&Reduced> = ranks.iter().flatten().collect();
    if let Some(rank) = done.iter().position(|one| !one.right) {
        return ALL_REDUCE.told("refused", format!("NCCL {release}: the sum of rank {rank} is wrong"), [figure]);
    }
    // The slowest rank's.
    let rate = done.iter().map(|one| one.bytes_per_second).fold(None, |least: Option<f64>, rate| match (least, rate) {
        (Some(least), Some(rate)) => Some(least.min(rate)),
        (least, rate) => least.or(rate),
    });
    ALL_REDUCE.told(
        "works",
        format!("NCCL {release}: {} ranks have the right sum", done.len()),
        [figure, ("rate_gb_s", rate.map(|bytes| bytes / 1e9))],
    )
}

/// "2.21.5" of 22105: from 2.9 on 10000 × major + 100 × minor + patch, before 1000 × major (nccl.h, NCCL_VERSION).
pub(crate) fn release(version: u32) -> String {
    let major = if version < 10_000 { 1_000 } else { 10_000 };
    format!("{}.{}.{}", version / major, version % major / 100, version % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_sums_work_and_a_rank_without_a_communicator_is_a_refusal() {
        let right = |rate| Ok(Reduced { right: true, bytes_per_second: rate });
        let works = judge(22_105, &[right(Some(4e9)), right(Some(3e9))]);
        assert_eq!((works.finding.as_deref(), works.figures["rate_gb_s"]), (Some("works"), 3.0));
        assert!(works.why.starts_with("NCCL 2.21.5: 2 ranks"), "{works:?}");
        let duplicate = Refusal {
            call: "ncclCommInitRank".to_owned(),
            what: "invalid usage (Duplicate GPU detected)".to_owned(),
            code: Some(5),
        };
        let refused = judge(22_105, &[right(None), Err(duplicate)]);
        assert_eq!(refused.finding.as_deref(), Some("refused"));
        assert!(refused.why.contains("rank 1: ncclCommInitRank: invalid usage"), "{refused:?}");
        let wrong = judge(2_708, &[right(None), Ok(Reduced { right: false, bytes_per_second: None })]);
        assert_eq!(
            (wrong.finding.as_deref(), wrong.why.as_str()),
            (Some("refused"), "NCCL 2.7.8: the sum of rank 1 is wrong")
        );
    }
}
