//! Where a number comes from. Never in doubt, on every artefact.

use serde::{Deserialize, Serialize};

/// Where the numbers of a run come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// Measured on NVIDIA hardware.
    Measured,
    /// Measured, in real time, against the stand-in driver: no hardware was involved.
    StandIn,
    /// Computed in virtual time by the simulator.
    Simulated,
}

impl Provenance {
    /// The sentence that opens every report of a run whose numbers were not measured on hardware.
    pub const fn banner(self) -> Option<&'static str> {
        match self {
            Self::Measured => None,
            Self::StandIn => Some("STAND-IN DRIVER: nothing below was measured on hardware"),
            Self::Simulated => Some("SIMULATED: nothing below was measured on hardware"),
        }
    }
}
