//! Closed loops: what an observation's arms measure of the victim and of its neighbours.

use super::Place;
use crate::backend::{ArmRecord, BackendError, Evidence, Load, Session, Window};
use crate::channel::Channel;
use crate::gpu::find_model;
use crate::machine::{Demand, LaunchDemand};
use crate::plan::{Grid, Plan, PlannedNeighbour};
use crate::sharing;
use crate::units::{Nanos, Share};
use crate::workload::{self, GpuView, Op, Program};

/// Length of a window, and the longest where kernels are long.
const WINDOW: Nanos = Nanos::millis(300);
const LONGEST: Nanos = Nanos::secs(3);
/// Kernels of a neighbour that a window should hold.
const KERNELS: u64 = 30;

/// Window beside a neighbour whose requests take `request` alone.
pub(super) fn window_beside(request: Option<Nanos>) -> Nanos {
    request.map_or(Nanos::secs(1), |request| (request * KERNELS).clamp(WINDOW, LONGEST))
}

/// Window beside idle neighbours.
pub(super) fn window_alone() -> Nanos {
    WINDOW
}

/// A closed loop of this depth.
pub(super) fn closed(probe: usize, depth: u32, length: Nanos) -> Window {
    Window { probe, load: Load::Closed { depth }, length, delay: Nanos::ZERO, seat: None }
}

/// What the victim did in one window.
#[derive(Clone, Debug, Default)]
pub(super) struct Loop {
    /// Requests per second that completed inside the window.
    pub(super) rate: f64,
    /// Latencies of the requests that completed, those after its end included; rising.
    latencies: Vec<Nanos>,
}

impl Loop {
    /// The latency that this part of the requests, in per cent, does not exceed; 0 without any.
    pub(super) fn percentile(&self, percent: usize) -> Nanos {
        let rank = (self.latencies.len() * percent).div_ceil(100).max(1);
        self.latencies.get(rank - 1).copied().unwrap_or_default()
    }
}

/// The windows of an arm, in order.
pub(super) fn loops(plan: &Plan, record: &ArmRecord) -> Vec<Loop> {
    let mut first = 0;
    let mut loops = Vec::with_capacity(record.summary.windows.len());
    for (index, window) in record.summary.windows.iter().enumerate() {
        let end = window.start + window.length;
        let of_window = |s: &&crate::backend::Sample| usize::from(s.window) == index && usize::from(s.series) == first;
        let completed = record.samples.iter().filter(of_window).filter_map(|s| Some((s.planned, s.completed?)));
        let mut inside = 0_u64;
        let mut latencies = Vec::new();
        for (planned, completed) in completed {
            inside += u64::from(completed <= end);
            latencies.push(completed.saturating_sub(planned));
        }
        latencies.sort_unstable();
        loops.push(Loop { rate: inside as f64 / window.length.as_secs_f64().max(1e-9), latencies });
        first += plan.panel[window.probe].series.len();
    }
    loops
}

impl Place<'_> {
    pub(super) fn grid(&self) -> &Grid {
        &self.plan.arrangements[self.arrangement].grids[self.grid]
    }

    /// Runs an arm of one window.
    pub(super) fn run_loop(
        &self,
        session: &mut dyn Session,
        noise: Option<usize>,
        window: Window,
    ) -> Result<(Loop, ArmRecord), BackendError> {
        let record = session.run_arm(&self.arm(noise, vec![window]))?;
        let of_window = loops(self.plan, &record).into_iter().next().unwrap_or_default();
        Ok((of_window, record))
    }

    /// SMs of the victim as its device says: of its own context, or in virtual time of the model.
    pub(super) fn sms(&self, session: &dyn Session) -> Option<u32> {
        let victim = self.grid().victim;
        sms_seen(&session.evidence(), victim).or_else(|| Some(view(self.plan, self.arrangement, victim)?.sms))
    }
}

/// SMs that the device of a seat shows to it.
pub(super) fn sms_seen(evidence: &Evidence, seat: usize) -> Option<u32> {
    let device = evidence.seats.iter().find(|s| s.seat == seat)?.device.as_ref()?;
    Some(device.green_sms.unwrap_or(device.sms))
}

/// What the tenant in a seat sees, where the GPU's model is known.
fn view(plan: &Plan, arrangement: usize, seat: usize) -> Option<GpuView> {
    let planned = &plan.arrangements[arrangement];
    let model = find_model(plan.gpu().model.as_deref()?)?;
    let topology = sharing::topology(planned.sharing, &planned.layout, &planned.seats, model).ok()?;
    Some(sharing::view(&topology, seat, model))
}

