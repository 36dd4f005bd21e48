//! One arrangement with its tenants up: started, proved in their seats, restarted, taken down.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::backend::{ArmPlan, ArmRecord, BackendError, Company, Evidence, Reach, SeatEvidence, Session};
use crate::hazard::Came;
use crate::host::clock::now;
use crate::host::cores::{Pinned, Placement};
use crate::host::thread;
use crate::observation::{Observation, Observed};
use crate::plan::{Grid, Plan, PlannedArrangement};
use crate::random::{Key, Stream};
use crate::scenario::{Arrivals, SharingMode};
use crate::sharing;
use crate::sharing::live::{Arranged, Place, Site};
use crate::tenant::protocol::{Load, Loaded, Order, PROTOCOL, ProgramOrder, Reply, Together};
use crate::units::Nanos;
use crate::workload::{self, PLACEBO};

use super::last_words::STDERR;
use super::seat::{Berth, Fault, Launch, Tenant, collect, end_all, kill_all};
use super::{Live, Settings, arm, evidence};

/// The victim posts an empty kernel after this long without a request (verdict.md, "Fair arms", 6).
const KEEP_AWAKE: Nanos = Nanos::micros(500);
/// Rows of the victim's region at least: a closed loop at a launch's rate for a calibration window, and five times a
/// window at a tenth of that rate. 16 MiB.
const ROWS: usize = 1 << 18;
/// Rows at most: 1 GiB.
const MOST_ROWS: usize = 1 << 24;
/// Driver codes after which nothing more can be measured: no device, uncorrectable ECC error, system not ready, driver
/// and library of different versions.
pub(super) const LOST: [u32; 4] = [100, 214, 802, 803];

/// One arrangement, live.
pub(super) struct LiveSession<'a> {
    pub(super) live: &'a Live,
    pub(super) plan: &'a Plan,
    arrangement: usize,
    grid: usize,
    /// The machine as the mode needs it, from the first restart on.
    pub(super) arranged: Option<Box<dyn Arranged>>,
    /// Who is to be there beside the victim.
    company: Company,
    pub(super) crew: Option<Crew>,
    pub(super) evidence: Evidence,
}

/// Tenants that are up. Dropped, they are killed.
pub(super) struct Crew {
    /// The victim, then the neighbours in order of the grid; in a density all tenants, each a victim.
    pub(super) tenants: Vec<Tenant>,
    /// How many of them, the first ones, are victims.
    pub(super) victims: usize,
    /// What each holds.
    pub(super) loaded: Vec<Loaded>,
    /// Processes of ours on the GPU beside them.
    pub(super) helpers: Vec<u32>,
    /// GPUs beside the one under test that they are on.
    pub(super) elsewhere: Vec<String>,
    /// Since when the neighbours are quiet: their last completion, or the end of the restart.
    pub(super) quiet_since: Nanos,
    /// Not everybody has cores of its own.
    pub(super) too_few_cores: bool,
    /// The core left to a thread that measures the host alone.
    pub(super) host_probe: Option<u32>,
    /// The controller on its own core.
    _pinned: Option<Pinned>,
}

impl<'a> LiveSession<'a> {
    pub(super) fn new(live: &'a Live, plan: &'a Plan, arrangement: usize, grid: usize) -> Self {
        let company = Company::Beside;
        Self { live, plan, arrangement, grid, arranged: None, company, crew: None, evidence: Evidence::default() }
    }

