//! How to speak with a control daemon: a command a time, through NVIDIA's own program, each with a deadline.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::process::ended;
use crate::host::program::{self, Answer, one_line};
use crate::units::Nanos;

/// NVIDIA's program: the daemon, and the interface to it.
pub(super) const PROGRAM: &str = "nvidia-cuda-mps-control";
/// Names the pipe directory.
pub(super) const PIPE: &str = "CUDA_MPS_PIPE_DIRECTORY";
/// Names the log directory.
pub(super) const LOG: &str = "CUDA_MPS_LOG_DIRECTORY";
/// Where pipes lie unless somebody says otherwise (MPS documentation, "Environment variables").
const USUAL: &str = "/tmp/nvidia-mps";
/// How long a command may take. The daemon answers from memory.
pub(super) const ANSWER: Nanos = Nanos::secs(5);
/// Bytes of a log that are quoted.
const QUOTED: u64 = 4096;
/// What a log says of processes that are not its user's, and of no interest.
const HARMLESS: &str = "User did not send valid credentials";

/// A control daemon as its interface knows it: by its pipe directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Control {
    program: PathBuf,
    pub(super) pipe: PathBuf,
}

/// Why a command was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ControlError {
    /// There is no such program.
    #[error(
        "{PROGRAM} is not there ({0}); it comes with the driver (packages nvidia-compute-utils or \
         nvidia-driver-cuda), and in a container needs NVIDIA_DRIVER_CAPABILITIES=compute,utility"
    )]
    NoProgram(String),
    /// The interface says no: most likely there is no daemon.
    #[error("`{command}` to the MPS control daemon at {}: {said}", .pipe.display())]
    Refused { command: String, pipe: PathBuf, said: String },
    /// No answer in time.
    #[error(
        "the MPS control daemon at {} has not answered `{command}` within {limit}: it hangs; look for NVRM and Xid in \
         `dmesg`", .pipe.display()
    )]
    Hangs { command: String, pipe: PathBuf, limit: Nanos },
}

impl Control {
    /// The daemon at this pipe directory.
    pub(super) fn at(pipe: PathBuf) -> Self {
        Self { program: PathBuf::from(PROGRAM), pipe }
    }

    /// The daemon that CUDA programs of this user would find, if there is one.
    pub(super) fn usual() -> Self {
        Self::at(std::env::var_os(PIPE).map_or_else(|| PathBuf::from(USUAL), PathBuf::from))
    }

    /// The program with this daemon's pipe directory in its environment.
    pub(super) fn program(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env(PIPE, &self.pipe);
        command
    }

    /// What the daemon answers.
    pub(super) fn ask(&self, command: &str, limit: Nanos) -> Result<String, ControlError> {
        let answer = program::ask(self.program(), &format!("{command}\n"), limit);
        let answer = answer.map_err(|e| ControlError::NoProgram(e.to_string()))?;
        let (command, pipe) = (command.to_owned(), self.pipe.clone());
        let Some(Answer { status, said }) = answer else { return Err(ControlError::Hangs { command, pipe, limit }) };
        if status.success() {
            return Ok(said);
        }
        let said = if said.trim().is_empty() { ended(status) } else { one_line(&said) };
        Err(ControlError::Refused { command, pipe, said })
    }

    /// Process ids of its servers.
    pub(super) fn servers(&self) -> Result<Vec<u32>, ControlError> {
        Ok(numbers(&self.ask("get_server_list", ANSWER)?))
    }

    /// Process ids of the clients of a server.
    pub(super) fn clients(&self, server: u32) -> Result<Vec<u32>, ControlError> {
        Ok(numbers(&self.ask(&format!("get_client_list {server}"), ANSWER)?))
    }

    /// The state of a server in the daemon's word ("ACTIVE").
    pub(super) fn status(&self, server: u32) -> Result<String, ControlError> {
        Ok(one_line(&self.ask(&format!("get_server_status {server}"), ANSWER)?))
    }

    /// Asks for the end of a server, which comes once its last client has left: its answer.
    pub(super) fn shut_down(&self, server: u32) -> Result<String, ControlError> {
        Ok(one_line(&self.ask(&format!("shutdown_server {server}"), ANSWER)?))
    }

    /// Takes a client's work off the GPU, so that it can be killed without harm to the others.
    pub(super) fn terminate(&self, server: u32, client: u32) -> Result<String, ControlError> {
        Ok(one_line(&self.ask(&format!("terminate_client {server} {client}"), ANSWER)?))
    }
}

