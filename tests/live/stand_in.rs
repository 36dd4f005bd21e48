//! The stand-in driver itself: several processes, one machine.
//!
//! Each process is this test binary anew, running [`process`] in a role.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crosstalk::gpu::find_model;
use crosstalk::workload::{Arg, LaunchArgs, Stamp, kernels};

use crate::mps::Running;
use crate::support::alone;
use crate::support::driver::{Driver, call, ptx};
use crate::support::stand_in::{Library, StandIn};

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
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its end of input is the end of a process that waits; what else it says is of no interest.
        drop(self.child.stdin.take());
        let _ = std::io::copy(&mut self.lines, &mut std::io::sink());
        let _ = self.child.wait();
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
        Ok("device") => device(),
        Ok("ptx") => modules(),
        Ok("memory") => memory(),
        Ok("contexts") => contexts(),
        Ok("graph") => graph(),
        Ok("lost") => lost(),
        Ok("cudarc") => by_cudarc(),
        Ok("stress") => stress(),
        _ => {}
    }
}

/// How many devices there are, the first one's name and memory.
fn device() {
    let driver = Driver::load();
    let code = call!(driver, "cuInit", 0 => u32);
    let mut count = 0i32;
    if code == 0 {
        assert_eq!(call!(driver, "cuDeviceGetCount", &raw mut count => *mut i32), 0);
    }
    let mut name = [0u8; 100];
    let mut bytes = 0usize;
    if count > 0 {
        assert_eq!(call!(driver, "cuDeviceGetName", name.as_mut_ptr() => *mut u8, 100 => i32, 0 => i32), 0);
        assert_eq!(call!(driver, "cuDeviceTotalMem_v2", &raw mut bytes => *mut usize, 0 => i32), 0);
    }
    let name = String::from_utf8_lossy(&name);
    say(format!("{code} {count} {} {}", bytes >> 20, name.trim_end_matches('\0')));
}

/// Results of loading modules of several kinds, and of looking for kernels.
fn modules() {
    let driver = Driver::start();
    let load = |version: &str, target: &str| {
        driver.module(&ptx(version, target, &["fma_pairs", "strange"])).err().unwrap_or(0)
    };
    let module = driver.module(&ptx("7.8", "sm_80", &["fma_pairs", "strange"])).unwrap();
    let find = |name: &str| driver.function(module, name).err().unwrap_or(0);
    say(format!(
        "{} {} {} {} {} {} {}",
        load("7.8", "sm_70"),
        load("8.0", "sm_90a"),
        load("8.8", "sm_70"),
        load("7.8", "sm_100"),
        find("fma_pairs"),
        find("strange"),
        find("chase")
    ));
}

/// Writes, fills and reads device memory; a fill of almost all of it costs nothing.
fn memory() {
    let driver = Driver::start();
    let before = driver.memory();
    let big = driver.alloc(40 << 30).unwrap();
    let read = |at: u64| {
        let mut byte = 0u8;
        let to = (&raw mut byte).cast();
        assert_eq!(call!(driver, "cuMemcpyDtoH_v2", to => *mut std::ffi::c_void, at => u64, 1 => usize), 0);
        byte
    };
    assert_eq!(call!(driver, "cuMemsetD8_v2", big => u64, 7 => u8, 40 << 30 => usize), 0);
    let data = [1u8, 2, 3, 4];
    let from = data.as_ptr().cast();
    assert_eq!(call!(driver, "cuMemcpyHtoD_v2", big + 4095 => u64, from => *const std::ffi::c_void, 4 => usize), 0);
    assert_eq!(call!(driver, "cuMemsetD8_v2", big + 4097 => u64, 9 => u8, 1 => usize), 0);
    let found: Vec<u8> = (4094..4100).map(|at| read(big + at)).collect();
    assert_eq!(found, [7, 1, 2, 9, 4, 7]);
    assert_eq!(read(big + (40 << 30) - 1), 7);
    let beyond = call!(driver, "cuMemsetD8_v2", big => u64, 0 => u8, (40 << 30) + 1 => usize);
    assert_ne!(beyond, 0, "beyond the end of the allocation");
    driver.free(big);
    assert_eq!(driver.memory(), before);
    say("good");
}

