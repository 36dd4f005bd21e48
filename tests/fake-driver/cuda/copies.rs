//! Allocations, pinned memory, copies, fills.

use std::ffi::c_void;

use crosstalk::machine::{CopyDemand, Demand, Direction, HostDemand};
use crosstalk::units::{Bytes, Nanos};

use crate::entry::{Code, Out, entry_points};
use crate::process::{Process, Tables, current, process};
use crate::results;
use crate::streams::{Effect, Step};

/// Unit in which memory is allocated: the machine's.
const PAGE: u64 = 2 << 20;

impl Tables {
    /// What this process has allocated on a GPU, in all its contexts.
    fn allocated(&self, gpu: usize) -> u64 {
        let there = |context: u64| self.contexts.get(&context).is_some_and(|context| context.gpu == gpu);
        self.heap.allocations().filter(|a| there(a.context)).map(|a| a.bytes.div_ceil(PAGE) * PAGE).sum()
    }
}

/// A call that takes `micros` in the driver, nine tenths of it under its lock, as the simulator has it.
pub(crate) fn call(micros: f64, barriers: u64) -> Demand {
    let total = micros * 1e3;
    Demand::Host(HostDemand { lock: Nanos((total * 0.9) as u64), outside: Nanos((total * 0.1) as u64), barriers })
}

impl Process {
    /// Waits for the driver's lock as the context of this thread.
    pub(crate) fn host_call(&self, stream: u64, demand: Demand) -> Result<(), Code> {
        let mut tables = self.tables();
        self.push(&mut tables, stream, [Step::Run { demand, times: 1, effect: Effect::Nothing }])?;
        self.drain(tables, stream).map(drop)
    }

    fn allocate(&self, bytes: u64) -> Result<u64, Code> {
        if bytes == 0 {
            return Err(results::INVALID_VALUE);
        }
        let mut tables = self.tables();
        let (handle, context) = current(&tables)?;
        let gpu = self.gpu(context.gpu)?;
        if gpu.part.config.largest_piece_mib.is_some_and(|mib| bytes > mib << 20) {
            return Err(results::OUT_OF_MEMORY);
        }
        // Of one context the machine knows the limit; a client's is that of all its contexts on the device.
        if let Some(limit) = self.member.limit(context.device) {
            let pages = |bytes: u64| bytes.div_ceil(PAGE) * PAGE;
            if tables.allocated(context.gpu) + pages(bytes) > limit / PAGE * PAGE {
                return Err(results::OUT_OF_MEMORY);
            }
        }
        let made = gpu.with(|shared, _| {
            shared.machine.alloc(context.slot, Bytes(bytes)).or_else(|_| {
                shared.reap(gpu.part.share);
                shared.machine.alloc(context.slot, Bytes(bytes))
            })
        });
        let id = made.map_err(|_| results::OUT_OF_MEMORY)?;
        let address = tables.heap.insert(bytes, handle, Some(id));
        self.hand_over(&mut tables, address, bytes);
        drop(tables);
        self.host_call(context.host, call(gpu.part.model.driver.alloc_us, 2))?;
        Ok(address)
    }

    fn free(&self, address: u64) -> Result<(), Code> {
        let mut tables = self.tables();
        let (_, context) = current(&tables)?;
        let id = tables.heap.at(address).and_then(|allocation| allocation.id).ok_or(results::INVALID_VALUE)?;
        let allocation = tables.heap.remove(address).ok_or(results::INVALID_VALUE)?;
        tables.traced.remove(&address);
        let owner = tables.contexts.get(&allocation.context).cloned().ok_or(results::INVALID_CONTEXT)?;
        tables.sums.retain(|state, _| *state < address || *state >= address + allocation.bytes);
        let gpu = self.gpu(owner.gpu)?;
        gpu.with(|shared, _| shared.machine.free(owner.slot, id));
        drop(tables);
        self.host_call(context.host, call(gpu.part.model.driver.free_us, 2))
    }

