//! One arm in virtual time: washout, noise, windows, drain.

use crate::backend::{
    ArmPlan, ArmRecord, ArmSummary, BackendError, Load, NeighbourSummary, OomEvent, Outcome, Purpose, Window,
};
use crate::machine::Done;
use crate::plan::{Grid, Plan, PlannedNeighbour};
use crate::random::{Key, Stream};
use crate::tenant::{Place, Requests, Stamps, arrival_stream, arrivals};
use crate::units::{Nanos, Rate};

use super::agent::{Agent, Report};
use super::code::Code;
use super::host::Host;
use super::{State, Victim, keeps_awake};

/// Noise holds at most this much work in its queue beyond two requests (verdict.md, fair arms 5).
const QUEUED_WORK: Nanos = Nanos::millis(50);
/// A window opens with this many unrecorded requests, or with as many as this time holds.
const WARM_UP: (u32, Nanos) = (16, Nanos::millis(50));
/// How long the first window waits for the noise to finish something.
const LEAD: Nanos = Nanos::secs(1);
/// A tenant whose work has not left the device this long after it stopped sending hangs.
const HANG: Nanos = Nanos::secs(60);

/// Runs `arm` on the tenants of `state`, from where their clock stands.
pub(super) fn run(
    plan: &Plan,
    arrangement: usize,
    grid: usize,
    state: &mut State,
    arm: &ArmPlan,
) -> Result<ArmRecord, BackendError> {
    let planned = &plan.arrangements[arrangement];
    let grid = &planned.grids[grid];
    let gpu = state.gpu;
    let origin = state.now;
    let arm_name = arm.noise.map_or("quiet", |n| plan.neighbours[n].name.as_str());
    // Each tenant's host draws from a stream of its own: what one does moves nothing of another. An arm of a control draws
    // anew, or a second quiet arm would repeat the first.
    let host_of = |state: &State, seat: usize, role: &str| {
        let seat = &planned.seats[seat].id;
        let arm_key = [Key::Name(&planned.name), Key::Number(arm.key.block.into()), Key::Name(arm_name)];
        let mut key = vec![arm_key[0], arm_key[1], arm_key[2], Key::Name("host"), Key::Name(seat)];
        if arm.key.purpose != Purpose::Block {
            key.extend([Key::Name(arm.key.purpose.id()), Key::Name(role)]);
        }
        Host::new(&state.model, plan.seed, &key, origin, keeps_awake(planned))
    };
    let mut hosts: Vec<Host> = state.victims.iter().map(|victim| host_of(state, victim.seat, "victim")).collect();
    let mut noise = arm.noise.map(|n| {
        let code = grid.neighbours.iter().position(|g| *g == n).unwrap_or(0);
        let hosts = state.neighbours.iter().map(|neighbour| host_of(state, neighbour.seat, "neighbour")).collect();
        Noise::new(&plan.neighbours[n], code, hosts)
    });

    state.run_to(origin + arm.washout, noise.as_mut(), &mut [])?;
    let mut meter = None;
    if let Some(noise) = &mut noise {
        let start = state.now;
        noise.start(state);
        // Noise runs before the first planned arrival: until each seat has finished something. A seat that takes longer
        // shows by its rate.
        while !noise.all_ran() && state.step(start + LEAD, Some(noise), &mut [])? {}
    }

    let mut series = Vec::new();
    let mut samples = Vec::new();
    let mut windows = Vec::with_capacity(arm.windows.len());
    for together in arm.at_once() {
        for &index in &together {
            let window = &arm.windows[index];
            let loaded = matches!(window.load, Load::Closed { .. } | Load::Open { rate: Rate(1..), .. });
            if loaded {
                let (victim, code) = place_of(state, grid, window);
                state.warm_up(victim, code, &mut hosts[victim], noise.as_mut())?;
            }
        }
        let start = state.now;
        if meter.is_none() {
            meter = Some(Meter::start(state, gpu, noise.as_mut()));
        }
        let mut sides = Vec::with_capacity(together.len());
        let mut deadline = start;
        for &index in &together {
            let window = &arm.windows[index];
            let probe = &plan.panel[window.probe];
            let (victim, code) = place_of(state, grid, window);
            let name = plan.tenant_series(&probe.name, arrangement, window.seat);
            let mut stream = arrival_stream(plan.seed, &planned.name, arm.key.block, &name);
            let marks = state.victims[victim].probes[code].marks();
            let requests = requests(window, probe.outstanding, start, &mut stream).with_marks(&marks);
            sides.push(Side { victim, code, requests });
            deadline = deadline.max(start + window.length + arm.drain);
        }
        state.windows(&mut sides, deadline, &mut hosts, noise.as_mut())?;
        for (index, side) in together.into_iter().zip(sides) {
            let Window { probe, seat, .. } = arm.windows[index];
            let first = series.len() as u16;
            series.extend(plan.panel[probe].series.iter().map(|name| plan.tenant_series(name, arrangement, seat)));
            let place = Place { origin, probe, seat, window: index as u16, series: first };
            windows.push(side.requests.finish(deadline, place, &mut samples));
        }
    }

    let host_pause = hosts.iter().map(Host::longest_pause).max();
    let mut summary = ArmSummary { windows, host_pause, ..ArmSummary::default() };
    if let Some(meter) = meter {
        meter.stop(state, gpu, noise.as_ref(), &mut summary);
    }
    if let Some(noise) = &mut noise {
        noise.stop(state);
        state.drain_neighbours(noise)?;
    }
    if planned.density.is_some() {
        let held = state.victims.iter().map(|victim| state.machine.held(victim.agent.context()).0);
        summary.memory_used = Some(held.sum());
    }
    let State { machine, victims, neighbours, .. } = state;
    let agents = neighbours.iter_mut().map(|n| (n.seat, &mut n.agent));
    for (seat, agent) in victims.iter_mut().map(|v| (v.seat, &mut v.agent)).chain(agents) {
        agent.report_out_of_memory(seat, origin, &mut summary.oom);
        agent.release(machine);
    }
    Ok(ArmRecord { series, samples, summary })
}

