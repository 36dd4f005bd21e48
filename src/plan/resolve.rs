//! Scenario × inventory → plan.

use std::collections::BTreeMap;

use super::pace;
use super::{Grid, Plan, PlannedArrangement, PlannedHazard, PlannedNeighbour, PlannedProbe};
use crate::channel::Channel;
use crate::gpu::{Gpu, GpuModel, Inventory};
use crate::hazard::Leave;
use crate::observation::{self, Asked};
use crate::provenance::Provenance;
use crate::scenario::{Arrangement, Arrivals, Neighbour, Probe, Scenario, SharingMode, TimeSlice, Trial};
use crate::sharing;
use crate::units::Nanos;
use crate::verdict;
use crate::workload::Params;

/// Alone, a probe slower than this forms a panel of its own (verdict.md, the panel).
const SLOW: Nanos = Nanos::millis(1);

/// Requests of one window at most.
const MOST_REQUESTS: f64 = 5e6;

/// Shortest washout outside the simulator (verdict.md, "Fair arms", 4).
const LEAST_WASHOUT: Nanos = Nanos::secs(1);

/// What of a scenario is impossible on this machine: every mistake, with its arrangement where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct PlanError(pub Vec<String>);

/// What a user lets a plan do, and asks of it, beside the scenario.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// A MIG layout that is not there may be made, and another level of the time slice set.
    pub allow_reconfigure: bool,
    /// Level of the time slice of the GPU, or why it is not known; `None` where no arrangement asks for one.
    pub time_slice: Option<&'a Result<TimeSlice, String>>,
    /// UUID of the MIG device that takes the victim's place; `None`: as the scenario says.
    pub victim_on: Option<&'a str>,
}

impl Plan {
    /// What `scenario` means on GPU number `gpu` of `inventory`, of which `model` is the data where it is known.
    ///
    /// # Errors
    /// Lists every arrangement that is impossible here, each with why and the nearest possible choice, a washout that is too
    /// short for a GPU, and looks that can decide nothing.
    pub fn resolve(
        scenario: &Scenario,
        inventory: &Inventory,
        gpu: usize,
        model: Option<&GpuModel>,
    ) -> Result<Self, PlanError> {
        Self::resolve_on(scenario, inventory, gpu, model, Terms::default())
    }

    /// The same on these terms.
    ///
    /// # Errors
    /// As [`Plan::resolve`].
    pub fn resolve_on(
        scenario: &Scenario,
        inventory: &Inventory,
        gpu: usize,
        model: Option<&GpuModel>,
        terms: Terms<'_>,
    ) -> Result<Self, PlanError> {
        let mut mistakes = Vec::new();
        let washout = scenario.design.washout;
        if inventory.provenance != Provenance::Simulated && washout < LEAST_WASHOUT {
            mistakes.push(format!(
                "washout {washout}: at least {LEAST_WASHOUT} is needed outside the simulator, for a GPU keeps the \
                 neighbour's heat and clocks that long"
            ));
        }
        let mut arrangements = Vec::with_capacity(scenario.arrangements.len());
        for arrangement in plain(scenario) {
            let resolver = Resolver { scenario, arrangement, inventory, gpu, model, terms };
            match resolver.arrangement() {
                Ok(planned) => arrangements.push(planned),
                Err(mistake) => mistakes.push(format!("arrangement {:?}: {mistake}", arrangement.name)),
            }
        }
        // After all others, whose indices are then those of the scenario without them.
        let mut curves = Vec::new();
        for arrangement in &scenario.arrangements {
            let Some(density) = &arrangement.density else { continue };
            let resolver = Resolver { scenario, arrangement, inventory, gpu, model, terms };
            curves.push(resolver.curve(density, curves.len(), &mut arrangements));
        }
        mistakes.extend(scenario.panel.iter().filter_map(|probe| too_many_requests(probe, scenario.design.window)));
        if inventory.provenance != Provenance::Simulated && !scenario.allow_power {
            mistakes.extend(scenario.neighbours.iter().filter_map(power_without_leave));
        }
        if inventory.provenance != Provenance::Simulated {
            mistakes.extend(scenario.hazards.iter().filter_map(|trial| hazard_without_leave(scenario, trial)));
        }
        if !mistakes.is_empty() {
            return Err(PlanError(mistakes));
        }
        let plan = Self {
            scenario: scenario.name.clone(),
            description: scenario.description.clone(),
            seed: scenario.seed,
            inventory: inventory.clone(),
            gpu,
            design: scenario.design.clone(),
            panel: scenario.panel.iter().map(probe).collect(),
            neighbours: scenario.neighbours.iter().map(neighbour).collect(),
            hazards: scenario.hazards.iter().map(hazard).collect(),
            arrangements,
            curves,
            accepted: scenario.accepted.clone(),
        };
        // Nobody looks at densities before their end.
        let idle = if plan.all_densities() { Vec::new() } else { verdict::idle_looks(&plan) };
        if idle.is_empty() { Ok(plan) } else { Err(PlanError(idle)) }
    }
}

