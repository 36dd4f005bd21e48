//! Curves: an arrangement of equal tenants becomes one planned arrangement for each number of them, as far as it can be here.

use super::resolve::Resolver;
use super::{Curve, Density, Grid, Level, PlannedArrangement};
use crate::gpu::GpuModel;
use crate::scenario::{Arrivals, Density as Wanted, Design, Expectation, Probe};
use crate::sharing::{self, Equal};
use crate::units::{Bytes, Nanos, significant, trimmed};
use crate::workload::Program;

/// Requests of each tenant that are expected beyond its objective's quantile, over all arms of a density: 8000 requests for a
/// p99. So that an objective that is met or missed by a tenth in latency is decided.
///
/// Where latency falls off exponentially, a bound a tenth beyond p99 has a share of 100^(−1.1) = 0.63 % over it, and one a tenth
/// within it 1.58 %, where 1 % is allowed. A level of 1 % that five densities share, of which bounds are drawn at a part
/// ([`crate::stats::objective_bounds`]), takes t = 4.2 standard errors with 17 arms: √(n·0.0063)·4.2 ≤ n·0.0037 from
/// n = 8100 on, and √(n·0.0158)·4.2 ≤ n·0.0058 from n = 8300. A tail that falls off faster needs fewer; requests that hang together
/// need more. The share that is allowed cancels but for its logarithm, so that other quantiles take as many beyond them.
const BEYOND: u64 = 80;

/// Shortest window of a density: ten and more of the rounds in which many tenants take turns, and of what each has queued.
const SHORTEST_WINDOW: Nanos = Nanos::secs(1);

/// Longest window of a density, as long as one that a scenario may write.
const LONGEST_WINDOW: Nanos = Nanos::secs(600);

/// Device memory of a context on a GPU of an unknown model: the least of those that were seen in the field, 107 to 616 MiB
/// (`driver.context_mib` in the models' data), so that what is refused for it does not fit whatever it is.
const LEAST_CONTEXT: Bytes = Bytes::mib(107);

