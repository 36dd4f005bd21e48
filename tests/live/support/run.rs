//! crosstalk itself on the stand-in driver: started, watched by its event log, killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::stand_in::StandIn;

/// Whatever is waited for comes far earlier than this, or never.
const PATIENCE: Duration = Duration::from_secs(90);

/// A machine with one small GPU.
pub(crate) const A30: &str = "[[gpu]]\nmodel = \"a30\"\n";

/// `crosstalk ARGS` on this machine.
pub(crate) fn crosstalk(machine: &StandIn, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crosstalk"));
    machine.apply(&mut command).args(args).env_remove("CI").env_remove("SOURCE_DATE_EPOCH").env("COLUMNS", "120");
    // A file that no run directory holds must not come out of a test's own folder.
    command.current_dir(machine.path()).stdin(Stdio::null());
    command
}

/// What a finished program said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code; `None`: killed.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    /// All that it said, broken lines joined.
    pub(crate) fn words(&self) -> String {
        format!("{}\n{}", self.out, self.err).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Asserts the exit code, and that these words were said.
    #[track_caller]
    pub(crate) fn ended(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let all = self.words();
        for part in words {
            assert!(all.contains(part), "{part:?} not in: {all}");
        }
        assert!(!all.contains("panicked"), "{all}");
        self
    }
}

/// `crosstalk ARGS`, to its end.
pub(crate) fn say(machine: &StandIn, args: &[&str]) -> Said {
    crosstalk(machine, args).output().expect("crosstalk").into()
}

/// A run of crosstalk in progress. Dropped, it is killed.
pub(crate) struct Run<'m> {
    machine: &'m StandIn,
    child: Option<Child>,
    /// Its run directory.
    pub(crate) dir: PathBuf,
}

