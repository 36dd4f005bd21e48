//! The driver's programs. A stand-in for nvidia-cuda-mps-control: the control daemon (`-f`, `-d`), its user interface (no
//! argument), and, under the name nvidia-cuda-mps-server, the server. Its clients are processes on the stand-in for
//! libcuda.so. Under the name nvidia-smi: see [`smi`].

#[path = "shared/config.rs"]
#[expect(dead_code, reason = "the libraries use the rest")]
mod config;
#[path = "shared/pipe.rs"]
mod pipe;
mod smi;

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Mps;

const CONTROL: &str = "nvidia-cuda-mps-control";
const SERVER: &str = "nvidia-cuda-mps-server";
const SMI: &str = "nvidia-smi";
/// Its commands, as `help` would list them.
const UNKNOWN: &str = "Unknown command\n";

fn main() -> ExitCode {
    let name = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if name.file_name().is_some_and(|n| n == SERVER) {
        return server();
    }
    if name.file_name().is_some_and(|n| n == SMI) {
        return smi::main();
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |short: &str, long: &str| args.iter().any(|a| a == short || a == long);
    let Some(loaded) = config::loaded() else { return ExitCode::FAILURE };
    let mps = &loaded.config.mps;
    if let Some(unknown) = args.iter().find(|a| !["-d", "-f", "-S", "--static-partitioning"].contains(&a.as_str())) {
        println!("{CONTROL}: unknown option {unknown}");
        return ExitCode::FAILURE;
    }
    let partitions = has("-S", "--static-partitioning");
    if partitions && mps.sms_per_chunk.is_none() {
        println!("{CONTROL}: invalid option -- 'S'");
        return ExitCode::FAILURE;
    }
    let result = match (has("-f", ""), has("-d", "")) {
        (true, _) => daemon(&name, mps, partitions),
        (_, true) => detach(&name, partitions),
        _ => interface(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The user interface: a command a line, from standard input.
fn interface() -> Result<(), String> {
    for line in std::io::stdin().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let mut stream = UnixStream::connect(pipe::directory().join(pipe::SOCKET))
            .map_err(|_| format!("Cannot find MPS control daemon process in {}", pipe::directory().display()))?;
        let mut answer = String::new();
        writeln!(stream, "command {line}")
            .and_then(|()| stream.read_to_string(&mut answer))
            .map_err(|e| format!("the control daemon went away: {e}"))?;
        print!("{answer}");
    }
    Ok(())
}

/// A daemon in the background.
fn detach(name: &Path, partitions: bool) -> Result<(), String> {
    let mut command = Command::new(name);
    command.arg("-f").args(partitions.then_some("-S")).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    for _ in 0..500 {
        if UnixStream::connect(pipe::directory().join(pipe::SOCKET)).is_ok() {
            return Ok(());
        }
        if child.try_wait().is_ok_and(|ended| ended.is_some()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("the control daemon did not start".to_owned())
}

/// A client that is connected.
struct Client {
    pid: u32,
    stream: UnixStream,
}

/// A set of SMs of its own.
struct Partition {
    id: String,
    gpu: String,
    chunks: u32,
}

/// What the daemon knows.
struct Daemon {
    server_program: PathBuf,
    log: PathBuf,
    mps: &'static Mps,
    partitioned: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    server: Option<Child>,
    clients: Vec<Client>,
    /// Clients that ever asked.
    asked: u64,
    partitions: Vec<Partition>,
    made: u32,
    quitting: bool,
}

/// The control daemon, in the foreground.
fn daemon(name: &Path, mps: &'static Mps, partitioned: bool) -> Result<(), String> {
    if let Some(why) = &mps.start_error {
        return Err(why.clone());
    }
    let pipes = pipe::directory();
    let logs = std::env::var_os("CUDA_MPS_LOG_DIRECTORY").map_or_else(|| pipes.clone(), PathBuf::from);
    for folder in [&pipes, &logs] {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let socket = pipes.join(pipe::SOCKET);
    if UnixStream::connect(&socket).is_ok() {
        return Err("An instance of this daemon is already running".to_owned());
    }
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).map_err(|e| format!("{}: {e}", socket.display()))?;
    let pid_file = pipes.join(format!("{CONTROL}.pid"));
    std::fs::write(&pid_file, std::process::id().to_string()).map_err(|e| format!("{}: {e}", pid_file.display()))?;
    if mps.stubborn {
        let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::new(AtomicBool::new(false)));
    }
    let daemon: &'static Daemon = Box::leak(Box::new(Daemon {
        server_program: beside(name, SERVER),
        log: logs,
        mps,
        partitioned,
        state: Mutex::default(),
    }));
    daemon.say("control.log", &format!("Start mps control daemon, pipe directory {}", pipes.display()));
    println!("Starting control daemon using pipe directory {}", pipes.display());
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || daemon.serve(stream));
    }
    Ok(())
}

