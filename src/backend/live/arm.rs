//! One arm in real time, as verdict.md's "Fair arms" asks: quiet proved, washed out, noise proved, windows, drained.

use std::sync::atomic::Ordering;

use crate::backend::{
    ArmPlan, ArmRecord, ArmSummary, BackendError, GpuHealth, Load, NeighbourSummary, OomEvent, Window,
};
use crate::host::clock::now;
use crate::host::probe::HostProbe;
use crate::scenario::SharingMode;
use crate::tenant::protocol::{NoiseOrder, OutOfMemory, QuietDone, Reply, WindowDone, WindowLoad, WindowOrder};
use crate::tenant::{Place, Progress, Requests, arrival_stream, arrivals, protocol::Order};
use crate::units::{Nanos, Share};

use super::replay::{fits, replay};
use super::seat::{Fault, Tenant, attend, collect};
use super::session::{Crew, LiveSession, ask};

/// An order begins this long after it was given: it is read by then.
const LEAD: Nanos = Nanos::millis(20);
/// How often progress is sampled while a window runs (verdict.md, "Fair arms", 4).
const SAMPLE: Nanos = Nanos::millis(100);
/// How long the first window waits for the noise to finish something, beyond one of its requests.
const PROOF: Nanos = Nanos::secs(1);
/// The SM clock is steady when it stayed within this part for so long. It is read at most twice a second.
const STEADY: (f64, Nanos) = (0.01, Nanos::secs(1));
const CLOCK_EVERY: Nanos = Nanos::millis(500);
/// How often a washout looks whether a reading is due: one that came late would keep every arm waiting for the next.
const LOOK: Nanos = Nanos::millis(20);
/// A clock that does not settle is waited for so long, from the neighbour's last completion.
const WASHOUT_CAP: Nanos = Nanos::secs(10);
/// A window opens with unrecorded requests for about this long at most.
const WARM_UP: Nanos = Nanos::millis(50);

/// Runs `arm` on the tenants of `crew`. On an error they are in an unknown state.
pub(super) fn run(session: &LiveSession<'_>, crew: &mut Crew, arm: &ArmPlan) -> Result<ArmRecord, BackendError> {
    let ran = Arm { session, crew, arm, origin: now() }.run();
    if !arm.sampled {
        session.live.watch().sample(true);
    }
    ran
}

struct Arm<'a, 'b> {
    session: &'a LiveSession<'b>,
    crew: &'a mut Crew,
    arm: &'a ArmPlan,
    /// Times of the record count from here.
    origin: Nanos,
}

/// A window that is about to run.
struct Ready {
    /// Its index in the arm.
    index: usize,
    /// Index of the tenant that runs it.
    tenant: usize,
    /// Index of its program there.
    program: usize,
    /// Rows of one request.
    rows: usize,
    /// Planned arrivals; `None` for a closed loop.
    planned: Option<Vec<Nanos>>,
}

/// What became of the windows.
#[derive(Default)]
struct Windows {
    host_pause: Nanos,
    /// Sum of clock × length, and of lengths, over the windows whose tenant could tell.
    clock: (f64, f64),
    /// Of each victim.
    oom: Vec<Vec<OutOfMemory>>,
}

