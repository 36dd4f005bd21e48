//! Device memory: first fit over pages of 2 MiB of a memory domain.

use super::build::{CONTEXTS, DOMAINS};
use super::residue::Residue;
use super::topology::Topology;
use crate::units::Bytes;

/// Size of a page.
pub(super) const PAGE: u64 = 2 << 20;
/// Allocations of all contexts at most.
const BLOCKS: usize = 4096;
/// Id of a context's overhead: never freed.
const OVERHEAD: u32 = 0;

/// Names an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocId(u32);

/// An allocation that does not fit, as seen from the context that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory: {asked} asked, {free} free of {total}, largest piece {largest}")]
pub struct OutOfMemory {
    /// Bytes asked for.
    pub asked: Bytes,
    /// Bytes free to it.
    pub free: Bytes,
    /// Largest contiguous piece free to it.
    pub largest: Bytes,
    /// Bytes in all, as it sees them: its limit, or its domain's memory.
    pub total: Bytes,
}

/// A run of pages in use.
#[derive(Clone, Copy, Debug)]
struct Block {
    start: u32,
    pages: u32,
    id: u32,
    domain: u8,
    context: u8,
    /// Pages that held what another context left when this one took them; `None`: not known.
    found: Option<u32>,
}

/// Who holds which pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// In order of domain, then start; the first `len` are in use.
    blocks: [Block; BLOCKS],
    len: usize,
    next_id: u32,
    /// Pages of each domain.
    pages: [u32; DOMAINS],
    /// Pages in use of each domain.
    used: [u32; DOMAINS],
    /// Pages each context may allocate; `u32::MAX` without a limit. While it is open, and by the topology.
    limit: [u32; CONTEXTS],
    given: [u32; CONTEXTS],
    /// Pages each context has allocated, its overhead not counted.
    held: [u32; CONTEXTS],
    domain: [u8; CONTEXTS],
    residue: Residue,
    /// Part of the pages given back that are not scrubbed.
    unscrubbed: f64,
}

/// Whole pages in `bytes`, at most what a u32 holds.
fn pages_down(bytes: u64) -> u32 {
    u32::try_from(bytes / PAGE).unwrap_or(u32::MAX)
}

impl Memory {
    /// No domain, nothing in use.
    pub const EMPTY: Self = Self {
        blocks: [Block { start: 0, pages: 0, id: 0, domain: 0, context: 0, found: None }; BLOCKS],
        len: 0,
        next_id: OVERHEAD + 1,
        pages: [0; DOMAINS],
        used: [0; DOMAINS],
        limit: [u32::MAX; CONTEXTS],
        given: [u32::MAX; CONTEXTS],
        held: [0; CONTEXTS],
        domain: [0; CONTEXTS],
        residue: Residue::CLEAN,
        unscrubbed: 0.0,
    };

    /// Nothing in use, and clean. The topology has been checked. `unscrubbed`: part of the pages given back that keep
    /// their contents.
    pub fn new(topology: &Topology, unscrubbed: f64) -> Self {
        let mut memory = Self { unscrubbed, ..Self::EMPTY };
        for (d, domain) in topology.domains.iter().enumerate() {
            memory.pages[d] = pages_down(domain.memory);
        }
        for (x, context) in topology.contexts.iter().enumerate() {
            memory.domain[x] = topology.computes[context.compute].domain as u8;
            memory.limit[x] = context.memory_limit.map_or(u32::MAX, pages_down);
        }
        memory.given = memory.limit;
        memory
    }

    /// Takes a context's overhead, which its limit does not count.
    pub fn reserve(&mut self, context: usize, bytes: u64) -> Result<(), OutOfMemory> {
        if bytes == 0 {
            return Ok(());
        }
        let pages = u32::try_from(bytes.div_ceil(PAGE)).unwrap_or(u32::MAX);
        let Some((at, start)) = self.fit(self.domain[context] as usize, pages) else {
            return Err(self.refusal(context, bytes, 0));
        };
        self.insert(at, context, start, pages, OVERHEAD);
        Ok(())
    }

    /// Takes the first hole that fits. `leaked` pages count as used besides.
    pub fn alloc(&mut self, context: usize, bytes: u64, leaked: u32) -> Result<AllocId, OutOfMemory> {
        let pages = u32::try_from(bytes.max(1).div_ceil(PAGE)).unwrap_or(u32::MAX);
        let domain = self.domain[context] as usize;
        let free = (self.pages[domain] - self.used[domain]).saturating_sub(leaked);
        if pages > free || pages > self.limit[context].saturating_sub(self.held[context]) {
            return Err(self.refusal(context, bytes, leaked));
        }
        let Some((at, start)) = self.fit(domain, pages) else {
            return Err(self.refusal(context, bytes, leaked));
        };
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(OVERHEAD + 1);
        self.insert(at, context, start, pages, id);
        self.held[context] += pages;
        Ok(AllocId(id))
    }

    /// Gives an allocation back. True if the context had it.
    pub fn free(&mut self, context: usize, id: AllocId) -> bool {
        let found = self.blocks[..self.len].iter().position(|b| b.id == id.0 && usize::from(b.context) == context);
        let Some(at) = found.filter(|_| id.0 != OVERHEAD) else { return false };
        self.held[context] -= self.remove(at);
        true
    }

