//! What tenants leave behind in device memory: a page that is given back without being scrubbed keeps the contents of
//! its last holder until somebody else takes it.

/// Runs of pages with contents at most; beyond, what is left is no longer known.
const RUNS: usize = 4096;

/// A run of free pages that still holds what a context wrote.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: u32,
    end: u32,
    domain: u8,
    context: u8,
}

/// The contents of free pages, where they are not scrubbed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Residue {
    /// Disjoint; the first `len` are in use.
    runs: [Run; RUNS],
    len: usize,
    /// A run found no room in the table: counts are lower bounds from then on.
    forgotten: bool,
}

impl Residue {
    /// Every page is clean.
    pub const CLEAN: Self =
        Self { runs: [Run { start: 0, end: 0, domain: 0, context: 0 }; RUNS], len: 0, forgotten: false };

    /// `context` gave back pages `[start, end)` of `domain` as they are.
    pub fn leave(&mut self, domain: u8, context: u8, start: u32, end: u32) {
        self.push(Run { start, end, domain, context });
    }

    /// `context` takes pages `[start, end)` of `domain`: how many hold what another context left. What it takes is its
    /// own from now on. `None` where that is no longer known.
    pub fn take(&mut self, domain: u8, context: u8, start: u32, end: u32) -> Option<u32> {
        let mut foreign = 0;
        let mut at = 0;
        while at < self.len {
            let run = self.runs[at];
            let (from, to) = (run.start.max(start), run.end.min(end));
            if run.domain != domain || from >= to {
                at += 1;
                continue;
            }
            if run.context != context {
                foreign += to - from;
            }
            self.len -= 1;
            self.runs[at] = self.runs[self.len];
            for part in [Run { end: from, ..run }, Run { start: to, ..run }] {
                if part.start < part.end {
                    self.push(part);
                }
            }
        }
        (!self.forgotten).then_some(foreign)
    }

    /// Becomes a copy of `from`, at a cost that grows with the runs in use.
    pub fn copy_from(&mut self, from: &Self) {
        self.runs[..from.len].copy_from_slice(&from.runs[..from.len]);
        (self.len, self.forgotten) = (from.len, from.forgotten);
    }

    fn push(&mut self, run: Run) {
        match self.runs.get_mut(self.len) {
            Some(free) => {
                *free = run;
                self.len += 1;
            }
            None => self.forgotten = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_taken_in_part_is_left_in_part() {
        let mut residue = Residue::CLEAN;
        residue.leave(0, 0, 10, 20);
        assert_eq!(residue.take(0, 1, 12, 15), Some(3));
        assert_eq!(residue.take(1, 1, 0, 100), Some(0), "another domain");
        assert_eq!(residue.take(0, 0, 0, 12), Some(0), "its own");
        assert_eq!(residue.take(0, 1, 0, 100), Some(5), "pages 15 to 20 are left");
        assert_eq!(residue.take(0, 1, 0, 100), Some(0));
    }

    #[test]
    fn what_finds_no_room_is_unknown_and_never_none() {
        let mut residue = Residue::CLEAN;
        for run in 0..=RUNS as u32 {
            residue.leave(0, 0, 2 * run, 2 * run + 1);
        }
        assert_eq!(residue.take(0, 1, 0, 10), None);
    }
}