impl Arm<'_, '_> {
    fn run(mut self) -> Result<ArmRecord, BackendError> {
        let watch = self.session.live.watch();
        // What was before this arm is no fault of its own: a tenant killed at work leaves its mark in the driver's log.
        drop(watch.trouble());
        self.quiet()?;
        let ours: Vec<u32> =
            self.crew.tenants.iter().map(Tenant::pid).chain(self.crew.helpers.iter().copied()).collect();
        watch.check_exclusive(&ours)?;
        for uuid in &self.crew.elsewhere {
            watch.check_exclusive_on(uuid, &ours)?;
        }
        let before = watch.health()?;
        self.wash_out()?;
        if !self.arm.sampled {
            watch.sample(false);
        }
        self.start_noise()?;

        // In every arm, from before its first window to after its last.
        let probe = self.crew.host_probe.and_then(HostProbe::start);
        watch.start_arm();
        let mut meter = Meter::new(self.crew.victims, self.crew.tenants.len());
        let mut windows = Windows { oom: vec![Vec::new(); self.crew.victims], ..Windows::default() };
        let mut record = ArmRecord { series: Vec::new(), samples: Vec::new(), summary: ArmSummary::default() };
        for together in self.arm.at_once() {
            self.windows(&together, &mut meter, &mut windows, &mut record)?;
        }
        let neighbours = meter.stop(&self.crew.tenants);
        let over = watch.end_arm();
        let host_probe = probe.and_then(HostProbe::stop);
        // After the last completion, or the last deadline.
        let quiet = self.quiet()?;
        self.no_trouble()?;
        let after = self.healthy_since(&before)?;

        let summary = &mut record.summary;
        summary.host_probe = host_probe;
        summary.health_before = Some(before).filter(|before| *before != after);
        summary.health = Some(after).filter(|after| !after.is_unknown());
        summary.activity = over.activity;
        summary.dcgm = watch.monitor();
        if self.session.planned().density.is_some() {
            summary.memory_used = watch.telemetry(&self.session.live.gpu().uuid).memory_used.ok();
        }
        if self.arm.noise.is_some() {
            summary.neighbours = neighbours;
        }
        let in_kernel = (windows.clock.1 > 0.0).then(|| windows.clock.0 / windows.clock.1);
        summary.sm_mhz = in_kernel.or(over.sm_mhz);
        summary.power_w = over.power_w;
        summary.throttled = over.throttled;
        summary.readings = over.readings;
        for reading in &mut summary.readings {
            reading.at = reading.at.saturating_sub(self.origin);
        }
        summary.too_few_cores = self.crew.too_few_cores;
        // A thread that sleeps reads no clock while it waits: it cannot tell, and says zero.
        summary.host_pause = Some(windows.host_pause).filter(|pause| *pause > Nanos::ZERO);
        let failed = windows.oom.iter().chain(quiet.iter().map(|done| &done.oom));
        for (tenant, oom) in self.crew.tenants.iter().zip(failed) {
            summary.oom.extend(oom.iter().map(|oom| self.oom_event(tenant.seat, oom)));
        }
        Ok(record)
    }

    fn lost(&self, (index, fault): (usize, Fault)) -> BackendError {
        self.session.lost(&self.crew.tenants[index].who, fault)
    }

    /// Trouble that the driver reports ends the arm: what was measured beside it proves nothing.
    fn no_trouble(&self) -> Result<(), BackendError> {
        let watch = self.session.live.watch();
        if let Some(why) = watch.lost() {
            return Err(BackendError::device(why));
        }
        let trouble = watch.trouble();
        if trouble.is_empty() {
            return Ok(());
        }
        Err(BackendError::arm(format!("the driver reports: {}", trouble.join("; "))))
    }

    /// The GPU's health now. Memory that gave wrong data, or a link that became another, ends the arm; what is less grave is in
    /// the readings, and the report tells it.
    fn healthy_since(&self, before: &GpuHealth) -> Result<GpuHealth, BackendError> {
        let now = self.session.live.watch().health()?;
        let grave: Vec<String> = now
            .worse_since(before)
            .into_iter()
            .filter(|change| change.is_grave())
            .map(|change| change.words())
            .collect();
        if grave.is_empty() {
            return Ok(now);
        }
        Err(BackendError::arm(format!(
            "the GPU's health became worse during it: {}; see `crosstalk doctor`",
            grave.join("; ")
        )))
    }

    /// Every neighbour stops, drains and says so: none of their work is on the device from here on.
    fn quiet(&mut self) -> Result<Vec<QuietDone>, BackendError> {
        let limit = self.session.live.settings.deadlines.quiet;
        let replies = self.ask_neighbours(|_| Order::Quiet {}, limit)?;
        let done: Vec<QuietDone> = replies
            .into_iter()
            .filter_map(|reply| if let Reply::Quiet(done) = reply { Some(done) } else { None })
            .collect();
        let last = done.iter().filter_map(|done| done.last).max();
        self.crew.quiet_since = last.unwrap_or(Nanos::ZERO).max(self.crew.quiet_since);
        Ok(done)
    }

    fn ask_neighbours(&mut self, order: impl Fn(usize) -> Order, limit: Nanos) -> Result<Vec<Reply>, BackendError> {
        let first = self.crew.victims;
        let neighbours = &mut self.crew.tenants[first..];
        let replies = ask(neighbours, order, limit).map_err(|(index, fault)| self.lost((index + first, fault)))?;
        Ok(replies.into_iter().flatten().collect())
    }

