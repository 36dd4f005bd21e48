//! The simulator: the plan's arms in virtual time, on the machine model, deterministic per seed.

mod agent;
mod arm;
mod ask;
mod code;
mod hazard;
mod host;

use crate::backend::{ArmPlan, ArmRecord, Backend, BackendError, Company, Evidence, Session};
use crate::gpu::{GpuModel, Inventory, Placement, find_model, simulated};
use crate::hazard::Came;
use crate::machine::{Done, Leak, Machine, Terms, Topology};
use crate::observation::{Observation, Observed};
use crate::plan::{Plan, PlannedArrangement};
use crate::provenance::Provenance;
use crate::random::{Key, Stream};
use crate::scenario::SharingMode;
use crate::sharing;
use crate::units::{Bytes, Nanos};
use crate::workload::{self, Program, Workload};

use self::agent::{Agent, Report};
use self::code::{Code, failed};

/// Spread of latencies between two restarts of the tenants: fresh allocations land elsewhere in L2 and device memory.
/// One standard deviation, relative (assumed; A100 and H100 L2 latencies vary more than this between SMs).
const PLACEMENT: f64 = 0.004;

/// A simulated machine with one kind of GPU.
pub struct Simulator {
    model: &'static GpuModel,
    inventory: Inventory,
    leaks: Vec<Leak>,
    sessions: usize,
}

impl Simulator {
    /// A machine with one GPU of this model; with `layout`, MIG is on and these instances exist.
    pub fn new(model: &'static GpuModel, layout: Option<&[Placement]>) -> Self {
        let sessions = std::thread::available_parallelism().map_or(1, usize::from);
        Self { model, inventory: simulated(model, layout), leaks: Vec::new(), sessions }
    }

    /// The same machine with isolation broken on purpose, channel by channel: for tests of the verdict.
    #[must_use]
    pub fn with_leaks(mut self, leaks: Vec<Leak>) -> Self {
        self.leaks = leaks;
        self
    }

    /// The same machine with this many sessions at a time.
    #[must_use]
    pub fn with_sessions(mut self, sessions: usize) -> Self {
        self.sessions = sessions.max(1);
        self
    }
}

impl Backend for Simulator {
    fn provenance(&self) -> Provenance {
        Provenance::Simulated
    }

    fn inventory(&self) -> Result<Inventory, BackendError> {
        Ok(self.inventory.clone())
    }

    fn sessions(&self) -> usize {
        self.sessions
    }

    fn open<'a>(
        &'a self,
        plan: &'a Plan,
        arrangement: usize,
        grid: usize,
    ) -> Result<Box<dyn Session + 'a>, BackendError> {
        let planned = &plan.arrangements[arrangement];
        let topology = sharing::topology(planned.sharing, &planned.layout, &planned.seats, self.model)
            .map_err(|e| BackendError::arrangement(format!("{}: {e}", planned.name)))?;
        let mut session = SimSession { simulator: self, plan, arrangement, grid, topology, state: None };
        session.restart(0, Company::Beside)?;
        Ok(Box::new(session))
    }
}

/// What a simulated machine tells of an observation that is asked of the backend, as a plan for one lays it out. `None`: its
/// model is not known, or the arrangement cannot be laid out.
pub(crate) fn told(plan: &Plan, (arrangement, grid): (usize, usize), observation: &Observation) -> Option<Observed> {
    let planned = plan.arrangements.get(arrangement)?;
    let grid = planned.grids.get(grid)?;
    let model = plan.gpu().model.as_deref().and_then(find_model)?;
    let topology = sharing::topology(planned.sharing, &planned.layout, &planned.seats, model).ok()?;
    Some(ask::ask(&ask::Scene { planned, grid, topology: &topology, model }, observation))
}

struct SimSession<'a> {
    simulator: &'a Simulator,
    plan: &'a Plan,
    arrangement: usize,
    grid: usize,
    topology: Topology,
    state: Option<State>,
}

/// Tenants that are up, on a machine of their own.
struct State {
    machine: Box<Machine>,
    model: GpuModel,
    now: Nanos,
    /// The victims' GPU.
    gpu: usize,
    /// The victim; in a density every tenant, in the order of the seats.
    victims: Vec<Victim>,
    neighbours: Vec<Neighbour>,
    /// Reused between events.
    done: Vec<Done>,
    reports: Vec<Report>,
}

/// A tenant whose latency is recorded, with every probe of the grid loaded.
struct Victim {
    seat: usize,
    agent: Agent,
    /// Per probe of the grid, in its order.
    probes: Vec<Code>,
}

