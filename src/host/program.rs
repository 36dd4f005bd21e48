//! Programs that are asked one thing: run to their end, within a time, and all that they say.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Command, ExitStatus, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};

use super::clock::now;
use super::process::Process;
use crate::units::Nanos;

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
}

/// Runs `command` to its end with `input` as its standard input. `None`: it had not ended within `limit`, and is killed and
/// waited for, with whatever it started. What it says on standard error is dropped.
///
/// # Errors
/// Where it cannot be started.
pub(crate) fn ask(mut command: Command, input: &str, limit: Nanos) -> io::Result<Option<Answer>> {
    // A file has room for whatever it says; a pipe that nobody reads meanwhile would hold it up.
    let mut said = memory()?;
    command.stdin(Stdio::piped()).stdout(said.try_clone()?).stderr(Stdio::null());
    let mut process = Process::spawn(command, &[said.as_fd()], &[])?;
    if let Some(mut stdin) = process.child().stdin.take() {
        // One that reads nothing ends with an error, which says more.
        let _ = stdin.write_all(input.as_bytes());
    }
    let status = process.wait_until(now() + limit);
    Ok(status.map(|status| Answer { status, said: whole(&mut said) }))
}

/// A file in memory.
pub(crate) fn memory() -> io::Result<File> {
    Ok(File::from(memfd_create("crosstalk-said", MemfdFlags::CLOEXEC)?))
}

/// All that was written to a file.
pub(crate) fn whole(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
    if read.is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Its lines joined.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_is_given_its_input_and_heard_to_its_end() {
        let answer = ask(shell("cat; exit 3"), "hello\n", Nanos::secs(20)).unwrap().unwrap();
        assert_eq!((answer.said.as_str(), answer.status.code()), ("hello\n", Some(3)));
        let long = ask(shell("head -c 300000 /dev/zero"), "", Nanos::secs(20)).unwrap().unwrap();
        assert_eq!(long.said.len(), 300_000, "more than a pipe holds");
        assert!(ask(Command::new("/nowhere/nvidia-smi"), "", Nanos::secs(1)).is_err());
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_is_no_zombie() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        let script = format!("sleep 1000 & echo $$ $! > {}.new; mv {0}.new {0}; wait", file.display());
        // Long enough for a shell to say who it is, on any machine.
        assert!(ask(shell(&script), "", Nanos::secs(2)).unwrap().is_none());
        let pids = std::fs::read_to_string(&file).unwrap();
        let state = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        let mut pids = pids.split_whitespace();
        assert_eq!(state(pids.next().unwrap()), None, "it is waited for");
        // Its own child is killed too, and init's to wait for.
        let child = pids.next().unwrap();
        let dead = || state(child).is_none_or(|s| s.contains(") Z ") || s.contains(") X "));
        let until = now() + Nanos::secs(20);
        while !dead() && now() < until {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(dead(), "{:?}", state(child));
    }
}
