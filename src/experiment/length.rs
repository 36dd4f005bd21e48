//! How long a plan takes on a GPU: everything that a run waits for, so that a tier's budget can be held to before the
//! first arm. The simulator waits for none of it.

use std::collections::BTreeMap;

use crate::gpu::{GpuModel, find_model};
use crate::hazard;
use crate::plan::{Curve, Density, Grid, Plan, PlannedArrangement};
use crate::scenario::Arrivals;
use crate::sharing;
use crate::units::Nanos;
use crate::workload;

use super::blocks::generations;
use super::calibration::{self, Foreseen};
use super::{hazards, observe, turns};

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
    /// Controls: further quiet arms, the victim alone, noise within its own place, and the restarts for them.
    pub controls: Nanos,
    /// Hazards, each in a session of its own.
    pub hazards: Nanos,
    /// What is left out at most, where every neighbour is decided at the first look; it is part of all the others.
    pub early: Nanos,
    /// What calibration may add to the windows of probes whose rate it finds, at most.
    pub stretch: Nanos,
}

/// The victim in one place of one arrangement; or a density, which is one place.
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
        self.tenants + self.calibration + self.between + self.windows + self.controls + self.hazards
    }
}

impl std::iter::Sum for Length {
    fn sum<I: Iterator<Item = Self>>(lengths: I) -> Self {
        lengths.fold(Self::default(), |a, b| Self {
            tenants: a.tenants + b.tenants,
            calibration: a.calibration + b.calibration,
            between: a.between + b.between,
            windows: a.windows + b.windows,
            controls: a.controls + b.controls,
            hazards: a.hazards + b.hazards,
            early: a.early + b.early,
            stretch: a.stretch + b.stretch,
        })
    }
}

