//! The compute policy, for which NVML has no call: `nvidia-smi` is asked, and told.

use std::process::Command;

use crate::host::process::ended;
use crate::host::program::{Answer, ask, one_line};
use crate::scenario::TimeSlice;
use crate::units::Nanos;

/// NVIDIA's program, which comes with the driver.
const PROGRAM: &str = "nvidia-smi";
/// How long it may take: without persistence mode a driver initialises every GPU of a node first.
const ANSWER: Nanos = Nanos::secs(20);
/// How it ends where the user may not (nvidia-smi(1), "RETURN VALUE").
const NO_PERMISSION: i32 = 4;
/// Characters of what it says that are quoted.
const QUOTED: usize = 200;

/// The level of the time slice of the GPU `uuid`, or why it is not known.
///
/// # Errors
/// Where `nvidia-smi` is not there, does not answer, or says something else.
pub fn time_slice(uuid: &str) -> Result<TimeSlice, String> {
    let text = said(&["compute-policy", "-i", uuid, "--list"], ANSWER)?;
    parse(&text).ok_or_else(|| format!("nvidia-smi compute-policy names none: it says {:?}", quoted(&text)))
}

/// Sets the level of the time slice of the GPU `uuid`, for all of it, until it is set again or the driver is loaded anew.
/// What is there then is read back.
///
/// # Errors
/// Where `nvidia-smi` is not there, refuses, does not answer, or the level is another one then.
pub fn set_time_slice(uuid: &str, level: TimeSlice) -> Result<(), String> {
    let number = number(level).to_string();
    said(&["compute-policy", "-i", uuid, "--set-timeslice", &number], ANSWER)?;
    match time_slice(uuid)? {
        there if there == level => Ok(()),
        there => Err(format!("nvidia-smi compute-policy took it, and the level is {there} where {level} was set")),
    }
}

/// The command that sets it, for an operator.
pub fn set_time_slice_words(uuid: &str, level: TimeSlice) -> String {
    format!("{PROGRAM} compute-policy -i {uuid} --set-timeslice {}", number(level))
}

/// The driver's number of a level.
fn number(level: TimeSlice) -> usize {
    TimeSlice::ALL.iter().position(|other| *other == level).unwrap_or(0)
}

/// What it says on one line, not too much of it.
fn quoted(text: &str) -> String {
    match one_line(text) {
        text if text.is_empty() => "nothing".to_owned(),
        text => text.chars().take(QUOTED).collect(),
    }
}

/// What it says to these arguments, where it ends well and in time.
fn said(args: &[&str], limit: Nanos) -> Result<String, String> {
    let mut command = Command::new(PROGRAM);
    command.args(args);
    output(command, &format!("{PROGRAM} {}", args.join(" ")), limit)
}

fn output(command: Command, words: &str, limit: Nanos) -> Result<String, String> {
    let answer = ask(command, "", limit).map_err(|e| {
        format!(
            "{PROGRAM} cannot be run: {e}; it comes with the driver, and in a container needs \
             NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        )
    })?;
    let Some(Answer { status, said }) = answer else {
        return Err(format!("`{words}` has not answered within {limit}, and was killed"));
    };
    if status.success() {
        return Ok(said);
    }
    let cure = match status.code() {
        Some(NO_PERMISSION) => ". It needs root: run as root, or have the operator do it",
        _ => "",
    };
    Err(format!("`{words}` {}: {}{cure}", ended(status), quoted(&said)))
}

/// The first level named behind "timeslice": the table around it differs from driver to driver.
fn parse(text: &str) -> Option<TimeSlice> {
    let lower = text.to_lowercase();
    let line = lower.lines().find_map(|line| line.split_once("timeslice").map(|(_, rest)| rest))?;
    let words = line.split(|c: char| !c.is_ascii_alphanumeric());
    words.into_iter().find_map(|word| TimeSlice::ALL.into_iter().find(|level| level.id() == word))
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
    fn a_program_that_fails_tells_no_level_and_why() {
        let run = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            output(command, "the command", Nanos::secs(20))
        };
        assert_eq!(run("echo short").as_deref(), Ok("short\n"));
        assert_eq!(run("exit 3"), Err("`the command` ended with exit code 3: nothing".to_owned()));
        let refused = run("echo Insufficient Permissions; exit 4").unwrap_err();
        assert!(refused.contains("Insufficient Permissions. It needs root"), "{refused}");
        let missing = output(Command::new("/nowhere/nvidia-smi"), "it", Nanos::secs(1)).unwrap_err();
        assert!(missing.contains("cannot be run"), "{missing}");
        let mut sleep = Command::new("sleep");
        sleep.arg("1000");
        let hangs = output(sleep, "it", Nanos::millis(100)).unwrap_err();
        assert!(hangs.contains("`it` has not answered within 100ms, and was killed"), "{hangs}");
    }

    #[test]
    fn an_operator_is_told_the_drivers_number() {
        let words: Vec<String> = TimeSlice::ALL.map(|level| set_time_slice_words("GPU-1", level)).into();
        assert_eq!(words[0], "nvidia-smi compute-policy -i GPU-1 --set-timeslice 0");
        assert!(words[1].ends_with(" 1") && words[3].ends_with(" 3"), "{words:?}");
    }
}
