//! The self-check: every workload of the catalogue, alone on the GPU, by the tenants that runs have.
//!
//! Each workload gets a process of its own, so that what goes wrong in one says nothing of the next.

mod figures;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::seat::{Berth, Fault, Launch, Tenant, attend, end_all};
use super::session::{LOST, ask, environment};
use super::{Live, evidence, unsupported};
use crate::backend::{BackendError, Outcome};
use crate::gpu::find_model;
use crate::host::clock::now;
use crate::host::cores::Placement;
use crate::scenario::SharingMode;
use crate::tenant::protocol::{
    Ceilings, DeviceSeen, Examined, Load, Loaded, NoiseOrder, Order, PROTOCOL, ProgramOrder, Reply, WindowDone,
    WindowLoad, WindowOrder,
};
use crate::tenant::{Region, Row};
use crate::units::{Nanos, Share};
use crate::workload::{self, CATALOGUE, Role, Workload};

pub use figures::Figure;

/// Requests in flight: the device is never without one.
const DEPTH: u32 = 4;
/// Rows of the region: a loop at a launch's rate for a second. 16 MiB.
const ROWS: usize = 1 << 18;
/// An order begins this long after it was given.
const LEAD: Nanos = Nanos::millis(20);
/// What is still open this long after a window is given up.
const DRAIN: Nanos = Nanos::secs(5);
/// What exactly one launch costs is asked of this workload.
const LAUNCH: &str = "launch";
/// The parameter of chases: how long the walk is.
const LOADS: &str = "loads";

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SelfCheck {
    /// The device, as CUDA shows it to a tenant.
    pub device: Option<DeviceSeen>,
    /// What the device and the driver do at most.
    pub ceilings: Option<Ceilings>,
    /// Median of posting an empty kernel and recording it done, by a window with one request in flight.
    pub round_trip_ns: Option<Nanos>,
    /// Threads that served windows: 2, or 1 that sleeps where cores are too few.
    pub threads: u32,
    /// The workloads, in the order of the catalogue.
    pub workloads: Vec<Checked>,
    /// Whether all that were asked for were reached.
    pub complete: bool,
}

/// One workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// Its id.
    pub workload: &'static str,
    /// What became of it.
    pub verdict: CheckVerdict,
    /// Requests completed per second of a closed loop; as noise where it is noise.
    pub requests_per_s: Option<f64>,
    /// Mean SM clock meanwhile, MHz.
    pub sm_mhz: Option<f64>,
    /// What it achieves.
    pub figures: Vec<Figure>,
    /// Registers of a thread, by kernel.
    pub registers: BTreeMap<String, u32>,
}

/// What became of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum CheckVerdict {
    /// Every result was right, and every goal was reached.
    Ok,
    /// Every result was right; some figure misses its goal.
    Below,
    /// It cannot run on this part.
    NotRun {
        /// Why.
        why: String,
    },
    /// Something broke.
    Failed {
        /// What.
        why: String,
    },
    /// A result was not its reference.
    WrongResult {
        /// Which.
        what: String,
    },
}

impl SelfCheck {
    /// Whether any workload ended like this.
    pub fn any(&self, like: impl Fn(&CheckVerdict) -> bool) -> bool {
        self.workloads.iter().any(|checked| like(&checked.verdict))
    }
}

/// A verdict, or what ends everything.
enum Stop {
    Verdict(CheckVerdict),
    Device(BackendError),
}

impl From<CheckVerdict> for Stop {
    fn from(verdict: CheckVerdict) -> Self {
        Self::Verdict(verdict)
    }
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        Self::Device(error)
    }
}

