//! Tenants as the controller holds them: started, spoken to in lines with a deadline on each, killed. Several may live in
//! one process: each has its own lines and region, and whatever happens to the process happens to all of them.

use std::cell::{Ref, RefCell};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::host::clock::{now, timespec};
use crate::host::environment::without_cuda_settings;
use crate::host::process::{Process, ended, inherited, stuck_words};
use crate::tenant::Region;
use crate::tenant::protocol::{Failed, LONGEST_LINE, Order, PROTOCOL, Reply};
use crate::units::Nanos;

use super::last_words::{LAST_BREATH, Stderr, told};

/// Bytes quoted of a line that is no reply.
const QUOTED: usize = 80;

/// Why an exchange with a tenant failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Fault {
    /// The process ended, and how.
    #[error("its process {how}{}", told(.errors))]
    Died { how: String, errors: String },
    /// It closed its output, and lives.
    #[error("it closed its output and lives on{}", told(.errors))]
    Closed { errors: String },
    /// No reply in time.
    #[error("no answer to {order:?} within {after}{}{}", part(*.unfinished), told(.errors))]
    Hangs { order: &'static str, after: Nanos, unfinished: usize, errors: String },
    /// A line that is no reply of this protocol.
    #[error("it answered {order:?} with what is no reply: {line:?} ({why})")]
    Garbage { order: &'static str, line: String, why: String },
    /// A line that does not end.
    #[error("it answered {order:?} with a line of more than {LONGEST_LINE} bytes")]
    TooLong { order: &'static str },
    /// It spoke without being asked.
    #[error("it spoke without being asked: {0:?}")]
    Unasked(String),
    /// A reply to another order.
    #[error("it answered {order:?} as if it were another order: {line:?}")]
    Mistaken { order: &'static str, line: String },
    /// It is another crosstalk.
    #[error(
        "it speaks protocol {protocol} of crosstalk {crosstalk}, and this is protocol {PROTOCOL} of crosstalk {}: was \
         the binary replaced during the run?",
        env!("CARGO_PKG_VERSION")
    )]
    Version { protocol: u64, crosstalk: String },
    /// It says itself what failed.
    #[error("{}{}", .0.what, code(.0.code))]
    Refused(Failed),
    /// It is where it should not be.
    #[error("{0}")]
    Misplaced(String),
    /// What it wrote into the region cannot be.
    #[error("its samples contradict themselves: {0}")]
    Samples(String),
    /// It cannot be started, or its pipes fail.
    #[error("{0}")]
    Io(String),
}

fn part(bytes: usize) -> String {
    if bytes == 0 { String::new() } else { format!(", but {bytes} bytes of an unfinished line") }
}

fn code(code: Option<u32>) -> String {
    code.map_or(String::new(), |code| format!(" (driver code {code})"))
}

/// What a process of tenants is started with.
pub(super) struct Launch<'a> {
    /// The program: crosstalk itself.
    pub(super) exe: &'a Path,
    /// What its environment holds beside ours.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// The seats that it serves, one at least.
    pub(super) seats: Vec<Berth>,
}

/// One seat of a process.
pub(super) struct Berth {
    /// Index of the seat.
    pub(super) seat: usize,
    /// The seat in words, for messages.
    pub(super) who: String,
    /// Cores of its threads; empty: all of ours.
    pub(super) cores: Vec<u32>,
    /// Rows of its region.
    pub(super) rows: usize,
}