/// A tenant in a neighbour's seat, with every noise program of the grid loaded.
struct Neighbour {
    seat: usize,
    agent: Agent,
    /// Per neighbour of the grid, in its order.
    noise: Vec<Code>,
}

impl Session for SimSession<'_> {
    fn restart(&mut self, generation: u32, company: Company) -> Result<(), BackendError> {
        let planned = &self.plan.arrangements[self.arrangement];
        let grid = &planned.grids[self.grid];
        let key = [
            Key::Name(&planned.name),
            Key::Number(grid.first_block.into()),
            Key::Number(generation.into()),
            Key::Name("placement"),
        ];
        let mut model = placed(self.simulator.model, &mut Stream::new(self.plan.seed, &key));
        if keeps_awake(planned) {
            model.clock.idle_after_ms = None;
        }
        let (mut machine, places) = self.machine(&model, company)?;

        let mut victims = Vec::new();
        let mut held = 0;
        for seat in planned.victims(grid) {
            let mut agent = Agent::new(&mut machine, seat)?;
            let mut probes = Vec::with_capacity(grid.probes.len());
            held = 0;
            for &probe in &grid.probes {
                let probe = &self.plan.panel[probe];
                let (workload, program) = self.program(&probe.workload, &probe.params, seat, &model)?;
                let bytes = program.buffers.iter().map(|b| b.bytes.0).sum();
                agent.hold(&mut machine, workload.id, bytes)?;
                held += bytes;
                probes.push(Code::compile(&mut machine, seat, &model, &program, workload.marks)?);
            }
            let budget = planned.density.and_then(|density| density.budget);
            agent.hold(
                &mut machine,
                "the tenant's budget",
                budget.map_or(0, |budget| budget.0.saturating_sub(held)),
            )?;
            victims.push(Victim { seat, agent, probes });
        }

        let mut neighbours = Vec::with_capacity(places.len());
        for Seated { seat, context } in places {
            if company == Company::Within {
                share_memory(&mut machine, context, self.topology.contexts[seat].memory_limit, held)?;
            }
            let mut agent = Agent::new(&mut machine, context)?;
            let mut noise = Vec::with_capacity(grid.neighbours.len());
            let mut arena = (0, "noise");
            for &neighbour in &grid.neighbours {
                let neighbour = &self.plan.neighbours[neighbour];
                let (workload, program) = if planned.sharing == SharingMode::Exclusive {
                    // Nobody shares the GPU: the neighbour runs its host loop only.
                    self.program(crate::workload::PLACEBO, &Default::default(), seat, &model)?
                } else {
                    self.program(&neighbour.workload, &neighbour.params, seat, &model)?
                };
                arena = arena.max((program.buffers.iter().map(|b| b.bytes.0).sum(), workload.id));
                noise.push(Code::compile(&mut machine, context, &model, &program, workload.marks)?);
            }
            agent.hold(&mut machine, arena.1, arena.0).map_err(|error| match company {
                Company::Within => BackendError::arrangement(format!(
                    "the noise does not fit beside the probes in the victim's own place, where they hold {}: {error}",
                    Bytes(held).for_people()
                )),
                Company::Beside | Company::Alone => error,
            })?;
            neighbours.push(Neighbour { seat, agent, noise });
        }
        self.state = Some(State {
            machine,
            model,
            now: Nanos::ZERO,
            gpu: self.topology.domains[self.topology.computes[self.topology.contexts[grid.victim].compute].domain].gpu,
            victims,
            neighbours,
            done: Vec::new(),
            reports: Vec::new(),
        });
        Ok(())
    }

    fn evidence(&self) -> Evidence {
        Evidence::default()
    }

    fn ask(&mut self, observation: &Observation) -> Result<Observed, BackendError> {
        let planned = &self.plan.arrangements[self.arrangement];
        let (grid, topology, model) = (&planned.grids[self.grid], &self.topology, self.simulator.model);
        Ok(ask::ask(&ask::Scene { planned, grid, topology, model }, observation))
    }

    fn try_hazard(&mut self, index: usize) -> Result<Came, BackendError> {
        self.state = None;
        let planned = &self.plan.arrangements[self.arrangement];
        let (grid, topology, model) = (&planned.grids[self.grid], &self.topology, self.simulator.model);
        let (leaks, seed) = (&self.simulator.leaks, self.plan.seed);
        let scene = hazard::Scene { planned, grid, topology, model, leaks, seed };
        Ok(hazard::attempt(&scene, &self.plan.hazards[index]))
    }

    fn run_arm(&mut self, arm: &ArmPlan) -> Result<ArmRecord, BackendError> {
        let (plan, arrangement, grid) = (self.plan, self.arrangement, self.grid);
        let state = self.state.as_mut().ok_or_else(|| BackendError::arrangement("the tenants are down".to_owned()))?;
        arm::run(plan, arrangement, grid, state, arm)
    }

    fn close(self: Box<Self>) -> Result<(), BackendError> {
        Ok(())
    }
}

