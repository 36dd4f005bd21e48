//! One trial: a run of a synthetic victim, judged like any other.

use super::noise::{Bank, Effect, Kind, recorded};
use crate::backend::{ArmKey, Purpose};
use crate::channel::Channel;
use crate::experiment::order;
use crate::random::{Key, Stream};
use crate::run_dir::{JudgedBy, RecordedRun};
use crate::scenario::{Quantile, Tier};
use crate::stats::proportion_upper;
use crate::verdict::cell::{Cell, Controls};
use crate::verdict::estimate::Tables;
use crate::verdict::synthetic::{Draw, Lab};
use crate::verdict::{RunVerdict, Verdict, controls, decide, decided, judge};

const PANEL: [(&str, Channel); 6] = [
    ("launch", Channel::Launch),
    ("compute", Channel::Issue),
    ("l2-chase", Channel::L2),
    ("hbm-chase", Channel::HbmBandwidth),
    ("tlb-chase", Channel::Tlb),
    ("copy", Channel::Pcie),
];

const HOGS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// What is tried.
#[derive(Clone)]
pub(super) struct Case<'a> {
    pub(super) bank: &'a Bank,
    pub(super) blocks: u32,
    pub(super) neighbours: usize,
    pub(super) series: usize,
    /// All series are hit, or the first alone.
    pub(super) hits_all: bool,
    pub(super) judged: Vec<(Quantile, JudgedBy)>,
    pub(super) effect: Effect,
    /// All quiet arms first, then all noisy ones: what crosstalk does not do.
    pub(super) sequential: bool,
    /// The acceptance tier's looks.
    pub(super) looks: bool,
    /// A second quiet arm in every block.
    pub(super) again: bool,
}

/// One arm of a trial: its latencies rising and how often they occur, the level of its time, and whether it is hit.
#[derive(Clone, Copy)]
pub(super) struct Arm<'a> {
    pub(super) values: &'a [(f32, u32)],
    pub(super) level: f64,
    pub(super) effect: Option<Effect>,
}

/// What a trial draws before its arms.
struct Course {
    /// Per block and arm (quiet, neighbours, quiet again), the level of its time.
    levels: Vec<f64>,
    hit: Vec<bool>,
}

impl<'a> Case<'a> {
    /// A pair of one probe and one neighbour, one quantile judged by blocks.
    pub(super) fn pair(bank: &'a Bank, blocks: u32, quantile: Quantile, effect: Effect) -> Self {
        Self {
            bank,
            blocks,
            neighbours: 1,
            series: 1,
            hits_all: true,
            judged: vec![(quantile, JudgedBy::Blocks)],
            effect,
            sequential: false,
            looks: false,
            again: bank.kind == Kind::CarryOver,
        }
    }

    fn lab(&self, seed: u64) -> Lab {
        Lab {
            seed,
            blocks: self.blocks,
            again: self.again,
            requests: self.bank.requests as u64,
            judged: self.judged.clone(),
            panel: PANEL[..self.series].to_vec(),
            neighbours: HOGS[..self.neighbours].iter().map(|name| (*name, "hbm-read", Channel::HbmBandwidth)).collect(),
            ..Lab::default()
        }
    }

    /// Arms of a block.
    fn width(&self) -> usize {
        1 + self.neighbours + usize::from(self.again)
    }

    /// The run of one trial.
    pub(super) fn run(&self, seed: u64) -> RecordedRun {
        let lab = self.lab(seed);
        let course = self.course(&lab);
        let mut run = lab.run_of(|stream, draw| {
            let arm = self.arm(&course, stream, draw);
            recorded(arm.values, arm.level, arm.effect)
        });
        if self.looks {
            let design = &mut run.manifest.plan.design;
            design.looks = Tier::Acceptance.looks(self.blocks, design.blocks_per_generation);
            design.tier = Tier::Acceptance;
        }
        run
    }

    /// The arms of the first series in the same trial, (quiet, noisy) beside the first neighbour.
    pub(super) fn arms(&self, seed: u64) -> (Vec<Arm<'a>>, Vec<Arm<'a>>) {
        let lab = self.lab(seed);
        let course = self.course(&lab);
        let arm = |block: u32, neighbour: Option<usize>| {
            let key = [
                Key::Name(PANEL[0].0),
                Key::Number(u64::from(block)),
                Key::Number(neighbour.map_or(0, |n| n as u64 + 1)),
            ];
            self.arm(&course, &mut Stream::new(seed, &key), Draw { block, neighbour, probe: 0, again: false })
        };
        ((0..self.blocks).map(|b| arm(b, None)).collect(), (0..self.blocks).map(|b| arm(b, Some(0))).collect())
    }

