//! Kernels whose effect on memory is kept: those of patterns.

use crosstalk::machine::AllocId;
use crosstalk::workload::Kernel;
use crosstalk::workload::pattern::{CHECK, FILL, Report, SCAN, SHARED_BYTES, SHARED_FILL, SHARED_SCAN};

use crate::entry::Code;
use crate::process::{Process, Tables};
use crate::results;
use crate::traces::Range;

/// What a launch does to memory when it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Touch {
    Fill { address: u64, bytes: u64, tag: u64, at: u64 },
    Check { address: u64, bytes: u64, tag: u64, at: u64, report: u64 },
    Scan { address: u64, bytes: u64, tag: u64, report: u64 },
    SharedFill { bytes: u64, tag: u64 },
    SharedScan { bytes: u64, tag: u64, report: u64 },
}

impl Touch {
    /// What a launch with these arguments does; an address beyond what its process has is an error, as on hardware.
    pub(crate) fn of(tables: &Tables, kernel: &Kernel, grid: u32, args: &[u64]) -> Result<Option<Self>, Code> {
        let bytes = u64::from(grid) * SHARED_BYTES;
        let touch = match *args {
            [address, bytes, tag, at] if *kernel == FILL => Self::Fill { address, bytes, tag, at },
            [address, bytes, tag, at, report] if *kernel == CHECK => Self::Check { address, bytes, tag, at, report },
            [address, bytes, tag, report] if *kernel == SCAN => Self::Scan { address, bytes, tag, report },
            [tag] if *kernel == SHARED_FILL => Self::SharedFill { bytes, tag },
            [tag, report] if *kernel == SHARED_SCAN => Self::SharedScan { bytes, tag, report },
            _ => return Ok(None),
        };
        let (memory, report) = match touch {
            Self::Fill { address, bytes, .. } => (Some((address, bytes)), None),
            Self::Check { address, bytes, report, .. } | Self::Scan { address, bytes, report, .. } => {
                (Some((address, bytes)), Some((report, size_of::<Report>() as u64)))
            }
            Self::SharedFill { .. } => (None, None),
            Self::SharedScan { report, .. } => (None, Some((report, size_of::<Report>() as u64))),
        };
        let held = |(address, bytes)| tables.heap.holds(address, bytes).is_some();
        if memory.into_iter().chain(report).all(held) { Ok(Some(touch)) } else { Err(results::ILLEGAL_ADDRESS) }
    }
}

/// Where an allocation lies: its GPU, its context's place, and its id.
type Site = (usize, usize, AllocId);

impl Process {
    /// The allocation that holds `address`: where it lies, and how far into it that is.
    fn site(tables: &Tables, address: u64) -> Option<(Site, u64)> {
        let start = tables.heap.holds(address, 1)?;
        let allocation = tables.heap.at(start)?;
        let context = tables.contexts.get(&allocation.context)?;
        Some(((context.gpu, context.slot, allocation.id?), address - start))
    }

    /// The range of physical memory of a domain that `[address, address + bytes)` is.
    fn range(&self, tables: &Tables, address: u64, bytes: u64) -> Option<(usize, Range)> {
        let ((gpu, slot, id), ahead) = Self::site(tables, address)?;
        let device = self.gpu(gpu).ok()?;
        let domain = device.part.topology.computes.get(slot / device.part.share.max(1))?.domain;
        let placed = device.with(|shared, _| shared.machine.placed(slot, id))?;
        Some((gpu, Range { domain, start: placed.0 + ahead, bytes }))
    }

    /// An allocation was made: what its pages hold of others is cleared, where the driver clears it.
    pub(crate) fn hand_over(&self, tables: &mut Tables, address: u64, bytes: u64) {
        let Some((gpu, range)) = self.range(tables, address, bytes) else { return };
        let Ok(device) = self.gpu(gpu) else { return };
        let (scrubs, kept) = (device.part.config.scrubs, device.part.config.unscrubbed);
        let left = device.with(|shared, _| {
            if scrubs {
                let (from, to) = kept.map_or((0, 0), |k| (k.at_mib << 20, (k.at_mib << 20) + (k.kib << 10)));
                let end = range.start + range.bytes;
                for (start, end) in [(range.start, from.clamp(range.start, end)), (to.clamp(range.start, end), end)] {
                    if start < end {
                        shared.traces.cut(Range { start, bytes: end - start, ..range });
                    }
                }
            }
            shared.traces.any(range)
        });
        if left {
            tables.traced.insert(address);
        }
    }

    /// Something else was written to memory: what a pattern left there is gone.
    pub(crate) fn overwrite(&self, tables: &Tables, address: u64, bytes: u64) {
        if bytes == 0 || !self.is_traced(tables, address) {
            return;
        }
        if let Some((gpu, range)) = self.range(tables, address, bytes)
            && let Ok(device) = self.gpu(gpu)
        {
            device.with(|shared, _| shared.traces.cut(range));
        }
    }

    /// Puts what a pattern left over what was read of memory.
    pub(crate) fn see_through(&self, tables: &Tables, address: u64, out: &mut [u8]) {
        if out.is_empty() || !self.is_traced(tables, address) {
            return;
        }
        if let Some((gpu, range)) = self.range(tables, address, out.len() as u64)
            && let Ok(device) = self.gpu(gpu)
        {
            device.with(|shared, _| shared.traces.overlay(range, out));
        }
    }

    fn is_traced(&self, tables: &Tables, address: u64) -> bool {
        tables.heap.holds(address, 1).is_some_and(|start| tables.traced.contains(&start))
    }

    /// Does what a launch does, on the place `slot` of a GPU. Words that a check found changed.
    pub(crate) fn touch(&self, tables: &mut Tables, (gpu, slot): (usize, usize), touch: Touch) -> u64 {
        let Ok(device) = self.gpu(gpu) else { return 0 };
        let (compute, scrubs) = (slot / device.part.share.max(1), device.part.config.scrubs);
        let (report, to) = match touch {
            Touch::Fill { address, bytes, tag, at } => {
                let start = tables.heap.holds(address, bytes);
                tables.traced.extend(start);
                if let Some((_, range)) = self.range(tables, address, bytes) {
                    device.with(|shared, _| shared.traces.fill(range, tag, at));
                }
                return 0;
            }
            Touch::SharedFill { bytes, tag } => {
                device.with(|shared, _| shared.traces.hold(compute, tag, bytes));
                return 0;
            }
            Touch::Check { address, bytes, tag, at, report } => {
                tables.checks += 1;
                let Some((_, range)) = self.range(tables, address, bytes) else { return 0 };
                let planted = self.loaded.config.fault.flip.filter(|flip| flip.before_check == tables.checks);
                let seen = device.with(|shared, _| {
                    if let Some(flip) = planted {
                        shared.traces.flip(range.domain, range.start + flip.offset.min(bytes - 1));
                    }
                    shared.traces.check(range, tag, at)
                });
                (seen, report)
            }
            Touch::Scan { address, bytes, tag, report } => {
                let Some((_, range)) = self.range(tables, address, bytes) else { return 0 };
                (device.with(|shared, _| shared.traces.scan(range, tag)), report)
            }
            Touch::SharedScan { bytes, tag, report } => {
                (device.with(|shared, _| shared.traces.held(compute, tag, bytes, scrubs)), report)
            }
        };
        tables.heap.write(to, &report.bytes());
        if matches!(touch, Touch::Check { .. }) { report.count } else { 0 }
    }
}