/// A tenant that is up. With the last one of a process dropped, the process is killed.
pub(super) struct Tenant {
    /// Index of its seat.
    pub(super) seat: usize,
    /// The seat in words.
    pub(super) who: String,
    /// Its cores.
    pub(super) cores: Vec<u32>,
    /// Samples and progress.
    pub(super) region: Region,
    host: Rc<Host>,
    orders: Option<File>,
    replies: File,
    /// What was read and not yet taken.
    read: Vec<u8>,
    /// The order in flight: its name, when it was given, and by when it is to be answered.
    asked: Option<(&'static str, Nanos, Nanos)>,
}

/// The process of one tenant or several.
struct Host {
    process: RefCell<Process>,
    stderr: Stderr,
    /// Tenants that live in it.
    tenants: usize,
}

/// What a tenant is reached by. The ends that its process inherits are closed here once it runs.
struct Lines {
    memory: File,
    region: Region,
    orders: File,
    replies: File,
    /// Of a further seat: the other ends. The first one has the process's own input and output.
    theirs: Option<(OwnedFd, OwnedFd)>,
}

impl Tenant {
    /// Starts a process with one seat or more, in the order of `launch`. It dies with the thread that calls this (see
    /// [`Process::spawn`]).
    pub(super) fn start(launch: Launch<'_>) -> Result<Vec<Self>, Fault> {
        Self::start_without(launch, &[])
    }

