//! Watching a GPU from a process of its own. A call of NVML may hang in the kernel, where no signal ends it, and whoever made
//! it cannot end either. So no thread of a run's controller is ever in NVML: this same program under a hidden verb loads the
//! library and holds an [`NvmlWatch`](super::NvmlWatch). It is asked in lines of JSON, one question at a time, and each is
//! answered in time or is the last.

use std::fmt::Display;
use std::io::{self, BufRead, Read as _, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::last_words::{LAST_BREATH, Stderr, told};
use super::{DO, OverArm, Watch};
use crate::backend::{BackendError, DcgmReading, GpuHealth};
use crate::gpu::Inventory;
use crate::host::clock::now;
use crate::host::process::{Process, ended, readable, stuck_words};
use crate::host::thread;
use crate::nvml::{
    Divide, DriverProfile, ExclusiveUse, GpuInstance, NvmlError, NvmlErrorKind, ProcessUse, Processes, Telemetry,
    XidEvent, lock,
};
use crate::units::Nanos;

/// Version of the questions and their answers: both sides must speak the same.
const PROTOCOL: u32 = 1;
/// How long NVML may take to initialise: without persistence mode a node with eight GPUs takes seconds.
const BEGINS: Nanos = Nanos::secs(60);
/// How long it may take to create or to destroy an instance.
const DIVIDES: Nanos = Nanos::secs(60);
/// How long it may take to answer anything else.
const ANSWER: Nanos = Nanos::secs(10);

/// What the controller asks: who it is, then one method of [`Watch`] or [`Divide`] each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Question {
    Begin { protocol: u32, crosstalk: String, uuid: String, gpu_is_mine: Vec<String> },
    CheckExclusive { ours: Vec<u32> },
    CheckExclusiveOn { uuid: String, ours: Vec<u32> },
    Health,
    Monitor,
    Sample { on: bool },
    StartArm,
    EndArm,
    SmMhzNow,
    Xids,
    Lost,
    Machine,
    ProcessesOn { uuid: String },
    UsedByProcess { since: u64 },
    Telemetry { uuid: String },
    Profiles,
    Placements { profile: u32 },
    There,
    Create { profile: u32, place: (u32, u32) },
    CreateCompute { gpu_instance: u32, slices: u32, profile: Option<u32>, place: Option<(u32, u32)> },
    Destroy { gpu_instance: u32 },
    DestroyCompute { gpu_instance: u32, compute_instance: u32 },
}

impl Question {
    fn limit(&self) -> Nanos {
        match self {
            Self::Begin { .. } => BEGINS,
            Self::Create { .. } | Self::CreateCompute { .. } | Self::Destroy { .. } | Self::DestroyCompute { .. } => {
                DIVIDES
            }
            _ => ANSWER,
        }
    }

    /// As it is written, with its name.
    fn written(&self) -> serde_json::Result<(String, Value)> {
        let written = serde_json::to_value(self)?;
        let name = match &written {
            Value::Object(named) => named.keys().next().cloned(),
            plain => plain.as_str().map(str::to_owned),
        };
        Ok((name.unwrap_or_default(), written))
    }
}

/// A line that answers a question.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer<T> {
    /// Name of the question.
    to: String,
    /// What the method returned.
    said: T,
}

/// The watch of one GPU from a process of its own. Dropped, that is killed; it dies with the thread that started it, too.
pub struct Watcher {
    /// The most that any question may take.
    longest: Nanos,
    /// Or why nothing can be asked any more.
    child: Mutex<Result<Child, String>>,
}

/// The process, up.
struct Child {
    process: Process,
    stderr: Stderr,
    questions: ChildStdin,
    answers: ChildStdout,
    read: Vec<u8>,
}