    /// From the neighbour's last completion: the arm's washout, then until the SM clock is steady.
    fn wash_out(&mut self) -> Result<(), BackendError> {
        let since = self.crew.quiet_since;
        let watch = self.session.live.watch();
        let floor = since + self.arm.washout;
        let cap = (since + WASHOUT_CAP).max(floor);
        let (mut steady, mut next) = (Steady::default(), now());
        let mut settled = |_: &[Tenant]| {
            if now() >= next {
                next = now() + CLOCK_EVERY;
                steady.see(now(), watch.sm_mhz_now());
            }
            // A clock that nobody can read is not waited for.
            now() >= floor && (steady.unknown || steady.holds())
        };
        let tenants = &mut self.crew.tenants;
        attend(tenants, floor, LOOK, &mut settled)
            .and_then(|()| attend(tenants, cap, LOOK, &mut settled))
            .map_err(|e| self.lost(e))
    }

    /// In every arm all neighbours run a loop: this arm's noise, or the host's alone. Noise runs before the first planned
    /// arrival: until each neighbour has finished something. One that takes longer shows by its rate.
    fn start_noise(&mut self) -> Result<(), BackendError> {
        let (plan, grid) = (self.session.plan, self.session.grid());
        let program = match self.arm.noise.map(|noise| grid.neighbours.iter().position(|n| *n == noise)) {
            None => None,
            Some(None) => return Err(BackendError::arrangement("the arm's noise is not loaded in this grid")),
            // There the neighbours hold the placebo alone.
            Some(Some(_)) if self.session.planned().sharing == SharingMode::Exclusive => Some(0),
            Some(program) => program,
        };
        let planned = self.arm.noise.map(|noise| &plan.neighbours[noise]);
        let start = now() + LEAD;
        let order = Order::Noise(NoiseOrder {
            program,
            start,
            queued: planned.map_or(1, |n| n.queued),
            duty: planned.map_or(Share::percent(100), |n| n.duty),
            burst: planned.map_or(Nanos::ZERO, |n| n.burst),
        });
        let epochs: Vec<u32> = self.crew.tenants.iter().map(|tenant| tenant.region.begin_epoch()).collect();
        self.ask_neighbours(|_| order.clone(), LEAD + self.session.live.settings.deadlines.noise)?;
        let Some(program) = program else { return Ok(()) };
        let once =
            self.crew.loaded[self.crew.victims..].iter().filter_map(|l| l.programs.get(program)).map(|p| p.once).max();
        let limit = now().max(start) + PROOF + once.unwrap_or_default();
        let victims = self.crew.victims;
        attend(&mut self.crew.tenants, limit, Nanos::millis(5), &mut |tenants| {
            let ran = |(tenant, epoch): (&Tenant, &u32)| {
                read(tenant.region.progress(), *epoch).is_some_and(|seen| seen.completed > 0)
            };
            tenants.iter().zip(&epochs).skip(victims).all(ran)
        })
        .map_err(|e| self.lost(e))
    }

    /// Windows that run at once: of the victim one, of equal tenants one each.
    fn windows(
        &mut self,
        together: &[usize],
        meter: &mut Meter,
        windows: &mut Windows,
        record: &mut ArmRecord,
    ) -> Result<(), BackendError> {
        let ready = together.iter().map(|index| self.ready(*index)).collect::<Result<Vec<Ready>, _>>()?;
        let start = now() + LEAD;
        let orders: Vec<WindowOrder> = ready.iter().map(|one| self.window_order(one, start)).collect();
        let done = self.order_windows(&ready, &orders, meter)?;
        for ((one, order), done) in ready.into_iter().zip(orders).zip(done) {
            let (plan, window) = (self.session.plan, &self.arm.windows[one.index]);
            let lost = |why: String| (one.tenant, Fault::Samples(why));
            if done.start < order.start {
                return Err(self.lost(lost("the window began before it was to".to_owned())));
            }
            let requests = match &one.planned {
                Some(planned) => {
                    Requests::open(planned.clone(), done.start, window.length, order.limit).held_back(window.delay)
                }
                None => Requests::closed(order.limit, done.start, window.length),
            };
            // A workload has one kind of mark (asserted in the tests): every mark belongs to its series.
            let requests = requests.with_marks(&vec![0; one.rows - 1]);
            let region = &self.crew.tenants[one.tenant].region;
            let requests = replay(region, one.rows, one.planned.as_ref().map(Vec::len), &done, requests)
                .map_err(|why| self.lost(lost(why)))?;

            let (series, arrangement) = (record.series.len() as u16, self.arm.key.arrangement);
            let names = plan.panel[window.probe].series.iter();
            record.series.extend(names.map(|name| plan.tenant_series(name, arrangement, window.seat)));
            let (origin, probe, seat) = (self.origin, window.probe, window.seat);
            let place = Place { origin, probe, seat, window: one.index as u16, series };
            let deadline = done.start + window.length + self.arm.drain;
            record.summary.windows.push(requests.finish(deadline, place, &mut record.samples));

            windows.host_pause = windows.host_pause.max(done.host_pause);
            if let Some(mhz) = done.sm_mhz {
                let length = window.length.as_secs_f64();
                windows.clock = (windows.clock.0 + mhz * length, windows.clock.1 + length);
            }
            windows.oom[one.tenant].extend(done.oom);
        }
        Ok(())
    }