/// The lines that are numbers. Everything else is words for people ("No server", "Server not found").
fn numbers(text: &str) -> Vec<u32> {
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// The end of a log file, harmless lines left out; `None` where it is empty or not there.
pub(super) fn tail(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(QUOTED))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().skip(usize::from(length > QUOTED)).filter(|l| !l.contains(HARMLESS)).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The id of a partition in what `sm_partition add` says: "GPU-…/…".
pub(super) fn partition_id(said: &str, gpu: &str) -> Option<String> {
    let prefix = format!("{gpu}/");
    let word = said.split_whitespace().find(|word| word.starts_with(&prefix) && word.len() > prefix.len())?;
    Some(word.trim_end_matches([',', '.', ';']).to_owned())
}

/// Chunks of SMs of a GPU and the SMs in them, free and used, from the line of `lspart` for the GPU as a whole:
/// "GPU-74d43ed3 - 7 7 28 28 -", that is GPU, partition, free and used chunks, free and used SMs, clients. The name of
/// the GPU is cut there.
pub(super) fn chunks(listed: &str, gpu: &str) -> Option<(u32, u32)> {
    listed.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, "-", numbers @ .., _] = words.as_slice() else { return None };
        let same = name.len() > "GPU-".len() && gpu.starts_with(*name);
        let [free, used, free_sms, used_sms] = numbers else { return None };
        let number = |word: &str| word.parse::<u32>().ok();
        if same { Some((number(free)? + number(used)?, number(free_sms)? + number(used_sms)?)) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_the_lines_that_are_numbers() {
        assert_eq!(numbers("12345\n12346\n"), [12345, 12346]);
        assert!(numbers("").is_empty());
        assert!(numbers("No server\n").is_empty());
        assert_eq!(numbers("Server 42 not found\n7\n"), [7]);
    }

    #[test]
    fn a_partition_is_known_by_its_gpu_however_it_is_announced() {
        let gpu = "GPU-74d43ed3-cdf7-e667-3644-bf5b4f46ed65";
        let id = format!("{gpu}/Dx4AAAA");
        assert_eq!(partition_id(&format!("{id}\n"), gpu).as_ref(), Some(&id));
        assert_eq!(partition_id(&format!("Partition {id} created\n"), gpu).as_ref(), Some(&id));
        let failed = "Failed to fulfill the requested SM partition of 28 chunks, error CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION";
        assert_eq!(partition_id(failed, gpu), None);
        assert_eq!(partition_id(&format!("{gpu}/"), gpu), None);
    }

    #[test]
    fn chunks_come_from_the_line_of_the_whole_gpu() {
        let listed = "GPU                Partition   free   used   free  used  clients\n\
                      \x20                              chunk  chunk  SM    SM\n\
                      GPU-74d43ed3       -           7      7      28    28    -\n\
                      GPU-74d43ed3       Dx4AAAAA    -      7      -     28    Yes\n";
        assert_eq!(chunks(listed, "GPU-74d43ed3-cdf7-e667-3644-bf5b4f46ed65"), Some((14, 56)));
        assert_eq!(chunks(listed, "GPU-00000000-cdf7-e667-3644-bf5b4f46ed65"), None);
        assert_eq!(chunks("", "GPU-74d43ed3"), None);
    }

    #[test]
    fn of_a_log_its_end_is_quoted_without_what_is_harmless() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        assert_eq!(tail(&path), None);
        std::fs::write(&path, "a\nUser did not send valid credentials\nb\n").unwrap();
        assert_eq!(tail(&path).as_deref(), Some("a\nb"));
        std::fs::write(&path, format!("{}\nlast\n", "x".repeat(9000))).unwrap();
        assert_eq!(tail(&path).as_deref(), Some("last"));
    }

    #[test]
    fn a_program_that_is_missing_hangs_or_fails_is_told_apart() {
        let with = |program: &str| Control { program: program.into(), pipe: "/nonexistent".into() };
        let error = with("/nonexistent/nvidia-cuda-mps-control").ask("quit", ANSWER).unwrap_err();
        assert!(error.to_string().contains("comes with the driver"), "{error}");
        assert_eq!(with("cat").ask("quit -t 1", ANSWER).as_deref(), Ok("quit -t 1\n"));
        assert!(matches!(with("false").ask("quit", ANSWER), Err(ControlError::Refused { .. })));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hangs");
        std::fs::write(&path, "#!/bin/sh\nsleep 1000\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let hangs = Control { program: path, pipe: "/nonexistent".into() };
        let error = hangs.ask("quit", Nanos::millis(100)).unwrap_err();
        assert!(error.to_string().contains("has not answered `quit`"), "{error}");
    }
}
