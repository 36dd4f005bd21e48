//! MPS on hardware: one control daemon and one server per device, every tenant its client, and the proof of that.

use std::ffi::OsString;

use super::control::{ANSWER, Control, ControlError, LOG, PIPE, PROGRAM, chunks, partition_id, tail};
use super::daemon::Daemon;
use crate::backend::{BackendError, SeatEvidence};
use crate::gpu::Gpu;
use crate::host::clock::now;
use crate::host::program::one_line;
use crate::nvml::ProcessKind;
use crate::plan::PlannedArrangement;
use crate::scenario::{LayoutEntry, MpsDaemon};
use crate::sharing::live::{Arranged, Place, Site};
use crate::units::{Nanos, Share};

/// Connections of a client at most: more than 8 streams of a client share them anyway (toolchain.md).
const CONNECTIONS: &str = "8";
/// SMs by which a driver may round a cap up: less than a chunk of eight, the coarsest in which it deals them out.
const ROUNDED_UP: u64 = 7;
/// How long the driver may take to list a process that has a context.
const LISTED: Nanos = Nanos::secs(3);
/// How long a server without clients may take to end.
const LEAVES: Nanos = Nanos::secs(5);
/// How often it is asked meanwhile.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(100);

/// One server and the device that it serves.
struct Serving {
    device: String,
    control: Control,
    server: u32,
    /// Ours; a daemon that was there before is left alone.
    own: Option<Daemon>,
    /// The server is of a daemon that was there before, and was started for this run: none was there.
    caused: bool,
}

/// A tenant's part of a server.
#[derive(Clone)]
struct Part {
    /// Index of its [`Serving`].
    serving: usize,
    /// Most of the SMs it may use.
    sms: Option<Share>,
    /// MiB that it may allocate.
    memory_mib: Option<u64>,
    /// Its static partition, and the SMs in it.
    partition: Option<(String, u32)>,
}

/// Tenants that are clients of MPS.
pub(in crate::sharing) struct Clients {
    servings: Vec<Serving>,
    /// Per seat.
    parts: Vec<Part>,
}

/// One server for the whole GPU.
pub(super) fn arrange(site: &Site<'_>) -> Result<Box<dyn Arranged>, BackendError> {
    let entries = vec![0; site.planned.layout.len()];
    Ok(Box::new(Clients::arrange(site, &[site.gpu().uuid.clone()], &entries)?))
}

impl Clients {
    /// A server for each of `devices`; the tenants of layout entry `i` are clients of that of `devices[of_entry[i]]`.
    pub(in crate::sharing) fn arrange(
        site: &Site<'_>,
        devices: &[String],
        of_entry: &[usize],
    ) -> Result<Self, BackendError> {
        let planned = site.planned;
        let reserved = planned.layout.iter().any(|entry| entry.reserved);
        let mut servings = Vec::with_capacity(devices.len());
        for device in devices {
            let serving = match planned.mps_daemon {
                MpsDaemon::Own => own(device, reserved),
                MpsDaemon::Running if devices.len() > 1 => Err(format!(
                    "`mps_daemon = \"running\"` with {} instances: each needs a daemon of its own, and only one listens in \
                     the usual place; leave it out",
                    devices.len()
                )),
                MpsDaemon::Running => running(device, reserved),
            };
            servings.push(serving.map_err(BackendError::arrangement)?);
        }
        let mut parts = Vec::with_capacity(planned.seats.len());
        for seat in &planned.seats {
            let (Some(entry), Some(serving)) = (planned.layout.get(seat.entry), of_entry.get(seat.entry)) else {
                return Err(BackendError::arrangement(format!("seat {} belongs to no entry of the layout", seat.id)));
            };
            parts.push(part(entry, *serving));
        }
        let mut clients = Self { servings, parts };
        if reserved {
            clients.partition().map_err(BackendError::arrangement)?;
        }
        for serving in &mut clients.servings {
            if let Some(daemon) = &mut serving.own {
                serving.server = daemon.serve().map_err(BackendError::arrangement)?;
            }
        }
        Ok(clients)
    }

