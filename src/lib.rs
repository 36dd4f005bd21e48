//! Crosstalk proves or disproves that tenants sharing an NVIDIA GPU are isolated from one another.
//!
//! Read in this order: [`units`], [`channel`] and [`provenance`] are the words; a [`scenario`] and an inventory of
//! [`gpu`]s make a [`plan`]; an [`experiment`] runs it on a [`backend`], whose [`tenant`]s run programs of the
//! [`workload`] catalogue, arranged by [`sharing`] mode on a [`machine`]; what was measured lies in a [`run_dir`];
//! [`stats`] and [`verdict`] judge it offline, [`report`] shows it, [`compare`] holds it against another run, or a
//! [`baseline`], and a [`gate`] asks of it what a policy says. [`claims`] are what people say of sharing, as tests,
//! an [`observation`] is a fact of an arrangement that no latency shows, and a [`hazard`] what a neighbour may do beside
//! slowing the victim;
//! [`host`] is the machine below, [`cli`] one file per verb.

pub mod backend;
pub mod baseline;
pub mod channel;
pub mod claims;
pub mod cli;
pub mod compare;
pub mod cuda;
pub mod dcgm;
pub mod doctor;
pub mod experiment;
pub mod field;
pub mod gate;
pub mod gpu;
pub mod hazard;
pub mod host;
pub mod machine;
mod nccl;
pub mod nvml;
pub mod observation;
pub mod plan;
pub mod provenance;
pub mod random;
pub mod reconfigure;
pub mod report;
pub mod run_dir;
pub mod scenario;
pub mod sharing;
pub mod stats;
pub mod tenant;
pub mod units;
pub mod verdict;
pub mod workload;