impl Watcher {
    /// Begins to watch the whole GPU `uuid` from a process of the program `exe`, crosstalk itself. `gpu_is_mine` are GPUs that
    /// are the user's alone, as he says. No question waits longer than `longest`.
    ///
    /// # Errors
    /// Where it cannot be started, or the GPU cannot be watched.
    pub fn start(exe: &Path, uuid: &str, gpu_is_mine: &[String], longest: Nanos) -> Result<Self, BackendError> {
        let mut command = Command::new(exe);
        command.arg("watch-driver");
        Self::begin(command, uuid, gpu_is_mine, longest)
    }

    fn begin(mut command: Command, uuid: &str, gpu_is_mine: &[String], longest: Nanos) -> Result<Self, BackendError> {
        let failed = |why: &dyn Display| BackendError::device(format!("the process that asks NVML: {why}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(command, &[], &[]).map_err(|e| failed(&e))?;
        let pipes = process.child();
        let (Some(questions), Some(answers), Some(stderr)) =
            (pipes.stdin.take(), pipes.stdout.take(), pipes.stderr.take())
        else {
            return Err(failed(&"it was started without pipes"));
        };
        let stderr = Stderr::keep(stderr).map_err(|e| failed(&e))?;
        let child = Child { process, stderr, questions, answers, read: Vec::new() };
        let watcher = Self { longest, child: Mutex::new(Ok(child)) };
        let begin = Question::Begin {
            protocol: PROTOCOL,
            crosstalk: env!("CARGO_PKG_VERSION").to_owned(),
            uuid: uuid.to_owned(),
            gpu_is_mine: gpu_is_mine.to_vec(),
        };
        watcher.ask::<Result<(), BackendError>>(&begin)??;
        Ok(watcher)
    }

    /// What the method returned. The first question that is not answered in time, or not at all, is the last: the process is
    /// killed, and the device is lost.
    fn ask<T: DeserializeOwned>(&self, question: &Question) -> Result<T, BackendError> {
        let mut child = lock(&self.child);
        let asked = match &mut *child {
            Ok(up) => up.ask(question, question.limit().min(self.longest)).map_err(|why| up.give_up(why)),
            Err(why) => Err(why.clone()),
        };
        asked.map_err(|why| {
            *child = Err(why.clone());
            BackendError::device(why)
        })
    }

    /// The same of a method that fails with the driver's own words.
    fn driver<T: DeserializeOwned>(&self, question: &Question) -> Result<T, NvmlError> {
        let lost = |error: BackendError| NvmlError { what: error.what, kind: NvmlErrorKind::Lost };
        self.ask::<Result<T, NvmlError>>(question).map_err(lost)?
    }
}

impl Child {
    fn ask<T: DeserializeOwned>(&mut self, question: &Question, limit: Nanos) -> Result<T, String> {
        let until = now() + limit;
        let (name, written) = question.written().map_err(|e| format!("a question that cannot be written: {e}"))?;
        // The last one was read before it was answered: a pipe has room for this one.
        if self.questions.write_all(format!("{written}\n").as_bytes()).is_err() {
            return Err(self.gone(&name));
        }
        let mut chunk = [0; 8192];
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let garbage =
                    |why: &dyn Display| format!("the process that asks NVML answered {name} with no answer: {why}");
                return match serde_json::from_slice::<Answer<T>>(&line) {
                    Ok(answer) if answer.to == name => Ok(answer.said),
                    Ok(answer) => Err(garbage(&format!("it is one to {}", answer.to))),
                    Err(why) => Err(garbage(&why)),
                };
            }
            if !readable(self.answers.as_fd(), until) {
                return Err(format!("NVML has not answered for {limit} ({name}): the driver hangs; {DO}"));
            }
            match self.answers.read(&mut chunk) {
                Ok(0) => return Err(self.gone(&name)),
                Ok(length) => self.read.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(self.gone(&name)),
            }
        }
    }

    /// Its pipes are closed: what became of it.
    fn gone(&mut self, name: &str) -> String {
        let how = self.process.wait_until(now() + LAST_BREATH).map(ended);
        format!(
            "the process that asks NVML {} ({name}){}: nobody can say any more how the GPU fares, or who is on it; unless \
             somebody ended it on purpose, {DO}",
            how.as_deref().unwrap_or("closed its output"),
            told(&self.stderr.last())
        )
    }