    /// Gives every tenant its static partition.
    fn partition(&mut self) -> Result<(), String> {
        for part in &mut self.parts {
            let serving = &mut self.servings[part.serving];
            let share = part.sms.unwrap_or_default();
            let device = serving.device.clone();
            let ask = |control: &Control, command: &str| control.ask(command, ANSWER).map_err(|e| e.to_string());
            let listed = ask(&serving.control, "lspart")?;
            let Some((all, sms)) = chunks(&listed, &device).filter(|(all, sms)| *all > 0 && sms >= all) else {
                return Err(format!(
                    "the MPS control daemon does not say how many chunks of SMs {device} has, so reserved shares cannot be \
                     made: `lspart` says {:?}; leave `reserved` out",
                    one_line(&listed)
                ));
            };
            let (each, chunks) = (sms / all, share.of(u64::from(all)) as u32);
            if chunks == 0 {
                return Err(format!(
                    "a reserved share of {share} is less than one chunk of SMs on {device}, which has {all} chunks of \
                     {each} SMs"
                ));
            }
            let said = ask(&serving.control, &format!("sm_partition add {device} {chunks}"))?;
            let Some(id) = partition_id(&said, &device) else {
                return Err(format!(
                    "the MPS control daemon made no partition of {chunks} chunks ({share}) on {device}: {}",
                    one_line(&said)
                ));
            };
            part.partition = Some((id, chunks * each));
        }
        Ok(())
    }
}

fn part(entry: &LayoutEntry, serving: usize) -> Part {
    Part { serving, sms: entry.sms, memory_mib: entry.memory.map(|m| m.0 >> 20), partition: None }
}

/// A daemon of our own. Beside one that every CUDA program of this user joins unasked nobody could say who shares what.
fn own(device: &str, partitioned: bool) -> Result<Serving, String> {
    let usual = Control::usual();
    match usual.servers() {
        Ok(servers) => {
            let there =
                if servers.is_empty() { "no server yet".to_owned() } else { format!("server {}", list(&servers)) };
            return Err(format!(
                "an MPS control daemon is running already (pipe directory {}, {there}): end it (`echo quit | \
                 nvidia-cuda-mps-control`), or use it: `mps_daemon = \"running\"` in the arrangement",
                usual.pipe.display()
            ));
        }
        Err(hangs @ ControlError::Hangs { .. }) => return Err(hangs.to_string()),
        // Nobody there. Where the program is missing, starting ours says so.
        Err(_) => {}
    }
    let daemon = Daemon::start(device, partitioned).map_err(|why| {
        if partitioned {
            format!(
                "{why}. Reserved shares need a driver with static partitions of SMs (`nvidia-cuda-mps-control -S`, CUDA \
                 13.1); without `reserved` a share is a cap"
            )
        } else {
            why
        }
    })?;
    Ok(Serving {
        device: device.to_owned(),
        control: daemon.control.clone(),
        server: 0,
        own: Some(daemon),
        caused: false,
    })
}

/// The servers of the daemon that is running, where one of `arrangements` is to use it: nobody else on the GPU.
pub fn welcome(arrangements: &[PlannedArrangement]) -> Vec<u32> {
    let wanted = |a: &PlannedArrangement| a.skipped.is_none() && a.mps_daemon == MpsDaemon::Running;
    // That none answers is said where it is to be used.
    if arrangements.iter().any(wanted) { Control::usual().servers().unwrap_or_default() } else { Vec::new() }
}