/// Allocates 1.5 GiB in one context, and then 1 GiB and 256 MiB in another: what became of both, and what was free before.
fn contexts() {
    let driver = Driver::start();
    let first = driver.alloc(3 << 29).err().unwrap_or(0);
    let mut context = 0u64;
    assert_eq!(call!(driver, "cuCtxCreate_v2", &raw mut context => *mut u64, 0 => u32, 0 => i32), 0);
    let free = driver.memory().0 >> 20;
    let [large, small] = [1 << 30, 1 << 28].map(|bytes| driver.alloc(bytes).err().unwrap_or(0));
    say(format!("{first} {free} {large} {small}"));
}

/// A graph of many launches, the first and the last stamped, launched twice.
fn graph() {
    let driver = Driver::start();
    let module = driver.module(&ptx("7.8", "sm_70", &["stream_read"])).unwrap();
    let function = driver.function(module, "stream_read").unwrap();
    let (buffer, state) = (driver.alloc(1 << 20).unwrap(), driver.alloc(8192).unwrap());
    let stamps = driver.pinned(128);
    let stream = driver.stream();
    assert_eq!(call!(driver, "cuStreamBeginCapture_v2", stream => u64, 2 => u32), 0);
    for n in 0..100u64 {
        let (span, bytes, sequence) = (1u64 << 20, 1u64 << 20, 5u32);
        let at = match n {
            0 => stamps as u64,
            99 => stamps as u64 + 64,
            _ => 0,
        };
        let args = [
            (&raw const buffer).cast(),
            (&raw const span).cast(),
            (&raw const bytes).cast(),
            (&raw const state).cast(),
            (&raw const at).cast(),
            (&raw const sequence).cast(),
        ];
        assert_eq!(driver.launch(function, (132, 256), stream, &args), 0);
    }
    let (mut captured, mut executable) = (0u64, 0u64);
    assert_eq!(call!(driver, "cuStreamEndCapture", stream => u64, &raw mut captured => *mut u64), 0);
    let (out, from) = (&raw mut executable, captured);
    assert_eq!(call!(driver, "cuGraphInstantiateWithFlags", out => *mut u64, from => u64, 0 => u64), 0);
    for _ in 0..2 {
        assert_eq!(call!(driver, "cuGraphLaunch", executable => u64, stream => u64), 0);
    }
    assert_eq!(driver.synchronize(stream), 0);
    // SAFETY: the stream is idle: nobody writes the stamps.
    let (first, last) = unsafe { (stamps.read(), stamps.add(1).read()) };
    assert!(first.sequence == 5 && last.sequence == 5 && first.end_ns < last.start_ns);
    // Each reads 65 536 vectors of which each adds −2; the last stamp answers for the 99 since the first.
    let each = 65_536u32.wrapping_mul(2).wrapping_neg();
    assert_eq!((first.checksum, last.checksum), (each, each.wrapping_mul(99)));
    say("good");
}

/// Keeps the device busy until it fails, and says how.
fn lost() {
    let driver = Driver::start();
    say("up");
    loop {
        let mut pointer = 0u64;
        let code = call!(driver, "cuMemAlloc_v2", &raw mut pointer => *mut u64, 1 << 20 => usize);
        if code != 0 {
            say(code);
            return;
        }
        let code = call!(driver, "cuMemFree_v2", pointer => u64);
        if code != 0 {
            say(code);
            return;
        }
    }
}

/// A plain program on cudarc's safe layer.
fn by_cudarc() {
    let context = cudarc::driver::CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    let data: Vec<u32> = (0..10_000).collect();
    let there = stream.clone_htod(&data).unwrap();
    let mut second = stream.alloc_zeros::<u32>(data.len()).unwrap();
    stream.memcpy_dtod(&there, &mut second).unwrap();
    let event = stream.record_event(None).unwrap();
    event.synchronize().unwrap();
    assert_eq!(stream.clone_dtoh(&second).unwrap(), data);
    say(context.name().unwrap());
}