    /// A step that copies to the device what lies at `from` now.
    fn to_device(&self, tables: &Tables, to: u64, from: *const c_void, bytes: usize) -> Result<Step, Code> {
        if from.is_null() || tables.heap.holds(to, bytes as u64).is_none() {
            return Err(results::INVALID_VALUE);
        }
        let kept = bytes.min((self.loaded.config.contents_kib << 10) as usize);
        // SAFETY: the caller of the copy says that as many bytes can be read there.
        let data = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), kept) }.to_vec();
        let demand = Demand::Copy(CopyDemand { bytes: bytes as u64, direction: Direction::ToDevice });
        Ok(Step::Run { demand, times: 1, effect: Effect::ToDevice { to, data } })
    }

    /// Waits for every stream of a context.
    pub(crate) fn synchronize(&self, context: u64) -> Result<(), Code> {
        let handles: Vec<u64> = {
            let tables = self.tables();
            tables.streams.iter().filter(|(_, s)| s.context == context).map(|(handle, _)| *handle).collect()
        };
        for handle in handles {
            match self.drain(self.tables(), handle) {
                Ok(_) | Err(results::INVALID_HANDLE) => {}
                Err(code) => return Err(code),
            }
        }
        Ok(())
    }

    /// Waits for the streams that the default stream waits for, itself included.
    fn synchronize_blocking(&self) -> Result<u64, Code> {
        let (stream, handles): (u64, Vec<u64>) = {
            let tables = self.tables();
            let (handle, context) = current(&tables)?;
            let of = |s: &crate::streams::Stream| s.context == handle && s.blocking;
            (context.stream, tables.streams.iter().filter(|(_, s)| of(s)).map(|(handle, _)| *handle).collect())
        };
        for handle in handles {
            match self.drain(self.tables(), handle) {
                Ok(_) | Err(results::INVALID_HANDLE) => {}
                Err(code) => return Err(code),
            }
        }
        Ok(stream)
    }

    fn copy_to_host(&self, to: *mut c_void, from: u64, bytes: usize) -> Result<(), Code> {
        let stream = self.synchronize_blocking()?;
        let mut tables = self.tables();
        if to.is_null() || tables.heap.holds(from, bytes as u64).is_none() {
            return Err(results::INVALID_VALUE);
        }
        let demand = Demand::Copy(CopyDemand { bytes: bytes as u64, direction: Direction::ToHost });
        self.push(&mut tables, stream, [Step::Run { demand, times: 1, effect: Effect::Nothing }])?;
        let tables = self.drain(tables, stream)?;
        let kept = bytes.min((self.loaded.config.contents_kib << 10) as usize);
        // SAFETY: the caller of the copy says that as many bytes can be written there.
        let out = unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), kept) };
        tables.heap.read(from, out);
        self.see_through(&tables, from, out);
        Ok(())
    }

    pub(crate) fn device_to_device(&self, to: u64, from: u64, bytes: usize) -> Result<(), Code> {
        let mut tables = self.tables();
        current(&tables)?;
        if tables.heap.holds(to, bytes as u64).is_none() || tables.heap.holds(from, bytes as u64).is_none() {
            return Err(results::INVALID_VALUE);
        }
        let mut data = vec![0; bytes.min((self.loaded.config.contents_kib << 10) as usize)];
        tables.heap.read(from, &mut data);
        self.see_through(&tables, from, &mut data);
        self.overwrite(&tables, to, bytes as u64);
        tables.heap.write(to, &data);
        Ok(())
    }
}

/// The state words in a range that is filled begin anew.
fn clear_sums(tables: &mut Tables, address: u64, bytes: u64) {
    tables.sums.retain(|state, _| *state < address || *state >= address + bytes);
}

