//! What work leaves behind when it ends: sums, stamps, contents, faults.

use std::sync::atomic::{AtomicU32, Ordering};

use crosstalk::units::Nanos;
use crosstalk::workload::Stamp;

use crate::process::{Process, Tables};
use crate::state::Completion;
use crate::streams::Effect;

impl Process {
    /// The effects of the oldest work of a stream, which has ended.
    pub(crate) fn deliver(&self, tables: &mut Tables, handle: u64, completion: Completion, mhz: f64) {
        let Some(stream) = tables.streams.get_mut(&handle) else { return };
        let Some((ticket, effect)) = stream.running.pop_front() else { return };
        if ticket != completion.ticket {
            eprintln!("crosstalk stand-in driver: work ended out of order: a defect of the stand-in");
        }
        stream.ended = completion.ended;
        let (gpu, slot) = (stream.gpu, stream.slot);
        match effect {
            Effect::Nothing => {}
            Effect::ToDevice { to, data } => {
                tables.heap.write(to, &data);
                self.overwrite(tables, to, data.len() as u64);
            }
            Effect::Fault(fault) => self.fault(tables, handle, fault),
            Effect::Spin { .. } => eprintln!("crosstalk stand-in driver: an endless kernel ended by itself"),
            Effect::ToHost { from, to, bytes } => self.to_host(tables, from, to, bytes),
            Effect::Launch { state, adds, stamp, sequence, touch } => {
                let changed = touch.map_or(0, |touch| self.touch(tables, (gpu, slot), touch));
                let adds = adds.wrapping_sub(changed as u32);
                let sum = tables.sums.entry(state).or_default();
                *sum = sum.wrapping_add(adds);
                let Some(stamp) = stamp else { return };
                let mut checksum = std::mem::take(sum);
                if self.loaded.config.fault.wrong_result_from.is_some_and(|from| tables.launches >= from) {
                    checksum = checksum.wrapping_add(1);
                }
                if !tables.heap.is_pinned(stamp, size_of::<Stamp>() as u64) {
                    return;
                }
                let sms = self.gpus.get(gpu).map_or(1, |g| g.part.model.sm.count.max(1));
                // The device's axis runs in real time, as %globaltimer does, whatever the scale.
                let real = |at| self.gpus.get(gpu).map_or(at, |g| g.real(Nanos(at)));
                let (start_ns, end_ns) = (real(completion.started), real(completion.ended));
                let block_ns = end_ns - start_ns;
                let written = Stamp {
                    start_ns,
                    end_ns,
                    block_ns,
                    block_cycles: (block_ns as f64 * mhz / 1e3) as u64,
                    sm: completion.ticket % sms,
                    checksum,
                    reserved: [0; 5],
                    sequence: 0,
                };
                write_stamp(stamp, &written, sequence);
            }
        }
    }

    /// Copies contents of the device to memory of the host, as far as they are kept.
    pub(crate) fn to_host(&self, tables: &Tables, from: u64, to: u64, bytes: u64) {
        if !tables.heap.is_pinned(to, bytes) {
            return;
        }
        let kept = bytes.min(self.loaded.config.contents_kib << 10) as usize;
        // SAFETY: it lies in pinned memory of this process, which is only freed under the lock of the tables.
        let out = unsafe { std::slice::from_raw_parts_mut(to as *mut u8, kept) };
        tables.heap.read(from, out);
        self.see_through(tables, from, out);
    }
}

/// Writes a stamp, its sequence word last.
fn write_stamp(address: u64, stamp: &Stamp, sequence: u32) {
    let place = address as *mut Stamp;
    // SAFETY: the caller has found that it lies in pinned memory, aligned to 64 bytes at the launch. The host may read the
    // sequence word meanwhile, and only that, until it has changed.
    unsafe {
        let words = (&raw const *stamp).cast::<u32>();
        for word in 0..size_of::<Stamp>() / 4 - 1 {
            place.cast::<u32>().add(word).write_volatile(words.add(word).read());
        }
        AtomicU32::from_ptr(&raw mut (*place).sequence).store(sequence, Ordering::Release);
    }
}
