//! Calls of a driver that may hang. No signal ends a thread that waits in the kernel, so it is left there, and whoever asked goes on.

use std::sync::mpsc;
use std::time::Duration;

/// How long NVML may take to answer anything.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// What `call` returns, where it does so within `limit`.
///
/// # Errors
/// In words that end a run: where it does not, or no thread is to be had.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, answer) = mpsc::channel();
    std::thread::Builder::new()
        .name("nvml-call".to_owned())
        // Nobody listens any more: it came too late.
        .spawn(move || drop(sender.send(call())))
        .map_err(|e| format!("no thread to ask NVML on: {e}"))?;
    answer.recv_timeout(limit).map_err(|_| {
        format!("NVML has not answered for {} s: the driver hangs; look for NVRM and Xid in `dmesg`", limit.as_secs())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_does_not_return_is_left() {
        assert_eq!(within(Duration::from_secs(60), || 7), Ok(7));
        let (_kept, never) = mpsc::channel::<()>();
        let error = within(Duration::from_millis(20), move || never.recv().is_err()).unwrap_err();
        assert!(error.contains("the driver hangs"), "{error}");
    }
}