/// Where a tenant that makes noise lives.
struct Seated {
    /// The seat whose share it sees.
    seat: usize,
    context: usize,
}

impl SimSession<'_> {
    /// A machine on which this company has its contexts, and where those are that make noise.
    fn machine(&self, model: &GpuModel, company: Company) -> Result<(Box<Machine>, Vec<Seated>), BackendError> {
        let grid = &self.plan.arrangements[self.arrangement].grids[self.grid];
        let leaks = &self.simulator.leaks;
        match company {
            Company::Beside => {
                let machine = Machine::new(model, &self.topology, leaks).map_err(failed)?;
                let seated = |seat: &usize| Seated { seat: *seat, context: *seat };
                Ok((machine, grid.neighbour_seats.iter().map(seated).collect()))
            }
            Company::Alone => {
                let mut machine = Machine::vacant(model, &self.topology, leaks).map_err(failed)?;
                machine.open(grid.victim).map_err(failed)?;
                Ok((machine, Vec::new()))
            }
            Company::Within => {
                let inside = sharing::within(&self.topology, grid.victim);
                let context = inside.contexts.len() - 1;
                let mut machine = Machine::vacant(model, &inside, leaks).map_err(failed)?;
                machine.open(grid.victim).map_err(failed)?;
                Ok((machine, vec![Seated { seat: grid.victim, context }]))
            }
        }
    }

    fn program(
        &self,
        id: &str,
        params: &std::collections::BTreeMap<String, String>,
        seat: usize,
        model: &GpuModel,
    ) -> Result<(&'static Workload, Program), BackendError> {
        let what = |e: String| {
            BackendError::arrangement(format!("seat {}: {e}", self.plan.arrangements[self.arrangement].seats[seat].id))
        };
        let workload = workload::find(id).ok_or_else(|| what(format!("no workload {id:?} in this build")))?;
        let params = workload::resolve(workload, params).map_err(what)?;
        let view = sharing::view(&self.topology, seat, model);
        let program = (workload.program)(&params, &view).map_err(|e| what(e.to_string()))?;
        Ok((workload, program))
    }
}

impl Agent {
    /// Takes device memory for as long as the tenant lives.
    fn hold(&mut self, machine: &mut Machine, workload: &str, bytes: u64) -> Result<(), BackendError> {
        if bytes == 0 {
            return Ok(());
        }
        machine.alloc(self.context(), Bytes(bytes)).map(|_| ()).map_err(|oom| BackendError::arrangement(format!(
                "{workload} asks for {} and {} of {} are free in its place: lower its footprint, or the number of tenants",
                Bytes(bytes).for_people(),
                oom.free.for_people(),
                oom.total.for_people()
            )))
    }
}

/// Opens the context of noise within the victim's process: no overhead of its own, and of a limited memory what the probes
/// leave.
fn share_memory(machine: &mut Machine, context: usize, limit: Option<u64>, held: u64) -> Result<(), BackendError> {
    let sms = crate::machine::SmShare::All;
    let memory_limit = limit.map(|limit| limit.saturating_sub(held));
    machine.open_on(context, &Terms { sms, memory_limit, overhead: Some(0) }).map_err(failed)
}

/// Whether the victim posts empty kernels so that neither host nor GPU falls asleep (verdict.md, fair arms 6). Under
/// time-slicing they would take turns of their own, and those of equal tenants would be one another's noise: they sleep there,
/// in all arms.
fn keeps_awake(planned: &PlannedArrangement) -> bool {
    planned.density.is_none() && !matches!(planned.sharing, SharingMode::TimeSlicing | SharingMode::MigTimeSlicing)
}

/// The model as this generation's allocations see it.
fn placed(model: &GpuModel, stream: &mut Stream) -> GpuModel {
    let mut model = model.clone();
    let mut vary =
        |cycles: u32| (f64::from(cycles) * (1.0 + PLACEMENT * stream.normal().clamp(-3.0, 3.0))).round() as u32;
    model.l2.latency_cycles = vary(model.l2.latency_cycles);
    model.hbm.latency_cycles = vary(model.hbm.latency_cycles);
    model
}