/// The arrangements with a victim, in order: those of the plan, but for the densities after them.
fn plain(scenario: &Scenario) -> impl Iterator<Item = &Arrangement> {
    scenario.arrangements.iter().filter(|arrangement| arrangement.density.is_none())
}

/// A window's requests are planned in advance and held in memory.
fn too_many_requests(probe: &Probe, window: Nanos) -> Option<String> {
    let (Arrivals::Poisson(rate) | Arrivals::Fixed(rate)) = probe.arrivals else { return None };
    let requests = rate.as_f64() * window.as_secs_f64();
    (requests > MOST_REQUESTS).then(|| {
        format!(
            "probe {:?}: {rate} in a window of {window} are {requests:.0} requests, at most {MOST_REQUESTS:.0} are held: \
             lower the rate or the window",
            probe.name
        )
    })
}

/// Noise that is there to draw power can trip what the card shares with others: it needs the user's leave (design.md,
/// property 6). The simulator draws none.
fn power_without_leave(neighbour: &Neighbour) -> Option<String> {
    (neighbour.workload.channels.first() == Some(&Channel::Power)).then(|| {
        format!(
            "neighbour {:?}: {} draws as much power as the card can: on hardware it needs `allow_power = true` in the \
             scenario",
            neighbour.name, neighbour.workload.id
        )
    })
}

/// Faults, and memory filled until nothing is left, can reach whoever shares the card: they need the user's leave (design.md,
/// property 6).
fn hazard_without_leave(scenario: &Scenario, trial: &Trial) -> Option<String> {
    let (key, what) = match trial.hazard.leave(&trial.params)? {
        Leave::Oom if !scenario.allow_oom => ("allow_oom", "fills the memory until nothing is left"),
        Leave::Faults if !scenario.allow_faults => ("allow_faults", "provokes faults of the GPU"),
        _ => return None,
    };
    Some(format!("hazard {:?}: it {what}: on hardware it needs `{key} = true` in the scenario", trial.name))
}

fn written(params: &Params) -> BTreeMap<String, String> {
    params.0.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect()
}

fn probe(probe: &Probe) -> PlannedProbe {
    let marks = probe.workload.marks.iter().map(|mark| format!("{}/{mark}", probe.name));
    PlannedProbe {
        name: probe.name.clone(),
        workload: probe.workload.id.to_owned(),
        params: written(&probe.params),
        channels: probe.workload.channels.to_vec(),
        series: std::iter::once(probe.name.clone()).chain(marks).collect(),
        arrivals: probe.arrivals,
        outstanding: probe.outstanding,
        slos: probe.slos.clone(),
    }
}

fn neighbour(neighbour: &Neighbour) -> PlannedNeighbour {
    PlannedNeighbour {
        name: neighbour.name.clone(),
        workload: neighbour.workload.id.to_owned(),
        params: written(&neighbour.params),
        channels: neighbour.workload.channels.to_vec(),
        duty: neighbour.duty,
        burst: neighbour.burst,
        queued: neighbour.queued,
    }
}

fn hazard(trial: &Trial) -> PlannedHazard {
    PlannedHazard {
        name: trial.name.clone(),
        hazard: trial.hazard.id.to_owned(),
        params: written(&trial.params),
        channel: trial.hazard.channel,
    }
}

pub(super) struct Resolver<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) arrangement: &'a Arrangement,
    inventory: &'a Inventory,
    /// Index of the GPU under test.
    gpu: usize,
    pub(super) model: Option<&'a GpuModel>,
    pub(super) terms: Terms<'a>,
}