/// A program in the folder of this one's name, or on PATH.
fn beside(name: &Path, program: &str) -> PathBuf {
    match name.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => folder.join(program),
        None => PathBuf::from(program),
    }
}

impl Daemon {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to a log file.
    fn say(&self, file: &str, line: &str) {
        if let Ok(mut log) = OpenOptions::new().create(true).append(true).open(self.log.join(file)) {
            let _ = writeln!(log, "[2026-01-01 00:00:00.000 Control {:5}] {line}", std::process::id());
        }
    }

    /// One connection.
    fn serve(&'static self, stream: UnixStream) {
        let Ok(reader) = stream.try_clone() else { return };
        let mut reader = BufReader::new(reader);
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() {
            return;
        }
        if let Some(command) = line.strip_prefix("command ") {
            if self.mps.deaf || (self.mps.stubborn && command.starts_with("quit")) {
                std::thread::park();
            }
            let (answer, leave) = self.command(command.trim());
            let mut stream = stream;
            let _ = stream.write_all(answer.as_bytes());
            if leave {
                std::process::exit(0);
            }
        } else if let Some(rest) = line.strip_prefix("client ") {
            let mut words = rest.split_whitespace();
            if let Some(pid) = words.next().and_then(|p| p.parse().ok()) {
                self.client(pid, words.next(), stream, reader);
            }
        }
    }

    /// A client, for as long as it is connected.
    fn client(
        &'static self,
        pid: u32,
        partition: Option<&str>,
        mut stream: UnixStream,
        mut reader: BufReader<UnixStream>,
    ) {
        let answer = self.admit(pid, partition, &stream);
        if writeln!(stream, "{answer}").is_err() || !answer.starts_with("server ") {
            return;
        }
        // It says nothing more: what comes is its end.
        let _ = reader.read(&mut [0]);
        self.say("server.log", &format!("Client {pid} disconnected"));
        self.state().clients.retain(|c| c.pid != pid);
    }

    /// What a process that asks is told.
    fn admit(&'static self, pid: u32, partition: Option<&str>, stream: &UnixStream) -> String {
        let mut state = self.state();
        state.asked += 1;
        let due = |from: Option<u64>| from.is_some_and(|from| state.asked >= from);
        if due(self.mps.hang_from) {
            drop(state);
            loop {
                std::thread::park();
            }
        }
        if due(self.mps.fall_back_from) {
            return "alone".to_owned();
        }
        if let Some(code) = self.mps.refuse.filter(|_| due(Some(self.mps.refuse_from))) {
            return format!("error {code}");
        }
        if state.quitting {
            return "error 807".to_owned();
        }
        // CUDA_ERROR_MPS_MAX_CLIENTS_REACHED.
        if state.clients.len() >= self.mps.max_clients {
            return "error 808".to_owned();
        }
        let named = |p: &&Partition| partition.is_some_and(|id| id == format!("{}/{}", p.gpu, p.id));
        let sms = state.partitions.iter().find(named).map(|p| p.chunks * self.mps.sms_per_chunk.unwrap_or(1));
        if self.partitioned && sms.is_none() {
            // No client without a partition under static partitioning.
            return "error 805".to_owned();
        }
        match self.server(&mut state) {
            Ok(server) => {
                if let Ok(stream) = stream.try_clone() {
                    state.clients.push(Client { pid, stream });
                }
                self.say("server.log", &format!("New client {pid} connected"));
                sms.map_or_else(|| format!("server {server}"), |sms| format!("server {server} {sms}"))
            }
            Err(why) => {
                self.say("control.log", &why);
                // CUDA_ERROR_MPS_SERVER_NOT_READY.
                "error 807".to_owned()
            }
        }
    }

