//! `layout-change`: what the driver changes of the MIG layout beside the running victim.
//!
//! The mode is read and never set. What is there is written down before anything is tried, and put back on every exit, as for
//! a layout that is made for an arrangement. Only in a place that is free is anything created. That the victim's own compute
//! instance is not destroyed is the driver's promise (NVML API reference, nvmlComputeInstanceDestroy: NVML_ERROR_IN_USE while
//! a process runs on it), so it is tried with the victim on it and never without.

use std::path::Path;

use crate::backend::{BackendError, Outcome, Sample};
use crate::doctor::layout_owners;
use crate::gpu::{Gpu, GpuModel, find_model};
use crate::host::clock::now;
use crate::nvml::{Divide, NvmlErrorKind};
use crate::observation::Observed;
use crate::observation::layout_change::{Tried, judge, room};
use crate::reconfigure::{self, Part, Saved};
use crate::tenant::protocol::{Order, Reply, WindowLoad, WindowOrder};
use crate::tenant::{Place, Requests, arrival_stream, arrivals};
use crate::units::{Nanos, Rate};

use super::super::replay::replay;
use super::super::seat::{Tenant, collect};
use super::super::session::{Crew, LiveSession};
use super::visibility::now as gpu_now;
use super::{Pair, Stop, fell, untold};

/// The victim's window before the change, and that in the middle of which it is made.
const WINDOW: Nanos = Nanos::secs(5);
/// An order begins this long after it was given.
const LEAD: Nanos = Nanos::millis(20);
/// What is open this long after the window counts as lost.
const DRAIN: Nanos = Nanos::secs(2);
/// Requests per second at most, and the part of its time that the victim works at most.
const MOST: f64 = 1_000.0;
const WORKS: f64 = 0.3;
/// A p99 needs so many requests.
const LEAST: usize = 300;

pub(super) fn ask(session: &mut LiveSession<'_>, _pair: &Pair) -> Result<Observed, Stop> {
    let gpu = gpu_now(session)?;
    let mode = mode(&gpu);
    if gpu.mig != Some(true) {
        return untold(format!(
            "{mode}: there is no layout to change. Turning MIG on may reset the GPU, which crosstalk never does: `nvidia-smi -i \
             {} -mig 1` on a drained GPU",
            gpu.uuid
        ));
    }
    if gpu.mig_pending.is_some() {
        return untold(format!("{mode}: nothing is tried while a change of the mode is pending"));
    }
    if !session.live.settings.allow_reconfigure {
        return untold(format!(
            "{mode}: nothing is tried without permission; run again with --allow-reconfigure, which creates and destroys one \
             instance in a free place and tries to destroy the victim's busy one"
        ));
    }
    if let Some((owner, way)) = layout_owners(Path::new("/"), &|name| std::env::var(name).ok()).first() {
        return untold(format!("{mode}: the layout of this machine is owned by {owner} ({way}), and is left alone"));
    }
    let Some(model) = gpu.model.as_deref().and_then(find_model) else {
        return untold(format!(
            "{mode}: {} is no model that crosstalk knows: its layout is only used as found",
            gpu.name
        ));
    };
    let Some(victim) = compute_instance(session, &gpu) else {
        return untold(format!("{mode}: the driver does not say in which compute instance the victim is"));
    };
    let watch = session.live.watch();
    let Some(mut crew) = session.crew.take() else { return untold("the tenants are down") };
    let ours: Vec<u32> = crew.tenants.iter().map(Tenant::pid).chain(crew.helpers.iter().copied()).collect();
    let tried = watch.check_exclusive(&ours).map_err(Stop::Lost).and_then(|_| {
        let driver = watch.divided();
        saved(session, &gpu, model, &*driver, |before, extra| {
            let calm = window(session, &mut crew, &mut || {})?;
            let mut outcome = None;
            let felt = window(session, &mut crew, &mut || {
                outcome.get_or_insert_with(|| attempt(&*driver, model, victim, before, extra));
            })?;
            let (destroyed, changed) = outcome.unwrap_or((Err("it was not tried".to_owned()), None));
            Ok(Tried { destroyed, changed, p99: calm.zip(felt) })
        })
    });
    match tried {
        // Tenants whose instance was destroyed are in no state that anybody knows.
        Ok(tried) if tried.destroyed.is_ok() => {
            drop(crew);
            Ok(judge(&mode, &tried))
        }
        Ok(tried) => {
            session.crew = Some(crew);
            Ok(judge(&mode, &tried))
        }
        Err(Stop::Untold(why)) => {
            // A victim that did not answer is not asked again.
            if crew.tenants.iter_mut().any(|tenant| tenant.is_asked()) {
                return Err(Stop::Lost(BackendError::arm(why)));
            }
            session.crew = Some(crew);
            untold(format!("{mode}: {why}"))
        }
        Err(lost) => Err(lost),
    }
}