impl Resolver<'_> {
    /// The curve of an arrangement of equal tenants. Adds its densities to `arrangements`; each that cannot be is skipped, with
    /// why.
    pub(super) fn curve(&self, wanted: &Wanted, curve: usize, arrangements: &mut Vec<PlannedArrangement>) -> Curve {
        let probe = &self.scenario.panel[wanted.probe];
        let window = wanted.window.unwrap_or_else(|| window(&self.scenario.design, probe));
        let mut levels = Vec::new();
        let mut can_be = Vec::new();
        for (tenants, listed) in wanted.levels() {
            let density = Density { curve, tenants, window, budget: wanted.memory };
            let planned = self.density(wanted, density);
            if planned.skipped.is_none() {
                can_be.push(listed);
            }
            levels.push(Level { tenants, arrangement: arrangements.len(), listed });
            arrangements.push(planned);
        }
        let lone =
            levels.first().is_some_and(|first| first.tenants == 1 && arrangements[first.arrangement].skipped.is_none());
        Curve {
            name: self.arrangement.name.clone(),
            sharing: self.arrangement.sharing,
            probe: wanted.probe,
            every: wanted.every,
            at_least: wanted.at_least,
            levels,
            most: most(&can_be, lone, wanted.every),
        }
    }

    fn density(&self, wanted: &Wanted, density: Density) -> PlannedArrangement {
        let mut planned = PlannedArrangement {
            name: format!("{}×{}", self.arrangement.name, density.tenants),
            sharing: self.arrangement.sharing,
            mps_daemon: self.arrangement.mps_daemon,
            time_slice: self.arrangement.time_slice,
            layout: Vec::new(),
            as_found: false,
            seats: Vec::new(),
            skipped: None,
            grids: Vec::new(),
            require: Expectation::default(),
            expect: Expectation::default(),
            hazards: Vec::new(),
            observe: Vec::new(),
            against: None,
            density: Some(density),
        };
        match self.seated(wanted, &mut planned, density) {
            Err(why) => planned.skipped = Some(why),
            Ok(()) => planned.grids.push(Grid {
                victim: 0,
                neighbour_seats: Vec::new(),
                probes: vec![wanted.probe],
                neighbours: Vec::new(),
                first_block: 0,
            }),
        }
        planned
    }

    /// Gives every tenant its seat, or says why it has none here.
    fn seated(&self, wanted: &Wanted, planned: &mut PlannedArrangement, density: Density) -> Result<(), String> {
        if let Some(uuid) = self.terms.victim_on {
            return Err(format!("equal tenants share the whole GPU, and the device asked for is {uuid}, a part of it"));
        }
        if let Some(why) = self.not_in_this_state() {
            return Err(why);
        }
        let equal = Equal { mode: planned.sharing, tenants: density.tenants, instances: wanted.instances };
        (planned.layout, planned.seats) =
            sharing::equal(equal, self.gpu(), self.model).map_err(|error| error.to_string())?;
        self.room(wanted, planned)?;
        match self.not_there(planned) {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// Whether the memory of the tenants, and of their contexts, fits; else the arithmetic. What is not known refuses nothing.
    fn room(&self, wanted: &Wanted, planned: &PlannedArrangement) -> Result<(), String> {
        let program = self.model.map(|model| self.program(wanted, planned, model)).transpose()?;
        let allocates = program.flatten().map(|program| program.footprint);
        let Some(each) = allocates.max(wanted.memory) else { return Ok(()) };
        let (context, assumed) = match self.model {
            Some(model) => {
                (Bytes::mib(model.driver.context_mib), model.assumed.iter().any(|key| key == "driver.context_mib"))
            }
            None => (LEAST_CONTEXT, true),
        };
        let profile = planned.layout.first().and_then(|entry| entry.profile.as_deref());
        let (room, whose, tenants) = match profile {
            Some(profile) => {
                let within = planned.layout.first().map_or(1, |entry| entry.tenants);
                (self.memory_of(profile), format!("an instance {profile}"), within)
            }
            None => {
                let whole = self.gpu().memory.or_else(|| self.model.map(|model| Bytes::mib(model.memory_mib)));
                (whole, "the GPU".to_owned(), planned.seats.len() as u32)
            }
        };
        let Some(room) = room else { return Ok(()) };
        let all = each.0.saturating_add(context.0).saturating_mul(u64::from(tenants));
        if all <= room.0 {
            return Ok(());
        }
        Err(format!(
            "no room in memory: {tenants} × ({} + {} of context{}) = {}, and {whose} has {}",
            gib(each),
            gib(context),
            if assumed { ", assumed" } else { "" },
            gib(Bytes(all)),
            gib(room)
        ))
    }

    /// The program that a tenant of this density runs; `None`: the model's data do not say what it sees of the GPU, which the
    /// tenant itself will read off hardware.
    fn program(
        &self,
        wanted: &Wanted,
        planned: &PlannedArrangement,
        model: &GpuModel,
    ) -> Result<Option<Program>, String> {
        let topology = match sharing::topology(planned.sharing, &planned.layout, &planned.seats, model) {
            Ok(topology) => topology,
            Err(_) if self.as_it_is() => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let probe = &self.scenario.panel[wanted.probe];
        let program = (probe.workload.program)(&probe.params, &sharing::view(&topology, 0, model));
        program.map(Some).map_err(|error| error.to_string())
    }

    /// Memory of an instance of this profile: as it was read, else by the model's data.
    fn memory_of(&self, profile: &str) -> Option<Bytes> {
        let there = self.gpu().instances.iter().find(|instance| instance.profile == profile);
        let known = || self.model?.profile(profile)?.memory_mib.map(Bytes::mib);
        there.and_then(|instance| instance.memory).or_else(known)
    }
}

/// The window in which a probe's load gives as many requests, over all blocks, as its objectives take ([`BEYOND`]).
fn window(design: &Design, probe: &Probe) -> Nanos {
    let (Arrivals::Poisson(rate) | Arrivals::Fixed(rate)) = probe.arrivals else { return design.window };
    // So many of 100 000 requests lie beyond the quantile.
    let beyond = probe.slos.iter().map(|slo| 100_000_u32.saturating_sub(slo.quantile.0).max(1)).min().unwrap_or(1_000);
    let requests = u128::from(BEYOND) * 100_000 / u128::from(beyond);
    // Rates are thousandths per second: requests ÷ rate in milliseconds.
    let all = requests * 1_000_000 / u128::from(rate.0.max(1));
    let each = all.div_ceil(u128::from(design.blocks.max(1)));
    Nanos::millis(u64::try_from(each).unwrap_or(u64::MAX / 1_000_000)).clamp(SHORTEST_WINDOW, LONGEST_WINDOW)
}

/// Densities that are measured beyond what a bisection takes, where some are undecided: one on either side of it.
const SPARE: u32 = 2;

/// Densities that are measured at most, of those that can be, rising, each with whether it is listed: the lone tenant, as many as
/// a bisection over the n others takes at worst, ⌈log₂(n + 1)⌉, and some to spare; where every listed one is measured, those,
/// a bisection of the most that lie between two of them, and as many to spare. One at least, for the error rate is divided by it.
fn most(can_be: &[bool], lone: bool, every: bool) -> u32 {
    let bisection = |n: usize| usize::BITS - n.leading_zeros();
    let most = if every {
        let listed = can_be.iter().filter(|listed| **listed).count() as u32;
        let between = can_be.split(|listed| *listed).map(<[bool]>::len).max().unwrap_or(0);
        listed + bisection(between)
    } else {
        let lone = usize::from(lone);
        lone as u32 + bisection(can_be.len() - lone)
    };
    (most + SPARE).min(can_be.len() as u32).max(1)
}

/// With three significant digits: "20 GiB", "0.32 GiB".
fn gib(bytes: Bytes) -> String {
    format!("{} GiB", trimmed(&significant(bytes.0 as f64 / f64::from(1 << 30), 2)))
}

#[cfg(test)]
mod tests;