impl Live {
    /// Checks these workloads, each for about `length`. `tell` hears of each before it begins.
    ///
    /// # Errors
    /// Where the device is lost, or somebody else may be at work on it.
    pub fn self_check(
        &self,
        wanted: &[&'static Workload],
        length: Nanos,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(&'static str),
    ) -> Result<SelfCheck, BackendError> {
        if let Some(why) = unsupported(SharingMode::Exclusive, self.gpu()) {
            return Err(BackendError::device(why));
        }
        let mut found = SelfCheck {
            device: None,
            ceilings: None,
            round_trip_ns: None,
            threads: 1,
            workloads: Vec::new(),
            complete: false,
        };
        tell("ceilings");
        match self.ceilings(length, &mut found) {
            Ok(()) => {}
            Err(Stop::Device(error)) => return Err(error),
            // The same is found again with the workload itself, and told there.
            Err(Stop::Verdict(_)) => {}
        }
        let wanted = CATALOGUE.iter().copied().filter(|w| wanted.is_empty() || wanted.iter().any(|x| x.id == w.id));
        for workload in wanted {
            if stop.load(Ordering::Relaxed) {
                return Ok(found);
            }
            tell(workload.id);
            let mut checked = Checked {
                workload: workload.id,
                verdict: CheckVerdict::Ok,
                requests_per_s: None,
                sm_mhz: None,
                figures: Vec::new(),
                registers: BTreeMap::new(),
            };
            match self.check(workload, length, &found, &mut checked) {
                Ok(()) if checked.figures.iter().any(|f| f.reached == Some(false)) => {
                    checked.verdict = CheckVerdict::Below;
                }
                Ok(()) => {}
                Err(Stop::Verdict(verdict)) => checked.verdict = verdict,
                Err(Stop::Device(error)) => return Err(error),
            }
            found.workloads.push(checked);
        }
        found.complete = true;
        Ok(found)
    }

    fn ceilings(&self, length: Nanos, found: &mut SelfCheck) -> Result<(), Stop> {
        let launch = workload::find(LAUNCH).ok_or_else(|| BackendError::device("there is no workload launch"))?;
        let mut seat = Seat::start(self, launch)?;
        (found.device, found.threads) = (seat.loaded.device.clone(), seat.loaded.threads);
        found.ceilings = seat.examine(true)?.ceilings;
        let window = seat.window(0, 1, length)?;
        found.round_trip_ns = median(window.requests.iter().map(|r| r.completed - r.sent).collect());
        Ok(())
    }

    fn check(
        &self,
        workload: &'static Workload,
        length: Nanos,
        found: &SelfCheck,
        checked: &mut Checked,
    ) -> Result<(), Stop> {
        let mut seat = Seat::start(self, workload)?;
        let examined = seat.examine(false)?;
        checked.registers = examined.registers;
        let mut window = seat.window(0, DEPTH, length)?;
        checked.sm_mhz = window.done.sm_mhz.or_else(|| self.watch().sm_mhz_now());
        // What is noise in runs is told of as noise: several launches of a request are one graph then.
        checked.requests_per_s = match workload.role {
            Role::Noise => seat.noise(length)?,
            Role::Probe | Role::Both => window.rate(),
        };
        // What comes with every launch of a chase, however long, is not part of a load.
        let ns_per_load = match (examined.programs.first(), examined.programs.get(1)) {
            (Some(long), Some(short)) if long.chain_loads > short.chain_loads => {
                let mut shorter = seat.window(1, DEPTH, length)?;
                let more = (long.chain_loads - short.chain_loads) as f64;
                Option::zip(window.on_device(), shorter.on_device())
                    .map(|(long, short)| (long.0 as f64 - short.0 as f64) / more)
            }
            _ => None,
        };
        let context = figures::Context {
            workload,
            sms: found.device.as_ref().map(|d| d.sms),
            sm_mhz: checked.sm_mhz,
            model: self.gpu().model.as_deref().and_then(find_model),
            ceilings: found.ceilings,
            round_trip: found.round_trip_ns,
        };
        if let (Some(amounts), Some(rate)) = (examined.programs.first(), checked.requests_per_s) {
            checked.figures = figures::figures(&context, amounts, rate, ns_per_load);
        }
        Ok(())
    }
}

/// One tenant that is up, with one workload.
struct Seat<'a> {
    live: &'a Live,
    /// One.
    tenants: Vec<Tenant>,
    loaded: Loaded,
}

/// A request of a window that came back.
struct Done {
    sent: Nanos,
    completed: Nanos,
    device: Option<Nanos>,
}

struct Windowed {
    done: WindowDone,
    requests: Vec<Done>,
}

impl<'a> Seat<'a> {
    fn start(live: &'a Live, workload: &Workload) -> Result<Self, Stop> {
        live.watch().check_exclusive(&[])?;
        let placement = live.cores.place(0);
        let who = format!("tenant of {}", workload.id);
        let settings = &live.settings;
        let seat = Berth { seat: 0, who: who.clone(), cores: placement.victim.clone(), rows: ROWS };
        let environment = environment(settings, &live.gpu().uuid);
        let launch = Launch { exe: &settings.exe, environment, seats: vec![seat] };
        let tenants = Tenant::start(launch).map_err(|fault| fell(live, &who, fault))?;
        let none = Loaded { device: None, programs: Vec::new(), tick: None, threads: 1 };
        let mut seat = Self { live, tenants, loaded: none };
        seat.ask(
            Order::Hello { protocol: PROTOCOL, crosstalk: env!("CARGO_PKG_VERSION").to_owned() },
            settings.deadlines.hello,
        )?;
        let load = load(live, workload, &placement);
        if let Reply::Loaded(loaded) = seat.ask(Order::Load(load.clone()), settings.deadlines.load)? {
            seat.loaded = loaded;
        }
        evidence::check(&seat.tenants[0], &load, &seat.loaded).map_err(|fault| fell(live, &who, fault))?;
        live.watch().check_exclusive(&[seat.tenants[0].pid()])?;
        Ok(seat)
    }