/// The mode now, and pending where that differs.
fn mode(gpu: &Gpu) -> String {
    let word = |on: bool| if on { "on" } else { "off" };
    match (gpu.mig, gpu.mig_pending) {
        (None, _) => "this GPU has no MIG".to_owned(),
        (Some(now), None) => format!("MIG is {}, and stays so", word(now)),
        (Some(now), Some(pending)) => format!("MIG is {}, and will be {} after a reset", word(now), word(pending)),
    }
}

/// Ids of the GPU instance and the compute instance in which the victim's context is.
fn compute_instance(session: &LiveSession<'_>, gpu: &Gpu) -> Option<(u32, u32)> {
    let seat = session.evidence.seats.iter().find(|seat| seat.seat == session.grid().victim)?;
    let uuid = &seat.device.as_ref()?.uuid;
    let instance = gpu.instances.iter().find(|instance| instance.uuid.eq_ignore_ascii_case(uuid))?;
    Some((instance.gpu_instance?, instance.compute_instance?))
}

/// Writes down what is there, lets `change` try, and puts back what was there, whatever came of it.
fn saved(
    session: &LiveSession<'_>,
    gpu: &Gpu,
    model: &GpuModel,
    driver: &dyn Divide,
    change: impl FnOnce(&[Part], Option<&Part>) -> Result<Tried, Stop>,
) -> Result<Tried, Stop> {
    let before = match reconfigure::read(driver, Some(model)) {
        Ok(before) => before,
        Err(error) => return untold(error.what),
    };
    let extra = room(model, &before);
    let asked: Vec<Part> = before.iter().chain(extra.as_ref()).cloned().collect();
    let saved = Saved::layout(gpu, before.clone(), asked);
    let path = match saved.write(session.live.settings.inventory.provenance) {
        Ok(path) => path,
        Err(error) => return untold(error.to_string()),
    };
    let tried = change(&before, extra.as_ref());
    match saved.put_back(&path, Some((driver, Some(model)))) {
        Ok(otherwise) if otherwise.is_empty() => tried,
        Ok(otherwise) => Err(Stop::Lost(BackendError::device(format!(
            "the MIG layout of GPU {} is put back otherwise than it was: {}",
            gpu.uuid,
            otherwise.join("; ")
        )))),
        Err(error) => Err(Stop::Lost(BackendError::device(format!(
            "the MIG layout of GPU {} is not put back: {error}. It was {}; `crosstalk restore` tries again",
            gpu.uuid,
            reconfigure::words(&before)
        )))),
    }
}

/// What became of it: of the victim's own instance, and of one in a free place.
type Outcomes = (Result<(), String>, Option<(String, Result<(), String>)>);

/// Tries to destroy the victim's compute instance, and creates and destroys `extra`.
fn attempt(
    driver: &dyn Divide,
    model: &GpuModel,
    (gpu_instance, compute_instance): (u32, u32),
    before: &[Part],
    extra: Option<&Part>,
) -> Outcomes {
    let destroyed = driver.destroy_compute(gpu_instance, compute_instance).map_err(|error| match error.kind {
        NvmlErrorKind::InUse => "refused, it is in use".to_owned(),
        _ => format!("refused ({})", error.what),
    });
    if destroyed.is_ok() {
        return (destroyed, None);
    }
    let changed = extra.map(|extra| {
        let with: Vec<Part> = before.iter().chain([extra]).cloned().collect();
        // What is there belongs to this run as long as the file says what it was; only `extra` is ever destroyed.
        let made = reconfigure::make(driver, Some(model), &with, &[before])
            .and_then(|_| reconfigure::make(driver, Some(model), before, &[std::slice::from_ref(extra)]));
        (extra.to_string(), made.map(|_| ()).map_err(|error| error.what))
    });
    (destroyed, changed)
}

