//! Known loads in the two seats: kernels that fill every SM, of which a process beside the tenants counts how many are done.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::host::clock::now;
use crate::tenant::protocol::{Load, NoiseOrder, ProgramOrder};
use crate::units::{Nanos, Share};

use super::super::session::LiveSession;
use super::beside::{Beside, Spot};
use super::{Pair, Stop, untold};

/// The load, and how long one of its kernels takes alone at the highest clock.
const WORKLOAD: &str = "compute-burst";
const KERNEL: &str = "5ms";
/// Kernels queued: enough work that a host that pauses leaves the GPU none the less busy.
const QUEUED: u32 = 3;
/// An order begins this long after it was given.
const LEAD: Nanos = Nanos::millis(20);
/// Length of one burst and pause together.
const BURST: Nanos = Nanos::millis(200);
/// How long each runs alone, to learn what a kernel of its takes.
const ALONE: Nanos = Nanos::secs(1);

/// A process in each of the two seats, with the load loaded.
pub(super) struct Loads<'s, 'a> {
    pub(super) beside: Beside<'s, 'a>,
}

impl<'s, 'a> Loads<'s, 'a> {
    /// Starts both.
    pub(super) fn start(session: &'s LiveSession<'a>, pair: &Pair) -> Result<Self, Stop> {
        pair.apart()?;
        let devices = pair.devices()?;
        let spots = [0, 1].map(|index| Spot::of(pair.seats[index], &pair.places[index]));
        let mut beside = Beside::start(session, spots.into())?;
        let program = ProgramOrder {
            name: WORKLOAD.to_owned(),
            workload: WORKLOAD.to_owned(),
            params: BTreeMap::from([("kernel".to_owned(), KERNEL.to_owned())]),
        };
        beside.load(|index| Load {
            device: Some(devices[index].clone()),
            model: session.live.gpu().model.clone(),
            together: None,
            programs: vec![program.clone()],
            arena: true,
            budget: None,
            outstanding: QUEUED,
            cores: Vec::new(),
            spin: false,
            keep_awake: None,
            seed: session.plan.seed,
        })?;
        beside.check_exclusive()?;
        Ok(Self { beside })
    }

    /// Lets the one at `index` work for this part of the time.
    pub(super) fn work(&mut self, index: usize, duty: Share) -> Result<(), Stop> {
        let order = NoiseOrder { program: Some(0), start: now() + LEAD, queued: QUEUED, duty, burst: BURST };
        self.beside.noise(index, order)
    }

    /// What a kernel of each takes while the other is quiet.
    pub(super) fn alone(&mut self) -> Result<[Nanos; 2], Stop> {
        let mut found = [Nanos::ZERO; 2];
        for (index, each) in found.iter_mut().enumerate() {
            self.work(index, Share::percent(100))?;
            sleep(LEAD + Nanos::millis(100));
            let (first, begin) = self.beside.progress(index);
            sleep(ALONE);
            let (last, end) = self.beside.progress(index);
            self.beside.quiet()?;
            let done = last.saturating_sub(first);
            if done < 10 || begin == Nanos::ZERO {
                return untold(format!("a load that was to keep the GPU busy finished {done} kernels in a second"));
            }
            *each = Nanos(end.saturating_sub(begin).0 / done);
        }
        Ok(found)
    }
}

/// Waits in wall-clock time, between orders.
pub(in crate::backend::live) fn sleep(length: Nanos) {
    std::thread::sleep(Duration::from_nanos(length.0));
}