    /// Kills it: `why`, behind what the operator must know where it cannot be killed.
    fn give_up(&mut self, why: String) -> String {
        self.process.kill();
        if !self.process.stuck() {
            return why;
        }
        format!("{}; {why}", stuck_words(&[format!("pid {} (it asks NVML)", self.process.id())]))
    }
}

impl Watch for Watcher {
    fn check_exclusive(&self, ours: &[u32]) -> Result<ExclusiveUse, BackendError> {
        self.ask(&Question::CheckExclusive { ours: ours.to_vec() })?
    }

    fn health(&self) -> Result<GpuHealth, BackendError> {
        self.ask(&Question::Health)?
    }

    fn monitor(&self) -> Vec<DcgmReading> {
        self.ask(&Question::Monitor).unwrap_or_default()
    }

    fn sample(&self, on: bool) {
        // Where that fails the device is lost, which is asked for at the end of every arm: here and below.
        let _ = self.ask::<()>(&Question::Sample { on });
    }

    fn start_arm(&self) {
        let _ = self.ask::<()>(&Question::StartArm);
    }

    fn end_arm(&self) -> OverArm {
        self.ask(&Question::EndArm).unwrap_or_default()
    }

    fn sm_mhz_now(&self) -> Option<f64> {
        self.ask(&Question::SmMhzNow).ok().flatten()
    }

    fn xids(&self) -> Vec<XidEvent> {
        self.ask(&Question::Xids).unwrap_or_default()
    }

    fn lost(&self) -> Option<String> {
        self.ask(&Question::Lost).unwrap_or_else(|error| Some(error.what))
    }

    fn machine(&self) -> Result<Inventory, BackendError> {
        self.ask(&Question::Machine)?
    }

    fn processes_on(&self, uuid: &str) -> Result<Processes, BackendError> {
        self.ask(&Question::ProcessesOn { uuid: uuid.to_owned() })?
    }

    fn check_exclusive_on(&self, uuid: &str, ours: &[u32]) -> Result<(), BackendError> {
        self.ask(&Question::CheckExclusiveOn { uuid: uuid.to_owned(), ours: ours.to_vec() })?
    }

    fn used_by_process(&self, since: u64) -> Result<Vec<ProcessUse>, NvmlError> {
        self.driver(&Question::UsedByProcess { since })
    }

    fn telemetry(&self, uuid: &str) -> Telemetry {
        let asked = self.ask(&Question::Telemetry { uuid: uuid.to_owned() });
        asked.unwrap_or_else(|error| Telemetry::unknown(&error.what))
    }

    fn divided(&self) -> Box<dyn Divide + '_> {
        Box::new(self)
    }

    fn keep_on(&self, cores: &[u32]) {
        // Not collected yet: its number is nobody else's.
        if let Ok(child) = &*lock(&self.child) {
            thread::keep(child.process.id(), |_| true, cores);
        }
    }
}

impl Divide for &Watcher {
    fn profiles(&self) -> Result<Vec<DriverProfile>, NvmlError> {
        self.driver(&Question::Profiles)
    }

    fn placements(&self, profile: u32) -> Result<Vec<(u32, u32)>, NvmlError> {
        self.driver(&Question::Placements { profile })
    }

    fn there(&self) -> Result<Vec<GpuInstance>, NvmlError> {
        self.driver(&Question::There)
    }

    fn create(&self, profile: u32, place: (u32, u32)) -> Result<u32, NvmlError> {
        self.driver(&Question::Create { profile, place })
    }

    fn create_compute(
        &self,
        gpu_instance: u32,
        slices: u32,
        profile: Option<u32>,
        place: Option<(u32, u32)>,
    ) -> Result<u32, NvmlError> {
        self.driver(&Question::CreateCompute { gpu_instance, slices, profile, place })
    }