/// Whose window it is, and which of its programs it issues.
fn place_of(state: &State, grid: &Grid, window: &Window) -> (usize, usize) {
    let victim = window.seat.and_then(|seat| state.victims.iter().position(|victim| victim.seat == seat));
    (victim.unwrap_or(0), grid.probes.iter().position(|p| *p == window.probe).unwrap_or(0))
}

fn requests(window: &Window, outstanding: u32, start: Nanos, stream: &mut Stream) -> Requests {
    match window.load {
        Load::Open { rate, poisson } => {
            let planned = arrivals(stream, rate, poisson, window.length);
            Requests::open(planned, start, window.length, outstanding).held_back(window.delay)
        }
        Load::Closed { depth } => Requests::closed(depth, start, window.length),
    }
}

/// The noise of one arm, over all neighbour seats.
struct Noise {
    code: usize,
    queued: u32,
    duty: f64,
    burst: Nanos,
    started: Nanos,
    active: bool,
    seats: Vec<NoiseSeat>,
    /// The host of each seat.
    hosts: Vec<Host>,
}

#[derive(Clone, Copy, Debug, Default)]
struct NoiseSeat {
    next_id: u32,
    completed: u64,
    last: Nanos,
    longest_gap: Nanos,
    /// Time with work pending behind the running one.
    pending: Nanos,
    pending_since: Option<Nanos>,
}

impl Noise {
    fn new(neighbour: &PlannedNeighbour, code: usize, hosts: Vec<Host>) -> Self {
        Self {
            code,
            queued: neighbour.queued,
            duty: neighbour.duty.as_f64(),
            burst: neighbour.burst,
            started: Nanos::ZERO,
            active: false,
            seats: vec![NoiseSeat::default(); hosts.len()],
            hosts,
        }
    }

    fn start(&mut self, state: &mut State) {
        self.started = state.now;
        self.active = true;
        let seats = self.seats.iter_mut().zip(&mut self.hosts);
        for ((seat, host), neighbour) in seats.zip(&mut state.neighbours) {
            let code = &neighbour.noise[self.code];
            let depth = if code.enqueued { self.queued.min(2) } else { 1 };
            for _ in 0..depth {
                let at = host.act(state.now) + host.calls(code.posts(), Nanos::ZERO);
                neighbour.agent.send(seat.next_id, at);
                seat.next_id += 1;
            }
            seat.last = state.now;
        }
    }

    fn stop(&mut self, state: &mut State) {
        self.active = false;
        for neighbour in &mut state.neighbours {
            neighbour.agent.cancel_coming();
        }
    }