    /// Whose window it is, and that there is room for what it plans.
    fn ready(&self, index: usize) -> Result<Ready, BackendError> {
        let (plan, grid, window) = (self.session.plan, self.session.grid(), &self.arm.windows[index]);
        let probe = &plan.panel[window.probe];
        let Some(program) = grid.probes.iter().position(|p| *p == window.probe) else {
            return Err(BackendError::arrangement(format!("{} is not loaded in this grid", probe.name)));
        };
        let victims = &self.crew.tenants[..self.crew.victims];
        let tenant = window.seat.and_then(|seat| victims.iter().position(|tenant| tenant.seat == seat)).unwrap_or(0);
        let rows = self.crew.loaded[tenant].programs.get(program).map_or(1, |p| p.rows.max(1)) as usize;
        let planned = self.planned(window);
        let region = &victims[tenant].region;
        if let Some(planned) = planned.as_ref().filter(|planned| !fits(region, rows, planned.len())) {
            return Err(BackendError::arrangement(format!(
                "{}: {} requests of {rows} rows in one window, and there is room for {} rows: lower its rate, or \
                 shorten the window",
                probe.name,
                planned.len(),
                region.rows()
            )));
        }
        Ok(Ready { index, tenant, program, rows, planned })
    }

    /// Planned arrivals, as the tenant makes them; `None` for a closed loop.
    fn planned(&self, window: &Window) -> Option<Vec<Nanos>> {
        let Load::Open { rate, poisson } = window.load else { return None };
        let (plan, planned) = (self.session.plan, self.session.planned());
        let probe = self.arrivals_of(window);
        let mut stream = arrival_stream(plan.seed, &planned.name, self.arm.key.block, &probe);
        Some(arrivals(&mut stream, rate, poisson, window.length))
    }

    /// What keys the stream of a window's arrivals.
    fn arrivals_of(&self, window: &Window) -> String {
        let plan = self.session.plan;
        plan.tenant_series(&plan.panel[window.probe].name, self.arm.key.arrangement, window.seat)
    }

    fn window_order(&self, ready: &Ready, start: Nanos) -> WindowOrder {
        let window = &self.arm.windows[ready.index];
        let (plan, program) = (self.session.plan, ready.program);
        let (limit, load) = match window.load {
            Load::Closed { depth } => (depth.max(1), WindowLoad::Closed),
            Load::Open { rate, poisson } => {
                let arrangement = self.session.planned().name.clone();
                let (seed, block, probe) = (plan.seed, self.arm.key.block, self.arrivals_of(window));
                let load = WindowLoad::Open { rate, poisson, seed, arrangement, block, probe };
                (plan.panel[window.probe].outstanding.max(1), load)
            }
        };
        let Window { length, delay, .. } = *window;
        WindowOrder { program, load, limit, start, length, drain: self.arm.drain, delay }
    }

    /// Lets victims run their windows, while the neighbours' progress is sampled.
    fn order_windows(
        &mut self,
        ready: &[Ready],
        orders: &[WindowOrder],
        meter: &mut Meter,
    ) -> Result<Vec<WindowDone>, BackendError> {
        let hang = self.session.live.settings.deadlines.window;
        let start = orders.iter().map(|order| order.start).min().unwrap_or_else(now);
        let tenants = &mut self.crew.tenants;
        let given = ready.iter().zip(orders).try_for_each(|(one, order)| {
            let limit = LEAD + WARM_UP + order.length + order.drain + hang;
            tenants[one.tenant].order(&Order::Window(order.clone()), limit).map_err(|fault| (one.tenant, fault))
        });
        let mut replies = given
            .and_then(|()| collect(tenants, start, SAMPLE, &mut |tenants| meter.sample(tenants)))
            .map_err(|e| self.lost(e))?;
        let done = ready.iter().map(|one| match replies.get_mut(one.tenant).and_then(Option::take) {
            Some(Reply::Window(done)) => Ok(done),
            // `collect` has matched the reply with the order.
            _ => Err(self.lost((one.tenant, Fault::Samples("no account of the window".to_owned())))),
        });
        done.collect()
    }