/// Many short launches: all at once, then one by one, awaited in the memory that they stamp.
fn stress() {
    let driver = Driver::start();
    let module = driver.module(&ptx("7.8", "sm_70", &["empty"])).unwrap();
    let function = driver.function(module, "empty").unwrap();
    let state = driver.alloc(8192).unwrap();
    let stamp = driver.pinned(64);
    let stream = driver.stream();
    let at = stamp as u64;
    let launch = |sequence: u32| {
        let args = [(&raw const state).cast(), (&raw const at).cast(), (&raw const sequence).cast()];
        assert_eq!(driver.launch(function, (1, 32), stream, &args), 0);
    };
    for sequence in 1..=2_000 {
        launch(sequence);
    }
    assert_eq!(driver.synchronize(stream), 0);
    for sequence in 1..=500 {
        launch(sequence);
        // SAFETY: pinned memory that lives as long as the process; the word is written as a whole.
        while unsafe { (&raw const (*stamp).sequence).read_volatile() } != sequence {
            std::thread::yield_now();
        }
    }
    say("good");
}

/// `requests` launches one after the other, each awaited: prints the mean device time, and the sum of the last.
fn fma(requests: u32, per_request: u32) {
    let driver = Driver::start();
    let module = driver.module(&ptx("7.8", "sm_70", &["fma_pairs", "stamp"])).unwrap();
    let function = driver.function(module, "fma_pairs").unwrap();
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
    let kernel = kernels().find(|k| k.symbol == "fma_pairs").unwrap();
    (kernel.reference)(&LaunchArgs { grid: SHAPE.0, block: SHAPE.1, args: &[Arg::U32(PAIRS)] })
}

fn numbers(text: &str) -> Vec<f64> {
    text.split(' ').map(|n| n.parse().unwrap()).collect()
}

fn names() {
    let driver = Driver::load();
    say(call!(driver, "cuInit", 0 => u32));
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
}

