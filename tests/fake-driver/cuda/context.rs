//! Contexts.

use crosstalk::machine::{SmShare, Terms};

use crate::blast;
use crate::copies::call;
use crate::entry::{Code, Out, entry_points};
use crate::mps::Membership;
use crate::process::{Context, Process, current, current_handle, pop_current, process, push_current, set_current};
use crate::results;
use crate::state::{Role, Shared, me};

impl Process {
    /// Opens a context on a device.
    fn open(&self, device: usize) -> Result<u64, Code> {
        self.open_with(device, None)
    }

    /// Opens a context on a device, with so many SMs of its own where it is a green one. The first green context of a
    /// process takes what their primary context does, and the others nothing.
    pub(crate) fn open_with(&self, device: usize, green: Option<u32>) -> Result<u64, Code> {
        let visible = self.visible.get(device).ok_or(results::INVALID_DEVICE)?;
        let gpu = self.gpu(visible.gpu)?;
        let places = visible.compute * gpu.part.share..(visible.compute + 1) * gpu.part.share;
        let slot = gpu.with(|shared, _| {
            shared.reap(gpu.part.share);
            self.welcome(shared)?;
            let Some(slot) = places.clone().find(|slot| shared.slots[*slot].pid == 0) else {
                eprintln!("crosstalk stand-in driver: no place for more than {} contexts there", places.len());
                return Err(results::OUT_OF_MEMORY);
            };
            let sms = gpu.part.topology.computes.get(visible.compute).map_or(0, |c| c.sms);
            let me = if green.is_some() { me(Role::Green(std::process::id())) } else { self.member.slot() };
            let terms = match green {
                Some(own) => {
                    let first = places.clone().all(|slot| shared.slots[slot] != me);
                    let overhead = if first { None } else { Some(0) };
                    Some(Terms { sms: SmShare::Own(own), memory_limit: None, overhead })
                }
                None => self.member.terms(device, sms),
            };
            let opened = match terms {
                Some(terms) => shared.machine.open_on(slot, &terms).is_ok(),
                None => shared.machine.open(slot).is_ok(),
            };
            if !opened {
                return Err(results::OUT_OF_MEMORY);
            }
            shared.occupy(slot, me, gpu.part.share);
            Ok(slot)
        })?;
        let mut tables = self.tables();
        let handle = tables.handle();
        let at = (handle, visible.gpu, slot);
        let streams =
            self.new_stream(&mut tables, at, true).and_then(|s| Ok((s, self.new_stream(&mut tables, at, false)?)));
        let (stream, host) = match streams {
            Ok(streams) => streams,
            Err(code) => {
                tables.streams.retain(|_, s| s.context != handle);
                gpu.with(|shared, _| shared.close(slot, gpu.part.share));
                return Err(code);
            }
        };
        tables.contexts.insert(handle, Context { device, gpu: visible.gpu, slot, stream, host, green, error: None });
        drop(tables);
        self.host_call(host, call(self.loaded.config.context_create_ms * 1e3, 64))?;
        Ok(handle)
    }

    /// Whether the server takes this process, where it is a client: not one that shared a fault, and no other until those
    /// have ended.
    fn welcome(&self, shared: &Shared) -> Result<(), Code> {
        let Membership::Client { server, .. } = self.member else { return Ok(()) };
        let reached =
            |slot: usize| shared.slots[slot].role == Role::Client(server) && shared.struck(slot) & blast::REFUSES != 0;
        let mut reached = (0..shared.slots.len()).filter(|slot| reached(*slot)).peekable();
        match reached.peek() {
            None => Ok(()),
            Some(_) => Err(reached
                .find(|slot| shared.slots[*slot].pid == std::process::id())
                .map(|slot| Code(shared.struck(slot) & blast::CODE))
                .filter(|code| *code != Code(0))
                .unwrap_or(results::MPS_SERVER_NOT_READY)),
        }
    }