    fn all_ran(&self) -> bool {
        self.seats.iter().all(|s| s.completed > 0)
    }

    /// A request of seat `index` is done: the next ones follow.
    fn completed(&mut self, index: usize, started: Option<Nanos>, ended: Nanos, agent: &mut Agent, code: &Code) {
        let seen = self.hosts[index].seen(ended);
        let at = self.next_burst(seen);
        let (seat, host) = (&mut self.seats[index], &self.hosts[index]);
        seat.completed += 1;
        seat.longest_gap = seat.longest_gap.max(ended.saturating_sub(seat.last));
        seat.last = ended;
        if !self.active {
            return;
        }
        let mut wanted = 1;
        if code.enqueued {
            let took = ended.saturating_sub(started.unwrap_or(ended)).0.max(1);
            wanted = (QUEUED_WORK.0 / took).clamp(2, u64::from(self.queued.max(2))) as usize;
        }
        while agent.committed() < wanted {
            agent.send(seat.next_id, at + host.calls(code.posts(), Nanos::ZERO));
            seat.next_id += 1;
        }
    }

    /// `at`, or the start of the next burst where `at` falls in a pause.
    fn next_burst(&self, at: Nanos) -> Nanos {
        if self.duty >= 1.0 || self.burst.0 == 0 {
            return at;
        }
        let since = at.saturating_sub(self.started);
        let phase = Nanos(since.0 % self.burst.0);
        if (phase.0 as f64) < self.duty * self.burst.0 as f64 { at } else { at + (self.burst - phase) }
    }

    /// Keeps account of the time with work pending behind the running one.
    fn account(&mut self, index: usize, now: Nanos, agent: &Agent, code: &Code) {
        let seat = &mut self.seats[index];
        let pending = agent.depth() >= if code.enqueued { 2 } else { 1 };
        match (seat.pending_since, pending) {
            (None, true) => seat.pending_since = Some(now),
            (Some(since), false) => {
                seat.pending += now - since;
                seat.pending_since = None;
            }
            _ => {}
        }
    }
}

/// What an arm's windows are measured by, from the first window's start to the last one's end.
struct Meter {
    start: Nanos,
    cycles: f64,
    throttled: Nanos,
}

impl Meter {
    fn start(state: &State, gpu: usize, noise: Option<&mut Noise>) -> Self {
        for seat in noise.map(|n| &mut n.seats).into_iter().flatten() {
            let (next_id, pending_since) = (seat.next_id, seat.pending_since.map(|_| state.now));
            *seat = NoiseSeat { next_id, pending_since, last: state.now, ..NoiseSeat::default() };
        }
        Self { start: state.now, cycles: state.machine.clock_cycles(gpu), throttled: state.machine.throttled(gpu) }
    }

    fn stop(self, state: &State, gpu: usize, noise: Option<&Noise>, summary: &mut ArmSummary) {
        let length = (state.now - self.start).0.max(1) as f64;
        summary.sm_mhz = Some((state.machine.clock_cycles(gpu) - self.cycles) / length * 1e3);
        summary.power_w = Some(state.machine.power_w(gpu));
        // The time under the cap includes a step of the clock that is under way, which may turn out to be none.
        let throttled = state.machine.throttled(gpu).saturating_sub(self.throttled);
        summary.throttled = Some(throttled.0 as f64 / length);
        for (seat, neighbour) in noise.map(|n| &n.seats).into_iter().flatten().zip(&state.neighbours) {
            let pending = seat.pending + seat.pending_since.map_or(Nanos::ZERO, |since| state.now - since);
            summary.neighbours.push(NeighbourSummary {
                seat: neighbour.seat,
                completed: seat.completed,
                rate: seat.completed as f64 / length * 1e9,
                pending: pending.0 as f64 / length,
                longest_gap: seat.longest_gap.max(state.now.saturating_sub(seat.last)),
            });
        }
    }
}

/// A victim's side of a window.
struct Side {
    /// Index of the victim.
    victim: usize,
    code: usize,
    requests: Requests,
}

/// A victim's side of a window while it runs.
struct Open<'a> {
    victim: usize,
    code: usize,
    requests: &'a mut Requests,
    host: &'a mut Host,
    /// When the sender acts next, once it is known.
    acting: Option<Nanos>,
    last_call: Nanos,
}