    pub(super) fn planned(&self) -> &'a PlannedArrangement {
        &self.plan.arrangements[self.arrangement]
    }

    pub(super) fn grid(&self) -> &'a Grid {
        &self.planned().grids[self.grid]
    }

    /// How many of [`Self::seats`], the first ones, have their latency recorded.
    fn victims(&self) -> usize {
        self.planned().victims(self.grid()).len()
    }

    /// The victim's seat, then those of whoever makes noise: the neighbours', or the victim's own once more. In a density all.
    fn seats(&self) -> Vec<usize> {
        let victim = self.grid().victim;
        match self.company {
            Company::Beside => {
                let victims = self.planned().victims(self.grid());
                victims.chain(self.grid().neighbour_seats.iter().copied()).collect()
            }
            Company::Alone => vec![victim],
            Company::Within => vec![victim; 2],
        }
    }

    pub(super) fn site(&self) -> Site<'a> {
        let settings = &self.live.settings;
        Site {
            inventory: &settings.inventory,
            gpu: settings.gpu,
            planned: self.planned(),
            watch: self.live.watch(),
            allow_reconfigure: settings.allow_reconfigure,
        }
    }

    /// Tenants that were started before it failed are left in `tenants`.
    fn bring_up(
        &self,
        arranged: &dyn Arranged,
        generation: u32,
        tenants: &mut Vec<Tenant>,
    ) -> Result<(Crew, Evidence), BackendError> {
        let settings = &self.live.settings;
        // Loading calls every program once: that is noise to whoever else is on the GPU.
        let (helpers, elsewhere) = (arranged.helpers(), arranged.elsewhere());
        self.live.watch().check_exclusive(&helpers)?;
        for uuid in &elsewhere {
            self.live.watch().check_exclusive_on(uuid, &helpers)?;
        }
        let places: Vec<Place> = self.seats().into_iter().map(|seat| arranged.place(seat)).collect();
        let placement = match self.planned().density {
            None => self.live.cores.place(self.grid().neighbour_seats.len()),
            Some(_) => self.live.cores.place_equals(self.victims()),
        };
        let failed = |tenants: &[Tenant], (index, fault): (usize, Fault)| self.not_up(&tenants[index].who, fault);
        self.start(&places, &placement, tenants)?;
        // From here on, so that no tenant starts on the controller's core.
        let pinned = placement.controller.and_then(|core| Pinned::on(&[core]).ok());

        let hello = Order::Hello { protocol: PROTOCOL, crosstalk: env!("CARGO_PKG_VERSION").to_owned() };
        ask(tenants, |_| hello.clone(), settings.deadlines.hello).map_err(|e| failed(tenants, e))?;
        let loads: Vec<Load> =
            (0..tenants.len()).map(|index| self.load(index, generation, &places, &placement)).collect();
        let replies = ask(tenants, |index| Order::Load(loads[index].clone()), settings.deadlines.load)
            .map_err(|e| failed(tenants, e))?;
        let loaded: Vec<Loaded> = replies
            .into_iter()
            .filter_map(|reply| if let Some(Reply::Loaded(l)) = reply { Some(l) } else { None })
            .collect();
        let mut seats = Vec::with_capacity(tenants.len());
        for ((tenant, load), loaded) in tenants.iter().zip(&loads).zip(&loaded) {
            seats.push(evidence::check(tenant, load, loaded).map_err(|fault| self.not_up(&tenant.who, fault))?);
        }
        seats.sort_by_key(|seat| seat.seat);
        let mut proofs = self.company_words(&seats)?;
        // A seat is proved once, however many tenants its process holds.
        let mut each = seats.clone();
        each.dedup_by_key(|seat| seat.seat);
        proofs.extend(arranged.prove(&self.site(), &each)?);
        proofs.extend(self.live.taint());
        if !placement.too_few {
            // Whoever wakes now and then does so off the cores of tenants, where it would be measured.
            let spare = self.live.cores.spare(&placement);
            thread::keep(std::process::id(), |name| name == STDERR, &spare);
            self.live.watch().keep_on(&spare);
        }
        let (too_few_cores, host_probe) = (placement.too_few, placement.host_probe);
        let tenants = std::mem::take(tenants);
        let quiet_since = now();
        let crew = Crew {
            tenants,
            victims: self.victims(),
            loaded,
            helpers,
            elsewhere,
            quiet_since,
            too_few_cores,
            host_probe,
            _pinned: pinned,
        };
        Ok((crew, Evidence { seats, proofs }))
    }

    /// What there is to say of the company, where it is not that of blocks.
    fn company_words(&self, seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError> {
        let (Some(first), Some(last)) = (seats.first(), seats.last()) else { return Ok(Vec::new()) };
        let id = &self.planned().seats[first.seat].id;
        match self.company {
            Company::Beside => Ok(Vec::new()),
            Company::Alone => Ok(vec![format!("process {} of seat {id} is there alone", first.pid)]),
            Company::Within if first.pid != last.pid => Err(BackendError::arrangement(format!(
                "the noise within seat {id} is of process {}, and the probes are of {}: they were to be of one",
                last.pid, first.pid
            ))),
            Company::Within => Ok(vec![format!(
                "the noise is within seat {id}: streams of its process {}, in its one context",
                first.pid
            )]),
        }
    }

    /// Starts a process for each host. Tenants that were started before one fails are left in `tenants`.
    fn start(&self, places: &[Place], placement: &Placement, tenants: &mut Vec<Tenant>) -> Result<(), BackendError> {
        let seats = self.seats();
        for (index, place) in places.iter().enumerate() {
            let mates = mates(index, places);
            if mates.first() != Some(&index) {
                continue;
            }
            let settings = &self.live.settings;
            let mut environment = environment(settings, place.device.as_deref().unwrap_or_default());
            environment.extend(place.environment.iter().cloned());
            let berths: Vec<Berth> = mates.into_iter().map(|mate| self.berth(mate, placement)).collect();
            let who: Vec<String> = berths.iter().map(|berth| berth.who.clone()).collect();
            let launch = Launch { exe: &settings.exe, environment, seats: berths };
            tenants.extend(Tenant::start(launch).map_err(|fault| self.not_up(&who.join(" and "), fault))?);
        }
        tenants.sort_by_key(|tenant| seats.iter().position(|seat| *seat == tenant.seat));
        Ok(())
    }

    /// `index` is that of [`Self::seats`].
    fn berth(&self, index: usize, placement: &Placement) -> Berth {
        let victim = index < self.victims();
        let role = match (victim, self.company) {
            (true, _) if self.planned().density.is_some() => "one of equals",
            (true, _) => "victim",
            (_, Company::Within) => "noise within the victim's place",
            (_, Company::Beside | Company::Alone) => "neighbour",
        };
        let seat = self.seats()[index];
        Berth {
            seat,
            who: format!("tenant of seat {} ({role})", self.planned().seats[seat].id),
            cores: self.cores(index, placement),
            rows: if victim { self.rows() } else { 0 },
        }
    }

    /// How the tenant at `index` of [`Self::seats`] shares its device with the others of its process.
    fn together(&self, index: usize, places: &[Place]) -> Option<Together> {
        let mut mates = mates(index, places);
        if places[index].green.is_none() {
            return (mates.len() > 1).then_some(Together::Streams {});
        }
        // By seats and not by roles: a seat has the same SMs whoever is the victim.
        let seats = self.seats();
        mates.sort_by_key(|mate| seats[*mate]);
        let shares = mates.iter().map(|mate| places[*mate].green.unwrap_or_default()).collect();
        let index = mates.iter().position(|mate| *mate == index).unwrap_or(0);
        Some(Together::GreenContexts { shares, index })
    }

    fn cores(&self, index: usize, placement: &Placement) -> Vec<u32> {
        match index.checked_sub(1) {
            None => placement.victim.clone(),
            Some(neighbour) => placement.neighbours.get(neighbour).cloned().unwrap_or_default(),
        }
    }

    fn load(&self, index: usize, generation: u32, places: &[Place], placement: &Placement) -> Load {
        let (plan, grid, place) = (self.plan, self.grid(), &places[index]);
        let seat = &self.planned().seats[self.seats()[index]].id;
        let program = |name: &str, workload: &str, params: &BTreeMap<String, String>| ProgramOrder {
            name: name.to_owned(),
            workload: workload.to_owned(),
            params: params.clone(),
        };
        let probes = grid.probes.iter().map(|p| &plan.panel[*p]);
        let noises = grid.neighbours.iter().map(|n| &plan.neighbours[*n]);
        let victim = index < self.victims();
        let (programs, outstanding) = match (victim, place.device.is_some()) {
            (true, _) => (
                probes.clone().map(|p| program(&p.name, &p.workload, &p.params)).collect(),
                probes.map(|p| p.outstanding).max(),
            ),
            (false, true) => (
                noises.clone().map(|n| program(&n.name, &n.workload, &n.params)).collect(),
                noises.map(|n| n.queued).max(),
            ),
            // Nobody shares the GPU: the neighbour runs its host loop only, whatever the noise.
            (false, false) => (vec![program(PLACEBO, PLACEBO, &BTreeMap::new())], None),
        };
        let key = [
            Key::Name(&self.planned().name),
            Key::Number(grid.first_block.into()),
            Key::Number(generation.into()),
            Key::Name(seat),
            Key::Name("contents"),
        ];
        let density = self.planned().density;
        // Empty kernels of equal tenants would be one another's noise.
        let in_turns = matches!(self.planned().sharing, SharingMode::TimeSlicing | SharingMode::MigTimeSlicing);
        let sleeps = in_turns || density.is_some();
        Load {
            device: place.device.clone(),
            model: self.live.gpu().model.clone(),
            together: self.together(index, places),
            programs,
            arena: !victim,
            budget: density.and_then(|density| density.budget).map(|budget| budget.0),
            outstanding: outstanding.unwrap_or(1).max(1),
            cores: self.cores(index, placement),
            spin: !placement.too_few,
            keep_awake: (victim && !sleeps).then_some(KEEP_AWAKE),
            seed: Stream::new(plan.seed, &key).bits(),
        }
    }

    /// Rows for the longest window that the plan tells of: a rate of the user's in the longest window, a tenth to spare.
    fn rows(&self) -> usize {
        let design = &self.plan.design;
        let density = self.planned().density.map(|density| density.window);
        let rows = |probe: &usize| {
            let probe = &self.plan.panel[*probe];
            let (Arrivals::Poisson(rate) | Arrivals::Fixed(rate)) = probe.arrivals else { return 0 };
            let marks = workload::find(&probe.workload).map_or(0, |w| w.marks.len());
            // A request's marks are as many as its parameters say; eight is the usual number.
            let each = if marks > 0 { 16.0 } else { 1.0 };
            let longest = density.unwrap_or(design.max_window.max(design.window));
            (rate.as_f64() * longest.as_secs_f64() * 1.1 * each) as usize
        };
        self.grid().probes.iter().map(rows).max().unwrap_or(0).clamp(ROWS, MOST_ROWS)
    }

    /// A tenant did not come up. What it says itself, or where it is, concerns the arrangement; that it died or hangs,
    /// this attempt.
    fn not_up(&self, who: &str, fault: Fault) -> BackendError {
        let refused = matches!(fault, Fault::Refused(_) | Fault::Misplaced(_) | Fault::Version { .. });
        let mut error = self.lost(who, fault);
        if refused && error.reach == Reach::Arm {
            error.reach = Reach::Arrangement;
        }
        error
    }

    /// A tenant was lost: with it the arm, or the device.
    pub(super) fn lost(&self, who: &str, fault: Fault) -> BackendError {
        let device = matches!(&fault, Fault::Refused(failed) if failed.code.is_some_and(|code| LOST.contains(&code)));
        let what = format!("{who}: {fault}");
        match self.live.watch().lost() {
            Some(why) => BackendError::device(format!("{why}; {what}")),
            None if device => BackendError::device(what),
            None => BackendError::arm(what),
        }
    }
}

