//! The level of the time slice that an arrangement asks for, against the one that is there.

use crate::nvml::set_time_slice_words;
use crate::scenario::TimeSlice;

/// Why an arrangement cannot have the level `wanted` on the GPU `uuid`, whose level is `there` (`None`: nobody has read it, and
/// the arrangement will), where it may be set or not.
pub(super) fn refused(
    uuid: &str,
    wanted: TimeSlice,
    there: Option<&Result<TimeSlice, String>>,
    may_be_set: bool,
) -> Option<String> {
    match there? {
        Ok(there) if *there == wanted || may_be_set => None,
        Ok(there) => Some(format!(
            "the time-slice level of GPU {uuid} is {there}, and this arrangement asks for {wanted}: set it (`{}`, as root), \
             or let --allow-reconfigure set it for the run, which puts back {there}",
            set_time_slice_words(uuid, wanted)
        )),
        Err(why) => Some(format!(
            "the time-slice level of GPU {uuid} is not known, and this arrangement asks for {wanted}: {why}"
        )),
    }
}

/// The same in the simulator.
pub(super) fn refused_by_simulator(wanted: TimeSlice) -> Option<String> {
    (wanted != TimeSlice::Default).then(|| {
        format!(
            "the simulator has one quantum for a model, that of the default level: NVIDIA publishes no milliseconds for the \
             others, so that {wanted} is only measured on hardware"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_level_than_is_there_needs_leave_and_one_that_is_not_known_has_none() {
        let of = |there: &Result<TimeSlice, String>, may| refused("GPU-1", TimeSlice::Long, Some(there), may);
        assert_eq!(of(&Ok(TimeSlice::Long), false), None);
        assert_eq!(of(&Ok(TimeSlice::Short), true), None);
        let words = of(&Ok(TimeSlice::Short), false).unwrap();
        let command = "`nvidia-smi compute-policy -i GPU-1 --set-timeslice 3`";
        assert!(words.contains("is short") && words.contains("asks for long") && words.contains(command), "{words}");
        for may in [false, true] {
            let words = of(&Err("no nvidia-smi".to_owned()), may).unwrap();
            assert!(words.contains("is not known") && words.contains("no nvidia-smi"), "{words}");
        }
        assert_eq!(refused("GPU-1", TimeSlice::Long, None, false), None, "whoever arranges it reads it");
        assert_eq!(refused_by_simulator(TimeSlice::Default), None);
        assert!(refused_by_simulator(TimeSlice::Short).unwrap().contains("short is only measured on hardware"));
    }
}