impl State {
    /// Runs until `until`.
    fn run_to(
        &mut self,
        until: Nanos,
        mut noise: Option<&mut Noise>,
        open: &mut [Open<'_>],
    ) -> Result<(), BackendError> {
        while self.step(until, noise.as_deref_mut(), open)? {}
        Ok(())
    }

    /// Unrecorded requests of the probe, one after another: what it touches is where a steady load would have it.
    fn warm_up(
        &mut self,
        victim: usize,
        code: usize,
        host: &mut Host,
        mut noise: Option<&mut Noise>,
    ) -> Result<(), BackendError> {
        let (end, mut left) = (self.now + WARM_UP.1, WARM_UP.0);
        while left > 0 && self.now < end {
            left -= 1;
            let mut requests = Requests::open(vec![Nanos::ZERO], self.now, Nanos(1), 1);
            let mut open = [Open { victim, code, requests: &mut requests, host, acting: None, last_call: self.now }];
            let limit = self.now + HANG;
            while !open[0].requests.is_done() {
                if !self.step(limit, noise.as_deref_mut(), &mut open)? {
                    return Err(hang("the victim's warm-up request"));
                }
            }
        }
        Ok(())
    }

    /// The windows of some victims, all at once: to their end, and on until everything is done or the deadline has passed.
    /// Then until the device is rid of what was censored, so that the next window starts empty.
    fn windows(
        &mut self,
        sides: &mut [Side],
        deadline: Nanos,
        hosts: &mut [Host],
        mut noise: Option<&mut Noise>,
    ) -> Result<(), BackendError> {
        let end = sides.iter().map(|side| side.requests.end()).max().unwrap_or(self.now);
        // A side's host is its victim's; sides are in the order of their victims, each of whom has one at most.
        let mut open: Vec<Open<'_>> = Vec::with_capacity(sides.len());
        let mut hosts = hosts.iter_mut().enumerate();
        for Side { victim, code, requests } in sides {
            let Some((_, host)) = hosts.find(|(index, _)| index == victim) else { continue };
            let (victim, code) = (*victim, *code);
            open.push(Open { victim, code, requests, host, acting: None, last_call: self.now });
        }
        self.run_to(end, noise.as_deref_mut(), &mut open)?;
        let done = |open: &[Open<'_>]| open.iter().all(|open| open.requests.is_done());
        while !done(&open) && self.step(deadline, noise.as_deref_mut(), &mut open)? {}
        for open in &mut open {
            self.victims[open.victim].agent.cancel_coming();
            (open.acting, open.last_call) = (Some(Nanos::MAX), self.now);
        }
        let limit = self.now + HANG;
        while self.victims.iter().any(|victim| !victim.agent.is_empty()) {
            if !self.step(limit, noise.as_deref_mut(), &mut open)? {
                return Err(hang("a request of the victim"));
            }
        }
        Ok(())
    }

    fn drain_neighbours(&mut self, noise: &mut Noise) -> Result<(), BackendError> {
        let limit = self.now + HANG;
        while self.neighbours.iter().any(|n| !n.agent.is_empty()) {
            if !self.step(limit, Some(noise), &mut [])? {
                return Err(hang("the neighbour"));
            }
        }
        Ok(())
    }

    /// Lets the next event happen, if there is one by `until`; else moves the clock to `until` and says so.
    fn step(
        &mut self,
        until: Nanos,
        mut noise: Option<&mut Noise>,
        open: &mut [Open<'_>],
    ) -> Result<bool, BackendError> {
        let mut next = self.machine.next().unwrap_or(Nanos::MAX);
        let agents = self.victims.iter().map(|v| &v.agent).chain(self.neighbours.iter().map(|n| &n.agent));
        for agent in agents {
            next = next.min(agent.next().unwrap_or(Nanos::MAX));
        }
        for open in open.iter_mut() {
            next = next.min(open.sending(self.now).unwrap_or(Nanos::MAX));
        }
        next = next.max(self.now);
        let happened = next <= until;
        let to = if happened { next } else { until.max(self.now) };

        let mut done: Vec<Done> = std::mem::take(&mut self.done);
        self.machine.advance(to, &mut |d| done.push(d));
        self.now = to;
        for d in done.drain(..) {
            self.finished(d, noise.as_deref_mut(), open);
        }
        self.done = done;
        if happened {
            self.act(noise, open);
        }
        Ok(happened)
    }

    /// Agents and the senders do what is due now.
    fn act(&mut self, noise: Option<&mut Noise>, open: &mut [Open<'_>]) {
        let mut reports = std::mem::take(&mut self.reports);
        for open in open {
            let Victim { agent, probes, .. } = &mut self.victims[open.victim];
            let code = &probes[open.code];
            if open.acting.is_some_and(|at| at <= self.now) {
                let calls = code.calls.max(1);
                let busy = self.now + open.host.calls(calls, self.now - open.last_call);
                let first = busy - open.host.calls(calls - 1, Nanos::ZERO).min(busy - self.now);
                let id = open.requests.send(self.now, busy);
                open.last_call = busy;
                open.acting = None;
                agent.send(id as u32, first + open.host.launch_jitter());
            }
            if agent.next().is_some_and(|at| at <= self.now) {
                agent.act(&mut self.machine, code, self.now, &mut reports);
                for report in reports.drain(..) {
                    open.record(report);
                }
            }
        }
        if let Some(noise) = noise {
            for (index, neighbour) in self.neighbours.iter_mut().enumerate() {
                if neighbour.agent.next().is_none_or(|at| at > self.now) {
                    continue;
                }
                let code = &neighbour.noise[noise.code];
                neighbour.agent.act(&mut self.machine, code, self.now, &mut reports);
                for report in reports.drain(..) {
                    if let Report::Done { started, ended, .. } = report {
                        noise.completed(index, started, ended, &mut neighbour.agent, code);
                    }
                }
                noise.account(index, self.now, &neighbour.agent, code);
            }
        }
        self.reports = reports;
    }

    /// The machine finished something.
    fn finished(&mut self, done: Done, noise: Option<&mut Noise>, open: &mut [Open<'_>]) {
        let mut reports = std::mem::take(&mut self.reports);
        if let Some(victim) = self.victims.iter().position(|victim| victim.agent.owns(done.queue)) {
            if let Some(open) = open.iter_mut().find(|open| open.victim == victim) {
                let Victim { agent, probes, .. } = &mut self.victims[victim];
                agent.finished(&mut self.machine, &probes[open.code], done, &mut reports);
                for report in reports.drain(..) {
                    open.record(report);
                }
            }
        } else if let Some(noise) = noise
            && let Some(index) = self.neighbours.iter().position(|n| n.agent.owns(done.queue))
        {
            let neighbour = &mut self.neighbours[index];
            let code = &neighbour.noise[noise.code];
            neighbour.agent.finished(&mut self.machine, code, done, &mut reports);
            for report in reports.drain(..) {
                if let Report::Done { started, ended, .. } = report {
                    noise.completed(index, started, ended, &mut neighbour.agent, code);
                }
            }
            noise.account(index, done.ended, &neighbour.agent, code);
        }
        self.reports = reports;
    }
}

impl Open<'_> {
    /// When the sender acts next: drawn once per request.
    fn sending(&mut self, now: Nanos) -> Option<Nanos> {
        if self.acting.is_none() {
            self.acting = self.requests.due().map(|due| self.host.act(due.max(now)));
        }
        self.acting.filter(|at| *at != Nanos::MAX)
    }

    fn record(&mut self, report: Report) {
        match report {
            Report::Mark { id, mark, started, ended } => {
                let stamps =
                    Stamps { gpu_start: Some(started), gpu_end: Some(ended), completed: self.host.seen(ended) };
                self.requests.mark(id as usize, mark, stamps);
            }
            Report::Done { id, started, ended, outcome } => {
                let gpu = |at: Option<Nanos>| at.filter(|_| outcome == Outcome::Ok);
                let stamps =
                    Stamps { gpu_start: gpu(started), gpu_end: gpu(Some(ended)), completed: self.host.seen(ended) };
                self.requests.complete(id as usize, stamps, outcome);
            }
        }
    }
}

fn hang(who: &str) -> BackendError {
    BackendError::arrangement(format!("{who} did not leave the simulated device within {HANG}: the load never ends"))
}

impl Agent {
    fn report_out_of_memory(&mut self, seat: usize, origin: Nanos, events: &mut Vec<OomEvent>) {
        events.extend(self.out_of_memory.drain(..).map(|oom| OomEvent {
            seat,
            at: oom.at - origin,
            asked: oom.asked,
            free: oom.free,
            total: oom.total,
        }));
    }
}
