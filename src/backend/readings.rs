//! What is read of a GPU between arms, and at the two ends of an arm's windows. Unknown is absent, never zero.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Health and settings of a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuHealth {
    /// Memory errors since the driver was loaded.
    pub ecc: Option<EccErrors>,
    /// Memory errors in the life of the card.
    pub ecc_lifetime: Option<EccErrors>,
    /// Rows of memory that were replaced.
    pub remapped: Option<RemappedRows>,
    /// The PCIe link.
    pub pcie: Option<PcieLink>,
    /// Whether the driver stays loaded without clients.
    pub persistence: Option<bool>,
    /// Who may create contexts ("Default", "ExclusiveProcess", "Prohibited").
    pub compute_mode: Option<String>,
}

/// Memory errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EccErrors {
    /// Corrected.
    pub corrected: u64,
    /// Not corrected.
    pub uncorrected: u64,
}

/// Rows of device memory that were replaced by spare ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemappedRows {
    /// After corrected errors.
    pub correctable: u32,
    /// After uncorrected errors.
    pub uncorrectable: u32,
    /// A row waits for the next reset to be replaced.
    pub pending: bool,
    /// A row could not be replaced.
    pub failed: bool,
}

/// The PCIe link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PcieLink {
    /// Generation now; idle links fall to a lower one on some parts.
    pub generation: u32,
    /// Lanes now.
    pub width: u32,
    /// Generation at most.
    pub max_generation: Option<u32>,
    /// Lanes at most.
    pub max_width: Option<u32>,
    /// Packets sent again since the driver was loaded.
    pub replays: Option<u32>,
}

/// What became worse between two readings of a GPU's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthChange {
    /// Memory errors that were not corrected: what a program read is wrong, or the program was ended.
    Uncorrected(u64),
    /// Memory errors that were corrected.
    Corrected(u64),
    /// Rows replaced after uncorrected errors.
    RowsLost(u32),
    /// Rows replaced after corrected errors.
    RowsWorn(u32),
    /// A row waits for the next reset to be replaced.
    RowsPending,
    /// A row could not be replaced.
    RemapFailed,
    /// The link has fewer lanes.
    Narrower {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
    },
    /// The link is of a lower generation. Idle links of some parts fall by themselves.
    Slower {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
    },
    /// PCIe packets that were sent again.
    Replays(u32),
}

impl HealthChange {
    /// Whether what was measured across it proves nothing: memory that gave wrong data, or copies over two different links.
    /// A replay or a corrected error costs time that belongs to the machine as it is: it is told, and kept.
    pub fn is_grave(self) -> bool {
        match self {
            Self::Uncorrected(_) | Self::RowsLost(_) | Self::RemapFailed | Self::Narrower { .. } => true,
            Self::Corrected(_) | Self::RowsWorn(_) | Self::RowsPending | Self::Slower { .. } | Self::Replays(_) => {
                false
            }
        }
    }

    /// In words.
    pub fn words(self) -> String {
        match self {
            Self::Uncorrected(n) => format!("{n} uncorrected memory error(s)"),
            Self::Corrected(n) => format!("{n} corrected memory error(s)"),
            Self::RowsLost(n) => format!("{n} row(s) of memory replaced after uncorrected errors"),
            Self::RowsWorn(n) => format!("{n} row(s) of memory replaced after corrected errors"),
            Self::RowsPending => "a row of memory waits for a reset to be replaced".to_owned(),
            Self::RemapFailed => "a row of memory could not be replaced".to_owned(),
            Self::Narrower { from, to } => format!("the PCIe link has {to} lanes where it had {from}"),
            Self::Slower { from, to } => format!("the PCIe link is at generation {to} where it was at {from}"),
            Self::Replays(n) => format!("{n} PCIe packet(s) sent again"),
        }
    }
}

impl GpuHealth {
    /// Whether nothing at all could be read.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// The better of two readings of one GPU, figure by figure: what one of them lacks is the other's.
    pub fn better_of(self, other: &Self) -> Self {
        self.figures(other, u64::min, u32::min, u32::max, |a, b| a && b)
    }

    /// The worse of two readings of one GPU, figure by figure: what one of them lacks is the other's.
    pub fn worse_of(self, other: &Self) -> Self {
        self.figures(other, u64::max, u32::max, u32::min, |a, b| a || b)
    }