    fn ask(&mut self, order: Order, limit: Nanos) -> Result<Reply, Stop> {
        let replies = ask(&mut self.tenants, |_| order.clone(), limit).map_err(|(_, fault)| self.fell(fault))?;
        let reply = replies.into_iter().flatten().next();
        reply.ok_or_else(|| self.fell(Fault::Samples("it was asked and has not answered".to_owned())))
    }

    fn fell(&self, fault: Fault) -> Stop {
        fell(self.live, &self.tenants[0].who, fault)
    }

    fn examine(&mut self, ceilings: bool) -> Result<Examined, Stop> {
        match self.ask(Order::Examine { ceilings }, self.live.settings.deadlines.load)? {
            Reply::Examined(examined) => Ok(examined),
            // The seat has matched the reply with the order.
            other => Err(self.fell(Fault::Samples(format!("it was examined and says {other:?}")))),
        }
    }

    /// A closed loop of `limit` requests; all that came back.
    fn window(&mut self, program: usize, limit: u32, length: Nanos) -> Result<Windowed, Stop> {
        let start = now() + LEAD;
        let order =
            WindowOrder { program, load: WindowLoad::Closed, limit, start, length, drain: DRAIN, delay: Nanos::ZERO };
        let patience = LEAD + length + DRAIN + self.live.settings.deadlines.window;
        let Reply::Window(done) = self.ask(Order::Window(order), patience)? else {
            return Err(self.fell(Fault::Samples("no account of the window".to_owned())));
        };
        let rows = self.loaded.programs.get(program).map_or(1, |p| p.rows.max(1)) as usize;
        let window = collect(&self.tenants[0].region, rows, done)?;
        if window.requests.is_empty() {
            return Err(CheckVerdict::Failed { why: "no request came back in time".to_owned() }.into());
        }
        Ok(window)
    }

