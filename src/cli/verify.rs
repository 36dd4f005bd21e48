//! `crosstalk verify`: checksums, histograms and verdict, recomputed from raw samples.

use std::path::{Path, PathBuf};

use super::{CliError, Exit};
use crate::run_dir::{self, Digest, Verified};
use crate::verdict;

#[derive(clap::Args)]
pub(super) struct Args {
    /// A run directory.
    run: PathBuf,
    /// Print nothing but the root hash of the run, once everything agrees: the SHA-256 that stands for all of its files,
    /// to be signed or to be compared with one that was.
    #[arg(long)]
    root_hash: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let verified = run_dir::verify(&args.run).map_err(CliError::in_run(&args.run))?;
    let run = args.run.display();
    let checked = format!("{} files, {} arms, {} samples", verified.files, verified.arms, verified.samples);
    for file in &verified.ignored {
        super::say(&format!("{run}: {file} belongs to nothing that was committed: ignored"));
    }
    agrees(&args.run, &verified)?;
    let Some(root) = verified.root_sha256.as_ref().filter(|_| verified.digest.is_some()) else {
        if args.root_hash {
            return Err(CliError::Usage(format!(
                "{run}: the run is not finished, so it has no root hash: go on with `crosstalk run --resume`"
            )));
        }
        super::print(&format!(
            "{run}: {checked}: checksums and events agree; the run is not finished, so there is no verdict to compare\n"
        ))?;
        return Ok(Exit::Ok);
    };
    if args.root_hash {
        super::print(&format!("{root}\n"))?;
        return Ok(Exit::Ok);
    }
    super::print(&format!(
        "{run}: {checked}: checksums, histograms, events and verdict agree\nroot hash (SHA-256): {root}\n"
    ))?;
    Ok(Exit::Ok)
}

/// That what events conclude and, where the run is finished, its verdict are what its samples give.
pub(super) fn agrees(path: &Path, verified: &Verified) -> Result<(), CliError> {
    run_dir::recheck(&verified.run).map_err(CliError::in_run(path))?;
    let Some(digest) = &verified.digest else { return Ok(()) };
    let recomputed = Digest::build(&verified.run, &verdict::judge(&verified.run))?;
    if recomputed != *digest {
        return Err(CliError::Usage(format!(
            "{}: the verdict recomputed from raw samples differs from digest.json, which {} wrote: \
             judge with that version, or measure again",
            path.display(),
            verified.run.manifest.created_by
        )));
    }
    Ok(())
}