/// The daemon that is there already.
fn running(device: &str, partitioned: bool) -> Result<Serving, String> {
    if partitioned {
        return Err(
            "reserved shares are a mode of the control daemon, and `mps_daemon = \"running\"` takes the one that \
                    is there; leave one of the two out"
                .to_owned(),
        );
    }
    let control = Control::usual();
    let none = |e: &dyn std::fmt::Display| {
        format!(
            "`mps_daemon = \"running\"`, and no MPS control daemon answers in {}: {e}. Start one \
             (`nvidia-cuda-mps-control -d`), name its CUDA_MPS_PIPE_DIRECTORY, or leave `mps_daemon` out",
            control.pipe.display()
        )
    };
    control.servers().map_err(|e| none(&e))?;
    let (server, caused) = Daemon::server_of(&control).map_err(|e| none(&e))?;
    Ok(Serving { device: device.to_owned(), control, server, own: None, caused })
}

impl Arranged for Clients {
    fn place(&self, seat: usize) -> Place {
        let Some(part) = self.parts.get(seat) else { return Place::off_gpu(seat) };
        let serving = &self.servings[part.serving];
        let mut environment: Vec<(OsString, OsString)> = vec![
            (PIPE.into(), serving.control.pipe.clone().into()),
            ("CUDA_DEVICE_MAX_CONNECTIONS".into(), CONNECTIONS.into()),
        ];
        let mut set = |name: &str, value: String| environment.push((name.into(), value.into()));
        if let Some(daemon) = &serving.own {
            set(LOG, daemon.logs()[0].parent().unwrap_or(&serving.control.pipe).display().to_string());
        }
        match (&part.partition, part.sms) {
            (Some((id, _)), _) => set("CUDA_MPS_SM_PARTITION", id.clone()),
            (None, Some(share)) => {
                set("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", share.to_string().trim_end_matches('%').to_owned());
            }
            (None, None) => {}
        }
        if let Some(mib) = part.memory_mib {
            // By the index of the device as the client sees it: it sees one.
            set("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", format!("0={mib}M"));
        }
        Place { environment, ..Place::own(seat, &*serving.device) }
    }

    fn helpers(&self) -> Vec<u32> {
        let daemons = self.servings.iter().filter_map(|s| s.own.as_ref()?.pid());
        daemons.chain(self.servings.iter().map(|s| s.server)).collect()
    }

    fn prove(&self, site: &Site<'_>, seats: &[SeatEvidence]) -> Result<Vec<String>, BackendError> {
        let mut proofs = Vec::new();
        for (index, serving) in self.servings.iter().enumerate() {
            let here: Vec<&SeatEvidence> =
                seats.iter().filter(|seat| self.parts.get(seat.seat).is_some_and(|p| p.serving == index)).collect();
            proofs.push(self.are_clients(site, serving, &here)?);
            proofs.extend(log(serving));
        }
        proofs.push(by_nvml(site, seats)?);
        for seat in seats {
            proofs.extend(self.share(site, seat)?);
        }
        Ok(proofs)
    }

    fn before_kill(&self, pid: u32) {
        for serving in &self.servings {
            // One that is no client here is refused, and a daemon that is gone has nothing to spare.
            let _ = serving.control.terminate(serving.server, pid);
        }
    }