/// One window of the victim's first program at a fixed rate, with `meanwhile` called once it runs: its p99 in nanoseconds.
fn window(session: &LiveSession<'_>, crew: &mut Crew, meanwhile: &mut dyn FnMut()) -> Result<Option<f64>, Stop> {
    let Some(program) = crew.loaded.first().and_then(|loaded| loaded.programs.first()) else {
        return untold("the victim holds no program");
    };
    let (rows, once) = (program.rows.max(1) as usize, program.once.0.max(1) as f64 / 1e9);
    let rate = Rate::from_f64((WORKS / once).min(MOST));
    let (seed, arrangement, probe) = (session.plan.seed, session.planned().name.clone(), program.name.clone());
    let planned = arrivals(&mut arrival_stream(seed, &arrangement, 0, &probe), rate, false, WINDOW);
    // As many as its requests are prepared for.
    let panel = session.grid().probes.first().and_then(|probe| session.plan.panel.get(*probe));
    let limit = panel.map_or(1, |probe| probe.outstanding.max(1));
    let load = WindowLoad::Open { rate, poisson: false, seed, arrangement, block: 0, probe };
    let start = now() + LEAD;
    let order = WindowOrder { program: 0, load, limit, start, length: WINDOW, drain: DRAIN, delay: Nanos::ZERO };
    let patience = LEAD + WINDOW + DRAIN + session.live.settings.deadlines.window;
    let who = |crew: &Crew, index: usize| crew.tenants[index].who.clone();
    crew.tenants[0].order(&Order::Window(order), patience).map_err(|fault| fell(session, &who(crew, 0), fault))?;
    // A fifth of the window passes before; whatever the driver takes for it, the tenants run by themselves.
    let first = start + WINDOW / 5;
    let replies = collect(&mut crew.tenants, first, Nanos::MAX / 2, &mut |_| meanwhile());
    let replies = replies.map_err(|(index, fault)| fell(session, &who(crew, index), fault))?;
    let Some(Reply::Window(done)) = replies.into_iter().next().flatten() else {
        return untold("the victim gave no account of its window");
    };
    let requests = Requests::open(planned.clone(), done.start, WINDOW, limit).with_marks(&vec![0; rows - 1]);
    let requests = match replay(&crew.tenants[0].region, rows, Some(planned.len()), &done, requests) {
        Ok(requests) => requests,
        Err(why) => return untold(format!("the victim's samples contradict themselves: {why}")),
    };
    let mut samples = Vec::new();
    let place = Place { origin: Nanos::ZERO, probe: 0, seat: None, window: 0, series: 0 };
    requests.finish(done.start + WINDOW + DRAIN, place, &mut samples);
    Ok(p99(&samples))
}