    fn oom_event(&self, seat: usize, oom: &OutOfMemory) -> OomEvent {
        let at = oom.at.saturating_sub(self.origin);
        OomEvent { seat, at, asked: oom.asked, free: oom.free, total: oom.total }
    }
}

/// Whether the SM clock has settled.
#[derive(Default)]
struct Steady {
    /// Readings since the last one that broke the rule.
    since: Option<Nanos>,
    latest: Nanos,
    range: (f64, f64),
    unknown: bool,
}

impl Steady {
    fn see(&mut self, at: Nanos, mhz: Option<f64>) {
        let Some(mhz) = mhz else {
            self.unknown = true;
            return;
        };
        let range = (self.range.0.min(mhz), self.range.1.max(mhz));
        if self.since.is_none() || range.1 > range.0 * (1.0 + STEADY.0) {
            (self.since, self.range) = (Some(at), (mhz, mhz));
        } else {
            self.range = range;
        }
        self.latest = at;
    }

    fn holds(&self) -> bool {
        self.since.is_some_and(|since| self.latest.saturating_sub(since) >= STEADY.1)
    }
}

/// The neighbours' progress over the windows: from the first one's start to the last one's end.
pub(super) struct Meter {
    started: Option<Nanos>,
    victims: usize,
    seats: Vec<SeatMeter>,
}

#[derive(Clone, Copy, Default)]
struct SeatMeter {
    epoch: u32,
    completed: u64,
    /// When `completed` was last seen to have changed.
    since: Nanos,
    /// Longest time over which it was seen not to change.
    stood: Nanos,
}

/// Progress of one epoch, read once.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    completed: u64,
    pending: Nanos,
    longest_gap: Nanos,
    last: Option<Nanos>,
}

/// `None`: the tenant has not begun that epoch, so it has done nothing since.
fn read(progress: &Progress, epoch: u32) -> Option<Seen> {
    if progress.epoch.load(Ordering::Acquire) != epoch {
        return None;
    }
    let last = progress.last.load(Ordering::Relaxed);
    Some(Seen {
        completed: progress.completed.load(Ordering::Relaxed),
        pending: Nanos(progress.pending.load(Ordering::Relaxed)),
        longest_gap: Nanos(progress.longest_gap.load(Ordering::Relaxed)),
        last: (last != 0).then_some(Nanos(last)),
    })
}

impl Meter {
    /// For so many victims, and the neighbours behind them.
    fn new(victims: usize, tenants: usize) -> Self {
        Self { started: None, victims, seats: vec![SeatMeter::default(); tenants] }
    }

    /// The first time: a new epoch begins.
    fn sample(&mut self, tenants: &[Tenant]) {
        let at = now();
        let begins = self.started.is_none();
        self.started.get_or_insert(at);
        for (seat, tenant) in self.seats.iter_mut().zip(tenants).skip(self.victims) {
            if begins {
                *seat = SeatMeter { epoch: tenant.region.begin_epoch(), since: at, ..SeatMeter::default() };
            } else {
                seat.see(at, read(tenant.region.progress(), seat.epoch).unwrap_or_default().completed);
            }
        }
    }

    fn stop(mut self, tenants: &[Tenant]) -> Vec<NeighbourSummary> {
        let at = now();
        let Some(started) = self.started else { return Vec::new() };
        let length = at.saturating_sub(started).0.max(1);
        let neighbours = self.seats.iter_mut().zip(tenants).skip(self.victims);
        let summary = neighbours.map(|(seat, tenant)| {
            let seen = read(tenant.region.progress(), seat.epoch).unwrap_or_default();
            seat.see(at, seen.completed);
            // What came before the epoch's first completion, and after its last.
            let open = at.saturating_sub(seen.last.unwrap_or(started).max(started));
            NeighbourSummary {
                seat: tenant.seat,
                completed: seen.completed,
                rate: seen.completed as f64 / length as f64 * 1e9,
                pending: seen.pending.0.min(length) as f64 / length as f64,
                longest_gap: seen.longest_gap.max(open).max(seat.stood).min(Nanos(length)),
            }
        });
        summary.collect()
    }
}

impl SeatMeter {
    fn see(&mut self, at: Nanos, completed: u64) {
        if completed == self.completed {
            self.stood = self.stood.max(at.saturating_sub(self.since));
        } else {
            (self.completed, self.since) = (completed, at);
        }
    }
}