entry_points! {
    fn cuMemAlloc_v2(pointer: Out<u64>, bytes: usize) {
        pointer.put(process()?.allocate(bytes as u64)?)
    }

    fn cuMemAllocAsync(pointer: Out<u64>, bytes: usize, _stream: u64) {
        pointer.put(process()?.allocate(bytes as u64)?)
    }

    fn cuMemFree_v2(pointer: u64) {
        if pointer == 0 { Ok(()) } else { process()?.free(pointer) }
    }

    fn cuMemFreeAsync(pointer: u64, stream: u64) {
        let process = process()?;
        let tables = process.tables();
        let stream = process.stream(&tables, stream)?;
        drop(process.drain(tables, stream)?);
        process.free(pointer)
    }

    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let process = process()?;
        let tables = process.tables();
        let (_, context) = current(&tables)?;
        let gpu = process.gpu(context.gpu)?;
        let (has, used) = gpu.with(|shared, _| {
            shared.reap(gpu.part.share);
            shared.machine.memory_of(context.slot)
        });
        let (mut left, mut all) = (has.0 - used.0, gpu.part.memory(context.slot / gpu.part.share.max(1)));
        if let Some(limit) = process.member.limit(context.device) {
            left = left.min(limit.saturating_sub(tables.allocated(context.gpu)));
            all = all.min(limit);
        }
        free.put(left as usize)?;
        total.put(all as usize)
    }

    fn cuMemHostAlloc(pointer: Out<u64>, bytes: usize, _flags: u32) {
        let process = process()?;
        let mut tables = process.tables();
        let (handle, _) = current(&tables)?;
        if bytes == 0 {
            return Err(results::INVALID_VALUE);
        }
        pointer.put(tables.heap.pin(bytes, handle).ok_or(results::OUT_OF_MEMORY)?)
    }

    fn cuMemAllocHost_v2(pointer: Out<u64>, bytes: usize) {
        Code::from_u32(cuMemHostAlloc(pointer, bytes, 0))
    }

    fn cuMemFreeHost(pointer: u64) {
        let process = process()?;
        let (handle, _) = current(&process.tables())?;
        process.synchronize(handle)?;
        if process.tables().heap.free_pinned(pointer) { Ok(()) } else { Err(results::INVALID_VALUE) }
    }

    fn cuMemHostGetDevicePointer_v2(device: Out<u64>, host: u64, _flags: u32) {
        let process = process()?;
        if process.tables().heap.is_pinned(host, 1) { device.put(host) } else { Err(results::INVALID_VALUE) }
    }

    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) {
        let process = process()?;
        let stream = process.synchronize_blocking()?;
        let mut tables = process.tables();
        let step = process.to_device(&tables, to, from, bytes)?;
        process.push(&mut tables, stream, [step])?;
        process.drain(tables, stream).map(drop)
    }

    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: u64) {
        let process = process()?;
        let mut tables = process.tables();
        let stream = process.stream(&tables, stream)?;
        let step = process.to_device(&tables, to, from, bytes)?;
        process.push(&mut tables, stream, [step])
    }

    fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) {
        process()?.copy_to_host(to, from, bytes)
    }

    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: u64) {
        let process = process()?;
        let mut tables = process.tables();
        let stream = process.stream(&tables, stream)?;
        if tables.heap.holds(from, bytes as u64).is_none() {
            return Err(results::INVALID_VALUE);
        }
        if !tables.heap.is_pinned(to as u64, bytes as u64) {
            // Pageable memory: the call waits, as the driver's does.
            drop(process.drain(tables, stream)?);
            return process.copy_to_host(to, from, bytes);
        }
        let demand = Demand::Copy(CopyDemand { bytes: bytes as u64, direction: Direction::ToHost });
        let effect = Effect::ToHost { from, to: to as u64, bytes: bytes as u64 };
        process.push(&mut tables, stream, [Step::Run { demand, times: 1, effect }])
    }

    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) {
        let process = process()?;
        process.synchronize_blocking()?;
        process.device_to_device(to, from, bytes)
    }

    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) {
        let process = process()?;
        let tables = process.tables();
        let stream = process.stream(&tables, stream)?;
        drop(process.drain(tables, stream)?);
        process.device_to_device(to, from, bytes)
    }

    fn cuMemsetD8_v2(address: u64, value: u8, bytes: usize) {
        let process = process()?;
        process.synchronize_blocking()?;
        let mut tables = process.tables();
        current(&tables)?;
        if tables.heap.holds(address, bytes as u64).is_none() {
            return Err(results::INVALID_VALUE);
        }
        tables.heap.fill(address, bytes as u64, value);
        process.overwrite(&tables, address, bytes as u64);
        clear_sums(&mut tables, address, bytes as u64);
        Ok(())
    }

    fn cuMemsetD8Async(address: u64, value: u8, bytes: usize, stream: u64) {
        let process = process()?;
        let mut tables = process.tables();
        let stream = process.stream(&tables, stream)?;
        if tables.heap.holds(address, bytes as u64).is_none() {
            return Err(results::INVALID_VALUE);
        }
        process.push(&mut tables, stream, [Step::Fill { address, bytes: bytes as u64, value }])
    }
}
