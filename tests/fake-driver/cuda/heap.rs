//! Device memory as the process sees it: addresses that cannot be followed on the host, and contents kept sparsely.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;

use crosstalk::machine::AllocId;

/// Where device addresses begin: not canonical on x86-64 and beyond what arm64 maps, so that following one faults.
const BASE: u64 = 0x0100_0000_0000_0000;
/// Distance of two allocations is a multiple of this.
const ALIGN: u64 = 2 << 20;
/// Unit in which contents are kept.
const PAGE: u64 = 4096;
/// Bytes of contents that a process keeps at most.
const KEPT: usize = 64 << 20;

/// An allocation of device memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocation {
    pub(crate) bytes: u64,
    pub(crate) context: u64,
    /// `None`: memory of another process, mapped here.
    pub(crate) id: Option<AllocId>,
}

/// Pinned host memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pinned {
    layout: Layout,
    pub(crate) context: u64,
}

/// The memory of a process.
#[derive(Default)]
pub(crate) struct Heap {
    next: u64,
    allocations: BTreeMap<u64, Allocation>,
    pinned: BTreeMap<u64, Pinned>,
    /// Contents by page number, where they are more than one byte value.
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
    /// Runs of one byte value: start, end and value. Where nothing is kept memory reads as zeros.
    runs: BTreeMap<u64, (u64, u8)>,
}

impl Heap {
    /// Gives an allocation an address.
    pub(crate) fn insert(&mut self, bytes: u64, context: u64, id: Option<AllocId>) -> u64 {
        let address = BASE + self.next;
        self.next += bytes.max(1).div_ceil(ALIGN) * ALIGN + ALIGN;
        self.allocations.insert(address, Allocation { bytes, context, id });
        address
    }

    /// Forgets an allocation and what it held.
    pub(crate) fn remove(&mut self, address: u64) -> Option<Allocation> {
        let allocation = self.allocations.remove(&address)?;
        self.forget(address, address + allocation.bytes.max(1));
        Some(allocation)
    }

    /// Forgets everything of a context.
    pub(crate) fn remove_context(&mut self, context: u64) {
        let of = |(address, a): (&u64, &Allocation)| (a.context == context).then_some(*address);
        let addresses: Vec<u64> = self.allocations.iter().filter_map(of).collect();
        for address in addresses {
            self.remove(address);
        }
        let of = |(address, p): (&u64, &Pinned)| (p.context == context).then_some(*address);
        let addresses: Vec<u64> = self.pinned.iter().filter_map(of).collect();
        for address in addresses {
            self.free_pinned(address);
        }
    }

    /// The allocation that holds `[address, address + bytes)`: its start.
    pub(crate) fn holds(&self, address: u64, bytes: u64) -> Option<u64> {
        let (start, a) = self.allocations.range(..=address).next_back()?;
        (address.checked_add(bytes)? <= start + a.bytes).then_some(*start)
    }

    /// The allocation that begins at `address`.
    pub(crate) fn at(&self, address: u64) -> Option<&Allocation> {
        self.allocations.get(&address)
    }

    /// What is allocated here, without what is mapped from elsewhere.
    pub(crate) fn allocations(&self) -> impl Iterator<Item = &Allocation> {
        self.allocations.values().filter(|allocation| allocation.id.is_some())
    }

    /// Allocates pinned host memory. Its address.
    pub(crate) fn pin(&mut self, bytes: usize, context: u64) -> Option<u64> {
        let layout = Layout::from_size_align(bytes.max(1), PAGE as usize).ok()?;
        // SAFETY: the layout has a size of at least one byte.
        let address = unsafe { alloc_zeroed(layout) } as u64;
        if address == 0 {
            return None;
        }
        self.pinned.insert(address, Pinned { layout, context });
        Some(address)
    }

    /// Frees pinned host memory. False where it is none.
    pub(crate) fn free_pinned(&mut self, address: u64) -> bool {
        let Some(pinned) = self.pinned.remove(&address) else { return false };
        // SAFETY: `pin` allocated it with this layout, and it was in the table until now.
        unsafe { dealloc(address as *mut u8, pinned.layout) };
        true
    }

