//! What faults and endless kernels do to streams and contexts, of the process itself and of others.

use std::sync::atomic::{AtomicU32, Ordering};

use crosstalk::workload::fault;

use crate::blast;
use crate::entry::Code;
use crate::process::{Process, Tables};
use crate::state::Completion;
use crate::streams::{Effect, Stream};

impl Process {
    /// Ends the endless kernels that were told to stop, with everything behind them. Whether there were any.
    pub(crate) fn release(&self, tables: &mut Tables) -> bool {
        let stopped = |(handle, stream): (&u64, &Stream)| match stream.running.front() {
            Some((_, Effect::Spin { words, .. })) if !stream.hangs && tables.heap.is_pinned(*words, 128) => {
                word(*words, fault::SPIN_STOP).map(|word| (*handle, word.load(Ordering::Acquire)))
            }
            _ => None,
        };
        let stopped: Vec<(u64, u32)> =
            tables.streams.iter().filter_map(stopped).filter(|(_, word)| *word != 0).collect();
        for (handle, _) in &stopped {
            let Some(stream) = tables.streams.get_mut(handle) else { continue };
            let Ok(gpu) = self.gpu(stream.gpu) else { continue };
            let (queue, slot) = (stream.queue, stream.slot);
            let (fresh, now, mhz) = gpu.with(|shared, now| {
                shared.machine.close_queue(queue);
                shared.spinning[slot] = 0;
                (shared.queue(slot), now, shared.machine.sm_mhz(0))
            });
            stream.queue = fresh.unwrap_or(queue);
            let (started, mut tickets) = (stream.ended, Vec::new());
            for (ticket, effect) in &mut stream.running {
                if let Effect::Spin { state, stamp, sequence, .. } = *effect {
                    *effect = Effect::Launch { state, adds: 0, stamp, sequence, touch: None };
                }
                tickets.push(*ticket);
            }
            for ticket in tickets {
                self.deliver(tables, *handle, Completion { ticket, started, ended: now.0 }, mhz);
            }
        }
        !stopped.is_empty()
    }

    /// A kernel of a stream takes a fault: its context is lost, and perhaps others.
    pub(crate) fn fault(&self, tables: &mut Tables, stream: u64, fault: &str) {
        let Some((context, gpu, slot)) = tables.streams.get(&stream).map(|s| (s.context, s.gpu, s.slot)) else {
            return;
        };
        let fault = fault.replace('_', "-");
        if let Ok(gpu) = self.gpu(gpu) {
            gpu.with(|shared, _| shared.strike(slot, &fault, gpu.part.share));
        }
        self.lose_context(tables, context, Code(blast::own(&fault).code));
    }

    /// What a context had queued never ends, and every later call fails.
    fn lose_context(&self, tables: &mut Tables, context: u64, code: Code) {
        let of = |(handle, stream): (&u64, &Stream)| (stream.context == context).then_some(*handle);
        let streams: Vec<u64> = tables.streams.iter().filter_map(of).collect();
        for stream in streams {
            self.drop_stream(tables, stream);
        }
        tables.lose(context, code);
        self.done.notify_all();
    }

    /// Takes note of what the faults of others have done to the contexts of this process.
    pub(crate) fn heed_others(&self, tables: &mut Tables) {
        let whole: Vec<(u64, usize, usize)> = tables
            .contexts
            .iter()
            .filter(|(_, context)| context.error.is_none())
            .map(|(handle, context)| (*handle, context.gpu, context.slot))
            .collect();
        for (handle, gpu, slot) in whole {
            let word = self.gpu(gpu).map_or(0, |gpu| gpu.struck(slot));
            if word & blast::CODE != 0 {
                self.lose_context(tables, handle, Code(word & blast::CODE));
            }
            if word & blast::HANGS != 0 {
                for stream in tables.streams.values_mut().filter(|s| s.context == handle && !s.hangs) {
                    stream.hangs = true;
                    if let Ok(gpu) = self.gpu(stream.gpu) {
                        gpu.with(|shared, _| shared.machine.close_queue(stream.queue));
                    }
                }
            }
        }
    }
}

/// Number `index` of the words at `address`.
fn word<'w>(address: u64, index: usize) -> Option<&'w AtomicU32> {
    let place = (address as *mut u32).wrapping_add(index);
    // SAFETY: the callers have found that the words lie in pinned memory of this process, and use it under the lock of the
    // tables, under which alone it is freed; both sides access them atomically.
    place.is_aligned().then(|| unsafe { AtomicU32::from_ptr(place) })
}

/// The machine has it: what its beginning leaves.
pub(crate) fn runs(effect: &Effect) {
    if let Effect::Spin { words, .. } = effect
        && let Some(word) = word(*words, fault::SPIN_RUNS)
    {
        word.store(1, Ordering::Release);
    }
}
