//! The hazard `fault` in virtual time.

use crate::hazard::Came;
use crate::workload::Params;

use super::Scene;

/// Tries it.
pub(super) fn attempt(_scene: &Scene<'_>, _params: &Params) -> Came {
    Came::Untold { why: "the simulator cannot try it yet".to_owned() }
}