    /// The server, started where there is none.
    fn server(&'static self, state: &mut State) -> Result<u32, String> {
        if let Some(child) = &mut state.server
            && child.try_wait().is_ok_and(|ended| ended.is_none())
        {
            return Ok(child.id());
        }
        if let Some(why) = &self.mps.server_error {
            return Err(why.clone());
        }
        let mut command = Command::new(&self.server_program);
        command.env(pipe::SERVER, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| format!("{}: {e}", self.server_program.display()))?;
        let mut said = String::new();
        let ready = child.stdout.take().is_some_and(|out| BufReader::new(out).read_line(&mut said).is_ok());
        if !ready || said.trim() != "ready" {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("Server failed to start: {}", said.trim()));
        }
        let pid = child.id();
        state.server = Some(child);
        std::thread::spawn(move || self.attend(pid));
        self.say("server.log", "MPS Server starting");
        for line in &self.mps.log {
            self.say("server.log", line);
        }
        Ok(pid)
    }

    /// Waits for the end of a server: its clients end with it.
    fn attend(&self, pid: u32) {
        loop {
            std::thread::sleep(Duration::from_millis(10));
            let mut state = self.state();
            let Some(server) = state.server.as_mut().filter(|server| server.id() == pid) else { return };
            if server.try_wait().is_ok_and(|ended| ended.is_some()) {
                self.say("server.log", "MPS server ended");
                for client in state.clients.drain(..) {
                    let _ = client.stream.shutdown(std::net::Shutdown::Both);
                }
                return;
            }
        }
    }

    /// The answer to a command, and whether the daemon leaves then.
    fn command(&'static self, command: &str) -> (String, bool) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let number = |i: usize| words.get(i).and_then(|w| w.parse::<u32>().ok());
        let server = || {
            let mut state = self.state();
            let server = state.server.as_mut()?;
            server.try_wait().is_ok_and(|ended| ended.is_none()).then(|| server.id())
        };
        let answer = match words.first().copied().unwrap_or_default() {
            "get_server_list" => server().map_or(String::new(), |pid| format!("{pid}\n")),
            "get_server_status" if number(1) == server() => "ACTIVE\n".to_owned(),
            "get_client_list" if number(1) == server() => {
                self.state().clients.iter().map(|c| format!("{}\n", c.pid)).collect()
            }
            "get_server_status" | "get_client_list" => "Server not found\n".to_owned(),
            "start_server" => match self.server(&mut self.state()) {
                Ok(_) => String::new(),
                Err(why) => format!("{why}\n"),
            },
            "shutdown_server" if !self.mps.no_shutdown && number(1) == server() => {
                std::thread::spawn(|| self.shut_down());
                String::new()
            }
            "terminate_client" => self.terminate(number(2)),
            "sm_partition" if self.partitioned => self.partition(&words[1..]),
            "lspart" if self.partitioned => self.list(),
            "quit" => return (self.quit(number(2)), true),
            _ => UNKNOWN.to_owned(),
        };
        (answer, false)
    }

    fn terminate(&self, pid: Option<u32>) -> String {
        let mut state = self.state();
        match state.clients.iter_mut().find(|c| Some(c.pid) == pid) {
            Some(client) => {
                let _ = writeln!(client.stream, "terminated");
                self.say("server.log", &format!("Terminated client {}", client.pid));
                "CUDA_SUCCESS\n".to_owned()
            }
            None => "CUDA_ERROR_NOT_FOUND\n".to_owned(),
        }
    }

    /// `sm_partition add GPU CHUNKS`.
    fn partition(&self, words: &[&str]) -> String {
        let (Some("add"), Some(gpu), Some(chunks)) =
            (words.first().copied(), words.get(1), words.get(2).and_then(|w| w.parse::<u32>().ok()))
        else {
            return UNKNOWN.to_owned();
        };
        let mut state = self.state();
        let used: u32 = state.partitions.iter().map(|p| p.chunks).sum();
        if used + chunks > self.chunks() {
            return format!(
                "Failed to fulfill the requested SM partition of {chunks} chunks, error \
                 CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION\n"
            );
        }
        state.made += 1;
        let id = format!("D{:07}", state.made);
        let line = format!("Partition {gpu}/{id} created\n");
        state.partitions.push(Partition { id, gpu: (*gpu).to_owned(), chunks });
        line
    }

    /// Chunks of the GPU.
    fn chunks(&self) -> u32 {
        let sms = config::loaded()
            .and_then(|l| l.config.gpu.first())
            .and_then(|g| g.sms.or_else(|| crosstalk::gpu::find_model(&g.model).map(|m| m.sm.count)));
        sms.unwrap_or(0) / self.mps.sms_per_chunk.unwrap_or(1).max(1)
    }

    fn list(&self) -> String {
        let state = self.state();
        let each = self.mps.sms_per_chunk.unwrap_or(1);
        let used: u32 = state.partitions.iter().map(|p| p.chunks).sum();
        let free = self.chunks().saturating_sub(used);
        let gpu = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
        let mut text =
            "GPU                Partition   free   used   free  used  clients\n                               \
                        chunk  chunk  SM    SM\n"
                .to_owned();
        let mut row = |gpu: &str, id: &str, cells: [String; 4], clients: &str| {
            let [a, b, c, d] = cells;
            let gpu = gpu.get(..12).unwrap_or(gpu);
            text.push_str(&format!("{gpu:18} {id:11} {a:6} {b:6} {c:5} {d:5} {clients}\n"));
        };
        let n = |x: u32| x.to_string();
        row(&gpu, "-", [n(free), n(used), n(free * each), n(used * each)], "-");
        for p in &state.partitions {
            row(&p.gpu, &p.id, ["-".to_owned(), n(p.chunks), "-".to_owned(), n(p.chunks * each)], "No");
        }
        text
    }

    /// Ends the server once its last client has left.
    fn shut_down(&self) {
        while !self.state().clients.is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(server) = &mut self.state().server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Waits for the clients to leave, `limit` seconds at most where that is said, and ends the server.
    fn quit(&self, limit: Option<u32>) -> String {
        self.state().quitting = true;
        let begun = Instant::now();
        while !self.state().clients.is_empty()
            && limit.is_none_or(|limit| begun.elapsed() < Duration::from_secs(limit.into()))
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut state = self.state();
        if let Some(server) = &mut state.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        self.say("control.log", "Exit");
        let _ = std::fs::remove_file(pipe::directory().join(pipe::SOCKET));
        let _ = std::fs::remove_file(pipe::directory().join(format!("{CONTROL}.pid")));
        String::new()
    }
}

