//! `crosstalk tenant`: the hidden verb behind which a tenant's process runs.

use std::fs::File;
use std::io::{self, BufReader, stdin, stdout};
use std::path::{Path, PathBuf};

use super::{CliError, Exit};
use crate::backend::live::tenant::{Seat, serve};
use crate::tenant::Region;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The file that samples go to.
    #[arg(long)]
    region: PathBuf,
    /// One more seat of this process: its region, where its orders come from, and where its replies go.
    #[arg(long, value_name = "REGION,ORDERS,REPLIES", value_parser = further)]
    seat: Vec<Further>,
}

/// What a further seat speaks through.
#[derive(Clone)]
struct Further {
    region: PathBuf,
    orders: PathBuf,
    replies: PathBuf,
}

fn further(text: &str) -> Result<Further, String> {
    match text.split(',').map(PathBuf::from).collect::<Vec<_>>().as_slice() {
        [region, orders, replies] => {
            Ok(Further { region: region.clone(), orders: orders.clone(), replies: replies.clone() })
        }
        parts => Err(format!("expected REGION,ORDERS,REPLIES, found {} parts", parts.len())),
    }
}

fn at<T>(path: &Path, opened: io::Result<T>) -> Result<T, CliError> {
    opened.map_err(|why| CliError::Usage(format!("{}: {why}", path.display())))
}

fn region(path: &Path) -> Result<Region, CliError> {
    at(path, File::options().read(true).write(true).open(path).and_then(|file| Region::open(&file)))
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let mut seats = vec![Seat {
        orders: Box::new(BufReader::new(stdin())),
        replies: Box::new(stdout()),
        region: region(&args.region)?,
    }];
    for seat in &args.seat {
        let orders = at(&seat.orders, File::open(&seat.orders))?;
        let replies = at(&seat.replies, File::options().write(true).open(&seat.replies))?;
        seats.push(Seat {
            orders: Box::new(BufReader::new(orders)),
            replies: Box::new(replies),
            region: region(&seat.region)?,
        });
    }
    match serve(seats) {
        Ok(()) => Ok(Exit::Ok),
        Err(why) => Err(CliError::Environment(why.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_seat_has_a_region_and_two_lines() {
        let seat = further("/proc/self/fd/5,/proc/self/fd/6,/proc/self/fd/7").unwrap();
        let paths = [seat.region, seat.orders, seat.replies];
        assert_eq!(paths.map(|path| path.display().to_string()), [5, 6, 7].map(|fd| format!("/proc/self/fd/{fd}")));
        assert!(further("/proc/self/fd/5,/proc/self/fd/6").is_err_and(|why| why.contains("found 2 parts")));
    }
}
