//! What a child process that calls CUDA must not inherit.

use std::process::Command;

/// Variables of the user's shell that change what is measured, or load somebody else's code (CUDA C++ Programming Guide,
/// "CUDA Environment Variables"; MPS documentation).
const MEDDLING: [&str; 6] = [
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_INJECTION64_PATH",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
    "CUDA_DISABLE_PTX_JIT",
    "CUDA_FORCE_PTX_JIT",
];
/// No MPS daemon listens there: where one listens in the usual place, every CUDA program becomes its client unasked.
const NO_MPS: &str = "/nonexistent/crosstalk-uses-no-mps";

/// Keeps the user's CUDA settings, and an MPS daemon that this run did not start, from the process that `command` starts.
/// What is set afterwards holds.
pub fn without_cuda_settings(command: &mut Command) {
    for name in MEDDLING {
        command.env_remove(name);
    }
    command.env("CUDA_MPS_PIPE_DIRECTORY", NO_MPS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_setting_of_the_shell_and_no_mps_daemon_reaches_a_child() {
        let mut command = Command::new("env");
        for name in MEDDLING.iter().chain(&["CUDA_MPS_PIPE_DIRECTORY"]) {
            command.env(name, "/tmp/of-the-shell");
        }
        without_cuda_settings(&mut command);
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert!(!said.contains("/tmp/of-the-shell"), "{said}");
        let pipe = said.lines().find_map(|line| line.strip_prefix("CUDA_MPS_PIPE_DIRECTORY=")).unwrap();
        assert!(!std::path::Path::new(pipe).exists());
    }
}
