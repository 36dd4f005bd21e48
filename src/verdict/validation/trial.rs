//! One trial: a run of a synthetic victim, judged like any other.

use super::noise::{Bank, Effect, recorded};
use crate::channel::Channel;
use crate::random::{Key, Stream};
use crate::run_dir::{JudgedBy, RecordedRun};
use crate::scenario::{Look, Quantile, Tier};
use crate::stats::{proportion_upper, spent};
use crate::units::Share;
use crate::verdict::synthetic::{Draw, Lab};
use crate::verdict::{RunVerdict, Verdict, decided, judge};

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
    /// The first series alone is hit, or all of them.
    pub(super) hits_all: bool,
    pub(super) judged: Vec<(Quantile, JudgedBy)>,
    pub(super) effect: Effect,
    /// All quiet arms first, then all noisy ones: what crosstalk does not do.
    pub(super) sequential: bool,
    /// Looks of the acceptance tier before the last one.
    pub(super) looks: bool,
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
        }
    }

    /// The run of one trial.
    pub(super) fn run(&self, seed: u64) -> RecordedRun {
        let lab = Lab {
            seed,
            blocks: self.blocks,
            requests: self.bank.requests as u64,
            judged: self.judged.clone(),
            panel: PANEL[..self.series].to_vec(),
            neighbours: HOGS[..self.neighbours].iter().map(|name| (*name, "hbm-read", Channel::HbmBandwidth)).collect(),
            ..Lab::default()
        };
        let arms = self.neighbours + 1;
        let places = self.places(seed);
        let mut stream = Stream::new(seed, &[Key::Name("levels")]);
        let levels = self.bank.levels(&mut stream, arms * self.blocks as usize);
        let hit: Vec<bool> = levels.iter().map(|_| stream.uniform() < self.effect.share).collect();
        let mut run = lab.run_of(|stream, draw: Draw| {
            let arm = draw.block as usize * arms + draw.neighbour.map_or(0, |n| n + 1);
            let hits = draw.neighbour.is_some() && hit[arm] && (self.hits_all || draw.probe == 0);
            recorded(self.bank.draw(stream), levels[places[arm]], hits.then_some(self.effect))
        });
        if self.looks {
            let looks = [(self.blocks / 4, 10), (self.blocks / 2, 20), (self.blocks, 70)];
            let look = |(blocks, percent)| Look { blocks, spends: Share::percent(percent) };
            run.manifest.plan.design.looks = looks.map(look).to_vec();
            run.manifest.plan.design.tier = Tier::Acceptance;
        }
        run
    }

    /// Place in time of every arm, by block and arm: blocks one after the other, in random order within.
    fn places(&self, seed: u64) -> Vec<usize> {
        let arms = self.neighbours + 1;
        let blocks = self.blocks as usize;
        if self.sequential {
            return (0..blocks * arms).map(|i| (i % arms) * blocks + i / arms).collect();
        }
        let mut stream = Stream::new(seed, &[Key::Name("order")]);
        let block = |block: usize| {
            let mut order: Vec<usize> = (0..arms).collect();
            stream.shuffle(&mut order);
            order.into_iter().map(move |place| block * arms + place)
        };
        (0..blocks).flat_map(block).collect()
    }

    /// The verdict of one trial on the whole of its run, looks taken where there are any.
    pub(super) fn verdict(&self, seed: u64) -> RunVerdict {
        let mut run = self.run(seed);
        for neighbour in 0..self.neighbours {
            let looks = run.manifest.plan.design.looks.len();
            if let Some(look) = (0..looks.saturating_sub(1)).find(|look| decided(&run, 0, 0, neighbour, *look)) {
                run.stopped.insert((0, 0, neighbour), look);
            }
        }
        judge(&run)
    }

    /// Verdicts of a cell in trials `0 … trials`; of several neighbours every trial has another one.
    pub(super) fn verdicts(&self, trials: u64) -> Vec<Verdict> {
        each(trials, |seed| {
            let mut cells = self.verdict(seed).cells;
            cells.swap_remove(seed as usize % self.neighbours).verdict
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

#[test]
fn what_so_many_trials_show() {
    // 0 of 299: 1 − 0.05^(1/299) = 0.997 %; and what verdict.md says of 1,200 trials with a true 0.5 %.
    assert!(shows(0, 299, 0.01) && !shows(0, 298, 0.01));
    assert!(shows(6, 1_200, 0.01) && !shows(7, 1_200, 0.01));
    assert_eq!(spent(0.01, &[1.0]), [0.01]);
}
