//! The hazard `fault` on a GPU.

use crate::hazard::Came;
use crate::workload::Params;

use super::super::ask::{Pair, Stop, untold};
use super::super::session::LiveSession;

/// Tries it.
pub(super) fn attempt(_session: &LiveSession<'_>, _pair: &Pair, _params: &Params) -> Result<Came, Stop> {
    untold("this backend cannot try it yet")
}
