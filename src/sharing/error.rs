//! Why an arrangement cannot be made.

use crate::gpu::LayoutError;

/// Why an arrangement cannot be made so, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SharingError {
    /// In words, the nearest legal choice included.
    pub what: String,
}

impl SharingError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

impl From<LayoutError> for SharingError {
    fn from(error: LayoutError) -> Self {
        Self::new(error.to_string())
    }
}
