//! Threads of this process: where they may run, and how late their sleeps end.

use std::num::NonZeroU64;

use rustix::process::Pid;
use rustix::thread::{CpuSet, gettid, sched_setaffinity, set_current_timer_slack};

/// Keeps the calling thread on one core.
///
/// # Errors
/// Where the core does not exist, or this process may not use it.
pub fn pin(core: u32) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    if core as usize >= CpuSet::MAX_CPU {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("there is no core {core}")));
    }
    set.set(core as usize);
    Ok(sched_setaffinity(None, &set)?)
}

/// Names a thread of this process.
#[derive(Clone, Copy, Debug)]
pub struct Tid(Pid);

impl Tid {
    /// The calling thread.
    pub fn mine() -> Self {
        Self(gettid())
    }
}

/// Keeps a thread on `cores`; anywhere that it may be now where there are none. One that has ended needs no place.
pub fn keep_on(thread: Tid, cores: &[u32]) {
    let set = set(cores);
    if set.count() > 0 {
        // A core that is gone shows where the worker is pinned to it.
        let _ = sched_setaffinity(Some(thread.0), &set);
    }
}

fn set(cores: &[u32]) -> CpuSet {
    let mut set = CpuSet::new();
    cores.iter().filter(|core| (**core as usize) < CpuSet::MAX_CPU).for_each(|core| set.set(*core as usize));
    set
}

/// Keeps those threads of the process `pid` whose name `which` picks on `cores`; how many there were. A thread that ends
/// meanwhile needs no place.
pub fn keep(pid: u32, which: impl Fn(&str) -> bool, cores: &[u32]) -> usize {
    let set = set(cores);
    if set.count() == 0 {
        return 0;
    }
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let named = threads.filter(|thread| {
        let name = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        which(name.trim_end())
    });
    named
        .filter_map(|thread| Pid::from_raw(thread.file_name().to_str()?.parse().ok()?))
        .filter(|thread| sched_setaffinity(Some(*thread), &set).is_ok())
        .count()
}

/// Lets the calling thread's sleeps end when asked to (by default the kernel adds up to 50 µs).
///
/// # Errors
/// Where the kernel does not know timer slack.
pub fn sharpen_timers() -> std::io::Result<()> {
    Ok(set_current_timer_slack(NonZeroU64::new(1))?)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::host::cores::allowed;

    #[test]
    fn another_thread_is_kept_on_cores() {
        let core = allowed().unwrap()[0];
        let (tell, told) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send((Tid::mine(), allowed().unwrap())).unwrap();
            wait.recv().unwrap();
            allowed().unwrap()
        });
        let (other, before) = told.recv().unwrap();
        keep_on(other, &[]);
        keep_on(other, &[core]);
        go.send(()).unwrap();
        assert_eq!(thread.join().unwrap(), [core]);
        assert_eq!(allowed().unwrap(), before, "and no other one");
    }

    #[test]
    fn threads_are_kept_on_cores_by_their_names() {
        let core = allowed().unwrap()[0];
        let start = |name: &str| {
            let (go, wait) = mpsc::channel::<()>();
            let thread = std::thread::Builder::new().name(name.to_owned());
            let thread = thread.spawn(move || {
                wait.recv().unwrap();
                allowed().unwrap()
            });
            (go, thread.unwrap())
        };
        let (named, other) = (start("kept-thread"), start("other-thread"));
        let before = allowed().unwrap();
        // A thread bears its name a moment after it was started.
        let keep = |cores: &[u32]| keep(std::process::id(), |name| name == "kept-thread", cores);
        while keep(&[core]) == 0 {
            std::thread::yield_now();
        }
        named.0.send(()).unwrap();
        other.0.send(()).unwrap();
        assert_eq!(named.1.join().unwrap(), [core]);
        assert_eq!(other.1.join().unwrap(), before);
        assert_eq!(keep(&[]), 0, "nowhere is no place");
    }
}
