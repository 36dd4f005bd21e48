//! The stand-in driver itself: several processes, one machine.
//!
//! Each process is this test binary anew, running [`process`] in a role.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crosstalk::gpu::find_model;
use crosstalk::workload::{Arg, LaunchArgs, Stamp, kernels};

use crate::support::driver::{Driver, ptx};
use crate::support::stand_in::StandIn;

/// One test at a time: they measure.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const H100: &str = "time_scale = 1.0\n[[gpu]]\nmodel = \"h100-sxm\"\n";

/// A process in a role, which talks by lines.
struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Process {
    fn start(machine: &StandIn, role: &str, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "stand_in::process", "--ignored", "--nocapture", "--test-threads=1"]);
        machine.apply(&mut command).env("ROLE", role).envs(env.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// What follows `role: ` on the next such line.
    fn says(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the process ended without a word");
            if let Some((_, said)) = line.trim().split_once("role: ") {
                return said.to_owned();
            }
        }
    }

    fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn say(what: impl std::fmt::Display) {
    println!("role: {what}");
    std::io::stdout().flush().unwrap();
}

fn wait_for_go() {
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
}

/// Not a test: what a process does that a test has started.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn process() {
    match std::env::var("ROLE").as_deref() {
        Ok("hold") => {
            let driver = Driver::start();
            let held = driver.alloc(60 << 30);
            say(if held.is_ok() { "held" } else { "refused" });
            wait_for_go();
        }
        Ok("fma") => fma(1, 1),
        Ok("fma-many") => fma(200, 1),
        Ok("names") => names(),
        _ => {}
    }
}

/// `requests` launches one after the other, each awaited: prints the mean device time, and the sum of the last.
fn fma(requests: u32, per_request: u32) {
    let driver = Driver::start();
    let module = driver.module(&ptx("7.8", "sm_70", &["fma", "stamp"])).unwrap();
    let function = driver.function(module, "fma").unwrap();
    let state = driver.alloc(8192).unwrap();
    let stamp = driver.pinned(64);
    let stream = driver.stream();
    say("ready");
    wait_for_go();
    let began = Instant::now();
    let mut busy = 0;
    for sequence in 1..=requests {
        for last in (1..=per_request).rev() {
            let (pairs, at) = (PAIRS, if last == 1 { stamp as u64 } else { 0 });
            let args = [
                (&raw const pairs).cast(),
                (&raw const state).cast(),
                (&raw const at).cast(),
                (&raw const sequence).cast(),
            ];
            assert_eq!(driver.launch(function, SHAPE, stream, &args), 0);
        }
        assert_eq!(driver.synchronize(stream), 0);
        // SAFETY: the stream is idle: nobody writes the stamp.
        let read: Stamp = unsafe { stamp.read() };
        assert_eq!(read.sequence, sequence);
        busy += read.end_ns - read.start_ns;
        if sequence == requests {
            say(format!("{} {} {}", busy / u64::from(requests), read.checksum, began.elapsed().as_nanos()));
        }
    }
}

const PAIRS: u32 = 1_000_000;
const SHAPE: (u32, u32) = (132, 256);

/// Nanoseconds of one launch alone: 8 warps × pairs × 2 ÷ 4 cycles at the highest clock.
fn alone_ns() -> f64 {
    4.0 * f64::from(PAIRS) / (f64::from(find_model("h100-sxm").unwrap().clock.max_mhz) / 1e3)
}

fn reference() -> u32 {
    let kernel = kernels().find(|k| k.symbol == "fma").unwrap();
    (kernel.reference)(&LaunchArgs { grid: SHAPE.0, block: SHAPE.1, args: &[Arg::U32(PAIRS)] })
}

fn numbers(text: &str) -> Vec<f64> {
    text.split(' ').map(|n| n.parse().unwrap()).collect()
}

fn names() {
    let driver = Driver::load();
    say(crate::support::driver::call!(driver, "cuInit", 0 => u32));
}

#[test]
fn memory_of_a_killed_process_comes_free() {
    let _alone = alone();
    let machine = StandIn::new(H100);
    let mut first = Process::start(&machine, "hold", &[]);
    assert_eq!(first.says(), "held");
    let mut second = Process::start(&machine, "hold", &[]);
    assert_eq!(second.says(), "refused", "two times 60 GiB do not fit in 80");
    first.kill();
    let mut third = Process::start(&machine, "hold", &[]);
    assert_eq!(third.says(), "held");
    second.kill();
    third.kill();
}

#[test]
fn a_launch_takes_what_the_model_says_and_returns_the_reference() {
    let _alone = alone();
    let machine = StandIn::new(H100);
    let mut process = Process::start(&machine, "fma", &[]);
    assert_eq!(process.says(), "ready");
    process.go();
    let said = numbers(&process.says());
    let (device, wall) = (said[0], said[2]);
    assert_eq!(said[1], f64::from(reference()));
    assert!((0.9..1.2).contains(&(device / alone_ns())), "{device} ns on the device, {} expected", alone_ns());
    assert!(wall > 0.9 * alone_ns() && wall < 1e9, "{wall} ns on the host");
}

#[test]
fn neighbours_in_turns_slow_each_other() {
    let _alone = alone();
    let machine = StandIn::new(H100);
    let mut both: Vec<Process> = (0..2).map(|_| Process::start(&machine, "fma-many", &[])).collect();
    for process in &mut both {
        assert_eq!(process.says(), "ready");
    }
    for process in &mut both {
        process.go();
    }
    for process in &mut both {
        let mean = numbers(&process.says())[2] / 200.0;
        // Alone 2 ms. Beside a neighbour that always has one in flight each waits out the other's: twice as long.
        assert!(mean > 1.5 * alone_ns(), "{mean} ns beside a neighbour, {} alone", alone_ns());
    }
}

#[test]
fn a_mistake_in_the_configuration_fails_loudly() {
    let _alone = alone();
    let machine = StandIn::new("surprise = 1\n[[gpu]]\nmodel = \"h100-sxm\"\n");
    let mut process = Process::start(&machine, "names", &[]);
    assert_eq!(process.says(), "100");
    let deadline = Instant::now() + Duration::from_secs(10);
    while process.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline);
    }
}
