//! How long a plan takes on a GPU: everything that a run waits for, so that a tier's budget can be held to before the
//! first arm. The simulator waits for none of it.

use std::collections::BTreeMap;

use crate::gpu::{GpuModel, find_model};
use crate::plan::{Grid, Plan, PlannedArrangement};
use crate::scenario::Arrivals;
use crate::sharing;
use crate::units::Nanos;
use crate::workload;

use super::blocks::generations;
use super::calibration::{self, Foreseen};
use super::{observe, turns};

/// Putting a GPU into the shape of an arrangement and back: a control daemon, or instances (assumed). Once to calibrate a
/// grid and once to run it.
const ARRANGING: Nanos = Nanos::secs(2);
/// Bringing the tenants up: processes, modules compiled side by side, memory filled (assumed).
const TENANTS: Nanos = Nanos::secs(2);
/// What each tenant adds to it: its context is made under the driver's lock, one to three tenths of a second in the field.
const TENANT: Nanos = Nanos::millis(300);
/// The SM clock is read twice a second, three times at least: one that is steady is found so a little after the shortest
/// washout. One that moves is waited for longer, which nobody foresees.
const SETTLING: Nanos = Nanos::millis(100);
/// Starting the noise and seeing it work, draining its queue (50 ms of work at most), committing the arm.
const ARM: Nanos = Nanos::millis(100);
/// An order's lead, and the unrecorded requests that open a window.
const WINDOW: Nanos = Nanos::millis(70);

/// How long something takes, by what it waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Length {
    /// Arranging the GPU, and restarts of the tenants.
    pub tenants: Nanos,
    /// Calibration.
    pub calibration: Nanos,
    /// Between windows: washouts, noise that starts and drains, arms written down.
    pub between: Nanos,
    /// Windows.
    pub windows: Nanos,
    /// What calibration may add to the windows of probes whose rate it finds, at most.
    pub stretch: Nanos,
}

/// The victim in one place of one arrangement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceLength {
    /// Index of the arrangement.
    pub arrangement: usize,
    /// Index of the victim's seat.
    pub victim: usize,
    /// How long its grids take.
    pub length: Length,
}

impl Length {
    /// All of it, without the stretch.
    pub fn total(self) -> Nanos {
        self.tenants + self.calibration + self.between + self.windows
    }
}

impl std::iter::Sum for Length {
    fn sum<I: Iterator<Item = Self>>(lengths: I) -> Self {
        lengths.fold(Self::default(), |a, b| Self {
            tenants: a.tenants + b.tenants,
            calibration: a.calibration + b.calibration,
            between: a.between + b.between,
            windows: a.windows + b.windows,
            stretch: a.stretch + b.stretch,
        })
    }
}

/// How long each place of the victim takes on a GPU, in order of execution. Rates that calibration finds are foreseen from
/// the model's data, where the model is known.
pub fn lengths(plan: &Plan) -> Vec<PlaceLength> {
    let model = plan.gpu().model.as_deref().and_then(find_model);
    let mut places: Vec<PlaceLength> = Vec::new();
    for (arrangement, planned) in plan.arrangements.iter().enumerate().filter(|(_, a)| a.skipped.is_none()) {
        let turns = turns::measured_in(plan, planned);
        for (index, grid) in planned.grids.iter().enumerate() {
            let turns = turns.as_ref().filter(|(at, _)| *at == index).map(|(_, measure)| measure.window());
            let length = of_grid(plan, planned, grid, turns, model);
            match places.last_mut() {
                Some(last) if (last.arrangement, last.victim) == (arrangement, grid.victim) => {
                    last.length = [last.length, length].into_iter().sum();
                }
                _ => places.push(PlaceLength { arrangement, victim: grid.victim, length }),
            }
        }
        // Observations are made once for the arrangement, beside its first calibration.
        if let Some(first) = places.iter_mut().find(|place| place.arrangement == arrangement) {
            first.length.calibration += observations(plan, arrangement);
        }
    }
    places
}

fn observations(plan: &Plan, arrangement: usize) -> Nanos {
    let cost = observe::cost(plan, arrangement);
    let around = plan.design.washout + SETTLING + ARM + WINDOW;
    cost.asking + cost.windows.into_iter().map(|window| around + window).sum()
}

/// The longest place of each arrangement: what a tier's budget is for.
pub fn one_place_each(places: &[PlaceLength]) -> Length {
    let mut longest: Vec<PlaceLength> = Vec::new();
    for place in places {
        match longest.last_mut() {
            Some(last) if last.arrangement == place.arrangement => {
                if place.length.total() > last.length.total() {
                    *last = *place;
                }
            }
            _ => longest.push(*place),
        }
    }
    longest.into_iter().map(|place| place.length).sum()
}