    fn says(&self) -> Option<String> {
        let said: Vec<String> = self.servings.iter().filter_map(log).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    fn restore(&mut self, _site: &Site<'_>) -> Result<(), BackendError> {
        let mut left = Vec::new();
        for serving in &mut self.servings {
            if let Some(Err(why)) = serving.own.as_mut().map(Daemon::stop) {
                left.push(why);
            }
            serving.own = None;
            // Once: what does not end now is the user's to end.
            if std::mem::take(&mut serving.caused)
                && let Err(why) = serving.end_server()
            {
                left.push(why);
            }
        }
        if left.is_empty() { Ok(()) } else { Err(BackendError::device(left.join("; "))) }
    }
}

impl Serving {
    /// Ends the server that this run caused in a daemon which was there before, so that the GPU is as free as it was found.
    ///
    /// # Errors
    /// Where it has clients that are not ours, or does not end: what is left on the GPU, and how an operator ends it.
    fn end_server(&self) -> Result<(), String> {
        let Self { control, server, device, .. } = self;
        let pipe = control.pipe.display();
        let kept = |why: String| {
            format!(
                "MPS server {server} was started for this run in the control daemon that was running in {pipe}, and stays on \
                 {device}: {why}. Until it ends (`echo shutdown_server {server} -f | {PIPE}={pipe} {PROGRAM}`) nothing \
                 but `mps_daemon = \"running\"` runs there"
            )
        };
        let until = now() + LISTED;
        loop {
            // A daemon that was ended meanwhile has taken its server along.
            let Ok(servers) = control.servers() else { return Ok(()) };
            if !servers.contains(server) {
                return Ok(());
            }
            match control.clients(*server).map_err(|e| kept(e.to_string()))?.as_slice() {
                [] => break,
                // Tenants that have just ended are listed a moment longer.
                _ if now() < until => std::thread::sleep(AGAIN),
                others => {
                    return Err(kept(format!("it has clients that are no tenants of this run (pid {})", list(others))));
                }
            }
        }
        let said = control.shut_down(*server).map_err(|e| kept(e.to_string()))?;
        let until = now() + LEAVES;
        while control.servers().is_ok_and(|servers| servers.contains(server)) {
            if now() >= until {
                let said = if said.is_empty() { "nothing".to_owned() } else { said };
                return Err(kept(format!("asked to shut it down, the daemon said {said:?}, and it still runs")));
            }
            std::thread::sleep(AGAIN);
        }
        Ok(())
    }
}

/// What the server's log ends with, on one line.
fn log(serving: &Serving) -> Option<String> {
    let [server, _] = serving.own.as_ref()?.logs();
    Some(format!("server.log of MPS server {} ends: {}", serving.server, one_line(&tail(&server)?)))
}

impl Clients {
    fn who(site: &Site<'_>, seat: &SeatEvidence) -> String {
        format!("the tenant of seat {} (pid {})", Self::id(site, seat), seat.pid)
    }

    fn id<'a>(site: &Site<'a>, seat: &SeatEvidence) -> &'a str {
        site.planned.seats.get(seat.seat).map_or("?", |s| s.id.as_str())
    }

    /// Every tenant of a server is in its list of clients, and nobody else is.
    fn are_clients(&self, site: &Site<'_>, serving: &Serving, here: &[&SeatEvidence]) -> Result<String, BackendError> {
        let failed = |what: String| BackendError::arrangement(what);
        let servers = serving.control.servers().map_err(|e| failed(e.to_string()))?;
        if !servers.contains(&serving.server) {
            return Err(failed(format!("MPS server {} is gone; the control daemon lists {servers:?}", serving.server)));
        }
        let clients = serving.control.clients(serving.server).map_err(|e| failed(e.to_string()))?;
        if let Some(seat) = here.iter().find(|seat| !clients.contains(&seat.pid)) {
            return Err(failed(format!(
                "{} runs without MPS: it is no client of MPS server {}, whose clients are {}. The driver falls back without \
                 a word where the daemon's pipes cannot be reached ({}): check that the tenant may enter them, and that it \
                 runs as the same user",
                Self::who(site, seat),
                serving.server,
                list(&clients),
                serving.control.pipe.display()
            )));
        }
        let strangers: Vec<u32> =
            clients.iter().copied().filter(|pid| !here.iter().any(|seat| seat.pid == *pid)).collect();
        if !strangers.is_empty() {
            return Err(failed(format!(
                "MPS server {} has clients that are no tenants of this run: pid {}; end them first",
                serving.server,
                list(&strangers)
            )));
        }
        let whose = match serving.own.as_ref().and_then(Daemon::pid) {
            Some(pid) => format!("of our control daemon {pid}"),
            None => format!("of the control daemon that was running in {}", serving.control.pipe.display()),
        };
        Ok(format!("MPS server {} {whose} on {} has the clients {}", serving.server, serving.device, list(&clients)))
    }

    /// What a tenant sees of its share, where it has one. A static partition is proved by its SMs.
    fn share(&self, site: &Site<'_>, seat: &SeatEvidence) -> Result<Option<String>, BackendError> {
        let (Some(part), Some(seen)) = (self.parts.get(seat.seat), &seat.device) else { return Ok(None) };
        let id = Self::id(site, seat);
        match (&part.partition, part.sms) {
            (Some((partition, sms)), _) if seen.sms != *sms => Err(BackendError::arrangement(format!(
                "{} sees {} SMs, and its static partition {partition} has {sms}: the driver does not hold it to the partition",
                Self::who(site, seat),
                seen.sms
            ))),
            (Some((partition, sms)), _) => {
                Ok(Some(format!("seat {id} sees the {sms} SMs of its partition {partition}")))
            }
            (None, Some(share)) => {
                let device = &self.servings[part.serving].device;
                let Some(all) = sms_of(site, device) else {
                    return Ok(Some(format!(
                        "seat {id} sees {} SMs under its cap of {share}; how many {device} has is not known",
                        seen.sms
                    )));
                };
                let most = (share.of(u64::from(all)) + ROUNDED_UP).min(u64::from(all));
                if share < Share::percent(100) && u64::from(seen.sms) > most {
                    return Err(BackendError::arrangement(format!(
                        "{} sees {} of the {all} SMs of {device}, and its cap is {share}: the MPS server does not hold it to \
                         the cap",
                        Self::who(site, seat),
                        seen.sms
                    )));
                }
                Ok(Some(format!("seat {id} sees {} of {all} SMs under its cap of {share}", seen.sms)))
            }
            (None, None) => Ok(None),
        }
    }
}