impl Session for LiveSession<'_> {
    fn restart(&mut self, generation: u32, company: Company) -> Result<(), BackendError> {
        self.take_down()?;
        self.company = company;
        self.arrange()?;
        let Some(arranged) = self.arranged.as_deref() else { return Ok(()) };
        let mut tenants = Vec::new();
        let brought_up = self.bring_up(arranged, generation, &mut tenants);
        let (crew, evidence) = brought_up.map_err(|mut error| {
            if company == Company::Within {
                error.what.insert_str(0, "probes and noise in the victim's own place: ");
            }
            self.gave_up(&mut tenants, error)
        })?;
        (self.crew, self.evidence) = (Some(crew), evidence);
        Ok(())
    }

    fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }

    fn ask(&mut self, observation: &Observation) -> Result<Observed, BackendError> {
        super::ask::ask(self, observation)
    }

    fn try_hazard(&mut self, hazard: usize) -> Result<Came, BackendError> {
        self.take_down()?;
        self.arrange()?;
        super::hazard::attempt(self, hazard)
    }

    /// Of an arm that is lost, all tenants are: none goes on in a state that nobody knows.
    fn run_arm(&mut self, arm: &ArmPlan) -> Result<ArmRecord, BackendError> {
        let mut crew =
            self.crew.take().ok_or_else(|| BackendError::arm("the tenants are down: restart them before an arm"))?;
        let record = arm::run(self, &mut crew, arm).map_err(|error| self.gave_up(&mut crew.tenants, error))?;
        self.crew = Some(crew);
        Ok(record)
    }

    fn close(mut self: Box<Self>) -> Result<(), BackendError> {
        match (self.take_down(), self.put_back()) {
            (Err(stuck), Err(left)) => Err(BackendError::device(format!("{}; and {}", stuck.what, left.what))),
            (down, back) => down.and(back),
        }
    }
}