impl<'m> Run<'m> {
    /// Begins to run `scenario` (TOML) into the directory `name` beside the machine's configuration.
    pub(crate) fn start(machine: &'m StandIn, name: &str, scenario: &str, more: &[&str]) -> Self {
        let file = machine.path().join(format!("{name}.toml"));
        std::fs::write(&file, scenario).expect("the scenario");
        let dir = machine.path().join(name);
        let args = ["run", "--quiet", path(&file), "--out", path(&dir)];
        let command = crosstalk(machine, &[&args, more].concat());
        Self::spawn(machine, dir.clone(), command)
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_with(machine: &'m StandIn, name: &str, toml: &str, env: &[(&str, &str)]) -> Self {
        let file = machine.path().join(format!("{name}.toml"));
        std::fs::write(&file, toml).expect("the scenario");
        let dir = machine.path().join(name);
        let mut command = crosstalk(machine, &["run", "--quiet", path(&file), "--out", path(&dir)]);
        command.envs(env.iter().copied());
        Self::spawn(machine, dir, command)
    }

    /// Goes on with the run in the directory `name`.
    pub(crate) fn resume(machine: &'m StandIn, name: &str) -> Self {
        let dir = machine.path().join(name);
        let command = crosstalk(machine, &["run", "--quiet", "--resume", path(&dir)]);
        Self::spawn(machine, dir.clone(), command)
    }

    fn spawn(machine: &'m StandIn, dir: PathBuf, mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("crosstalk");
        Self { machine, child: Some(child), dir }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it has not ended").id()
    }

    fn running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("a child").is_none())
    }

    /// Waits until `seen`, or until it has ended; whether that was seen.
    pub(crate) fn until(&mut self, mut seen: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let running = self.running();
            if seen(self) {
                return true;
            }
            if !running {
                return false;
            }
            assert!(Instant::now() < deadline, "nothing of the kind after {PATIENCE:?}: {:#?}", events(&self.dir));
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Waits until this many arms are committed. It is still running then, or has just ended.
    #[track_caller]
    pub(crate) fn until_committed(&mut self, arms: usize) {
        let seen = self.until(|run| of_kind(&run.dir, "committed").len() >= arms);
        if !seen {
            panic!("it ended before {arms} arms: {:#?}", self.finish());
        }
    }

    /// Its tenants, by what they are asked on the command line and by whose machine they see.
    pub(crate) fn tenants(&self) -> Vec<u32> {
        tenants(self.machine)
    }

    /// The process that watches its GPU through NVML.
    #[track_caller]
    pub(crate) fn watcher(&self) -> u32 {
        match children(self.machine, &["watch-driver"]).as_slice() {
            [one] => *one,
            found => panic!("one process watches the GPU, not {found:?}"),
        }
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Said {
        self.finish()
    }

    fn finish(&mut self) -> Said {
        self.child.take().expect("it has not ended").wait_with_output().expect("its output").into()
    }

    /// kill -9, waited for: its last event is written by then.
    pub(crate) fn kill(mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("its end");
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A path as text.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The events so far: every whole line behind the header.
pub(crate) fn events(dir: &Path) -> Vec<Value> {
    let log = std::fs::read_to_string(dir.join("events.jsonl")).unwrap_or_default();
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole.lines().skip(1).map(|line| serde_json::from_str(line).expect("an event")).collect()
}

/// What the events of this kind say.
pub(crate) fn of_kind(dir: &Path, kind: &str) -> Vec<Value> {
    events(dir).into_iter().filter_map(|mut event| event.get_mut(kind).map(Value::take)).collect()
}

/// A document of the run directory.
pub(crate) fn document(dir: &Path, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join(name)).expect(name)).expect(name)
}

/// Processes of tenants on this machine.
pub(crate) fn tenants(machine: &StandIn) -> Vec<u32> {
    children(machine, &["tenant"])
}

/// Processes on this machine that a crosstalk has started under these hidden verbs.
fn children(machine: &StandIn, verbs: &[&str]) -> Vec<u32> {
    let ours = format!("CROSSTALK_STAND_IN={}", machine.path().display());
    let of = |pid: u32| {
        // A process that has just ended has neither.
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let words = |bytes: Vec<u8>| bytes.split(|b| *b == 0).map(<[u8]>::to_vec).collect::<Vec<_>>();
        words(read("cmdline")).get(1).is_some_and(|verb| verbs.iter().any(|v| v.as_bytes() == verb))
            && words(read("environ")).iter().any(|variable| variable == ours.as_bytes())
    };
    let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut found: Vec<u32> =
        pids.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(|pid| of(*pid)).collect();
    found.sort_unstable();
    found
}

/// Asserts that within 5 seconds no tenant is left on this machine, nor anybody who watches it.
#[track_caller]
pub(crate) fn assert_no_tenants(machine: &StandIn) {
    let left = || children(machine, &["tenant", "watch-driver"]);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !left().is_empty() {
        assert!(Instant::now() < deadline, "tenants and watchers {:?} live on", left());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal by its name.
pub(crate) fn signal(pid: u32, name: &str) {
    // One that has ended meanwhile gets none.
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// A short scenario: one launch probe beside bursts that fill every SM for `burst`, in these arrangements.
pub(crate) fn scenario(blocks: u32, per_generation: u32, burst: &str, arrangements: &[&str]) -> String {
    let arrangements: String = arrangements
        .iter()
        .map(|sharing| format!("[[arrangement]]\nname = \"{sharing}\"\nsharing = \"{sharing}\"\n"))
        .collect();
    format!(
        "schema = 1\nname = \"short\"\n\
         neighbour = [{{ name = \"hog\", noise = \"compute-burst\", params = {{ kernel = \"{burst}\" }} }}]\n\
         [design]\nblocks = {blocks}\nblocks_per_generation = {per_generation}\nwindow = \"250ms\"\n\
         max_window = \"250ms\"\nwashout = \"1s\"\ndrain = \"500ms\"\njudged = [\"p50\"]\n\
         controls = {{ again = false, presence = 0, sensitivity = 0, delay = 0, sampler = 0 }}\n\
         [victim]\npanel = [{{ probe = \"launch\", arrivals = {{ fixed = \"160/s\" }} }}]\n{arrangements}"
    )
}