#[test]
fn a_memory_limit_is_that_of_the_process_and_free_is_not_always_in_one_piece() {
    let _alone = alone();
    let machine = StandIn::new(H100);
    let daemon = Running::start(&machine);
    let limit = [("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "0=2G")];
    assert_eq!(Process::start(&machine, "contexts", &limit).says(), "0 512 2 0", "two contexts of one process");
    // Another one has a limit of its own.
    let mut held = Process::start(&machine, "hold", &[]);
    assert_eq!(held.says(), "held");
    assert_eq!(Process::start(&machine, "contexts", &limit).says(), "0 512 2 0");
    drop((held, daemon));

    let machine = StandIn::new(&format!("{H100}largest_piece_mib = 1024\n"));
    let said = Process::start(&machine, "contexts", &[]).says();
    let [first, free, large, small] = said.split(' ').map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>()[..] else {
        panic!("{said}")
    };
    assert_eq!((first, large, small), (2, 0, 0), "1.5 GiB are more than a piece");
    assert!(free > 70_000, "{free} MiB are free");
}

#[test]
fn memory_is_kept_sparsely_and_read_back() {
    let _alone = alone();
    let machine = StandIn::new(H100);
    assert_eq!(Process::start(&machine, "memory", &[]).says(), "good");
}

#[test]
fn a_graph_repeats_what_was_captured() {
    let _alone = alone();
    let machine = StandIn::new(H100);
    assert_eq!(Process::start(&machine, "graph", &[]).says(), "good");
}

#[test]
fn a_mig_device_is_found_by_either_form_of_its_uuid_and_is_the_only_one() {
    let _alone = alone();
    let uuid = "MIG-41b9eab5-8d48-5c52-9f07-82bc59af3901";
    let machine = StandIn::new(&format!(
        "[[gpu]]\nmodel = \"h100-sxm\"\nuuid = \"GPU-11111111-2222-8333-8444-555555555555\"\n\
         mig = [\"3g.40gb\", \"1g.10gb\"]\nmig_uuids = [\"MIG-00000000-8d48-5c52-9f07-82bc59af3901\", \"{uuid}\"]\n\
         [[gpu]]\nmodel = \"a30\"\n"
    ));
    let sees = |visible: &str| Process::start(&machine, "device", &[("CUDA_VISIBLE_DEVICES", visible)]).says();
    let expected = "0 1 9984 NVIDIA H100 80GB HBM3 MIG 1g.10gb";
    assert_eq!(sees(uuid), expected);
    assert_eq!(sees("MIG-GPU-11111111-2222-8333-8444-555555555555/7/0"), expected);
    // The parent, by index: silently its first instance.
    assert!(sees("0").ends_with("MIG 3g.40gb"));
    assert_eq!(sees("1"), "0 1 24576 NVIDIA A30");
    assert!(sees("MIG-ffffffff-8d48-5c52-9f07-82bc59af3901").starts_with("100 0"), "no such device");
}

#[test]
fn faults_are_what_the_configuration_says() {
    let _alone = alone();
    for (fault, role, expected) in [
        ("cuda_init = 803", "device", "803 0 0 "),
        ("results = [{ symbol = \"cuInit\", code = 9999 }]", "device", "9999 0 0 "),
        ("results = [{ symbol = \"cuMemAlloc_v2\", from_call = 3, code = 700 }]", "lost", "700"),
    ] {
        let machine = StandIn::new(&format!("{H100}[fault]\n{fault}\n"));
        let mut process = Process::start(&machine, role, &[]);
        let first = process.says();
        assert_eq!(if first == "up" { process.says() } else { first }, expected.trim(), "{fault}");
    }
}

#[test]
fn newer_ptx_other_parts_and_unknown_kernels_are_refused() {
    let _alone = alone();
    let machine = StandIn::new(H100);
    assert_eq!(Process::start(&machine, "ptx", &[]).says(), "0 0 222 209 0 500 500");
}

#[test]
fn a_lost_device_fails_every_call_from_then_on() {
    let _alone = alone();
    let machine = StandIn::new(H100);
    let mut process = Process::start(&machine, "lost", &[]);
    assert_eq!(process.says(), "up");
    machine.lose_device();
    assert_eq!(process.says(), "999");
}

#[test]
fn a_library_can_lack_a_symbol_or_be_missing() {
    let machine = StandIn::new(H100);
    machine.without(Library::Cuda, &["cuCtxCreate_v2"]);
    let has = |library: &str, symbol: &[u8]| {
        // SAFETY: loading the stand-in runs no code of it; the symbol is not called.
        unsafe { libloading::Library::new(machine.path().join(library)) }
            .is_ok_and(|l| unsafe { l.get::<*const ()>(symbol) }.is_ok())
    };
    assert!(has("libcuda.so.1", b"cuCtxDestroy_v2\0") && !has("libcuda.so.1", b"cuCtxCreate_v2\0"));
    assert!(has("libnvidia-ml.so.1", b"nvmlInit_v2\0"));
    machine.remove(Library::Nvml);
    assert!(!has("libnvidia-ml.so.1", b"nvmlInit_v2\0"));
}

#[test]
fn the_state_survives_processes_that_are_killed_at_any_moment() {
    let _alone = alone();
    let machine = StandIn::new(H100);
    for round in 0..20u64 {
        let mut process = Process::start(&machine, "lost", &[]);
        assert_eq!(process.says(), "up");
        std::thread::sleep(Duration::from_micros(997 * round));
        process.kill();
    }
    assert_eq!(Process::start(&machine, "memory", &[]).says(), "good");
}

#[test]
fn a_plain_cudarc_program_runs() {
    let _alone = alone();
    let machine = StandIn::new(H100);
    assert_eq!(Process::start(&machine, "cudarc", &[]).says(), "NVIDIA H100 80GB HBM3");
}

#[test]
fn every_launch_ends() {
    let _alone = alone();
    let machine = StandIn::new(H100);
    let mut both: Vec<Process> = (0..2).map(|_| Process::start(&machine, "stress", &[])).collect();
    for process in &mut both {
        assert_eq!(process.says(), "good");
    }
}
