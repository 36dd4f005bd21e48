//! One arm in virtual time: washout, noise, windows, drain.

use crate::backend::{
    ArmPlan, ArmRecord, ArmSummary, BackendError, Load, NeighbourSummary, OomEvent, Outcome, Purpose, Window,
};
use crate::machine::Done;
use crate::plan::{Plan, PlannedNeighbour};
use crate::random::{Key, Stream};
use crate::tenant::{Place, Requests, Stamps, arrival_stream, arrivals};
use crate::units::{Nanos, Rate};

use super::agent::{Agent, Report};
use super::code::Code;
use super::host::Host;
use super::{State, keeps_awake};

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
        Host::new(&state.model, plan.seed, &key, origin, keeps_awake(planned.sharing))
    };
    let mut host = host_of(state, grid.victim, "victim");
    let mut noise = arm.noise.map(|n| {
        let code = grid.neighbours.iter().position(|g| *g == n).unwrap_or(0);
        let hosts = state.neighbours.iter().map(|neighbour| host_of(state, neighbour.seat, "neighbour")).collect();
        Noise::new(&plan.neighbours[n], code, hosts)
    });

    state.run_to(origin + arm.washout, &mut host, noise.as_mut(), None)?;
    let mut meter = None;
    if let Some(noise) = &mut noise {
        let start = state.now;
        noise.start(state);
        // Noise runs before the first planned arrival: until each seat has finished something. A seat that takes longer
        // shows by its rate.
        while !noise.all_ran() && state.step(start + LEAD, &mut host, Some(noise), None)? {}
    }

    let mut series = Vec::new();
    let mut samples = Vec::new();
    let mut windows = Vec::with_capacity(arm.windows.len());
    for (index, window) in arm.windows.iter().enumerate() {
        let probe = &plan.panel[window.probe];
        let first = series.len() as u16;
        series.extend(probe.series.iter().cloned());
        let code = grid.probes.iter().position(|p| *p == window.probe).unwrap_or(0);
        let mut stream = arrival_stream(plan.seed, &planned.name, arm.key.block, &probe.name);
        let loaded = matches!(window.load, Load::Closed { .. } | Load::Open { rate: Rate(1..), .. });
        if loaded {
            state.warm_up(code, &mut host, noise.as_mut())?;
        }
        let start = state.now;
        if meter.is_none() {
            meter = Some(Meter::start(state, gpu, noise.as_mut()));
        }
        let requests = requests(window, probe.outstanding, start, &mut stream).with_marks(&state.probes[code].marks());
        let deadline = start + window.length + arm.drain;
        let requests = state.window(code, requests, deadline, &mut host, noise.as_mut())?;
        let place = Place { origin, probe: window.probe, seat: window.seat, window: index as u16, series: first };
        windows.push(requests.finish(deadline, place, &mut samples));
    }

    let mut summary = ArmSummary { windows, host_pause: Some(host.longest_pause()), ..ArmSummary::default() };
    if let Some(meter) = meter {
        meter.stop(state, gpu, noise.as_ref(), &mut summary);
    }
    if let Some(noise) = &mut noise {
        noise.stop(state);
        state.drain_neighbours(&mut host, noise)?;
    }
    let State { machine, victim, neighbours, .. } = state;
    let agents = neighbours.iter_mut().map(|n| (n.seat, &mut n.agent));
    for (seat, agent) in std::iter::once((grid.victim, victim)).chain(agents) {
        agent.report_out_of_memory(seat, origin, &mut summary.oom);
        agent.release(machine);
    }
    Ok(ArmRecord { series, samples, summary })
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

/// The victim's side of a window while it runs.
struct Open<'a> {
    code: usize,
    requests: &'a mut Requests,
    /// When the sender acts next, once it is known.
    acting: Option<Nanos>,
    last_call: Nanos,
}

impl State {
    /// Runs until `until`.
    fn run_to(
        &mut self,
        until: Nanos,
        host: &mut Host,
        mut noise: Option<&mut Noise>,
        mut open: Option<&mut Open<'_>>,
    ) -> Result<(), BackendError> {
        while self.step(until, host, noise.as_deref_mut(), open.as_deref_mut())? {}
        Ok(())
    }

    /// Unrecorded requests of the probe, one after another: what it touches is where a steady load would have it.
    fn warm_up(&mut self, code: usize, host: &mut Host, mut noise: Option<&mut Noise>) -> Result<(), BackendError> {
        let (end, mut left) = (self.now + WARM_UP.1, WARM_UP.0);
        while left > 0 && self.now < end {
            left -= 1;
            self.warm_up_once(code, host, noise.as_deref_mut())?;
        }
        Ok(())
    }

    fn warm_up_once(
        &mut self,
        code: usize,
        host: &mut Host,
        mut noise: Option<&mut Noise>,
    ) -> Result<(), BackendError> {
        let mut requests = Requests::open(vec![Nanos::ZERO], self.now, Nanos(1), 1);
        let mut open = Open { code, requests: &mut requests, acting: None, last_call: self.now };
        let limit = self.now + HANG;
        while !open.requests.is_done() {
            if !self.step(limit, host, noise.as_deref_mut(), Some(&mut open))? {
                return Err(hang("the victim's warm-up request"));
            }
        }
        Ok(())
    }