    fn destroy(&self, gpu_instance: u32) -> Result<(), NvmlError> {
        self.driver(&Question::Destroy { gpu_instance })
    }

    fn destroy_compute(&self, gpu_instance: u32, compute_instance: u32) -> Result<(), NvmlError> {
        self.driver(&Question::DestroyCompute { gpu_instance, compute_instance })
    }
}

/// The child's part: begins to watch as it is told first, and answers until nobody asks any more.
///
/// # Errors
/// Where a line is no question, or nobody reads the answers.
pub(crate) fn serve<W: Watch>(
    questions: impl BufRead,
    mut answers: impl Write,
    begin: impl FnOnce(&str, &[String]) -> Result<W, BackendError>,
) -> io::Result<()> {
    let read = |line: io::Result<String>| -> io::Result<Question> { Ok(serde_json::from_str(&line?)?) };
    let mut questions = questions.lines().map(read);
    let Some(first) = questions.next().transpose()? else { return Ok(()) };
    let mut say = |to: &str, said: Value| {
        let line = serde_json::to_string(&Answer { to: to.to_owned(), said })?;
        answers.write_all(format!("{line}\n").as_bytes()).and_then(|()| answers.flush())
    };
    let (name, _) = first.written()?;
    let begun = match first {
        Question::Begin { protocol: PROTOCOL, crosstalk, uuid, gpu_is_mine }
            if crosstalk == env!("CARGO_PKG_VERSION") =>
        {
            begin(&uuid, &gpu_is_mine)
        }
        other => Err(BackendError::device(format!(
            "crosstalk {} with protocol {PROTOCOL} is to watch the GPU, and was asked {other:?}: was the binary replaced \
             meanwhile?",
            env!("CARGO_PKG_VERSION")
        ))),
    };
    say(&name, serde_json::to_value(begun.as_ref().map(|_| ()))?)?;
    let Ok(watch) = begun else { return Ok(()) };
    for question in questions {
        let question = question?;
        let (name, _) = question.written()?;
        say(&name, answer(&watch, question)?)?;
    }
    Ok(())
}

/// What `watch` returns to a question.
fn answer(watch: &dyn Watch, question: Question) -> serde_json::Result<Value> {
    use serde_json::to_value as value;
    match question {
        Question::Begin { .. } => value(Err::<(), _>(BackendError::device("it has begun already"))),
        Question::CheckExclusive { ours } => value(watch.check_exclusive(&ours)),
        Question::CheckExclusiveOn { uuid, ours } => value(watch.check_exclusive_on(&uuid, &ours)),
        Question::Health => value(watch.health()),
        Question::Monitor => value(watch.monitor()),
        Question::Sample { on } => {
            watch.sample(on);
            Ok(Value::Null)
        }
        Question::StartArm => {
            watch.start_arm();
            Ok(Value::Null)
        }
        Question::EndArm => value(watch.end_arm()),
        Question::SmMhzNow => value(watch.sm_mhz_now()),
        Question::Xids => value(watch.xids()),
        Question::Lost => value(watch.lost()),
        Question::Machine => value(watch.machine()),
        Question::ProcessesOn { uuid } => value(watch.processes_on(&uuid)),
        Question::UsedByProcess { since } => value(watch.used_by_process(since)),
        Question::Telemetry { uuid } => value(watch.telemetry(&uuid)),
        Question::Profiles => value(watch.divided().profiles()),
        Question::Placements { profile } => value(watch.divided().placements(profile)),
        Question::There => value(watch.divided().there()),
        Question::Create { profile, place } => value(watch.divided().create(profile, place)),
        Question::CreateCompute { gpu_instance, slices, profile, place } => {
            value(watch.divided().create_compute(gpu_instance, slices, profile, place))
        }
        Question::Destroy { gpu_instance } => value(watch.divided().destroy(gpu_instance)),
        Question::DestroyCompute { gpu_instance, compute_instance } => {
            value(watch.divided().destroy_compute(gpu_instance, compute_instance))
        }
    }
}

#[cfg(test)]
mod tests;