    fn figures(
        self,
        other: &Self,
        errors: fn(u64, u64) -> u64,
        rows: fn(u32, u32) -> u32,
        link: fn(u32, u32) -> u32,
        state: fn(bool, bool) -> bool,
    ) -> Self {
        let ecc = |a: EccErrors, b: EccErrors| EccErrors {
            corrected: errors(a.corrected, b.corrected),
            uncorrected: errors(a.uncorrected, b.uncorrected),
        };
        let remapped = |a: RemappedRows, b: RemappedRows| RemappedRows {
            correctable: rows(a.correctable, b.correctable),
            uncorrectable: rows(a.uncorrectable, b.uncorrectable),
            pending: state(a.pending, b.pending),
            failed: state(a.failed, b.failed),
        };
        let pcie = |a: PcieLink, b: PcieLink| PcieLink {
            generation: link(a.generation, b.generation),
            width: link(a.width, b.width),
            replays: either(a.replays, b.replays, rows),
            ..a
        };
        Self {
            ecc: either(self.ecc, other.ecc, ecc),
            ecc_lifetime: either(self.ecc_lifetime, other.ecc_lifetime, ecc),
            remapped: either(self.remapped, other.remapped, remapped),
            pcie: either(self.pcie, other.pcie, pcie),
            ..self
        }
    }

    /// What became worse since `before`, the gravest first. What either reading lacks is not compared; a counter that
    /// fell was reset with the driver.
    pub fn worse_since(&self, before: &Self) -> Vec<HealthChange> {
        let mut found = Vec::new();
        let grown = |pick: fn(&EccErrors) -> u64| {
            let by = |then: Option<EccErrors>, now: Option<EccErrors>| {
                then.zip(now).map_or(0, |(then, now)| pick(&now).saturating_sub(pick(&then)))
            };
            // The same errors, counted from two beginnings: a part that keeps one of the counts only still tells.
            by(before.ecc, self.ecc).max(by(before.ecc_lifetime, self.ecc_lifetime))
        };
        let (uncorrected, corrected) = (grown(|ecc| ecc.uncorrected), grown(|ecc| ecc.corrected));
        let rows = before.remapped.zip(self.remapped);
        let link = before.pcie.zip(self.pcie);
        let mut note = |happened: bool, change: HealthChange| {
            if happened {
                found.push(change);
            }
        };
        note(uncorrected > 0, HealthChange::Uncorrected(uncorrected));
        if let Some((then, now)) = rows {
            note(now.failed && !then.failed, HealthChange::RemapFailed);
            let lost = now.uncorrectable.saturating_sub(then.uncorrectable);
            note(lost > 0, HealthChange::RowsLost(lost));
        }
        if let Some((then, now)) = link {
            note(now.width < then.width, HealthChange::Narrower { from: then.width, to: now.width });
        }
        note(corrected > 0, HealthChange::Corrected(corrected));
        if let Some((then, now)) = rows {
            let worn = now.correctable.saturating_sub(then.correctable);
            note(worn > 0, HealthChange::RowsWorn(worn));
            note(now.pending && !then.pending, HealthChange::RowsPending);
        }
        if let Some((then, now)) = link {
            let slower = HealthChange::Slower { from: then.generation, to: now.generation };
            note(now.generation < then.generation, slower);
            let replays = then.replays.zip(now.replays).map_or(0, |(then, now)| now.saturating_sub(then));
            note(replays > 0, HealthChange::Replays(replays));
        }
        found
    }
}

/// Both by `of`, or the one that is known.
fn either<T: Copy>(a: Option<T>, b: Option<T>, of: impl Fn(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(of(a, b)),
        (known, None) | (None, known) => known,
    }
}

/// What a GPU or one of its instances did over the windows of an arm, by the driver's own counters (NVML's GPM; Hopper
/// and later).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuActivity {
    /// Id of the GPU instance; absent: the whole GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_instance: Option<u32>,
    /// Part of the time in which anything ran (0 … 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<f64>,
    /// Part of the SMs that had work, over time (0 … 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sm: Option<f64>,
    /// Part of the places for warps that were taken, over time (0 … 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occupancy: Option<f64>,
    /// Part of the time in which tensor units worked (0 … 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<f64>,
    /// Part of the device memory's bandwidth that was used (0 … 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dram: Option<f64>,
    /// PCIe traffic from the GPU, MiB/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcie_from_gpu_mib_s: Option<f64>,
    /// PCIe traffic to the GPU, MiB/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcie_to_gpu_mib_s: Option<f64>,
}

/// What a DCGM exporter said after an arm: its gauges are of its own last interval, seconds long, not of the arm's windows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DcgmReading {
    /// Id of the GPU instance; absent: the whole GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_instance: Option<u32>,
    /// In order of their names.
    pub values: Vec<DcgmValue>,
}