    /// One window of the victim: to its end, and on until everything is done or the deadline has passed. Then until the
    /// device is rid of what was censored, so that the next window starts empty.
    fn window(
        &mut self,
        code: usize,
        mut requests: Requests,
        deadline: Nanos,
        host: &mut Host,
        mut noise: Option<&mut Noise>,
    ) -> Result<Requests, BackendError> {
        let end = requests.end();
        let mut open = Open { code, requests: &mut requests, acting: None, last_call: self.now };
        self.run_to(end, host, noise.as_deref_mut(), Some(&mut open))?;
        while !open.requests.is_done() && self.step(deadline, host, noise.as_deref_mut(), Some(&mut open))? {}
        self.victim.cancel_coming();
        let limit = self.now + HANG;
        let mut open = Open { code, requests: &mut requests, acting: Some(Nanos::MAX), last_call: self.now };
        while !self.victim.is_empty() {
            if !self.step(limit, host, noise.as_deref_mut(), Some(&mut open))? {
                return Err(hang("a request of the victim"));
            }
        }
        Ok(requests)
    }

    fn drain_neighbours(&mut self, host: &mut Host, noise: &mut Noise) -> Result<(), BackendError> {
        let limit = self.now + HANG;
        while self.neighbours.iter().any(|n| !n.agent.is_empty()) {
            if !self.step(limit, host, Some(noise), None)? {
                return Err(hang("the neighbour"));
            }
        }
        Ok(())
    }

    /// Lets the next event happen, if there is one by `until`; else moves the clock to `until` and says so.
    fn step(
        &mut self,
        until: Nanos,
        host: &mut Host,
        mut noise: Option<&mut Noise>,
        mut open: Option<&mut Open<'_>>,
    ) -> Result<bool, BackendError> {
        let mut next = self.machine.next().unwrap_or(Nanos::MAX);
        next = next.min(self.victim.next().unwrap_or(Nanos::MAX));
        for neighbour in &self.neighbours {
            next = next.min(neighbour.agent.next().unwrap_or(Nanos::MAX));
        }
        let send = open.as_deref_mut().and_then(|open| open.sending(self.now, host));
        next = next.min(send.unwrap_or(Nanos::MAX)).max(self.now);
        let happened = next <= until;
        let to = if happened { next } else { until.max(self.now) };

        let mut done: Vec<Done> = std::mem::take(&mut self.done);
        self.machine.advance(to, &mut |d| done.push(d));
        self.now = to;
        for d in done.drain(..) {
            self.finished(d, host, noise.as_deref_mut(), open.as_deref_mut());
        }
        self.done = done;
        if happened {
            self.act(host, noise, open, send);
        }
        Ok(happened)
    }

    /// Agents and the sender do what is due now.
    fn act(&mut self, host: &mut Host, noise: Option<&mut Noise>, open: Option<&mut Open<'_>>, send: Option<Nanos>) {
        let mut reports = std::mem::take(&mut self.reports);
        if let Some(open) = open {
            if send.is_some_and(|at| at <= self.now) {
                let calls = self.probes[open.code].calls;
                let busy = self.now + host.calls(calls.max(1), self.now - open.last_call);
                let first = busy - host.calls(calls.max(1) - 1, Nanos::ZERO).min(busy - self.now);
                let id = open.requests.send(self.now, busy);
                open.last_call = busy;
                open.acting = None;
                self.victim.send(id as u32, first + host.launch_jitter());
            }
            if self.victim.next().is_some_and(|at| at <= self.now) {
                self.victim.act(&mut self.machine, &self.probes[open.code], self.now, &mut reports);
                for report in reports.drain(..) {
                    open.record(report, host);
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
    fn finished(&mut self, done: Done, host: &mut Host, noise: Option<&mut Noise>, open: Option<&mut Open<'_>>) {
        let mut reports = std::mem::take(&mut self.reports);
        if self.victim.owns(done.queue) {
            if let Some(open) = open {
                self.victim.finished(&mut self.machine, &self.probes[open.code], done, &mut reports);
                for report in reports.drain(..) {
                    open.record(report, host);
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
    fn sending(&mut self, now: Nanos, host: &mut Host) -> Option<Nanos> {
        if self.acting.is_none() {
            self.acting = self.requests.due().map(|due| host.act(due.max(now)));
        }
        self.acting.filter(|at| *at != Nanos::MAX)
    }

    fn record(&mut self, report: Report, host: &mut Host) {
        match report {
            Report::Mark { id, mark, started, ended } => {
                let stamps = Stamps { gpu_start: Some(started), gpu_end: Some(ended), completed: host.seen(ended) };
                self.requests.mark(id as usize, mark, stamps);
            }
            Report::Done { id, started, ended, outcome } => {
                let gpu = |at: Option<Nanos>| at.filter(|_| outcome == Outcome::Ok);
                let stamps = Stamps { gpu_start: gpu(started), gpu_end: gpu(Some(ended)), completed: host.seen(ended) };
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