    /// Noise for `length`: requests per second, where two were done.
    fn noise(&mut self, length: Nanos) -> Result<Option<f64>, Stop> {
        let region = &self.tenants[0].region;
        region.begin_epoch();
        let order = NoiseOrder {
            program: Some(0),
            start: now() + LEAD,
            queued: DEPTH,
            duty: Share::percent(100),
            burst: Nanos::ZERO,
        };
        let deadlines = self.live.settings.deadlines;
        self.ask(Order::Noise(order), LEAD + deadlines.noise)?;
        let mut first = None;
        let until = now() + length;
        attend(&mut self.tenants, until, Nanos::millis(5), &mut |tenants| {
            first = first.or_else(|| progress(&tenants[0].region));
            false
        })
        .map_err(|(_, fault)| self.fell(fault))?;
        let last = progress(&self.tenants[0].region);
        let Reply::Quiet(quiet) = self.ask(Order::Quiet {}, deadlines.quiet)? else {
            return Err(self.fell(Fault::Samples("it was to be quiet, and does not say that it is".to_owned())));
        };
        if quiet.failed > 0 {
            let what = format!("{} requests as noise had a wrong result or could not be posted", quiet.failed);
            return Err(CheckVerdict::WrongResult { what }.into());
        }
        let ((from, begin), (to, end)) = match (first, last) {
            (Some(first), Some(last)) if last.0 > first.0 && last.1 > first.1 => (first, last),
            _ => return Ok(None),
        };
        Ok(Some((to - from) as f64 / (end - begin).as_secs_f64()))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        end_all(&mut self.tenants, self.live.settings.deadlines.end, &|_| {});
    }
}

/// Requests that noise has completed, and when the last one was; `None` before the first, or where one came meanwhile.
fn progress(region: &Region) -> Option<(u64, Nanos)> {
    let progress = region.progress();
    let completed = progress.completed.load(Ordering::Acquire);
    let last = progress.last.load(Ordering::Acquire);
    let again = progress.completed.load(Ordering::Acquire);
    // A reading that changes under our eyes is taken again a few milliseconds later, or is off by one request.
    (completed > 0 && again <= completed + 1).then_some((again, Nanos(last)))
}

fn collect(region: &Region, rows: usize, done: WindowDone) -> Result<Windowed, Stop> {
    let mut requests = Vec::new();
    for id in 0..done.sent as usize {
        let Some(row) = region.row(id * rows) else { break };
        let (Some(sent), Some(completed)) = (Row::time(&row.sent), Row::time(&row.completed)) else { continue };
        match row.outcome() {
            Outcome::Ok | Outcome::Oom => {}
            Outcome::WrongResult => {
                let what = format!("request {id} of {} has another checksum than its reference", done.sent);
                return Err(CheckVerdict::WrongResult { what }.into());
            }
            Outcome::Error(code) => {
                return Err(
                    CheckVerdict::Failed { why: format!("request {id} failed with the driver's code {code}") }.into()
                );
            }
            Outcome::Timeout => continue,
        }
        let device = Option::zip(Row::time(&row.gpu_start), Row::time(&row.gpu_end));
        requests.push(Done {
            sent,
            completed,
            device: device.and_then(|(start, end)| end.0.checked_sub(start.0)).map(Nanos),
        });
    }
    Ok(Windowed { done, requests })
}

impl Windowed {
    /// Requests per second, from the first one's end to the last one's.
    fn rate(&self) -> Option<f64> {
        let first = self.requests.iter().map(|r| r.completed).min()?;
        let last = self.requests.iter().map(|r| r.completed).max()?;
        (last > first).then(|| (self.requests.len() - 1) as f64 / (last - first).as_secs_f64())
    }

    /// Median time on the device.
    fn on_device(&mut self) -> Option<Nanos> {
        median(self.requests.iter().filter_map(|r| r.device).collect())
    }
}

fn median(mut times: Vec<Nanos>) -> Option<Nanos> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

fn load(live: &Live, workload: &Workload, placement: &Placement) -> Load {
    let program = |name: String, params: BTreeMap<String, String>| ProgramOrder {
        name,
        workload: workload.id.to_owned(),
        params,
    };
    let mut programs = vec![program(workload.id.to_owned(), BTreeMap::new())];
    let loads = workload.params.iter().find(|field| field.key == LOADS).and_then(|field| field.default);
    if let Some(loads) = loads.and_then(|text| text.parse::<u64>().ok()) {
        let half = BTreeMap::from([(LOADS.to_owned(), (loads / 2).to_string())]);
        programs.push(program(format!("{}, half as long", workload.id), half));
    }
    Load {
        device: Some(live.gpu().uuid.clone()),
        model: live.gpu().model.clone(),
        together: None,
        programs,
        arena: workload.role == Role::Noise,
        budget: None,
        outstanding: DEPTH,
        cores: placement.victim.clone(),
        spin: !placement.too_few,
        keep_awake: None,
        seed: 1,
    }
}

/// What a fault says of the workload, or that nothing more can be measured.
fn fell(live: &Live, who: &str, fault: Fault) -> Stop {
    if let Some(why) = live.watch().lost() {
        return Stop::Device(BackendError::device(format!("{why}; {who}: {fault}")));
    }
    let verdict = match fault {
        Fault::Refused(failed) if failed.wrong_result => CheckVerdict::WrongResult { what: failed.what },
        Fault::Refused(failed) if failed.code.is_some_and(|code| LOST.contains(&code)) => {
            return Stop::Device(BackendError::device(format!("{who}: {}", failed.what)));
        }
        Fault::Refused(failed) if failed.usable && failed.code.is_none() => CheckVerdict::NotRun { why: failed.what },
        fault => CheckVerdict::Failed { why: fault.to_string() },
    };
    verdict.into()
}