/// One figure of DCGM's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DcgmValue {
    /// DCGM's name ("DCGM_FI_PROF_SM_ACTIVE").
    pub name: String,
    /// In DCGM's unit.
    pub value: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> GpuHealth {
        GpuHealth {
            ecc: Some(EccErrors { corrected: 3, uncorrected: 0 }),
            ecc_lifetime: Some(EccErrors { corrected: 9, uncorrected: 1 }),
            remapped: Some(RemappedRows { correctable: 1, uncorrectable: 0, pending: false, failed: false }),
            pcie: Some(PcieLink {
                generation: 5,
                width: 16,
                max_generation: Some(5),
                max_width: Some(16),
                replays: Some(7),
            }),
            ..GpuHealth::default()
        }
    }

    fn after(change: impl FnOnce(&mut GpuHealth)) -> Vec<HealthChange> {
        let mut now = healthy();
        change(&mut now);
        now.worse_since(&healthy())
    }

    #[test]
    fn what_makes_data_worthless_is_told_from_what_is_told_only() {
        let link = |change: fn(&mut PcieLink)| after(|now| now.pcie.iter_mut().for_each(change));
        let rows = |change: fn(&mut RemappedRows)| after(|now| now.remapped.iter_mut().for_each(change));
        for (changes, expected, grave) in [
            (
                after(|now| now.ecc = Some(EccErrors { corrected: 3, uncorrected: 2 })),
                HealthChange::Uncorrected(2),
                true,
            ),
            (
                after(|now| now.ecc = Some(EccErrors { corrected: 8, uncorrected: 0 })),
                HealthChange::Corrected(5),
                false,
            ),
            (rows(|rows| rows.uncorrectable = 1), HealthChange::RowsLost(1), true),
            (rows(|rows| rows.failed = true), HealthChange::RemapFailed, true),
            (rows(|rows| rows.correctable = 2), HealthChange::RowsWorn(1), false),
            (rows(|rows| rows.pending = true), HealthChange::RowsPending, false),
            (link(|link| link.width = 8), HealthChange::Narrower { from: 16, to: 8 }, true),
            (link(|link| link.generation = 1), HealthChange::Slower { from: 5, to: 1 }, false),
            (link(|link| link.replays = Some(19)), HealthChange::Replays(12), false),
        ] {
            assert_eq!(changes, [expected]);
            assert_eq!(expected.is_grave(), grave, "{expected:?}");
        }
    }

    #[test]
    fn the_life_of_the_card_tells_where_the_driver_counts_nothing() {
        let mut before = healthy();
        before.ecc = None;
        let mut now = before.clone();
        now.ecc_lifetime = Some(EccErrors { corrected: 9, uncorrected: 2 });
        assert_eq!(now.worse_since(&before), [HealthChange::Uncorrected(1)]);
        // Both counts tell of one error.
        assert_eq!(
            after(|now| {
                now.ecc = Some(EccErrors { corrected: 3, uncorrected: 1 });
                now.ecc_lifetime = Some(EccErrors { corrected: 9, uncorrected: 2 });
            }),
            [HealthChange::Uncorrected(1)]
        );
    }

    #[test]
    fn two_readings_have_a_better_and_a_worse_of_both() {
        let mut other = healthy();
        other.ecc = None;
        other.pcie.iter_mut().for_each(|link| (link.width, link.replays) = (8, Some(9)));
        other.remapped.iter_mut().for_each(|rows| rows.pending = true);
        let (better, worse) = (healthy().better_of(&other), other.clone().worse_of(&healthy()));
        assert_eq!(better, healthy());
        assert_eq!((worse.pcie, worse.remapped, worse.ecc), (other.pcie, other.remapped, healthy().ecc));
        assert_eq!(
            worse.worse_since(&better),
            [HealthChange::Narrower { from: 16, to: 8 }, HealthChange::RowsPending, HealthChange::Replays(2)]
        );
    }

    #[test]
    fn what_cannot_be_compared_is_no_change() {
        assert_eq!(healthy().worse_since(&healthy()), []);
        assert_eq!(healthy().worse_since(&GpuHealth::default()), []);
        assert_eq!(GpuHealth::default().worse_since(&healthy()), []);
        // A driver that was loaded anew counts from zero; a link that wakes is no worse for it.
        assert_eq!(after(|now| now.ecc = Some(EccErrors { corrected: 0, uncorrected: 0 })), []);
        let mut asleep = healthy();
        asleep.pcie.iter_mut().for_each(|link| link.generation = 1);
        assert_eq!(healthy().worse_since(&asleep), []);
    }
}
