//! The compute policy, for which NVML has no call: `nvidia-smi` is asked.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take: without persistence mode a driver initialises every GPU of a node first.
const ANSWER: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// How long a process has the GPU before it is another one's turn. NVIDIA publishes no milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSlice {
    /// As the driver likes.
    Default,
    /// Short.
    Short,
    /// Medium.
    Medium,
    /// Long.
    Long,
}

impl std::fmt::Display for TimeSlice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Short => "short",
            Self::Medium => "medium",
            Self::Long => "long",
        })
    }
}

/// The level of the GPU `uuid`, or why it is not known.
///
/// # Errors
/// Where `nvidia-smi` is not there, does not answer, or says something else.
pub fn time_slice(uuid: &str) -> Result<TimeSlice, String> {
    let mut command = Command::new("nvidia-smi");
    command.args(["compute-policy", "-i", uuid, "--list"]);
    let text = output(command)?;
    parse(&text).ok_or_else(|| {
        let said: String =
            text.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing").chars().take(80).collect();
        format!("nvidia-smi compute-policy names none: it says {said:?}")
    })
}

/// What `command` prints, where it ends well and in time.
fn output(mut command: Command) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("nvidia-smi cannot be run: {e}"))?;
    let until = Instant::now() + ANSWER;
    // It prints a few lines, which the pipe holds.
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(POLL),
            Ok(None) => {
                let _ = child.kill();
                return Err(format!("nvidia-smi has not answered for {} s", ANSWER.as_secs()));
            }
            Err(e) => return Err(format!("nvidia-smi: {e}")),
        }
    };
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut text).map_err(|e| format!("nvidia-smi: {e}"))?;
    }
    if status.success() { Ok(text) } else { Err(format!("nvidia-smi compute-policy ended with {status}")) }
}

/// The first level named behind "timeslice": the table around it differs from driver to driver.
fn parse(text: &str) -> Option<TimeSlice> {
    let lower = text.to_lowercase();
    let line = lower.lines().find_map(|line| line.split_once("timeslice").map(|(_, rest)| rest))?;
    line.split(|c: char| !c.is_ascii_alphanumeric()).find_map(|word| match word {
        "default" => Some(TimeSlice::Default),
        "short" => Some(TimeSlice::Short),
        "medium" => Some(TimeSlice::Medium),
        "long" => Some(TimeSlice::Long),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_whatever_is_drawn_around_it() {
        assert_eq!(parse("GPU  0: Timeslice: Default\n"), Some(TimeSlice::Default));
        let table = "+------------+\n| GPU compute policies: |\n|  0     timeslice    Medium  |\n+------------+\n";
        assert_eq!(parse(table), Some(TimeSlice::Medium));
        for text in ["", "No devices were found\n", "GPU 0: Timeslice: 7\n", "Default\n"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_program_that_fails_tells_no_level() {
        let run = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            output(command)
        };
        assert_eq!(run("echo short").as_deref(), Ok("short\n"));
        assert!(run("exit 3").is_err_and(|why| why.contains("exit status: 3")));
        assert!(output(Command::new("/nowhere/nvidia-smi")).is_err_and(|why| why.contains("cannot be run")));
    }
}
