//! Errors of libnvidia-ml, in words.

use serde::{Deserialize, Serialize};

use super::LIBRARY;

/// NVML_ERROR_INSUFFICIENT_RESOURCES, which nvml-wrapper does not know.
const INSUFFICIENT_RESOURCES: u32 = 23;

/// What went wrong, as far as somebody must act differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NvmlErrorKind {
    /// The library is not installed, or not visible here.
    NoLibrary,
    /// The library lacks a symbol.
    NoSymbol,
    /// The kernel module is not loaded.
    NotLoaded,
    /// Library and kernel module are of different versions.
    Mismatch,
    /// This user, or this container, may not.
    Permission,
    /// This GPU, or this mode of it, has no such thing.
    NotSupported,
    /// What was named is not there.
    NotThere,
    /// An argument that this driver does not know.
    Invalid,
    /// Somebody uses it.
    InUse,
    /// There is no room left for another instance, at that place or at all.
    NoRoom,
    /// The GPU has fallen off the bus, or needs a reset.
    Lost,
    /// Anything else.
    Other,
}

/// A call of libnvidia-ml that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{what}")]
#[serde(deny_unknown_fields)]
pub struct NvmlError {
    /// What failed: the call and the driver's words.
    pub what: String,
    /// Which kind of failure.
    pub kind: NvmlErrorKind,
}

impl NvmlError {
    pub(super) fn of(call: &str, error: nvml_wrapper::error::NvmlError) -> Self {
        use nvml_wrapper::error::NvmlError as E;
        let kind = match &error {
            E::LibloadingError(_) | E::LibraryNotFound => NvmlErrorKind::NoLibrary,
            E::FailedToLoadSymbol(_) | E::FunctionNotFound => NvmlErrorKind::NoSymbol,
            E::DriverNotLoaded => NvmlErrorKind::NotLoaded,
            E::LibRmVersionMismatch => NvmlErrorKind::Mismatch,
            E::NoPermission | E::OperatingSystem => NvmlErrorKind::Permission,
            E::NotSupported => NvmlErrorKind::NotSupported,
            E::NotFound => NvmlErrorKind::NotThere,
            E::InvalidArg => NvmlErrorKind::Invalid,
            E::InUse => NvmlErrorKind::InUse,
            E::UnexpectedVariant(INSUFFICIENT_RESOURCES) => NvmlErrorKind::NoRoom,
            E::GpuLost | E::ResetRequired => NvmlErrorKind::Lost,
            _ => NvmlErrorKind::Other,
        };
        let what = match (&error, kind) {
            (_, NvmlErrorKind::NoLibrary) => format!("{LIBRARY} cannot be loaded ({error})"),
            (_, NvmlErrorKind::NoSymbol) => format!("{LIBRARY} has no {call} ({error}): this driver is too old"),
            (_, NvmlErrorKind::NoRoom) => format!("{call}: Insufficient Resources"),
            (E::UnexpectedVariant(code), _) => format!("{call}: NVML error {code}, which crosstalk does not know"),
            _ => format!("{call}: {error}"),
        };
        Self { what, kind }
    }

    pub(super) fn other(what: String) -> Self {
        Self { what, kind: NvmlErrorKind::Other }
    }
}

/// The reading, or `None` where this GPU has none or keeps it from this user. What ends everything stays an error.
pub(super) fn reading<T>(
    call: &str,
    result: Result<T, nvml_wrapper::error::NvmlError>,
) -> Result<Option<T>, NvmlError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            let error = NvmlError::of(call, error);
            if error.kind == NvmlErrorKind::Lost { Err(error) } else { Ok(None) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvml_wrapper::error::NvmlError as E;

    #[test]
    fn what_a_user_must_do_differently_is_told_apart() {
        for (error, kind, words) in [
            (E::LibRmVersionMismatch, NvmlErrorKind::Mismatch, "mismatch"),
            (E::DriverNotLoaded, NvmlErrorKind::NotLoaded, "not loaded"),
            (E::NoPermission, NvmlErrorKind::Permission, "permission"),
            (E::GpuLost, NvmlErrorKind::Lost, "bus"),
            (E::InUse, NvmlErrorKind::InUse, "in use"),
            (E::UnexpectedVariant(23), NvmlErrorKind::NoRoom, "Insufficient Resources"),
            (E::FailedToLoadSymbol("x".to_owned()), NvmlErrorKind::NoSymbol, "too old"),
            (E::UnexpectedVariant(4242), NvmlErrorKind::Other, "4242"),
        ] {
            let error = NvmlError::of("nvmlInit_v2", error);
            assert_eq!(error.kind, kind);
            assert!(error.what.contains("nvmlInit_v2") && error.what.contains(words), "{error}");
        }
    }

    #[test]
    fn an_absent_reading_is_none_and_a_lost_gpu_is_not() {
        assert_eq!(reading::<u32>("x", Err(E::NotSupported)), Ok(None));
        assert_eq!(reading::<u32>("x", Err(E::NoPermission)), Ok(None));
        assert_eq!(reading::<u32>("x", Err(E::GpuLost)).unwrap_err().kind, NvmlErrorKind::Lost);
    }
}
