//! `crosstalk list`: the catalogues.

use super::{CliError, Exit};
use crate::{claims, gate, gpu, observation, scenario, workload};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Which.
    what: What,
    /// Format.
    #[arg(long, value_enum, default_value = "terminal")]
    format: Form,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// Probes and noise.
    Workloads,
    /// Built-in scenarios.
    Scenarios,
    /// GPU models.
    Gpus,
    /// MIG profiles by model.
    Profiles,
    /// What people say about sharing a GPU, and what was found.
    Claims,
    /// What can be observed of an arrangement beside its cells.
    Observations,
    /// Ready-made policies of the gate.
    Policies,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Form {
    /// Text.
    Terminal,
    /// JSON.
    Json,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let text = match args.format {
        Form::Terminal => match args.what {
            What::Workloads => workload::table(),
            What::Scenarios => scenario::table(),
            What::Gpus => gpu::gpus_table(),
            What::Profiles => gpu::profiles_table(),
            What::Claims => claims::table(),
            What::Observations => observation::table(),
            What::Policies => gate::table(),
        },
        Form::Json => super::pretty(&match args.what {
            What::Workloads => workload::to_json(),
            What::Scenarios => scenario::list_json(),
            What::Gpus => gpu::gpus_json(),
            What::Profiles => gpu::profiles_json(),
            What::Claims => claims::list_json(),
            What::Observations => observation::list_json(),
            What::Policies => gate::list_json(),
        }),
    };
    super::print(&text)?;
    Ok(Exit::Ok)
}