    /// Whether `[address, address + bytes)` lies in pinned memory.
    pub(crate) fn is_pinned(&self, address: u64, bytes: u64) -> bool {
        let Some((start, p)) = self.pinned.range(..=address).next_back() else { return false };
        address.checked_add(bytes).is_some_and(|end| end <= start + p.layout.size() as u64)
    }

    fn forget(&mut self, start: u64, end: u64) {
        let pages: Vec<u64> = self.pages.range(start / PAGE..end.div_ceil(PAGE)).map(|(page, _)| *page).collect();
        for page in pages {
            self.pages.remove(&page);
        }
        self.cut(start, end);
    }

    /// Takes `[start, end)` out of the runs.
    fn cut(&mut self, start: u64, end: u64) {
        let before = self.runs.range(..start).next_back().map(|(s, run)| (*s, *run));
        if let Some((s, (e, value))) = before
            && e > start
        {
            self.runs.insert(s, (start, value));
            if e > end {
                self.runs.insert(end, (e, value));
            }
        }
        let inside: Vec<(u64, (u64, u8))> = self.runs.range(start..end).map(|(s, run)| (*s, *run)).collect();
        for (s, (e, value)) in inside {
            self.runs.remove(&s);
            if e > end {
                self.runs.insert(end, (e, value));
            }
        }
    }

    /// Sets `[address, address + bytes)` to one value.
    pub(crate) fn fill(&mut self, address: u64, bytes: u64, value: u8) {
        let end = address + bytes;
        // The whole pages in the middle are a run; the parts at both ends may lie in pages that are kept.
        let (first, last) = (address.div_ceil(PAGE), end / PAGE);
        if first < last {
            self.forget(first * PAGE, last * PAGE);
            self.cut(first * PAGE, last * PAGE);
            self.runs.insert(first * PAGE, (last * PAGE, value));
            self.put(address, first * PAGE - address, |_| value);
            self.put(last * PAGE, end - last * PAGE, |_| value);
        } else {
            self.put(address, bytes, |_| value);
        }
    }

    /// Writes `data` at `address`; of a page beyond what is kept, nothing.
    pub(crate) fn write(&mut self, address: u64, data: &[u8]) {
        self.put(address, data.len() as u64, |i| data[i as usize]);
    }

    fn put(&mut self, address: u64, bytes: u64, value: impl Fn(u64) -> u8) {
        let mut at = 0;
        while at < bytes {
            let (page, offset) = ((address + at) / PAGE, (address + at) % PAGE);
            let n = (PAGE - offset).min(bytes - at);
            let full = self.pages.len() * PAGE as usize >= KEPT;
            let background = self.background(page * PAGE);
            let entry = match self.pages.entry(page) {
                std::collections::btree_map::Entry::Occupied(entry) => Some(entry.into_mut()),
                std::collections::btree_map::Entry::Vacant(_) if full => None,
                std::collections::btree_map::Entry::Vacant(entry) => {
                    Some(entry.insert(Box::new([background; PAGE as usize])))
                }
            };
            if let Some(kept) = entry {
                for i in 0..n {
                    kept[(offset + i) as usize] = value(at + i);
                }
            }
            at += n;
        }
    }

    fn background(&self, address: u64) -> u8 {
        self.runs.range(..=address).next_back().filter(|(_, (end, _))| *end > address).map_or(0, |(_, run)| run.1)
    }

    /// Reads what lies at `address`.
    pub(crate) fn read(&self, address: u64, out: &mut [u8]) {
        let mut at = 0;
        while at < out.len() {
            let here = address + at as u64;
            let (page, offset) = (here / PAGE, (here % PAGE) as usize);
            let n = (PAGE as usize - offset).min(out.len() - at);
            match self.pages.get(&page) {
                Some(kept) => out[at..at + n].copy_from_slice(&kept[offset..offset + n]),
                None => out[at..at + n].fill(self.background(page * PAGE)),
            }
            at += n;
        }
    }
}