/// The server: a context on the GPU, until its daemon is gone.
fn server() -> ExitCode {
    // SAFETY: the stand-in's library runs no code when it is loaded.
    let library = unsafe { libloading::Library::new("libcuda.so.1") };
    let Ok(library) = library else {
        println!("no libcuda.so.1");
        return ExitCode::FAILURE;
    };
    let mps = config::loaded().map(|l| &l.config.mps);
    while mps.is_some_and(|m| m.server_hang) {
        std::thread::park();
    }
    let mut context = 0u64;
    // SAFETY: the types are those of cuda.h.
    let codes = unsafe {
        let init = library.get::<unsafe extern "C" fn(u32) -> u32>(b"cuInit\0");
        let create = library.get::<unsafe extern "C" fn(*mut u64, u32, i32) -> u32>(b"cuCtxCreate_v2\0");
        let (Ok(init), Ok(create)) = (init, create) else { return ExitCode::FAILURE };
        (init(0), create(&raw mut context, 0, 0))
    };
    if codes != (0, 0) {
        println!("cuInit: {}, cuCtxCreate: {}", codes.0, codes.1);
        return ExitCode::FAILURE;
    }
    println!("ready");
    let outlives = mps.is_some_and(|m| m.orphan_server);
    let _ = std::io::stdin().read(&mut [0]);
    if outlives {
        loop {
            std::thread::park();
        }
    }
    ExitCode::SUCCESS
}
