//! What the kernels of patterns leave in device memory and in shared memory: runs of words, by where they lie and not by
//! whose they are, so that they outlive their writer until somebody clears them.

use crosstalk::workload::pattern::{Report, WORD, is_of, word};

/// Runs at most; beyond, one is not kept, and said so.
const RUNS: usize = 512;
/// Compute domains of a GPU at most: each has shared memory of its own.
const COMPUTES: usize = 32;

/// A run of words in the memory of one domain, bytes from its beginning.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    domain: usize,
    start: u64,
    end: u64,
    /// The tag, and the address that the first word was written for; of a single word itself: see `single`.
    tag: u64,
    at: u64,
    /// One word, which is `at`.
    single: bool,
}

impl Run {
    /// The word at `place`, which lies in the run.
    fn word(&self, place: u64) -> u64 {
        if self.single { self.at } else { word(self.tag, self.at.wrapping_add(place - self.start)) }
    }

    /// The part of it from `start` to `end`.
    fn part(self, start: u64, end: u64) -> Self {
        let ahead = if self.single { 0 } else { start - self.start };
        Self { start, end, at: self.at.wrapping_add(ahead), ..self }
    }
}

/// A range of memory of a domain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) domain: usize,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

impl Range {
    fn end(&self) -> u64 {
        self.start + self.bytes
    }
}

/// What lies in the shared memory of the SMs of a compute domain.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    tag: u64,
    bytes: u64,
    /// The process that wrote it.
    pid: u32,
}

/// Everything that is left somewhere on a GPU.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traces {
    /// Disjoint; the first `len` are in use.
    runs: [Run; RUNS],
    len: usize,
    held: [Held; COMPUTES],
}

impl Traces {
    pub(crate) fn copy_from(&mut self, from: &Self) {
        self.runs[..from.len].copy_from_slice(&from.runs[..from.len]);
        (self.len, self.held) = (from.len, from.held);
    }

    fn push(&mut self, run: Run) {
        match self.runs.get_mut(self.len) {
            Some(free) => {
                *free = run;
                self.len += 1;
            }
            None => eprintln!("crosstalk stand-in driver: more than {RUNS} runs of patterns: one is not kept"),
        }
    }

    /// Clears a range.
    pub(crate) fn cut(&mut self, range: Range) {
        let mut index = 0;
        while index < self.len {
            let run = self.runs[index];
            if run.domain != range.domain || run.end <= range.start || run.start >= range.end() {
                index += 1;
                continue;
            }
            self.len -= 1;
            self.runs[index] = self.runs[self.len];
            if run.start < range.start {
                self.push(run.part(run.start, range.start));
            }
            if run.end > range.end() {
                self.push(run.part(range.end(), run.end));
            }
        }
    }

    /// Writes the pattern of `tag`, as for addresses from `at` on.
    pub(crate) fn fill(&mut self, range: Range, tag: u64, at: u64) {
        self.cut(range);
        self.push(Run { domain: range.domain, start: range.start, end: range.end(), tag, at, single: false });
    }

    /// Changes one bit of the word at `place`.
    pub(crate) fn flip(&mut self, domain: usize, place: u64) {
        let range = Range { domain, start: place / WORD * WORD, bytes: WORD };
        let was = self.within(range).first().map_or(0, |run| run.word(range.start));
        self.cut(range);
        self.push(Run { domain, start: range.start, end: range.end(), tag: 0, at: was ^ 1, single: true });
    }

    /// The parts of runs within a range, in order.
    fn within(&self, range: Range) -> Vec<Run> {
        let meets = |run: &&Run| run.domain == range.domain && run.end > range.start && run.start < range.end();
        let clip = |run: &Run| run.part(run.start.max(range.start), run.end.min(range.end()));
        let mut found: Vec<Run> = self.runs[..self.len].iter().filter(meets).map(clip).collect();
        found.sort_by_key(|run| run.start);
        found
    }

    /// Whether anything lies in a range.
    pub(crate) fn any(&self, range: Range) -> bool {
        !self.within(range).is_empty()
    }

    /// Words that are not those of `tag` written for addresses from `at` on. Where nothing is kept memory reads as zeros.
    pub(crate) fn check(&self, range: Range, tag: u64, at: u64) -> Report {
        let mut wrong = Vec::new();
        let mut place = range.start;
        for run in self.within(range) {
            wrong.push((place, run.start, 0));
            place = run.end;
            let wanted = word(tag, at.wrapping_add(run.start - range.start));
            let right = if run.single {
                run.at == wanted
            } else {
                run.tag == tag && run.at == at.wrapping_add(run.start - range.start)
            };
            if !right {
                wrong.push((run.start, run.end, run.word(run.start)));
            }
        }
        wrong.push((place, range.end(), 0));
        report(range, wrong)
    }

    /// Words of `tag`.
    pub(crate) fn scan(&self, range: Range, tag: u64) -> Report {
        let own = |run: &Run| if run.single { is_of(tag, run.at) } else { run.tag == tag };
        let found = self.within(range).into_iter().filter(own);
        report(range, found.map(|run| (run.start, run.end, run.word(run.start))).collect())
    }

    /// Puts what lies in a range over what was read from there.
    pub(crate) fn overlay(&self, range: Range, out: &mut [u8]) {
        for run in self.within(range) {
            for place in run.start..run.end {
                let byte = run.word(place / WORD * WORD).to_le_bytes()[(place % WORD) as usize];
                if let Some(out) = out.get_mut((place - range.start) as usize) {
                    *out = byte;
                }
            }
        }
    }

    /// The SMs of a compute domain hold this many bytes of the pattern of `tag` in shared memory.
    pub(crate) fn hold(&mut self, compute: usize, tag: u64, bytes: u64) {
        if let Some(held) = self.held.get_mut(compute) {
            *held = Held { tag, bytes, pid: std::process::id() };
        }
    }

    /// What of `tag` lies in `bytes` of shared memory of a compute domain. `scrubs`: of what another process left, nothing.
    pub(crate) fn held(&self, compute: usize, tag: u64, bytes: u64, scrubs: bool) -> Report {
        let Some(held) = self.held.get(compute) else { return Report::default() };
        let mine = held.pid == std::process::id();
        let seen = if held.tag == tag && (mine || !scrubs) { held.bytes.min(bytes) } else { 0 };
        report(Range { domain: 0, start: 0, bytes }, vec![(0, seen, word(tag, 0))])
    }
}

/// A report of these stretches, each with its first word, in order.
fn report(range: Range, stretches: Vec<(u64, u64, u64)>) -> Report {
    let mut all = stretches.into_iter().filter(|(start, end, _)| start < end).peekable();
    let Some((first, _, word)) = all.peek().copied() else { return Report::default() };
    let mut report = Report { first: !(first - range.start), samples: 1, ..Report::default() };
    report.sample[0] = [first - range.start, word];
    for (start, end, _) in all {
        report.count += (end - start) / WORD;
        report.last = end - WORD - range.start;
    }
    report
}