/// A program as it is in a seat, with `sms` in place of those that the model tells.
fn program(
    plan: &Plan,
    (arrangement, seat): (usize, usize),
    (id, params): (&str, &std::collections::BTreeMap<String, String>),
    sms: Option<u32>,
) -> Option<(Program, GpuView)> {
    let mut view = view(plan, arrangement, seat)?;
    view.sms = sms.unwrap_or(view.sms);
    let workload = workload::find(id)?;
    let program = (workload.program)(&workload::resolve(workload, params).ok()?, &view).ok()?;
    Some((program, view))
}

/// How long a request of a neighbour takes alone, as far as it is foreseen.
pub(super) fn request_of(plan: &Plan, arrangement: usize, grid: &Grid, neighbour: usize) -> Option<Nanos> {
    let neighbour = &plan.neighbours[neighbour];
    let one = |seat: &usize| {
        let (program, view) = program(plan, (arrangement, *seat), (&neighbour.workload, &neighbour.params), None)?;
        Some(program.duration_alone(&view))
    };
    grid.neighbour_seats.iter().filter_map(one).max()
}

/// SM cycles of issue that a request of a probe takes, where it does nothing else; `None` otherwise.
pub(super) fn probe_cycles(plan: &Plan, place: (usize, usize), probe: usize, sms: Option<u32>) -> Option<f64> {
    let probe = &plan.panel[probe];
    cycles(&program(plan, place, (&probe.workload, &probe.params), sms)?.0)
}

/// The same of a neighbour.
pub(super) fn neighbour_cycles(plan: &Plan, place: (usize, usize), neighbour: usize, sms: Option<u32>) -> Option<f64> {
    let neighbour = &plan.neighbours[neighbour];
    cycles(&program(plan, place, (&neighbour.workload, &neighbour.params), sms)?.0)
}

/// How much work a request of a probe is in a place: programs size themselves by what they see, so that a request of half
/// an SM's worth takes as long as one of a whole one. In the unit that most bounds it: tensor cycles, bytes moved, issue
/// cycles, bytes copied, dependent loads, or else operations.
pub(super) fn probe_work(plan: &Plan, place: (usize, usize), probe: usize, sms: Option<u32>) -> Option<f64> {
    let probe = &plan.panel[probe];
    Some(work(&program(plan, place, (&probe.workload, &probe.params), sms)?.0))
}

fn work(program: &Program) -> f64 {
    let mut units = [0.0; 6];
    for op in &program.request {
        let Op::Enqueue(enqueue, times) = op else {
            units[5] += 1.0;
            continue;
        };
        let of_op = match enqueue.demand() {
            Demand::Launch(launch) => {
                let blocks = f64::from(launch.blocks);
                [
                    launch.tensor_cycles as f64 * blocks,
                    (launch.traffic.read + launch.traffic.written) as f64,
                    launch.issue_cycles as f64 * blocks,
                    0.0,
                    launch.chain.loads as f64 * f64::from(launch.chain.warps),
                    1.0,
                ]
            }
            Demand::Copy(copy) => [0.0, 0.0, 0.0, copy.bytes as f64, 0.0, 1.0],
            Demand::Host(_) => [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        };
        units.iter_mut().zip(of_op).for_each(|(sum, one)| *sum += one * f64::from(*times));
    }
    units.into_iter().find(|unit| *unit > 0.0).unwrap_or(1.0)
}

fn cycles(program: &Program) -> Option<f64> {
    let of_op = |op: &Op| match op {
        Op::Enqueue(enqueue, times) => match enqueue.demand() {
            Demand::Launch(launch) if computes_only(&launch) => {
                Some(launch.issue_cycles as f64 * f64::from(launch.blocks) * f64::from(*times))
            }
            _ => None,
        },
        Op::Mark(_) => Some(0.0),
        Op::Host(_) => None,
    };
    program.request.iter().map(of_op).sum::<Option<f64>>().filter(|cycles| *cycles > 0.0)
}

fn computes_only(launch: &LaunchDemand) -> bool {
    let rest = LaunchDemand {
        blocks: launch.blocks,
        blocks_per_sm: launch.blocks_per_sm,
        issue_cycles: launch.issue_cycles,
        ..LaunchDemand::default()
    };
    *launch == rest
}

/// Whether a neighbour computes all the time.
pub(super) fn computes(neighbour: &PlannedNeighbour) -> bool {
    let on_sms = |channel: &Channel| matches!(channel, Channel::BlockSlots | Channel::Issue | Channel::Tensor);
    neighbour.duty == Share::percent(100)
        && neighbour.channels.iter().any(on_sms)
        && workload::find(&neighbour.workload).is_some_and(|w| !w.host_bound())
}
