//! Processes beside the tenants of the arms: started as those are, with a deadline on every answer, and gone at the end.

mod one;

use std::ffi::OsString;

use crate::sharing::live::Place;
use crate::tenant::protocol::{Load, Loaded, Order, PROTOCOL, Reply};
use crate::tenant::question::{Answer, Question};
use crate::units::Nanos;

use super::super::seat::{Berth, Fault, Launch, Tenant, collect, end_all, kill_all};
use super::super::session::{LiveSession, ask, environment};
use super::{Stop, fell};

/// How long one question may take. NCCL sets up its transports; a driver that hangs does not answer at all.
const ANSWER: Nanos = Nanos::secs(60);
/// Named by what it is that a process sees.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// What a process beside the tenants is to see.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::backend::live) enum Visible {
    /// The variable is not set.
    Unset,
    /// It is this.
    Set(String),
}

/// The place of one process beside the tenants.
pub(in crate::backend::live) struct Spot {
    /// The seat in whose place it is, for messages.
    pub(in crate::backend::live) seat: usize,
    /// Its environment beside the usual.
    pub(in crate::backend::live) environment: Vec<(OsString, OsString)>,
    /// The devices that it is to see.
    pub(in crate::backend::live) visible: Visible,
}

impl Spot {
    /// In the place of `seat`, with its device.
    pub(in crate::backend::live) fn of(seat: usize, place: &Place) -> Self {
        let visible = Visible::Set(place.device.clone().unwrap_or_default());
        Self { seat, environment: place.environment.clone(), visible }
    }

    /// The same, with other devices to see.
    pub(in crate::backend::live) fn seeing(self, visible: Visible) -> Self {
        Self { visible, ..self }
    }
}

/// One that did not answer.
pub(in crate::backend::live) struct Fallen {
    /// Its index.
    pub(in crate::backend::live) index: usize,
    /// How its process ended, where it did.
    pub(in crate::backend::live) died: Option<String>,
    /// What that means, unless it was to be expected.
    pub(in crate::backend::live) stop: Stop,
}

/// Processes that are up. Dropped, they are killed.
pub(in crate::backend::live) struct Beside<'s, 'a> {
    session: &'s LiveSession<'a>,
    tenants: Vec<Tenant>,
}

impl<'s, 'a> Beside<'s, 'a> {
    /// Starts a process at each spot, once nobody else is there.
    pub(in crate::backend::live) fn start(session: &'s LiveSession<'a>, spots: Vec<Spot>) -> Result<Self, Stop> {
        let watch = session.live.watch();
        let ours = ours(session);
        watch.check_exclusive(&ours)?;
        for uuid in session.crew.iter().flat_map(|crew| &crew.elsewhere) {
            watch.check_exclusive_on(uuid, &ours)?;
        }
        let mut beside = Self { session, tenants: Vec::new() };
        for spot in spots {
            let started = beside.launch(spot);
            started?;
        }
        beside.order(|_| hello(), session.live.settings.deadlines.hello)?;
        Ok(beside)
    }

    /// Starts one more, once nobody is there but these and the tenants of the arms. Its index.
    pub(in crate::backend::live) fn add(&mut self, spot: Spot) -> Result<usize, Stop> {
        self.check_exclusive()?;
        self.join(spot)
    }

    fn launch(&mut self, spot: Spot) -> Result<(), Stop> {
        let settings = &self.session.live.settings;
        let who = format!("a process beside the tenant of seat {}", self.session.planned().seats[spot.seat].id);
        let device = if let Visible::Set(text) = &spot.visible { text.as_str() } else { "" };
        let mut environment = environment(settings, device);
        environment.extend(spot.environment);
        let kept: &[&str] = if spot.visible == Visible::Unset { &[VISIBLE] } else { &[] };
        // Not on the controller's core: on those of the seat's tenant, who is quiet.
        let mut crew = self.session.crew.iter().flat_map(|crew| &crew.tenants);
        let cores = crew.find(|tenant| tenant.seat == spot.seat).map(|tenant| tenant.cores.clone()).unwrap_or_default();
        let berth = Berth { seat: spot.seat, who: who.clone(), cores, rows: 0 };
        let launch = Launch { exe: &settings.exe, environment, seats: vec![berth] };
        let started = Tenant::start_without(launch, kept).map_err(|fault| fell(self.session, &who, fault))?;
        self.tenants.extend(started);
        Ok(())
    }

    fn order(&mut self, order: impl Fn(usize) -> Order, limit: Nanos) -> Result<Vec<Reply>, Stop> {
        match ask(&mut self.tenants, order, limit) {
            Ok(replies) => Ok(replies.into_iter().flatten().collect()),
            Err((index, fault)) => Err(self.fell(index, fault)),
        }
    }

    fn fell(&self, index: usize, fault: Fault) -> Stop {
        fell(self.session, &self.tenants[index].who, fault)
    }

    /// How long an answer may take.
    fn patience(&self) -> Nanos {
        ANSWER.min(self.session.live.settings.deadlines.load)
    }

