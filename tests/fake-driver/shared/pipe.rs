//! The pipe directory of MPS: where clients of the stand-in find their control daemon.

use std::path::PathBuf;

/// The socket of the control daemon in its pipe directory. A client says `client PID`, and the static
/// partition that it names where it names one, and is told `server PID`, with the partition's SMs behind it, `error CODE`
/// or `alone`; the connection is its membership. Anybody may say `command WORDS`, and reads the answer to
/// its end.
pub(crate) const SOCKET: &str = "control";
/// Set in the server's environment: it is no client.
pub(crate) const SERVER: &str = "CROSSTALK_STAND_IN_MPS_SERVER";

/// What CUDA_MPS_PIPE_DIRECTORY names, or the usual place.
pub(crate) fn directory() -> PathBuf {
    std::env::var_os("CUDA_MPS_PIPE_DIRECTORY").map_or_else(|| PathBuf::from("/tmp/nvidia-mps"), PathBuf::from)
}