impl Resolver<'_> {
    pub(super) fn gpu(&self) -> &Gpu {
        &self.inventory.gpus[self.gpu]
    }

    /// On a machine that is tested as it is. The simulator gives each arrangement the machine that it asks for.
    fn as_it_is(&self) -> bool {
        self.inventory.provenance != Provenance::Simulated
    }

    fn arrangement(&self) -> Result<PlannedArrangement, String> {
        let wanted = self.arrangement;
        let mut planned = PlannedArrangement {
            name: wanted.name.clone(),
            sharing: wanted.sharing,
            mps_daemon: wanted.mps_daemon,
            time_slice: wanted.time_slice,
            layout: wanted.layout.clone().unwrap_or_default(),
            as_found: wanted.layout.is_none(),
            seats: Vec::new(),
            skipped: self.not_in_this_state(),
            grids: Vec::new(),
            require: wanted.require.clone(),
            expect: wanted.expect.clone(),
            hazards: self.hazards(),
            observe: wanted.observe.clone(),
            against: self.against(),
            density: None,
        };
        if planned.skipped.is_some() {
            return Ok(planned);
        }
        let made = (wanted.layout.is_none() && !self.as_it_is())
            .then(|| sharing::made_of_found(wanted.sharing, self.gpu(), self.model))
            .flatten();
        let layout = wanted.layout.as_deref().or(made.as_deref());
        let (layout, seats) = match sharing::resolve(wanted.sharing, layout, self.gpu(), self.model) {
            Ok(resolved) => resolved,
            // What the machine as found cannot give is no mistake of the scenario.
            Err(error) if wanted.layout.is_none() => {
                planned.skipped = Some(error.to_string());
                return Ok(planned);
            }
            Err(error) => return Err(error.to_string()),
        };
        (planned.layout, planned.seats) = (layout, seats);
        planned.skipped = self.not_there(&planned);
        if planned.skipped.is_some() {
            return Ok(planned);
        }

        let seat = |id: &String| {
            planned.seats.iter().position(|s| s.id == *id).ok_or_else(|| {
                let ids: Vec<&str> = planned.seats.iter().map(|s| s.id.as_str()).collect();
                format!("there is no seat {id:?}; the seats are {}", ids.join(", "))
            })
        };
        let seats_of = |ids: &Option<Vec<String>>| {
            ids.as_ref().map(|ids| ids.iter().map(seat).collect::<Result<Vec<_>, _>>()).transpose()
        };
        let asked = seats_of(&wanted.victim_at)?;
        let victims = match (self.terms.victim_on, asked) {
            (None, asked) => asked.unwrap_or_else(|| sharing::victim_places(&planned.layout, &planned.seats)),
            (Some(uuid), asked) => match self.victim_on(uuid, asked, &planned) {
                Some(seat) => vec![seat],
                None => {
                    planned.skipped = Some(format!("no seat of the victim's is on {uuid}, the device asked for"));
                    return Ok(planned);
                }
            },
        };
        let neighbours_at = seats_of(&wanted.neighbour_at)?;
        for victim in victims {
            let mut neighbour_seats = neighbours_at.clone().unwrap_or_else(|| (0..planned.seats.len()).collect());
            neighbour_seats.retain(|s| *s != victim);
            if neighbour_seats.is_empty() {
                return Err(format!(
                    "with the victim at seat {} no seat is left for a neighbour",
                    planned.seats[victim].id
                ));
            }
            if self.arrangement.neighbours.is_empty() {
                // The place of hazards alone: it has no arms.
                let first_block = planned.grids.len() as u32 * self.scenario.design.blocks;
                let (probes, neighbours) = (Vec::new(), Vec::new());
                planned.grids.push(Grid { victim, neighbour_seats, probes, neighbours, first_block });
                continue;
            }
            for probes in self.panels(&planned, victim)? {
                for neighbours in self.groups() {
                    let first_block = planned.grids.len() as u32 * self.scenario.design.blocks;
                    planned.grids.push(Grid {
                        victim,
                        neighbour_seats: neighbour_seats.clone(),
                        probes: probes.clone(),
                        neighbours,
                        first_block,
                    });
                }
            }
        }
        Ok(planned)
    }

    /// The hazards that are tried: none beside a victim that has the GPU for itself, for nobody is there.
    fn hazards(&self) -> Vec<usize> {
        let wanted = self.arrangement;
        if wanted.sharing == SharingMode::Exclusive { Vec::new() } else { wanted.hazards.clone() }
    }

    /// The arrangement that observations compare this one with: as the scenario says, else its exclusive one.
    fn against(&self) -> Option<usize> {
        let wanted = self.arrangement;
        let compares = |asked: &Asked| observation::find(&asked.id).is_some_and(|o| o.compares());
        if !wanted.observe.iter().any(compares) {
            return None;
        }
        let is_it = |other: &Arrangement| match &wanted.against {
            Some(name) => other.name == *name,
            None => other.sharing == SharingMode::Exclusive && other.name != wanted.name,
        };
        plain(self.scenario).position(is_it)
    }

    /// Why the mode of this arrangement cannot be had on the machine in its state, where it cannot.
    pub(super) fn not_in_this_state(&self) -> Option<String> {
        self.wrong_mig_mode().or_else(|| self.not_on_hardware()).or_else(|| self.wrong_time_slice())
    }

    /// Hardware is tested as it is: crosstalk never changes the MIG mode.
    fn wrong_mig_mode(&self) -> Option<String> {
        if !self.as_it_is() {
            return None;
        }
        let needs = self.arrangement.sharing.needs_mig();
        match (needs, self.gpu().mig.unwrap_or(false)) {
            (true, false) => Some("MIG mode is off: run `nvidia-smi -mig 1` on a drained GPU first".to_owned()),
            (false, true) => Some("MIG mode is on: run `nvidia-smi -mig 0` on a drained GPU first".to_owned()),
            _ => None,
        }
    }

    /// Why the level of the time slice that is asked for cannot be had, where it cannot.
    fn wrong_time_slice(&self) -> Option<String> {
        let wanted = self.arrangement.time_slice?;
        match self.as_it_is() {
            true => pace::refused(&self.gpu().uuid, wanted, self.terms.time_slice, self.terms.allow_reconfigure),
            false => pace::refused_by_simulator(wanted),
        }
    }

    /// Modes that only the simulator arranges yet.
    fn not_on_hardware(&self) -> Option<String> {
        let mode = self.arrangement.sharing;
        (self.as_it_is() && !sharing::on_hardware(mode)).then(|| sharing::not_on_hardware(mode))
    }

    /// The first of the seats `asked`, or of all, on the device `uuid`.
    fn victim_on(&self, uuid: &str, asked: Option<Vec<usize>>, planned: &PlannedArrangement) -> Option<usize> {
        let devices = sharing::devices(&self.found(planned)).ok()?;
        let seats = asked.unwrap_or_else(|| (0..planned.seats.len()).collect());
        seats.into_iter().find(|seat| devices.get(*seat).is_some_and(|device| device == uuid))
    }

    fn found<'p>(&'p self, planned: &'p PlannedArrangement) -> sharing::Found<'p> {
        sharing::Found {
            mode: planned.sharing,
            layout: &planned.layout,
            seats: &planned.seats,
            as_found: planned.as_found,
            inventory: self.inventory,
            gpu: self.gpu,
        }
    }

    /// Why the machine as it is lacks the devices of this arrangement, where it does.
    pub(super) fn not_there(&self, planned: &PlannedArrangement) -> Option<String> {
        if !self.as_it_is() {
            return None;
        }
        let error = sharing::devices(&self.found(planned)).err()?;
        let wanted = !planned.as_found && sharing::can_be_made(planned.sharing) && self.model.is_some();
        match (wanted, self.terms.allow_reconfigure) {
            (true, true) => None,
            (true, false) => Some(format!(
                "{error}; --allow-reconfigure creates that layout for the run, and puts back what was there"
            )),
            (false, _) => Some(error.to_string()),
        }
    }

    /// Probes that may stand in one arm: those of host calls and slow ones form panels of their own.
    fn panels(&self, planned: &PlannedArrangement, victim: usize) -> Result<Vec<Vec<usize>>, String> {
        let mut together = Vec::new();
        let mut alone = Vec::new();
        let topology = self
            .model
            .map(|model| sharing::topology(planned.sharing, &planned.layout, &planned.seats, model))
            .transpose()
            .map_err(|e| e.to_string())?;
        for &index in &self.arrangement.panel {
            let probe = &self.scenario.panel[index];
            let mut own = probe.workload.host_bound();
            if let (Some(topology), Some(model)) = (&topology, self.model) {
                let view = sharing::view(topology, victim, model);
                let program = (probe.workload.program)(&probe.params, &view).map_err(|e| e.to_string())?;
                own |= program.duration_alone(&view) > SLOW;
            }
            if own { alone.push(vec![index]) } else { together.push(index) }
        }
        let mut panels = Vec::with_capacity(alone.len() + 1);
        if !together.is_empty() {
            panels.push(together);
        }
        panels.extend(alone);
        Ok(panels)
    }

    /// Neighbours that may stand in one block: those that allocate or create contexts per request form blocks of their
    /// own, since what they leave in the driver would reach the other arms.
    fn groups(&self) -> Vec<Vec<usize>> {
        let (alone, together): (Vec<usize>, Vec<usize>) =
            self.arrangement.neighbours.iter().partition(|n| self.scenario.neighbours[**n].workload.host_bound());
        let together = (!together.is_empty()).then_some(together);
        together.into_iter().chain(alone.into_iter().map(|n| vec![n])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::read;
    use crate::workload::CATALOGUE;

    /// A whole GPU that nobody divides, found with this provenance.
    fn inventory(provenance: Provenance) -> Inventory {
        let gpu = Gpu {
            uuid: "GPU-0".to_owned(),
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            model: Some("h100-sxm".to_owned()),
            ..Gpu::default()
        };
        Inventory { provenance, driver: None, cuda: None, gpus: vec![gpu] }
    }

    #[test]
    fn noise_that_draws_power_needs_leave_on_hardware() {
        let text = |leave: &str| {
            format!(
                r#"
                schema = 1
                name = "power"
                {leave}
                [victim]
                panel = [{{ probe = "launch" }}]
                [[neighbour]]
                noise = "tensor-burst"
                [[neighbour]]
                noise = "compute-burst"
                [[arrangement]]
                name = "ts"
                sharing = "time-slicing"
                "#
            )
        };
        let model = crate::gpu::find_model("h100-sxm");
        for provenance in [Provenance::Measured, Provenance::StandIn, Provenance::Simulated] {
            for (leave, given) in [("", false), ("allow_power = true", true)] {
                let scenario = read("power.toml", &text(leave), CATALOGUE).map_err(|m| m.render(false)).unwrap();
                let plan = Plan::resolve(&scenario, &inventory(provenance), 0, model);
                assert_eq!(plan.is_ok(), given || provenance == Provenance::Simulated, "{provenance:?} {leave}");
                if let Err(PlanError(mistakes)) = plan {
                    assert_eq!(mistakes.len(), 1, "tensor-burst alone: {mistakes:?}");
                    assert!(mistakes[0].contains("allow_power"), "{mistakes:?}");
                }
            }
        }
    }

    #[test]
    fn hardware_that_is_not_divided_as_asked_is_skipped_with_what_is_there() {
        let text = |layout: &str| {
            format!(
                r#"
                schema = 1
                name = "layouts"
                [victim]
                panel = [{{ probe = "launch" }}]
                [[neighbour]]
                noise = "idle"
                [[arrangement]]
                name = "mig"
                sharing = "mig"
                layout = {layout}
                "#
            )
        };
        let model = crate::gpu::find_model("h100-sxm").unwrap();
        let placed = crate::gpu::parse_layout(model, "all-balanced").unwrap();
        for provenance in [Provenance::Measured, Provenance::StandIn, Provenance::Simulated] {
            let mut machine = crate::gpu::simulated(model, Some(&placed));
            machine.provenance = provenance;
            for (layout, there) in [
                (r#""as-found""#, true),
                (r#"["1g.10gb", "1g.10gb", "2g.20gb", "3g.40gb"]"#, true),
                (r#"["3g.40gb", "3g.40gb"]"#, false),
            ] {
                let scenario = read("layouts.toml", &text(layout), CATALOGUE).map_err(|m| m.render(false)).unwrap();
                let plan = Plan::resolve(&scenario, &machine, 0, Some(model)).unwrap();
                let planned = &plan.arrangements[0];
                let runs = there || provenance == Provenance::Simulated;
                assert_eq!(planned.skipped.is_none(), runs, "{provenance:?} {layout}: {:?}", planned.skipped);
                assert_eq!(planned.grids.is_empty(), !runs);
                if let Some(reason) = &planned.skipped {
                    assert!(reason.contains("the layout is 3g.40gb + 2g.20gb + 1g.10gb + 1g.10gb"), "{reason}");
                }
            }
        }
    }

    #[test]
    fn only_the_simulator_forgets_within_less_than_a_second() {
        let text = |washout: &str| {
            format!(
                r#"
                schema = 1
                name = "washout"
                [design]
                washout = "{washout}"
                [victim]
                panel = [{{ probe = "launch" }}]
                [[neighbour]]
                name = "idle"
                noise = "idle"
                [[arrangement]]
                name = "ts"
                sharing = "time-slicing"
                "#
            )
        };
        let model = crate::gpu::find_model("h100-sxm");
        for provenance in [Provenance::Measured, Provenance::StandIn, Provenance::Simulated] {
            for (washout, enough) in [("999ms", false), ("1s", true)] {
                let scenario = read("washout.toml", &text(washout), CATALOGUE).map_err(|m| m.render(false)).unwrap();
                let plan = Plan::resolve(&scenario, &inventory(provenance), 0, model);
                let expected = enough || provenance == Provenance::Simulated;
                assert_eq!(plan.is_ok(), expected, "{provenance:?} {washout}: {plan:?}");
                if let Err(error) = plan {
                    assert!(error.to_string().starts_with("washout 999ms: at least 1s"), "{error}");
                }
            }
        }
    }
}