    /// The same, with these variables of ours kept from its environment.
    pub(super) fn start_without(launch: Launch<'_>, kept: &[&str]) -> Result<Vec<Self>, Fault> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| Fault::Io(format!("{what}: {error}"))
        };
        let mut command = Command::new(launch.exe);
        command.arg("tenant");
        without_cuda_settings(&mut command);
        command.envs(launch.environment);
        for name in kept {
            command.env_remove(name);
        }
        let mut all = Vec::with_capacity(launch.seats.len());
        for (index, berth) in launch.seats.iter().enumerate() {
            let memory = memfd_create("crosstalk-region", MemfdFlags::CLOEXEC)
                .map_err(|e| failed("no memory for its samples")(e.into()))?;
            let memory = File::from(memory);
            let region = Region::create(&memory, berth.rows).map_err(failed("no memory for its samples"))?;
            let lines = io::pipe().and_then(|orders| Ok((orders, io::pipe()?)));
            let ((orders_in, orders), (replies, replies_out)) = lines.map_err(failed("no pipes"))?;
            let (orders, replies) = (File::from(OwnedFd::from(orders)), File::from(OwnedFd::from(replies)));
            // A tenant that does not read, or writes half a line, holds up nobody.
            for fd in [orders.as_fd(), replies.as_fd()] {
                fcntl_getfl(fd)
                    .and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK))
                    .map_err(|e| failed("its pipes")(e.into()))?;
            }
            let theirs = if index == 0 {
                command.arg("--region").arg(inherited(memory.as_fd()));
                command.stdin(orders_in).stdout(replies_out).stderr(Stdio::piped());
                None
            } else {
                let names = [memory.as_fd(), orders_in.as_fd(), replies_out.as_fd()].map(inherited);
                command.arg("--seat").arg(names.join(","));
                Some((OwnedFd::from(orders_in), OwnedFd::from(replies_out)))
            };
            all.push(Lines { memory, region, orders, replies, theirs });
        }
        let mut files: Vec<BorrowedFd<'_>> = Vec::new();
        for lines in &all {
            files.push(lines.memory.as_fd());
            files.extend(lines.theirs.iter().flat_map(|(orders, replies)| [orders.as_fd(), replies.as_fd()]));
        }
        // Its threads keep each to their seat's cores; a seat without any may run everywhere.
        let everywhere = launch.seats.iter().any(|berth| berth.cores.is_empty());
        let cores: Vec<u32> =
            if everywhere { Vec::new() } else { launch.seats.iter().flat_map(|berth| berth.cores.clone()).collect() };
        let mut process = Process::spawn(command, &files, &cores)
            .map_err(failed(&format!("{} cannot be started", launch.exe.display())))?;
        let Some(stderr) = process.child().stderr.take() else {
            return Err(Fault::Io("it was started without pipes".to_owned()));
        };
        let stderr = Stderr::keep(stderr).map_err(failed("no thread for its stderr"))?;
        let host = Rc::new(Host { process: RefCell::new(process), stderr, tenants: all.len() });
        let tenant = |(berth, lines): (Berth, Lines)| Self {
            seat: berth.seat,
            who: berth.who,
            cores: berth.cores,
            region: lines.region,
            host: Rc::clone(&host),
            orders: Some(lines.orders),
            replies: lines.replies,
            read: Vec::new(),
            asked: None,
        };
        Ok(launch.seats.into_iter().zip(all).map(tenant).collect())
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.host.process.borrow().id()
    }

    /// Whether an order waits for its answer.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Gives an order, to be answered within `limit`. The reply is for [`collect`].
    pub(super) fn order(&mut self, order: &Order, limit: Nanos) -> Result<(), Fault> {
        let (at, name) = (now(), order.name());
        self.receive()?;
        if !self.read.is_empty() {
            return Err(Fault::Unasked(quote(&self.read)));
        }
        let mut line = serde_json::to_vec(order).map_err(|e| Fault::Io(format!("the order {name:?}: {e}")))?;
        line.push(b'\n');
        if line.len() > LONGEST_LINE {
            return Err(Fault::Io(format!(
                "the order {name:?} has more than {LONGEST_LINE} bytes: name fewer programs"
            )));
        }
        self.asked = Some((name, at, at + limit));
        self.send(&line)
    }

    fn send(&mut self, mut line: &[u8]) -> Result<(), Fault> {
        while !line.is_empty() {
            let Some(orders) = &mut self.orders else { return Err(self.gone()) };
            match orders.write(line) {
                Ok(written) => line = &line[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let Some((order, asked, by)) = self.asked else { return Err(Fault::Io(error.to_string())) };
                    if now() >= by {
                        return Err(self.hangs(order, asked));
                    }
                    let mut fds = [PollFd::from_borrowed_fd(orders.as_fd(), PollFlags::OUT)];
                    // Whatever it says, the next turn looks again.
                    let _ = poll(&mut fds, Some(&timespec(by.saturating_sub(now()))));
                }
                // It no longer reads: most likely it ended.
                Err(_) => return Err(self.gone()),
            }
        }
        Ok(())
    }

    /// Takes in what it wrote, without waiting. A death is found here too, after the last line was read.
    fn receive(&mut self) -> Result<(), Fault> {
        let mut chunk = [0; 8192];
        let mut dead = false;
        loop {
            match self.replies.read(&mut chunk) {
                Ok(0) => return Err(self.gone()),
                Ok(length) => {
                    self.read.extend_from_slice(&chunk[..length]);
                    // The longest line, and the start of another that nobody asked for.
                    if self.read.len() > LONGEST_LINE + chunk.len() || self.line().is_some() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if dead {
                        return Err(self.gone());
                    }
                    // Ended, while something that it started holds the pipe: what it wrote before that is read first.
                    dead = self.host.process.borrow_mut().wait_until(Nanos::ZERO).is_some();
                    if !dead {
                        return Ok(());
                    }
                }
                Err(error) => return Err(Fault::Io(format!("its output cannot be read: {error}"))),
            }
        }
    }

    /// Length of the first line that was read.
    fn line(&self) -> Option<usize> {
        self.read.iter().position(|byte| *byte == b'\n')
    }

    /// The reply to the order in flight, where it has come.
    fn reply(&mut self) -> Result<Option<Reply>, Fault> {
        let received = self.receive();
        let Some((order, asked, by)) = self.asked else {
            received?;
            return if self.read.is_empty() { Ok(None) } else { Err(Fault::Unasked(quote(&self.read))) };
        };
        let Some(length) = self.line() else {
            received?;
            if self.read.len() > LONGEST_LINE {
                return Err(Fault::TooLong { order });
            }
            return if now() < by { Ok(None) } else { Err(self.hangs(order, asked)) };
        };
        let line: Vec<u8> = self.read.drain(..=length).collect();
        let line = &line[..length];
        self.asked = None;
        let reply: Reply = serde_json::from_slice(line).map_err(|error| {
            version(line).unwrap_or_else(|| Fault::Garbage { order, line: quote(line), why: error.to_string() })
        })?;
        match reply {
            Reply::Failed(failed) => Err(Fault::Refused(failed)),
            Reply::Hello { protocol, ref crosstalk, .. }
                if protocol != PROTOCOL || crosstalk != env!("CARGO_PKG_VERSION") =>
            {
                Err(Fault::Version { protocol: protocol.into(), crosstalk: crosstalk.clone() })
            }
            reply if answers(&reply) != order => Err(Fault::Mistaken { order, line: quote(line) }),
            reply => Ok(Some(reply)),
        }
    }

    fn hangs(&self, order: &'static str, asked: Nanos) -> Fault {
        let after = Nanos::millis(now().saturating_sub(asked).0 / 1_000_000);
        Fault::Hangs { order, after, unfinished: self.read.len(), errors: self.host.stderr.tail() }
    }

    /// Its pipes are closed: how it ended.
    fn gone(&mut self) -> Fault {
        let Host { process, stderr, tenants } = &*self.host;
        match process.borrow_mut().wait_until(now() + LAST_BREATH) {
            Some(status) => {
                let mut how = ended(status);
                if *tenants > 1 {
                    how.push_str(&format!(", and all {tenants} tenants that it holds with it"));
                }
                Fault::Died { how, errors: stderr.last() }
            }
            None => Fault::Closed { errors: stderr.last() },
        }
    }

    /// Sends its process a signal.
    pub(super) fn signal(&self, signal: Signal) {
        self.host.process.borrow_mut().signal(signal);
    }

    /// How its process ended, where it does so by `until`.
    pub(super) fn ended_by(&self, until: Nanos) -> Option<String> {
        self.host.process.borrow_mut().wait_until(until).map(ended)
    }

    /// Tells it to free everything and end, and nothing more after that.
    pub(super) fn farewell(&mut self, limit: Nanos) {
        // One that cannot be told finds its orders closed.
        let _ = self.order(&Order::End {}, limit);
        self.orders = None;
    }

    /// Kills its process: whether it hangs in the driver, and lives on.
    pub(super) fn kill(&mut self) -> bool {
        let mut process = self.host.process.borrow_mut();
        process.kill();
        process.stuck()
    }

    /// Waits until `deadline` for its process, which was told to end; then it is killed, `before_kill` being told of it.
    fn end(&mut self, deadline: Nanos, before_kill: &dyn Fn(u32)) {
        let mut process = self.host.process.borrow_mut();
        if process.wait_until(deadline).is_none() {
            before_kill(process.id());
        }
        process.kill();
    }
}

