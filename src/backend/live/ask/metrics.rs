//! `metrics`: what telemetry says while the neighbour is busy and the victim is not.

use crate::backend::DcgmReading;
use crate::gpu::{Gpu, Instance};
use crate::nvml::Telemetry;
use crate::observation::Observed;
use crate::observation::metrics::{Says, Source, judge};
use crate::units::{Bytes, Nanos, Share};

use super::super::session::LiveSession;
use super::load::{Loads, sleep};
use super::visibility::now as gpu_now;
use super::{Pair, Stop};

/// How long the neighbour works before and while the sources are read. DCGM's own interval may be longer.
const BEFORE: Nanos = Nanos::secs(1);
const WHILE: Nanos = Nanos::secs(2);
/// DCGM's part of the time in which anything ran, 0 … 1.
const DCGM_ACTIVE: &str = "DCGM_FI_PROF_GR_ENGINE_ACTIVE";

pub(super) fn ask(session: &mut LiveSession<'_>, pair: &Pair) -> Result<Observed, Stop> {
    let gpu = gpu_now(session)?;
    let devices = pair.devices()?;
    let watch = session.live.watch();
    if let Err(Stop::Untold(_)) = pair.apart() {
        let one = "victim and neighbour live in one process".to_owned();
        let whole = watch.telemetry(&gpu.uuid).active.map(|active| format!("{active:.2}")).unwrap_or(one.clone());
        return Ok(judge(&[
            source("NVML utilisation", Says::Whole(whole)),
            source("NVML by process", Says::Unknown(one)),
        ]));
    }
    let mut loads = Loads::start(session, pair)?;
    // Which counters there are is read with the health.
    watch.health()?;
    loads.work(1, Share::percent(100))?;
    sleep(BEFORE);
    let since = watch.used_by_process(0).ok().and_then(|used| used.iter().map(|u| u.at).max()).unwrap_or(0);
    watch.start_arm();
    sleep(WHILE);
    let counted = watch.end_arm().activity;
    let whole = watch.telemetry(&gpu.uuid);
    let each = devices.each_ref().map(|uuid| watch.telemetry(uuid));
    let by_process = watch.used_by_process(since);
    let dcgm = watch.monitor();
    let pids = [0, 1].map(|index| loads.beside.pid(index));
    loads.beside.quiet()?;
    loads.beside.end()?;

    let instances = devices.each_ref().map(|uuid| gpu.instances.iter().find(|i| i.uuid == *uuid));
    let ids = instances.map(|instance| instance.and_then(|i| i.gpu_instance));
    let apart = devices[0] != devices[1];
    let by_pid = |all: &[crate::nvml::ProcessUse], pid: u32| {
        let of: Vec<f64> = all.iter().filter(|used| used.pid == pid).map(|used| used.active).collect();
        if of.is_empty() { 0.0 } else { of.iter().sum::<f64>() / of.len() as f64 }
    };
    let by_process = match by_process {
        Ok(all) if all.is_empty() => Says::Unknown("it named no process".to_owned()),
        Ok(all) => Says::Activity { victim: by_pid(&all, pids[0]), neighbour: by_pid(&all, pids[1]) },
        Err(error) => Says::Unknown(error.what),
    };
    let counter = |id: Option<u32>| counted.iter().find(|one| one.gpu_instance == id).and_then(|one| one.active);
    let gpm = match (apart, ids.map(counter)) {
        _ if counted.is_empty() => Says::Unknown("this part or driver has no such counters".to_owned()),
        (true, [Some(victim), Some(neighbour)]) if ids[0] != ids[1] => Says::Activity { victim, neighbour },
        _ => Says::Whole("its counters are of a GPU or GPU instance, which both share".to_owned()),
    };
    Ok(judge(&[
        source("NVML utilisation", utilisation(&whole, &each, apart)),
        source("NVML memory", memory(&each, apart)),
        source("NVML by process", by_process),
        source("GPM", gpm),
        source("DCGM", monitored(&dcgm, ids, &gpu, instances)),
    ]))
}

fn source(name: &'static str, says: Says) -> Source {
    Source { name, says }
}

fn utilisation(whole: &Telemetry, each: &[Telemetry; 2], apart: bool) -> Says {
    match (&each[0].active, &each[1].active) {
        (Ok(victim), Ok(neighbour)) if apart => Says::Activity { victim: *victim, neighbour: *neighbour },
        (one, _) => match (&whole.active, one) {
            (Ok(active), _) => Says::Whole(format!("{active:.2}")),
            (Err(of_whole), Err(of_one)) if of_whole == of_one => Says::Unknown(of_whole.clone()),
            (Err(of_whole), Err(of_one)) => Says::Unknown(format!("{of_whole}; of an instance, {of_one}")),
            (Err(of_whole), Ok(_)) => Says::Unknown(of_whole.clone()),
        },
    }
}

fn memory(each: &[Telemetry; 2], apart: bool) -> Says {
    let words = |bytes: u64| Bytes(bytes).for_people();
    match (&each[0].memory_used, &each[1].memory_used) {
        (Ok(victim), Ok(neighbour)) if apart => {
            Says::Other(format!("of each, victim {} and neighbour {}", words(*victim), words(*neighbour)))
        }
        (Ok(both), _) => Says::Whole(words(*both)),
        (Err(why), _) => Says::Unknown(why.clone()),
    }
}

fn monitored(readings: &[DcgmReading], ids: [Option<u32>; 2], gpu: &Gpu, of: [Option<&Instance>; 2]) -> Says {
    if readings.is_empty() {
        return Says::Unknown("no exporter answers".to_owned());
    }
    let active = |id: Option<u32>| {
        let values = &readings.iter().find(|reading| reading.gpu_instance == id)?.values;
        values.iter().find(|value| value.name == DCGM_ACTIVE).map(|value| value.value)
    };
    match ids.map(active) {
        [Some(victim), Some(neighbour)] if ids[0] != ids[1] && of.iter().all(Option::is_some) => {
            Says::Activity { victim, neighbour }
        }
        _ => match active(None) {
            Some(active) => Says::Whole(format!("{active:.2}")),
            None => Says::Unknown(format!("the exporter has no {DCGM_ACTIVE} of {}", gpu.uuid)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_of_both_is_no_source_of_each() {
        let of = |active: Result<f64, &str>| Telemetry {
            active: active.map_err(str::to_owned),
            memory_used: Ok(1 << 30),
            memory_total: None,
        };
        let each = [of(Ok(0.0)), of(Ok(0.9))];
        assert_eq!(utilisation(&of(Ok(0.9)), &each, true), Says::Activity { victim: 0.0, neighbour: 0.9 });
        assert_eq!(utilisation(&of(Ok(0.9)), &each, false), Says::Whole("0.90".to_owned()));
        let none = of(Err("not supported"));
        assert_eq!(utilisation(&none, &[none.clone(), none.clone()], true), Says::Unknown("not supported".to_owned()));
        assert!(matches!(memory(&each, true), Says::Other(words) if words.contains("victim 1.00 GiB")));
        assert!(matches!(memory(&each, false), Says::Whole(_)));
    }
}