    /// Closes a context and everything that it had.
    pub(crate) fn close(&self, handle: u64) -> Result<(), Code> {
        let context = self.tables().contexts.get(&handle).cloned().ok_or(results::INVALID_CONTEXT)?;
        let gpu = self.gpu(context.gpu)?;
        let spins = self.tables().streams.values().any(|stream| stream.context == handle && stream.spins());
        if spins {
            gpu.with(|shared, _| shared.strike(context.slot, "context-destroyed", gpu.part.share));
        } else if context.error.is_none() && gpu.struck(context.slot) == 0 {
            self.synchronize(handle)?;
            self.host_call(context.host, call(self.loaded.config.context_create_ms * 1e3 / 3.0, 64))?;
        }
        let mut tables = self.tables();
        tables.contexts.remove(&handle).ok_or(results::INVALID_CONTEXT)?;
        tables.streams.retain(|_, s| s.context != handle);
        tables.functions.retain(|_, f| f.context != handle);
        tables.heap.remove_context(handle);
        gpu.with(|shared, _| {
            // A client that shared a fault is one as long as its process lives.
            if shared.struck(context.slot) & blast::REFUSES == 0 {
                shared.close(context.slot, gpu.part.share);
            }
        });
        self.done.notify_all();
        Ok(())
    }
}

entry_points! {
    fn cuCtxCreate_v2(context: Out<u64>, _flags: u32, device: i32) {
        let process = process()?;
        process.device(device)?;
        let handle = process.open(device as usize)?;
        push_current(handle);
        context.put(handle)
    }

    fn cuCtxDestroy_v2(context: u64) {
        let process = process()?;
        process.close(context)?;
        if current_handle() == context {
            pop_current();
        }
        Ok(())
    }

    fn cuCtxSetCurrent(context: u64) {
        let process = process()?;
        if context != 0 && !process.tables().contexts.contains_key(&context) {
            return Err(results::INVALID_CONTEXT);
        }
        set_current(context);
        Ok(())
    }

    fn cuCtxGetCurrent(context: Out<u64>) {
        process()?;
        context.put(current_handle())
    }

    fn cuCtxPushCurrent_v2(context: u64) {
        let process = process()?;
        if !process.tables().contexts.contains_key(&context) {
            return Err(results::INVALID_CONTEXT);
        }
        push_current(context);
        Ok(())
    }

    fn cuCtxPopCurrent_v2(context: Out<u64>) {
        process()?;
        context.put_if(pop_current());
        Ok(())
    }

    fn cuCtxGetDevice(device: Out<i32>) {
        let process = process()?;
        let (_, context) = current(&process.tables())?;
        device.put(context.device as i32)
    }

    fn cuCtxGetApiVersion(_context: u64, version: Out<u32>) {
        version.put(3020)
    }

    fn cuCtxSynchronize() {
        let process = process()?;
        let (handle, _) = current(&process.tables())?;
        process.synchronize(handle)?;
        current(&process.tables()).map(drop)
    }

    fn cuCtxSetFlags(_flags: u32) {
        current(&process()?.tables()).map(drop)
    }

    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        current(&process()?.tables())?;
        least.put_if(0);
        greatest.put_if(-5);
        Ok(())
    }

    fn cuDevicePrimaryCtxRetain(context: Out<u64>, device: i32) {
        let process = process()?;
        process.device(device)?;
        let device = device as usize;
        let kept = process.tables().primary.get(&device).copied();
        let (handle, count) = match kept {
            Some(kept) => kept,
            None => (process.open(device)?, 0),
        };
        process.tables().primary.insert(device, (handle, count + 1));
        context.put(handle)
    }

    fn cuDevicePrimaryCtxRelease_v2(device: i32) {
        let process = process()?;
        let device = usize::try_from(device).map_err(|_| results::INVALID_DEVICE)?;
        let (handle, count) = process.tables().primary.remove(&device).ok_or(results::INVALID_CONTEXT)?;
        if count > 1 {
            process.tables().primary.insert(device, (handle, count - 1));
            return Ok(());
        }
        process.close(handle)
    }

    fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) {
        let process = process()?;
        process.device(device)?;
        flags.put_if(0);
        active.put(i32::from(process.tables().primary.contains_key(&(device as usize))))
    }
}