fn of_grid(
    plan: &Plan,
    planned: &PlannedArrangement,
    grid: &Grid,
    turns: Option<Nanos>,
    model: Option<&GpuModel>,
) -> Length {
    let foreseen = foreseen(plan, planned, grid, model);
    let seats = grid.neighbour_seats.len() as u64 + 1;
    let restarts = generations(plan, grid).len() as u64 + 1;
    let around = plan.design.washout + SETTLING + ARM;
    let calibration = calibration::foreseen_windows(plan, grid, &foreseen);
    let arms = u64::from(plan.design.blocks) * (grid.neighbours.len() as u64 + 1);
    let (mut windows, mut stretch) = (Nanos::ZERO, Nanos::ZERO);
    for (probe, request) in grid.probes.iter().zip(&foreseen.probes) {
        let window = calibration::planned_window(plan, *probe, *request);
        windows += window;
        if plan.panel[*probe].arrivals == Arrivals::Auto {
            stretch += plan.design.max_window.saturating_sub(window);
        }
    }
    Length {
        tenants: ARRANGING * 2 + (TENANTS + TENANT * seats) * restarts,
        calibration: calibration.iter().chain(&turns).map(|window| around + WINDOW + *window).sum(),
        between: (around + WINDOW * grid.probes.len() as u64) * arms,
        windows: windows * arms,
        stretch: stretch * arms,
    }
}

/// What requests take here: alone by their demands, and as many times longer as tenants share the memory domain. Good
/// enough to plan by.
fn foreseen(plan: &Plan, planned: &PlannedArrangement, grid: &Grid, model: Option<&GpuModel>) -> Foreseen {
    let known = model.and_then(|model| {
        let topology = sharing::topology(planned.sharing, &planned.layout, &planned.seats, model).ok()?;
        Some((model, topology))
    });
    let request = |seat: usize, id: &str, params: &BTreeMap<String, String>| {
        let (model, topology) = known.as_ref()?;
        let workload = workload::find(id)?;
        let view = sharing::view(topology, seat, model);
        let program = (workload.program)(&workload::resolve(workload, params).ok()?, &view).ok()?;
        let domain = |seat: usize| topology.computes[topology.contexts[seat].compute].domain;
        let together = (0..topology.contexts.len()).filter(|other| domain(*other) == domain(seat)).count() as u64;
        Some(program.duration_alone(&view) * together)
    };
    let probe = |probe: &usize| {
        let probe = &plan.panel[*probe];
        request(grid.victim, &probe.workload, &probe.params)
    };
    let neighbour = |neighbour: &usize| {
        let neighbour = &plan.neighbours[*neighbour];
        let seats = grid.neighbour_seats.iter();
        seats.filter_map(|seat| request(*seat, &neighbour.workload, &neighbour.params)).max()
    };
    Foreseen {
        probes: grid.probes.iter().map(probe).collect(),
        neighbours: grid.neighbours.iter().map(neighbour).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::sim::Simulator;

    fn plan(panel: &str, arrangement: &str) -> Plan {
        let text = format!(
            "schema = 1\nname = \"t\"\n[design]\nblocks = 6\nblocks_per_generation = 2\nwindow = \"60ms\"\n[victim]\npanel = \
             [{panel}]\n[[neighbour]]\nnoise = \"idle\"\n[[neighbour]]\nnoise = \"hbm-read\"\n[[arrangement]]\nname = \
             \"a\"\n{arrangement}\n"
        );
        let model = find_model("a30").expect("a model");
        let scenario =
            crate::scenario::read("t", &text, workload::CATALOGUE).unwrap_or_else(|m| panic!("{}", m.render(false)));
        let inventory = Simulator::new(model, None).inventory().expect("an inventory");
        Plan::resolve(&scenario, &inventory, 0, Some(model)).expect("a plan")
    }

    #[test]
    fn every_part_is_counted() {
        let plan = plan(
            "{ probe = \"launch\", arrivals = { poisson = \"10000/s\" } }",
            "sharing = \"time-slicing\"\ntenants = 2",
        );
        let places = lengths(&plan);
        // Three generations and calibration: 4 × (2 s + 2 × 0.3 s), arranged twice. 18 arms of 1.2 s and one window each. Two
        // neighbours run alone for three of their bursts.
        let expected = Length {
            tenants: Nanos::millis(2 * 2_000 + 4 * 2_600),
            calibration: Nanos::millis(2 * (1_200 + 70 + 300)),
            between: Nanos::millis(18 * (1_200 + 70)),
            windows: Nanos::millis(18 * 60),
            stretch: Nanos::ZERO,
        };
        assert_eq!(places, [PlaceLength { arrangement: 0, victim: 0, length: expected }]);
        assert_eq!(one_place_each(&places), expected);
    }

    #[test]
    fn a_rate_that_calibration_finds_is_foreseen_and_more_tenants_make_it_slower() {
        let of = |tenants: u32| {
            let plan = plan("{ probe = \"hbm-chase\" }", &format!("sharing = \"time-slicing\"\ntenants = {tenants}"));
            lengths(&plan)[0].length
        };
        let (two, four) = (of(2), of(4));
        // Some 200 µs alone, a tenth of the rate: far from the 184 requests that p99 wants of 60 ms in six blocks.
        assert!(two.windows > Nanos::millis(18 * 600), "{two:?}");
        assert!(four.windows > two.windows && four.stretch < two.stretch, "{two:?} {four:?}");
        assert!(four.tenants > two.tenants);
    }

    #[test]
    fn the_budget_is_for_the_longest_place_of_each_arrangement() {
        let place = |arrangement, victim, secs| {
            let length = Length { windows: Nanos::secs(secs), ..Length::default() };
            PlaceLength { arrangement, victim, length }
        };
        let places = [place(0, 0, 3), place(0, 1, 5), place(0, 2, 4), place(2, 0, 7)];
        assert_eq!(one_place_each(&places).total(), Nanos::secs(5 + 7));
    }
}