    /// Asks each its question, all at once, and waits for all.
    pub(in crate::backend::live) fn ask(&mut self, question: impl Fn(usize) -> Question) -> Result<Vec<Answer>, Stop> {
        let limit = self.patience();
        let replies = self.order(|index| Order::Ask(question(index)), limit)?;
        Ok(replies
            .into_iter()
            .filter_map(|reply| if let Reply::Answered(a) = reply { Some(a) } else { None })
            .collect())
    }

    /// Asks each of which there is a question, all at once, and waits for all.
    ///
    /// # Errors
    /// Who did not answer, and how its process ended where it did.
    pub(in crate::backend::live) fn ask_each(
        &mut self,
        questions: Vec<Option<Question>>,
    ) -> Result<Vec<Option<Answer>>, Fallen> {
        let limit = self.patience();
        let mut given = Ok(());
        for (index, (tenant, question)) in self.tenants.iter_mut().zip(questions).enumerate() {
            let Some(question) = question else { continue };
            given = tenant.order(&Order::Ask(question), limit).map_err(|fault| (index, fault));
            if given.is_err() {
                break;
            }
        }
        let collected = given.and_then(|()| collect(&mut self.tenants, Nanos::MAX, Nanos::MAX, &mut |_| {}));
        let replies = collected.map_err(|(index, fault)| {
            let died = if let Fault::Died { .. } = &fault { Some(fault.to_string()) } else { None };
            Fallen { index, died, stop: self.fell(index, fault) }
        })?;
        let answer = |reply| if let Some(Reply::Answered(answer)) = reply { Some(answer) } else { None };
        Ok(replies.into_iter().map(answer).collect())
    }

    /// Loads a program in each.
    pub(in crate::backend::live) fn load(&mut self, load: impl Fn(usize) -> Load) -> Result<Vec<Loaded>, Stop> {
        let limit = self.session.live.settings.deadlines.load;
        let replies = self.order(|index| Order::Load(load(index)), limit)?;
        Ok(replies.into_iter().filter_map(|reply| if let Reply::Loaded(l) = reply { Some(l) } else { None }).collect())
    }

    /// Lets all be quiet, and waits for that.
    pub(in crate::backend::live) fn quiet(&mut self) -> Result<(), Stop> {
        self.order(|_| Order::Quiet {}, self.session.live.settings.deadlines.quiet).map(drop)
    }

    /// What it has at work: requests done since its noise began, and when the last one was.
    pub(in crate::backend::live) fn progress(&self, index: usize) -> (u64, Nanos) {
        use std::sync::atomic::Ordering;
        let progress = self.tenants[index].region.progress();
        (progress.completed.load(Ordering::Acquire), Nanos(progress.last.load(Ordering::Acquire)))
    }

    /// Its process.
    pub(in crate::backend::live) fn pid(&self, index: usize) -> u32 {
        self.tenants[index].pid()
    }

    /// Nobody is there but these and the tenants of the arms: asked before noise.
    pub(in crate::backend::live) fn check_exclusive(&self) -> Result<(), Stop> {
        let ours: Vec<u32> = ours(self.session).into_iter().chain(self.tenants.iter().map(Tenant::pid)).collect();
        self.session.live.watch().check_exclusive(&ours)?;
        Ok(())
    }

    /// Ends the one that was added last.
    pub(in crate::backend::live) fn end_last(&mut self) -> Result<(), Stop> {
        let last = self.tenants.split_off(self.tenants.len().saturating_sub(1));
        Self { session: self.session, tenants: last }.end()
    }

    /// Kills them as they are.
    pub(in crate::backend::live) fn kill(mut self) -> Result<(), Stop> {
        let before_kill = |pid| self.session.before_kill(pid);
        match kill_all(&mut self.tenants, &before_kill) {
            Some(stuck) => Err(Stop::Lost(crate::backend::BackendError::device(stuck))),
            None => Ok(()),
        }
    }

    /// Ends them.
    ///
    /// One that cannot be killed takes the device along.
    pub(in crate::backend::live) fn end(mut self) -> Result<(), Stop> {
        let before_kill = |pid| self.session.before_kill(pid);
        end_all(&mut self.tenants, self.session.live.settings.deadlines.end, &before_kill);
        self.kill()
    }
}

impl Drop for Beside<'_, '_> {
    fn drop(&mut self) {
        let before_kill = |pid| self.session.before_kill(pid);
        // Where one cannot be killed, the next look at the GPU finds it there.
        let _ = kill_all(&mut self.tenants, &before_kill);
    }
}

/// The first order to each.
fn hello() -> Order {
    Order::Hello { protocol: PROTOCOL, crosstalk: env!("CARGO_PKG_VERSION").to_owned() }
}

/// The tenants of the arms and their helpers; while the tenants are down, those helpers that the mode has.
fn ours(session: &LiveSession<'_>) -> Vec<u32> {
    let Some(crew) = &session.crew else {
        return session.arranged.as_ref().map(|arranged| arranged.helpers()).unwrap_or_default();
    };
    crew.tenants.iter().map(Tenant::pid).chain(crew.helpers.iter().copied()).collect()
}