/// The 99th percentile of the whole requests (series 0); one that never ended took longer than any.
fn p99(samples: &[Sample]) -> Option<f64> {
    let whole = samples.iter().filter(|sample| sample.series == 0);
    let took = |sample: &Sample| match (sample.outcome, sample.completed) {
        (Outcome::Ok, Some(completed)) => completed.saturating_sub(sample.planned).0,
        _ => u64::MAX,
    };
    let mut all: Vec<u64> = whole.map(took).collect();
    if all.len() < LEAST {
        return None;
    }
    all.sort_unstable();
    Some(all[all.len() * 99 / 100] as f64)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::nvml::{ComputeInstance, DriverProfile, GpuInstance, NvmlError};
    use crate::reconfigure::placed;

    /// A driver whose instance 1 is in use; one that `locks` creates nothing beside it.
    struct Fake {
        model: &'static GpuModel,
        there: RefCell<Vec<GpuInstance>>,
        locks: bool,
        careless: bool,
        destroyed: RefCell<Vec<u32>>,
    }

    /// The compute instance that takes all of its GPU instance.
    fn filled(slices: u32) -> ComputeInstance {
        ComputeInstance { id: 0, slices, profile: slices - 1, start: 0, size: slices }
    }

    fn error<T>(kind: NvmlErrorKind) -> Result<T, NvmlError> {
        Err(NvmlError { what: "the driver's words".to_owned(), kind })
    }

    impl Fake {
        fn new(profiles: &[&str]) -> Self {
            let model = find_model("h100-sxm").unwrap();
            let wanted: Vec<(String, Vec<u32>)> = profiles.iter().map(|p| ((*p).to_owned(), Vec::new())).collect();
            let mut next = 0;
            let mut one = |part: Part| {
                next += 1;
                let profile = model.profile(&part.profile).unwrap();
                let compute = vec![filled(profile.slices)];
                GpuInstance { id: next, profile: profile.id, start: part.start, size: part.size, compute }
            };
            let there = placed(model, &wanted).unwrap().into_iter().map(&mut one).collect();
            let (locks, careless) = (false, false);
            Self { model, there: RefCell::new(there), locks, careless, destroyed: RefCell::default() }
        }

        fn tried(&self) -> Outcomes {
            let before = reconfigure::read(self, Some(self.model)).unwrap();
            let extra = room(self.model, &before);
            let outcomes = attempt(self, self.model, (1, 0), &before, extra.as_ref());
            if !self.careless {
                assert_eq!(reconfigure::read(self, Some(self.model)).unwrap(), before, "everything is as it was");
            }
            outcomes
        }
    }

    impl Divide for Fake {
        fn profiles(&self) -> Result<Vec<DriverProfile>, NvmlError> {
            let all = self.model.mig.as_ref().unwrap().profiles.iter();
            let one = |p: &crate::gpu::MigProfile| DriverProfile {
                id: p.id,
                name: Some(p.name.clone()),
                slices: p.slices,
                most: p.max,
            };
            Ok(all.map(one).collect())
        }
        fn placements(&self, profile: u32) -> Result<Vec<(u32, u32)>, NvmlError> {
            let mut all = self.model.mig.as_ref().unwrap().profiles.iter();
            let p = all.find(|p| p.id == profile).unwrap();
            Ok(p.starts.iter().map(|start| (*start, p.size)).collect())
        }
        fn there(&self) -> Result<Vec<GpuInstance>, NvmlError> {
            Ok(self.there.borrow().clone())
        }
        fn create(&self, profile: u32, (start, size): (u32, u32)) -> Result<u32, NvmlError> {
            if self.locks {
                return error(NvmlErrorKind::InUse);
            }
            self.there.borrow_mut().push(GpuInstance { id: 9, profile, start, size, compute: Vec::new() });
            Ok(9)
        }
        fn create_compute(
            &self,
            gpu_instance: u32,
            slices: u32,
            _profile: Option<u32>,
            _place: Option<(u32, u32)>,
        ) -> Result<u32, NvmlError> {
            let mut there = self.there.borrow_mut();
            let instance = there.iter_mut().find(|i| i.id == gpu_instance).unwrap();
            instance.compute.push(filled(slices));
            Ok(0)
        }
        fn destroy(&self, gpu_instance: u32) -> Result<(), NvmlError> {
            self.destroyed.borrow_mut().push(gpu_instance);
            self.there.borrow_mut().retain(|i| i.id != gpu_instance);
            Ok(())
        }
        fn destroy_compute(&self, gpu_instance: u32, _compute: u32) -> Result<(), NvmlError> {
            if gpu_instance == 1 && !self.careless {
                return error(NvmlErrorKind::InUse);
            }
            let mut there = self.there.borrow_mut();
            there.iter_mut().find(|i| i.id == gpu_instance).unwrap().compute.clear();
            Ok(())
        }
    }

    #[test]
    fn what_is_made_in_a_free_place_goes_again_and_nothing_else_does() {
        let driver = Fake::new(&["3g.40gb", "2g.20gb"]);
        let (destroyed, changed) = driver.tried();
        assert_eq!(destroyed, Err("refused, it is in use".to_owned()));
        let (what, how) = changed.unwrap();
        assert!(what.starts_with("1g.10gb at slice") && how.is_ok(), "{what}: {how:?}");
        assert_eq!(*driver.destroyed.borrow(), [9], "only what was made here");
    }

    #[test]
    fn a_driver_that_makes_nothing_or_has_no_room_refuses() {
        let locked = Fake { locks: true, ..Fake::new(&["3g.40gb", "2g.20gb"]) };
        assert!(locked.tried().1.unwrap().1.is_err());
        assert_eq!(Fake::new(&["3g.40gb", "3g.40gb"]).tried().1, None);
    }

    #[test]
    fn an_instance_destroyed_under_its_tenant_ends_it() {
        let careless = Fake { careless: true, ..Fake::new(&["3g.40gb", "2g.20gb"]) };
        assert_eq!(careless.tried(), (Ok(()), None));
    }

    #[test]
    fn a_p99_needs_requests_and_counts_what_never_ended() {
        let sample = |micros: u64, outcome| Sample {
            series: 0,
            window: 0,
            planned: Nanos(0),
            sent: Some(Nanos(0)),
            gpu_start: None,
            gpu_end: None,
            completed: (outcome == Outcome::Ok).then_some(Nanos::micros(micros)),
            outcome,
        };
        let mut samples: Vec<Sample> = (0..1_000).map(|n| sample(n, Outcome::Ok)).collect();
        assert_eq!(p99(&samples), Some(990_000.0));
        samples.extend((0..20).map(|_| sample(0, Outcome::Timeout)));
        assert_eq!(p99(&samples), Some(u64::MAX as f64));
        assert_eq!(p99(&samples[..100]), None);
    }
}
