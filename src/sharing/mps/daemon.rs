//! A control daemon of our own: started in the foreground as a child of this process, asked for its server, taken down.
//!
//! `-f` keeps the daemon a child that can be waited for, killed, and that the kernel kills with us; `-d` would leave a
//! process that only its pipe directory names.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::control::{Control, ControlError, LOG, PROGRAM, tail};
use super::folder::{Folder, kill_all};
use crate::host::clock::now;
use crate::host::environment::without_cuda_settings;
use crate::host::process::{Process, ended, stuck_words};
use crate::host::program::{memory, one_line, whole};
use crate::units::Nanos;

/// How long a daemon may take to answer, and its server to come up: it creates contexts.
const UP: Nanos = Nanos::secs(30);
/// How often it is asked meanwhile.
const EVERY: Duration = Duration::from_millis(20);
/// Seconds that `quit` grants the server. The clients are gone by then.
const QUIT: u64 = 5;
/// How long the daemon is waited for after `quit`, and after SIGTERM.
const LEAVES: [Nanos; 2] = [Nanos::secs(2), Nanos::secs(2)];

/// A control daemon of ours. Dropped, it is taken down.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) control: Control,
    process: Option<Process>,
    /// What it wrote on its own.
    output: File,
    folder: Folder,
}

impl Daemon {
    /// Starts a daemon for the device with this UUID. `partitioned`: with static partitions of SMs.
    ///
    /// The kernel kills it with the thread that calls this: see [`Process::spawn`].
    pub(super) fn start(device: &str, partitioned: bool) -> Result<Self, String> {
        let folder = Folder::create().map_err(|e| format!("no private directory for the MPS control daemon: {e}"))?;
        let control = Control::at(folder.pipe());
        let output = memory().map_err(|e| format!("no memory for what the MPS control daemon says: {e}"))?;
        let mut command = control.program();
        without_cuda_settings(&mut command);
        command.arg("-f").args(partitioned.then_some("-S"));
        command.env(super::control::PIPE, folder.pipe()).env(LOG, folder.log());
        command.env("CUDA_VISIBLE_DEVICES", device).env("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        let out = || output.try_clone().map(Stdio::from);
        let started = out().and_then(|stdout| Ok((stdout, out()?))).and_then(|(stdout, stderr)| {
            command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
            Process::spawn(command, &[output.as_fd()], &[])
        });
        let process = started.map_err(|e| ControlError::NoProgram(e.to_string()).to_string())?;
        let mut daemon = Self { control, process: Some(process), output, folder };
        daemon.answers()?;
        Ok(daemon)
    }

    /// Waits until it answers.
    fn answers(&mut self) -> Result<(), String> {
        let until = now() + UP;
        loop {
            if let Some(status) = self.process.as_mut().and_then(|p| p.wait_until(now())) {
                let how = ended(status);
                return Err(self.told(&format!("{PROGRAM} {how} instead of serving")));
            }
            match self.control.servers() {
                Ok(_) => return Ok(()),
                Err(ControlError::Refused { .. }) if now() < until => std::thread::sleep(EVERY),
                Err(error) => return Err(self.told(&error.to_string())),
            }
        }
    }

    /// Starts the server for this user, and waits until it is there: its process id.
    pub(super) fn serve(&mut self) -> Result<u32, String> {
        Self::server_of(&self.control).map(|(server, _)| server).map_err(|why| self.told(&why))
    }

    /// The server of a daemon for this user, and whether it was started for that: where there was none.
    pub(super) fn server_of(control: &Control) -> Result<(u32, bool), String> {
        let servers = || control.servers().map_err(|e| e.to_string());
        let mut there = servers()?;
        let mut said = String::new();
        let started = there.is_empty();
        if started {
            let start = format!("start_server -uid {}", geteuid().as_raw());
            said = one_line(&control.ask(&start, UP).map_err(|e| e.to_string())?);
        }
        let until = now() + UP;
        loop {
            match there.as_slice() {
                [server] => return Ok((ready(control, *server, until)?, started)),
                // Where it said why, nothing is on its way.
                [] if said.is_empty() && now() < until => std::thread::sleep(EVERY),
                [] if said.is_empty() => return Err(format!("no MPS server came up within {UP}")),
                [] => return Err(format!("no MPS server came up: {said}")),
                several => return Err(format!("several MPS servers are up: {several:?}")),
            }
            there = servers()?;
        }
    }

    /// The log file of the server, and that of the daemon.
    pub(super) fn logs(&self) -> [PathBuf; 2] {
        ["server.log", "control.log"].map(|name| self.folder.log().join(name))
    }

    /// `what`, with what the daemon and its logs say.
    pub(super) fn told(&mut self, what: &str) -> String {
        let mut text = what.to_owned();
        let said = one_line(&whole(&mut self.output));
        if !said.is_empty() {
            text.push_str(&format!("; it said: {said}"));
        }
        for log in self.logs() {
            if let (Some(end), Some(name)) = (tail(&log), log.file_name()) {
                text.push_str(&format!("; {} ends: {}", name.to_string_lossy(), one_line(&end)));
            }
        }
        text
    }

    /// Takes it down: `quit`, then SIGTERM, then SIGKILL; its server with it.
    ///
    /// # Errors
    /// Where something of it lives on.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        // Whatever it answers: its end counts.
        let _ = self.control.ask(&format!("quit -t {QUIT}"), Nanos::secs(QUIT) + LEAVES[0]);
        if process.wait_until(now() + LEAVES[0]).is_none() {
            if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let _ = process.wait_until(now() + LEAVES[1]);
        }
        process.kill();
        // A server that its daemon left behind.
        kill_all(&self.control.pipe);
        if process.stuck() {
            return Err(stuck_words(&[format!("pid {} (the MPS control daemon)", process.id())]));
        }
        Ok(())
    }
}

/// Waits until a server takes clients.
fn ready(control: &Control, server: u32, until: Nanos) -> Result<u32, String> {
    loop {
        // Drivers that do not know the command have servers that are ready when they are listed.
        let status = control.status(server).unwrap_or_default().to_ascii_uppercase();
        if status.contains("FAULT") {
            return Err(format!("MPS server {server} is in state {status}"));
        }
        if !status.contains("INITIALIZING") {
            return Ok(server);
        }
        if now() >= until {
            return Err(format!("MPS server {server} is still in state {status} after {UP}"));
        }
        std::thread::sleep(EVERY);
    }
}

impl Daemon {
    /// Its process id.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.stop();
    }
}
