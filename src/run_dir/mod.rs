//! The run directory: everything a run measured, on disk. Every report is a pure function of it.

mod record;

pub use record::{
    ArmData, Calibration, JudgedBy, Manifest, NeighbourCalibration, ProbeCalibration, RecordedRun, SeriesData,
};
