//! The level of the time slice of a GPU, set for an arrangement until what was there is put back.

use std::path::PathBuf;

use super::{ReconfigureError, Saved};
use crate::nvml::{set_time_slice, set_time_slice_words, time_slice};
use crate::provenance::Provenance;
use crate::scenario::TimeSlice;

/// A level that is, or is about to be, another one than was found, which is on disk.
#[derive(Debug)]
pub struct LevelSet {
    saved: Saved,
    path: PathBuf,
    asked: TimeSlice,
}

impl LevelSet {
    /// Writes down that the GPU `uuid` had the level `before`, and is to get `asked`. Nothing is set yet.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn written(
        uuid: &str,
        before: TimeSlice,
        asked: TimeSlice,
        provenance: Provenance,
    ) -> Result<Self, ReconfigureError> {
        let saved = Saved::time_slice(uuid, before, asked);
        let path = saved.write(provenance).map_err(|e| ReconfigureError::new(e.to_string()))?;
        Ok(Self { saved, path, asked })
    }

    /// Sets it, and reads it back.
    ///
    /// # Errors
    /// Where it cannot be set.
    pub fn set(&self) -> Result<(), ReconfigureError> {
        let asked = self.asked;
        set_time_slice(&self.saved.gpu, asked)
            .map_err(|why| ReconfigureError::new(format!("setting the time-slice level to {asked}: {why}")))
    }

    /// Puts back the level that was there.
    ///
    /// # Errors
    /// Where it cannot be set, or somebody else has set another one meanwhile.
    pub fn put_back(&self) -> Result<(), ReconfigureError> {
        self.saved.put_back(&self.path, None).map(drop)
    }
}

/// Sets `before` on the GPU `uuid`, which was set to `asked`, unless that is done already.
pub(super) fn put_back(uuid: &str, before: TimeSlice, asked: TimeSlice) -> Result<(), ReconfigureError> {
    let now = time_slice(uuid).map_err(|why| {
        ReconfigureError::new(format!("{why}; set it by hand: `{}`", set_time_slice_words(uuid, before)))
    })?;
    if is_due(now, before, asked).map_err(|why| {
        ReconfigureError::new(format!(
            "{why}; where it is to be as it was found, `{}`",
            set_time_slice_words(uuid, before)
        ))
    })? {
        set_time_slice(uuid, before).map_err(ReconfigureError::new)?;
    }
    Ok(())
}

/// Whether the level that was there has still to be set: not where it is there, and not over one of somebody else's.
fn is_due(now: TimeSlice, before: TimeSlice, asked: TimeSlice) -> Result<bool, String> {
    if now == before {
        Ok(false)
    } else if now == asked {
        Ok(true)
    } else {
        Err(format!(
            "the level is {now}, neither {before}, which was there before, nor {asked}, which crosstalk set: somebody else \
             has set it since, and it is left alone"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_crosstalk_set_is_put_back() {
        use TimeSlice::{Default, Long, Short};
        assert_eq!(is_due(Short, Default, Short), Ok(true));
        assert_eq!(is_due(Default, Default, Short), Ok(false), "done, or never begun");
        assert!(is_due(Long, Default, Short).unwrap_err().contains("somebody else has set it since"));
    }
}