/// Tenants are told to end, and killed where they do not within `limit`, `before_kill` being told of it.
pub(super) fn end_all(tenants: &mut [Tenant], limit: Nanos, before_kill: &dyn Fn(u32)) {
    let deadline = now() + limit;
    for tenant in &mut *tenants {
        tenant.farewell(limit);
    }
    for tenant in tenants {
        tenant.end(deadline, before_kill);
    }
}

/// Kills those that have not ended, `before_kill` being told of each. Says who lives on, in a driver call that no signal
/// ends.
pub(super) fn kill_all(tenants: &mut [Tenant], before_kill: &dyn Fn(u32)) -> Option<String> {
    for tenant in &*tenants {
        if tenant.host.process.borrow_mut().wait_until(now()).is_none() {
            before_kill(tenant.pid());
        }
    }
    let mut stuck: Vec<(u32, Vec<String>)> = Vec::new();
    for tenant in tenants {
        if !tenant.kill() {
            continue;
        }
        let pid = tenant.pid();
        match stuck.iter_mut().find(|(known, _)| *known == pid) {
            Some((_, who)) => who.push(tenant.who.clone()),
            None => stuck.push((pid, vec![tenant.who.clone()])),
        }
    }
    let stuck: Vec<String> = stuck.into_iter().map(|(pid, who)| format!("pid {pid} ({})", who.join(", "))).collect();
    (!stuck.is_empty()).then(|| stuck_words(&stuck))
}