impl LiveSession<'_> {
    /// Asks the tenants to end, and kills those that do not.
    fn take_down(&mut self) -> Result<(), BackendError> {
        self.evidence = Evidence::default();
        let Some(mut crew) = self.crew.take() else { return Ok(()) };
        let before_kill = |pid| self.before_kill(pid);
        end_all(&mut crew.tenants, self.live.settings.deadlines.end, &before_kill);
        kill_all(&mut crew.tenants, &before_kill).map_or(Ok(()), |stuck| Err(BackendError::device(stuck)))
    }
}

impl LiveSession<'_> {
    /// Makes the arrangement, where it is not made yet.
    fn arrange(&mut self) -> Result<(), BackendError> {
        if self.arranged.is_none() {
            self.live.watch().check_exclusive(&sharing::mps::welcome(std::slice::from_ref(self.planned())))?;
            self.arranged = Some(sharing::arrange(&self.site())?);
        }
        Ok(())
    }

    fn put_back(&mut self) -> Result<(), BackendError> {
        let site = self.site();
        let Some(arranged) = &mut self.arranged else { return Ok(()) };
        arranged.restore(&site)?;
        self.arranged = None;
        Ok(())
    }

    pub(super) fn before_kill(&self, pid: u32) {
        if let Some(arranged) = &self.arranged {
            arranged.before_kill(pid);
        }
    }

    /// Kills the tenants after `error`. One that cannot be killed takes the device along.
    fn gave_up(&self, tenants: &mut [Tenant], mut error: BackendError) -> BackendError {
        if let Some(said) = self.arranged.as_ref().and_then(|arranged| arranged.says()) {
            error.what.push_str(&format!("; {said}"));
        }
        match kill_all(tenants, &|pid| self.before_kill(pid)) {
            Some(stuck) => BackendError::device(format!("{stuck}; {}", error.what)),
            None => error,
        }
    }
}