    fn arm(&self, course: &Course, stream: &mut Stream, draw: Draw) -> Arm<'a> {
        let at = draw.block as usize * self.width() + self.index(draw.neighbour, draw.again);
        let hits = draw.neighbour.is_some() && course.hit[at] && (self.hits_all || draw.probe == 0);
        Arm { values: self.bank.draw(stream), level: course.levels[at], effect: hits.then_some(self.effect) }
    }

    fn index(&self, neighbour: Option<usize>, again: bool) -> usize {
        if again { 1 + self.neighbours } else { neighbour.map_or(0, |n| n + 1) }
    }

    fn course(&self, lab: &Lab) -> Course {
        let mut stream = Stream::new(lab.seed, &[Key::Name("course")]);
        let times = self.times(lab);
        let by_time = self.bank.levels(&mut stream, times.len());
        let mut levels = vec![1.0; times.len()];
        for (time, arm) in times.iter().enumerate() {
            // What a noisy arm leaves behind slows the arm after it.
            let after_noise = time.checked_sub(1).is_some_and(|before| self.is_noisy(times[before]));
            let carried = if self.bank.kind == Kind::CarryOver && after_noise { 1.1 } else { 1.0 };
            levels[*arm] = by_time[time] * carried;
        }
        Course { levels, hit: times.iter().map(|_| stream.uniform() < self.effect.share).collect() }
    }

    fn is_noisy(&self, arm: usize) -> bool {
        (1..=self.neighbours).contains(&(arm % self.width()))
    }

    /// The arms (block × width + index) in the order in which they are run.
    fn times(&self, lab: &Lab) -> Vec<usize> {
        let (width, blocks) = (self.width(), self.blocks as usize);
        if self.sequential {
            return (0..width * blocks).map(|time| time % blocks * width + time / blocks).collect();
        }
        let plan = lab.plan();
        let index = |key: ArmKey| key.block as usize * width + self.index(key.neighbour, key.purpose == Purpose::Again);
        (0..self.blocks).flat_map(|block| order(&plan, 0, 0, block)).map(index).collect()
    }

    /// The verdict of one trial: at the look at which each neighbour stops, where there are looks.
    pub(super) fn verdict(&self, seed: u64) -> (RunVerdict, RecordedRun) {
        let mut run = self.run(seed);
        let looks = run.manifest.plan.design.looks.len();
        for neighbour in 0..self.neighbours {
            if let Some(look) = (0..looks - 1).find(|look| decided(&run, 0, 0, neighbour, *look)) {
                run.stopped.insert((0, 0, neighbour), look);
            }
        }
        (judge(&run), run)
    }

    /// Verdicts of a cell in trials `0 … trials`. Of several neighbours every trial has another one, and the other cells,
    /// which share its quiet arms and tell nothing new, are not judged.
    pub(super) fn verdicts(&self, trials: u64) -> Vec<Verdict> {
        each(trials, |seed| {
            if self.neighbours == 1 {
                return self.verdict(seed).0.cells.swap_remove(0).verdict;
            }
            let (run, mut tables) = (self.run(seed), Tables::new());
            let controls = Controls::from([((0, 0), controls::of_grid(&run, 0, 0, &mut tables))]);
            let cell = Cell::at_look(&run, 0, 0, seed as usize % self.neighbours, usize::MAX).unwrap();
            let cell = cell.judge(&run, &controls, &mut tables).cell;
            decide::overall(cell.verdict, &cell.series)
        })
    }
}

/// What `trial` gives for 0 … `trials`, in order, on all cores.
pub(super) fn each<T: Send>(trials: u64, trial: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let mut results: Vec<(u64, T)> = std::thread::scope(|scope| {
        let trial = &trial;
        let part = |core| move || (core..trials).step_by(cores as usize).map(|i| (i, trial(i))).collect::<Vec<_>>();
        let parts: Vec<_> = (0..cores).map(|core| scope.spawn(part(core))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    results.sort_unstable_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}

pub(super) fn count(verdicts: &[Verdict], words: &[&str]) -> u64 {
    verdicts.iter().filter(|v| words.contains(&v.word())).count() as u64
}

/// Whether `hits` of `trials` show a rate of at most `limit`: the one-sided 95 % Clopper–Pearson bound lies within it.
pub(super) fn shows(hits: u64, trials: u64, limit: f64) -> bool {
    proportion_upper(hits, trials, 0.05) <= limit
}

/// 0 of 299: 1 − 0.05^(1/299) = 0.997 %. Six of 1,200 show 1 %, seven do not.
#[test]
fn what_so_many_trials_show() {
    assert!(shows(0, 299, 0.01) && !shows(0, 298, 0.01));
    assert!(shows(6, 1_200, 0.01) && !shows(7, 1_200, 0.01));
}

/// Parts of the docs that tests make: between `<!-- NAME -->` and `<!-- end of NAME -->`. `CROSSTALK_BLESS=1` writes them.
pub(super) fn compare_with_docs(file: &str, name: &str, table: &str) {
    // Several tests write into one file.
    static WRITING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _writing = WRITING.lock();
    let path = format!("{}/docs/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap();
    let (found, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("CROSSTALK_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{table}{end}{after}")).unwrap();
        return;
    }
    assert!(found == table, "docs/{file} is out of date: run the tests once with CROSSTALK_BLESS=1\n{table}");
}