/// How long each place of the victim takes on a GPU, in order of execution, and then each density of those that a curve takes
/// at most. Rates that calibration finds are foreseen from the model's data, where the model is known.
pub fn lengths(plan: &Plan) -> Vec<PlaceLength> {
    let model = plan.gpu().model.as_deref().and_then(find_model);
    let mut places: Vec<PlaceLength> = Vec::new();
    let beside = |a: &PlannedArrangement| a.skipped.is_none() && a.density.is_none();
    for (arrangement, planned) in plan.arrangements.iter().enumerate().filter(|(_, a)| beside(a)) {
        let turns = turns::measured_in(plan, planned);
        for (index, grid) in planned.grids.iter().enumerate() {
            let turns = turns.as_ref().filter(|(at, _)| *at == index).map(|(_, measure)| measure.window());
            // Where hazards alone are tried there are no arms.
            let mut length = match grid.neighbours.is_empty() {
                true => Length::default(),
                false => of_grid(plan, (arrangement, index), turns, model),
            };
            let due = hazards::of(plan, arrangement).into_iter().filter(|due| due.grid == index);
            length.hazards = due.map(|due| ARRANGING + hazard::takes(&plan.hazards[due.hazard])).sum();
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
    places.extend(plan.curves.iter().flat_map(|curve| of_curve(plan, curve)));
    places
}

/// The densities that a curve takes at most, in their order: the longest of those that can be, as many as are measured at most;
/// where every listed one is measured, those, and the longest of the others.
fn of_curve(plan: &Plan, curve: &Curve) -> Vec<PlaceLength> {
    let can_be = curve.levels.iter().filter(|level| plan.arrangements[level.arrangement].skipped.is_none());
    let place = |arrangement: usize| {
        let density = plan.arrangements[arrangement].density?;
        Some(PlaceLength { arrangement, victim: 0, length: of_density(plan, density) })
    };
    let all = can_be.filter_map(|level| Some((curve.every && level.listed, place(level.arrangement)?)));
    let mut all: Vec<(bool, PlaceLength)> = all.collect();
    all.sort_by_key(|(sure, place)| std::cmp::Reverse((*sure, place.length.total())));
    all.truncate(curve.most as usize);
    let mut places: Vec<PlaceLength> = all.into_iter().map(|(_, place)| place).collect();
    places.sort_by_key(|place| place.arrangement);
    places
}

/// One density: every block is run, an arm each, in which all tenants have their windows at once. Nothing is calibrated, for
/// load and window are given, and there are no controls.
fn of_density(plan: &Plan, density: Density) -> Length {
    let blocks = u64::from(plan.design.blocks);
    Length {
        tenants: ARRANGING + (TENANTS + TENANT * u64::from(density.tenants)) * u64::from(plan.design.generations()),
        between: (plan.design.washout + SETTLING + ARM + WINDOW) * blocks,
        windows: density.window * blocks,
        ..Length::default()
    }
}

fn observations(plan: &Plan, arrangement: usize) -> Nanos {
    let cost = observe::cost(plan, arrangement);
    let around = plan.design.washout + SETTLING + ARM + WINDOW;
    let sessions: Nanos = cost.sessions.iter().map(|seats| ARRANGING + TENANTS + TENANT * *seats).sum();
    cost.asking + sessions + cost.windows.into_iter().map(|window| around + window).sum()
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

/// Why a plan is refused that takes longer than its scenario allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// How long it takes, and what takes it.
    pub found: String,
    /// What is allowed, and what to cut.
    pub expected: String,
}

/// Whether a plan takes longer than its scenario allows: the arithmetic, and what to cut.
pub fn too_long(plan: &Plan) -> Option<TooLong> {
    let most = plan.design.max_duration?;
    let places = lengths(plan);
    let all: Length = places.iter().map(|place| place.length).sum();
    if all.total() <= most {
        return None;
    }
    let longest = places.iter().max_by_key(|place| place.length.total())?;
    let arrangement = &plan.arrangements[longest.arrangement];
    let seat = arrangement.seats.get(longest.victim).map_or("?", |seat| seat.id.as_str());
    let longest_is = match arrangement.density {
        Some(_) => format!("density is {}", arrangement.name),
        None => format!("place is {} with the victim at {seat}", arrangement.name),
    };
    let cut = match plan.curves.as_slice() {
        [] => "",
        _ => ", and so do fewer densities",
    };
    Some(TooLong {
        found: format!(
            "the plan takes about {} on a GPU: {} for tenants, {} for calibration, {} between windows, {} for windows, {} for \
             controls. The longest {longest_is}: {}",
            all.total().for_people(),
            all.tenants.for_people(),
            all.calibration.for_people(),
            all.between.for_people(),
            all.windows.for_people(),
            all.controls.for_people(),
            longest.length.total().for_people(),
        ),
        expected: format!(
            "expected {} at most; fewer `blocks`, shorter windows, fewer neighbours, probes or victim places, or fewer \
             `controls` make it shorter{cut}",
            most.for_people()
        ),
    })
}

fn of_grid(
    plan: &Plan,
    (arrangement, index): (usize, usize),
    turns: Option<Nanos>,
    model: Option<&GpuModel>,
) -> Length {
    let planned = &plan.arrangements[arrangement];
    let grid = &planned.grids[index];
    let foreseen = foreseen(plan, planned, grid, model);
    let seats = grid.neighbour_seats.len() as u64 + 1;
    let restarts = generations(plan, grid).len() as u64 + 1;
    let around = plan.design.washout + SETTLING + ARM;
    let calibration = calibration::foreseen_windows(plan, (arrangement, index), &foreseen);
    let each = grid.neighbours.len() as u64 + 1;
    let again = u64::from(plan.design.controls.again);
    let blocks = u64::from(plan.design.blocks);
    let arms = blocks * each;
    let held_back = plan.delayed(arrangement, index);
    let (mut windows, mut short, mut delayed, mut stretch) = (Nanos::ZERO, Nanos::ZERO, Nanos::ZERO, Nanos::ZERO);
    for (probe, request) in grid.probes.iter().zip(&foreseen.probes) {
        let window = calibration::planned_window(plan, *probe, *request);
        windows += window;
        short += calibration::short_window(plan, grid, *probe, *request);
        if held_back.contains(probe) {
            delayed += WINDOW + window;
        }
        if plan.panel[*probe].arrivals == Arrivals::Auto {
            stretch += plan.design.max_window.saturating_sub(window);
        }
    }
    let between = around + WINDOW * grid.probes.len() as u64;
    let arm = between + windows;
    let alone = (TENANTS + TENANT + arm) * u64::from(plan.presence(arrangement, index));
    let within = match plan.sensitivity(arrangement, index) {
        0 => Nanos::ZERO,
        pairs => {
            TENANTS
                + TENANT * 2
                + (between + short) * u64::from(pairs) * (plan.exercised(arrangement, index).len() as u64 + 1)
        }
    };
    let further = arm * u64::from(plan.unsampled(arrangement, index))
        + (around + delayed) * u64::from(plan.delays(arrangement, index));
    let first = match plan.design.looks.as_slice() {
        [] | [_] => plan.design.blocks,
        _ => plan.design.blocks_by(0),
    };
    let saved = blocks.saturating_sub(first.into());
    let per_generation = u64::from(plan.design.blocks_per_generation.max(1));
    Length {
        tenants: ARRANGING * 2 + (TENANTS + TENANT * seats) * restarts,
        calibration: calibration.iter().chain(&turns).map(|window| around + WINDOW + *window).sum(),
        between: between * arms,
        windows: windows * arms,
        controls: arm * (blocks * again) + alone + within + further,
        early: arm * (saved * (each + again)) + (TENANTS + TENANT * seats) * (saved / per_generation),
        stretch: stretch * (arms + blocks * again),
        hazards: Nanos::ZERO,
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
            // A quiet arm more in each block; and after each of three generations, new tenants and one arm.
            controls: Nanos::millis(6 * (1_200 + 70 + 60) + 3 * (2_300 + 1_200 + 70 + 60)),
            hazards: Nanos::ZERO,
            early: Nanos::ZERO,
            stretch: Nanos::ZERO,
        };
        assert_eq!(places, [PlaceLength { arrangement: 0, victim: 0, length: expected }]);
        assert_eq!(one_place_each(&places), expected);
    }

    #[test]
    fn pairs_within_the_victims_place_and_early_looks_are_counted() {
        let arrangement = "sharing = \"mps\"";
        let mut plan = plan("{ probe = \"hbm-chase\", arrivals = { poisson = \"400/s\" } }", arrangement);
        let with = lengths(&plan)[0].length;
        // Two arms in each of three pairs, for the idle neighbour loads nothing; windows of 60 ms are short already.
        plan.design.controls.sensitivity = 0;
        let without = lengths(&plan)[0].length;
        let window = without.windows.0 / 18;
        let (around, window) = (1_270_000_000, window.min(125_000_000));
        assert_eq!((with.controls - without.controls).0, 2_600_000_000 + 6 * (around + window));
        assert_eq!(with.early, Nanos::ZERO);
        // Decided after the first of three generations, two of them with their restarts are left out: 4 blocks of 4 arms.
        plan.design.looks = vec![
            crate::scenario::Look { blocks: 1, spends: crate::units::Share::percent(30) },
            crate::scenario::Look { blocks: 6, spends: crate::units::Share::percent(70) },
        ];
        let early = lengths(&plan)[0].length.early;
        assert_eq!(early.0, 16 * (around + without.windows.0 / 18) + 2 * 2_600_000_000);
    }

    #[test]
    fn a_plan_that_is_too_long_is_refused_with_the_arithmetic() {
        let mut plan =
            plan("{ probe = \"launch\", arrivals = { poisson = \"1000/s\" } }", "sharing = \"time-slicing\"");
        assert_eq!(too_long(&plan), None);
        let all = lengths(&plan)[0].length.total();
        plan.design.max_duration = Some(all);
        assert_eq!(too_long(&plan), None);
        plan.design.max_duration = Some(Nanos::secs(30));
        let why = too_long(&plan).expect("too long");
        for words in ["takes about 1 min", "for controls", "The longest place is a with the victim at 0"] {
            assert!(why.found.contains(words), "no {words:?} in {why:?}");
        }
        assert!(why.expected.starts_with("expected 30 s at most; fewer `blocks`"), "{why:?}");
    }

    fn dense(tenants: &str, rate: &str) -> Plan {
        let slo = "slo = { p99 = \"50ms\" }";
        plan(
            &format!("{{ probe = \"launch\", arrivals = {{ poisson = \"{rate}\" }}, {slo} }}"),
            &format!("sharing = \"time-slicing\"\ntenants = {{ {tenants}, all = \"launch\" }}"),
        )
    }

    /// Six blocks, a restart every two; windows of 60 ms, as written.
    #[test]
    fn a_curve_takes_at_most_its_longest_densities() {
        let plan = dense("count = [1, 2, 4]", "100/s");
        let places = lengths(&plan);
        // All four: a bisection, with two to spare. Three generations of N tenants, arranged once; six arms each.
        assert_eq!(plan.curves[0].most, 4);
        assert_eq!(places.iter().map(|place| place.arrangement).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let expected = Length {
            tenants: Nanos::millis(2_000 + 3 * (2_000 + 4 * 300)),
            between: Nanos::millis(6 * (1_200 + 70)),
            windows: Nanos::millis(6 * 60),
            ..Length::default()
        };
        assert_eq!(places[3].length, expected);
        assert_eq!(one_place_each(&places).total(), places.iter().map(|place| place.length.total()).sum::<Nanos>());
        // Every listed one, and one between two and four.
        let every = dense("count = [1, 2, 4], every = true", "100/s");
        assert_eq!(lengths(&every).iter().map(|place| place.arrangement).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let every = dense("count = [1, 2, 10], every = true", "100/s");
        assert_eq!(lengths(&every).iter().map(|place| place.arrangement).collect::<Vec<_>>(), [0, 1, 4, 5, 6, 7, 8, 9]);
        // The longest of a search: seven of sixteen.
        let search = dense("count = [1, 16]", "100/s");
        assert_eq!(lengths(&search).first().map(|place| place.arrangement), Some(9));
    }

    #[test]
    fn densities_that_take_too_long_are_refused_with_the_arithmetic() {
        let mut plan = dense("count = [1, 2, 4]", "100/s");
        let all: Length = lengths(&plan).iter().map(|place| place.length).sum();
        plan.design.max_duration = Some(all.total());
        assert_eq!(too_long(&plan), None);
        plan.design.max_duration = Some(Nanos::secs(20));
        let why = too_long(&plan).expect("too long");
        assert!(why.found.contains("The longest density is a×4: "), "{why:?}");
        assert!(why.expected.ends_with("and so do fewer densities"), "{why:?}");
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