/// The indices of those that live in one process with the one at `index`, itself included.
fn mates(index: usize, places: &[Place]) -> Vec<usize> {
    (0..places.len()).filter(|mate| places[*mate].host == places[index].host).collect()
}

impl Drop for LiveSession<'_> {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.take_down();
        let _ = self.put_back();
    }
}

/// What a tenant's environment holds beside ours: `device` is all that it sees.
pub(super) fn environment(settings: &Settings, device: &str) -> Vec<(OsString, OsString)> {
    let fixed = [
        ("CUDA_VISIBLE_DEVICES", device),
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
        ("CUDA_MODULE_LOADING", "EAGER"),
        ("CUDA_DEVICE_MAX_CONNECTIONS", "32"),
    ];
    let mut environment = settings.environment.clone();
    environment.extend(fixed.map(|(name, value)| (OsString::from(name), OsString::from(value))));
    environment
}

/// Gives each tenant its order, and waits for all.
pub(super) fn ask(
    tenants: &mut [Tenant],
    order: impl Fn(usize) -> Order,
    limit: Nanos,
) -> Result<Vec<Option<Reply>>, (usize, Fault)> {
    for (index, tenant) in tenants.iter_mut().enumerate() {
        tenant.order(&order(index), limit).map_err(|fault| (index, fault))?;
    }
    collect(tenants, Nanos::MAX, Nanos::MAX, &mut |_| {})
}
