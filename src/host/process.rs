//! Processes that end with this one: own process group, killed when the parent dies, waited for by pidfd.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, kill_process, kill_process_group, pidfd_open,
    set_parent_process_death_signal,
};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::clock::{now, timespec};
use crate::units::Nanos;

/// How long a killed process is waited for. One in an uninterruptible call of a driver stays, and is left.
const REAP: Nanos = Nanos::secs(10);

/// A child process and everything that it starts. Dropped, it is killed and waited for, ten seconds at most.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    status: Option<ExitStatus>,
    /// Killed, and did not end in time.
    stuck: bool,
}

impl Process {
    /// Starts `command` in a process group of its own, so that a terminal's Ctrl-C does not reach it, on `cores` (all
    /// that this process has where empty). It inherits `files` under the same numbers, and no other file of ours: all
    /// else is opened close-on-exec.
    ///
    /// The kernel kills it when the *thread* that called this ends, however that happens: call it from a thread that
    /// lives as long as the run.
    ///
    /// # Errors
    /// Where the program cannot be started.
    pub fn spawn(mut command: Command, files: &[BorrowedFd<'_>], cores: &[u32]) -> io::Result<Self> {
        let parent = getpid();
        let files: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let mut set = CpuSet::new();
        cores.iter().filter(|core| (**core as usize) < CpuSet::MAX_CPU).for_each(|core| set.set(*core as usize));
        command.process_group(0);
        // SAFETY: between fork and exec only async-signal-safe work is done: system calls on values made before the
        // fork, no allocation and no lock; errors are made from numbers. `files` are open in the child, which has a copy
        // of every descriptor of the parent, and the parent's are borrowed for the length of this call.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                // A parent that died before that line sends no signal any more: somebody else has adopted us.
                if getppid() != Some(parent) {
                    return Err(Errno::SRCH.into());
                }
                if set.count() > 0 {
                    sched_setaffinity(None, &set)?;
                }
                for fd in &files {
                    let fd = BorrowedFd::borrow_raw(*fd);
                    fcntl_setfd(fd, fcntl_getfd(fd)? - FdFlags::CLOEXEC)?;
                }
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { child, pid, pidfd, status: None, stuck: false }),
            Err(error) => {
                // Without the descriptor nobody could tell when it ends.
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child's pipes, to be taken.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Becomes readable when the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for it to end until `deadline`; `None` where it still runs. Whatever it started ends with it.
    pub fn wait_until(&mut self, deadline: Nanos) -> Option<ExitStatus> {
        if self.status.is_none() && readable(self.pidfd.as_fd(), deadline) {
            self.reap();
        }
        self.status
    }

    /// Kills it with everything that it started, and waits for it: ten seconds at most, and only once.
    pub fn kill(&mut self) {
        if self.status.is_none() {
            self.reap();
        }
    }

    /// Sends it a signal, where it has not ended.
    pub fn signal(&mut self, signal: Signal) {
        // Until it is waited for its number belongs to nobody else; one that has just ended heeds nothing.
        if self.status.is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Its group is killed before it is waited for: until then its number belongs to nobody else.
    fn reap(&mut self) {
        self.reap_within(REAP);
    }

    fn reap_within(&mut self, limit: Nanos) {
        let _ = kill_process_group(self.pid, Signal::KILL);
        let limit = if self.stuck { Nanos::ZERO } else { limit };
        // A process that hangs in the driver does not die of any signal; one that somebody traces has ended, and is not
        // ours to collect yet.
        if readable(self.pidfd.as_fd(), now() + limit) {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.stuck = self.status.is_none();
    }

    /// Whether it was killed and lives on, in a call that no signal ends.
    pub fn stuck(&self) -> bool {
        self.stuck
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Of processes that were killed and live on ([`Process::stuck`]), each as "pid 7 (who)": what it means, and what an operator
/// must do.
pub fn stuck_words(stuck: &[String]) -> String {
    let verb = if stuck.len() == 1 { "is" } else { "are" };
    format!(
        "{} {verb} stuck in the driver: killed, and still there, in a call that no signal ends; look for NVRM and Xid in \
         `dmesg`, and reboot the node before its GPU is used again",
        stuck.join(", ")
    )
}

/// Waits until `fd` is readable or `deadline` has passed: whether it is.
pub(crate) fn readable(fd: BorrowedFd<'_>, deadline: Nanos) -> bool {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(deadline.saturating_sub(now())))) {
            Ok(0) if now() >= deadline => return false,
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

/// The state of a process as /proc has it: R, S, D for one in a call that no signal ends, Z for one that has ended; `None`:
/// it is gone.
pub fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    stat.get(stat.rfind(')')? + 1..)?.trim_start().chars().next()
}

/// How a process ended, in words.
pub fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => match Signal::from_named_raw(signal).map(name) {
            Some(name) => format!("was killed by signal {signal} ({name})"),
            None => format!("was killed by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

/// The signals that end a tenant in practice.
fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::HUP => "SIGHUP",
        Signal::INT => "SIGINT",
        Signal::ILL => "SIGILL",
        Signal::ABORT => "SIGABRT",
        Signal::BUS => "SIGBUS",
        Signal::FPE => "SIGFPE",
        Signal::KILL => "SIGKILL: somebody, or the kernel for want of memory",
        Signal::SEGV => "SIGSEGV",
        Signal::TERM => "SIGTERM",
        _ => "see signal(7)",
    }
}

/// An inherited file as the child names it.
pub fn inherited(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::process::Stdio;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        Process::spawn(command, &[File::open("/dev/null").unwrap().as_fd()], &[]).unwrap()
    }

    fn alive(pid: u32) -> bool {
        // A zombie that its own parent has yet to collect runs no more.
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn what_a_process_started_dies_with_it() {
        let mut process = shell("sleep 1000 & echo $!; sleep 1000");
        let mut line = [0; 32];
        let length = process.child().stdout.as_mut().unwrap().read(&mut line).unwrap();
        let grandchild: u32 = std::str::from_utf8(&line[..length]).unwrap().trim().parse().unwrap();
        assert!(alive(grandchild));
        assert_eq!(process.wait_until(now() + Nanos::millis(10)), None, "both still run");
        let pid = process.id();
        drop(process);
        assert!(!alive(pid));
        let limit = now() + Nanos::secs(20);
        while alive(grandchild) && now() < limit {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!alive(grandchild));
    }

    #[test]
    fn a_signal_reaches_it_and_its_state_is_told() {
        let mut process = shell("trap '' INT; exec sleep 1000");
        let pid = process.id();
        let until = now() + Nanos::secs(20);
        while state_of(pid) != Some('S') && now() < until {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(state_of(pid), Some('S'));
        process.signal(Signal::TERM);
        let how = process.wait_until(now() + Nanos::secs(20)).map(ended);
        assert_eq!(how.as_deref(), Some("was killed by signal 15 (SIGTERM)"));
        assert_eq!(state_of(pid), None);
        process.signal(Signal::KILL);
    }

    #[test]
    fn what_no_signal_ends_is_left_and_said_to_be_stuck() {
        let mut process = shell("sleep 1000");
        // No process dies in no time; a driver call that hangs cannot be had here.
        process.pidfd = silent();
        let begun = now();
        process.reap_within(Nanos::millis(20));
        assert!(process.stuck() && process.status.is_none());
        process.kill();
        assert!(process.stuck() && now() < begun + REAP, "it is waited for once");
        let _ = process.child.wait();
        let mut ends = shell("sleep 1000");
        ends.kill();
        assert!(!ends.stuck() && ends.status.is_some());
    }

    /// A descriptor that never becomes readable: a pipe whose other end is kept by nobody but this process.
    fn silent() -> OwnedFd {
        let (reader, writer) = std::io::pipe().unwrap();
        std::mem::forget(writer);
        reader.into()
    }

    #[test]
    fn how_it_ended_is_told() {
        let far = || now() + Nanos::secs(60);
        assert_eq!(ended(shell("exit 3").wait_until(far()).unwrap()), "ended with exit code 3");
        let killed = ended(shell("kill -SEGV $$").wait_until(far()).unwrap());
        assert_eq!(killed, "was killed by signal 11 (SIGSEGV)");
    }

    #[test]
    fn a_process_dies_with_the_thread_that_started_it() {
        let process = std::thread::spawn(|| shell("sleep 1000")).join().unwrap();
        let mut process = process;
        let status = process.wait_until(now() + Nanos::secs(60)).unwrap();
        assert_eq!(status.signal(), Some(9));
    }

    #[test]
    fn the_files_named_are_inherited_and_no_other() {
        let mut ours = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        let other = tempfile::tempfile().unwrap();
        ours[0].write_all(b"hel").unwrap();
        ours[1].write_all(b"lo").unwrap();
        let mut command = Command::new("sh");
        let script = format!("cat \"$0\" \"$1\"; test -e /proc/self/fd/{} && echo leaked", other.as_raw_fd());
        command.arg("-c").arg(script).stdin(Stdio::null()).stdout(Stdio::piped());
        command.args(ours.iter().map(|file| inherited(file.as_fd())));
        let mut process = Process::spawn(command, &[ours[0].as_fd(), ours[1].as_fd()], &[]).unwrap();
        let mut said = String::new();
        process.child().stdout.as_mut().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");
    }
}