/// SMs of a GPU or of one of its instances, where the driver says. Instances that were made for this run are not in the
/// inventory that it began with.
fn sms_of(site: &Site<'_>, device: &str) -> Option<u32> {
    let gpu = site.gpu();
    if gpu.uuid.eq_ignore_ascii_case(device) {
        return gpu.sms;
    }
    let of = |gpu: &Gpu| gpu.instances.iter().find(|i| i.uuid.eq_ignore_ascii_case(device)).map(|i| i.sms);
    of(gpu).or_else(|| site.watch.machine().ok()?.gpus.iter().find_map(of)).flatten()
}

/// The driver's own list says that the tenants are MPS clients; where it cannot be read, that is said.
fn by_nvml(site: &Site<'_>, seats: &[SeatEvidence]) -> Result<String, BackendError> {
    let on_gpu: Vec<&SeatEvidence> = seats.iter().filter(|seat| seat.device.is_some()).collect();
    let until = now() + LISTED;
    loop {
        let listed = match site.watch.processes_on(&site.gpu().uuid)? {
            Ok(listed) => listed,
            Err(unknown) => {
                return Ok(format!(
                    "the server's list of clients is the only proof: the driver's list of processes is unknown ({unknown})"
                ));
            }
        };
        let kind = |seat: &&&SeatEvidence| listed.iter().filter(|p| p.pid == seat.pid).map(|p| p.kind).max();
        let Some(other) = on_gpu.iter().find(|seat| kind(seat) != Some(ProcessKind::Mps)) else {
            return Ok(format!("the driver lists {} tenants as MPS clients (M+C)", on_gpu.len()));
        };
        if now() < until {
            std::thread::sleep(AGAIN);
            continue;
        }
        let how = match kind(&other) {
            Some(_) => "lists it with a context of its own (C, not M+C)",
            None => "does not list it on this GPU",
        };
        return Err(BackendError::arrangement(format!(
            "{} is a client of the MPS server, and the driver {how}: nobody can say whether it runs under MPS",
            Clients::who(site, other)
        )));
    }
}

fn list(pids: &[u32]) -> String {
    if pids.is_empty() {
        return "none".to_owned();
    }
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