    /// Takes the block at `at` out of the table. Its pages.
    fn remove(&mut self, at: usize) -> u32 {
        let block = self.blocks[at];
        let kept = (self.unscrubbed.min(1.0) * f64::from(block.pages)) as u32;
        if kept > 0 {
            self.residue.leave(block.domain, block.context, block.start, block.start + kept);
        }
        self.blocks.copy_within(at + 1..self.len, at);
        self.len -= 1;
        self.used[usize::from(block.domain)] -= block.pages;
        block.pages
    }

    /// Gives back all that a context holds, its overhead too.
    pub fn evict(&mut self, context: usize) {
        while let Some(at) = self.blocks[..self.len].iter().position(|b| usize::from(b.context) == context) {
            self.remove(at);
        }
        self.held[context] = 0;
        self.limit[context] = self.given[context];
    }

    /// Limits what `context` may allocate until it closes, bytes.
    pub fn limit(&mut self, context: usize, limit: Option<u64>) {
        self.limit[context] = limit.map_or(u32::MAX, pages_down);
    }

    /// Bytes that `context` may allocate, where that is limited.
    pub fn limit_of(&self, context: usize) -> Option<Bytes> {
        let pages = self.limit[context];
        (pages != u32::MAX).then(|| Bytes(u64::from(pages) * PAGE))
    }

    /// Bytes of the domain of `context`, and those in use.
    pub fn usage(&self, context: usize) -> (Bytes, Bytes) {
        let domain = usize::from(self.domain[context]);
        (Bytes(u64::from(self.pages[domain]) * PAGE), Bytes(u64::from(self.used[domain]) * PAGE))
    }

    /// Bytes that `context` holds, its overhead included.
    pub fn held(&self, context: usize) -> Bytes {
        let own = self.blocks[..self.len].iter().filter(|b| usize::from(b.context) == context);
        Bytes(own.map(|b| u64::from(b.pages) * PAGE).sum())
    }

    /// Becomes a copy of `from`, at a cost that grows with the entries in use.
    pub fn copy_from(&mut self, from: &Self) {
        self.blocks[..from.len].copy_from_slice(&from.blocks[..from.len]);
        (self.len, self.next_id, self.unscrubbed) = (from.len, from.next_id, from.unscrubbed);
        (self.pages, self.used, self.limit, self.given) = (from.pages, from.used, from.limit, from.given);
        (self.held, self.domain) = (from.held, from.domain);
        self.residue.copy_from(&from.residue);
    }

    /// Bytes of an allocation that held what another tenant left when it was made: what a tenant that scans before it
    /// writes finds. `None` where the context has no such allocation, or where it is no longer known.
    pub fn found(&self, context: usize, id: AllocId) -> Option<Bytes> {
        let own = |b: &&Block| b.id == id.0 && usize::from(b.context) == context;
        let block = self.blocks[..self.len].iter().find(own)?;
        block.found.map(|pages| Bytes(u64::from(pages) * PAGE))
    }

    /// Where an allocation begins in its domain's memory, and what it takes of it, bytes.
    pub fn placed(&self, context: usize, id: AllocId) -> Option<(u64, u64)> {
        let own = |b: &&Block| b.id == id.0 && usize::from(b.context) == context;
        let block = self.blocks[..self.len].iter().find(own)?;
        Some((u64::from(block.start) * PAGE, u64::from(block.pages) * PAGE))
    }

    /// Pages in use of every other domain.
    pub fn used_elsewhere(&self, context: usize) -> u32 {
        let domain = self.domain[context] as usize;
        self.used.iter().enumerate().filter(|(d, _)| *d != domain).map(|(_, used)| *used).sum()
    }

    /// First hole of `pages` in `domain`: where its block would stand in the table, and its first page.
    fn fit(&self, domain: usize, pages: u32) -> Option<(usize, u32)> {
        if self.len == BLOCKS {
            return None;
        }
        self.holes(domain).find(|(_, _, size)| *size >= pages).map(|(at, start, _)| (at, start))
    }

    /// Holes of `domain`: index of the block behind, first page, pages. Empty ones too.
    fn holes(&self, domain: usize) -> impl Iterator<Item = (usize, u32, u32)> {
        let first = self.blocks[..self.len].partition_point(|b| usize::from(b.domain) < domain);
        let last = self.blocks[..self.len].partition_point(|b| usize::from(b.domain) <= domain);
        (first..=last).map(move |at| {
            let start = if at == first { 0 } else { self.blocks[at - 1].start + self.blocks[at - 1].pages };
            let end = if at == last { self.pages[domain] } else { self.blocks[at].start };
            (at, start, end - start)
        })
    }

    fn insert(&mut self, at: usize, context: usize, start: u32, pages: u32, id: u32) {
        let domain = self.domain[context];
        let found = self.residue.take(domain, context as u8, start, start + pages);
        self.blocks.copy_within(at..self.len, at + 1);
        self.blocks[at] = Block { start, pages, id, domain, context: context as u8, found };
        self.len += 1;
        self.used[usize::from(domain)] += pages;
    }

    fn refusal(&self, context: usize, asked: u64, leaked: u32) -> OutOfMemory {
        let domain = self.domain[context] as usize;
        let left = self.limit[context].saturating_sub(self.held[context]);
        let free = (self.pages[domain] - self.used[domain]).saturating_sub(leaked).min(left);
        let largest = self.holes(domain).map(|(_, _, size)| size).max().unwrap_or(0).min(free);
        let bytes = |pages: u32| Bytes(u64::from(pages) * PAGE);
        OutOfMemory {
            asked: Bytes(asked),
            free: bytes(free),
            largest: bytes(largest),
            total: bytes(self.pages[domain].min(self.limit[context])),
        }
    }
}