/// Waits until every tenant that was asked has answered. Calls `tick` at `first` and every `every` from then on. Whatever
/// happens to any of them meanwhile, asked or not, ends the wait: its index, and what happened.
pub(super) fn collect(
    tenants: &mut [Tenant],
    first: Nanos,
    every: Nanos,
    tick: &mut dyn FnMut(&[Tenant]),
) -> Result<Vec<Option<Reply>>, (usize, Fault)> {
    let mut replies: Vec<Option<Reply>> = tenants.iter().map(|_| None).collect();
    let mut next_tick = first;
    loop {
        for (index, tenant) in tenants.iter_mut().enumerate() {
            if let Some(reply) = tenant.reply().map_err(|fault| (index, fault))? {
                replies[index] = Some(reply);
            }
        }
        if now() >= next_tick {
            tick(tenants);
            // After a pause of the machine the ticks go on from here: none is made up for.
            next_tick = (next_tick + every).max(now());
        }
        if tenants.iter().all(|tenant| tenant.asked.is_none()) {
            return Ok(replies);
        }
        wait(tenants, next_tick);
    }
}

/// Watches tenants that were asked nothing, until `until` or until `done`, which is asked every `every`.
pub(super) fn attend(
    tenants: &mut [Tenant],
    until: Nanos,
    every: Nanos,
    done: &mut dyn FnMut(&[Tenant]) -> bool,
) -> Result<(), (usize, Fault)> {
    loop {
        for (index, tenant) in tenants.iter_mut().enumerate() {
            tenant.reply().map_err(|fault| (index, fault))?;
        }
        if done(tenants) || now() >= until {
            return Ok(());
        }
        wait(tenants, until.min(now() + every));
    }
}

/// Waits until a tenant writes or ends, or an answer is overdue, or `until`.
fn wait(tenants: &[Tenant], until: Nanos) {
    let due = tenants.iter().filter_map(|tenant| tenant.asked).map(|(_, _, by)| by).min();
    let until = due.unwrap_or(until).min(until);
    let processes: Vec<Ref<'_, Process>> = tenants.iter().map(|tenant| tenant.host.process.borrow()).collect();
    let fds = tenants.iter().zip(&processes).flat_map(|(tenant, process)| [tenant.replies.as_fd(), process.pidfd()]);
    let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    match poll(&mut fds, Some(&timespec(until.saturating_sub(now())))) {
        Ok(_) | Err(Errno::INTR) => {}
        // Out of memory, in the kernel: look again a little later.
        Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
    }
}

/// The order that `reply` answers.
fn answers(reply: &Reply) -> &'static str {
    match reply {
        Reply::Hello { .. } => "hello",
        Reply::Loaded(_) => "load",
        Reply::Window(_) => "window",
        Reply::Noise {} => "noise",
        Reply::Quiet(_) => "quiet",
        Reply::Examined(_) => "examine",
        Reply::Answered(_) => "ask",
        Reply::Ended {} => "end",
        Reply::Failed(_) => "failed",
    }
}

/// A greeting in another version's words: its numbers, where it says them.
fn version(line: &[u8]) -> Option<Fault> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let hello = value.get("hello")?;
    let protocol = hello.get("protocol")?.as_u64()?;
    let crosstalk = hello.get("crosstalk").and_then(|v| v.as_str()).unwrap_or("(not told)");
    (protocol != u64::from(PROTOCOL)).then(|| Fault::Version { protocol, crosstalk: crosstalk.to_owned() })
}

fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTED)]).into_owned();
    if bytes.len() > QUOTED { text + "…" } else { text }
}
