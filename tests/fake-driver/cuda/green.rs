//! Green contexts: sets of SMs of one process, from `cuda = "12.4"` on (CUDA driver API, "Green Contexts"). They run side by
//! side while no other process has a context on their GPU; with another one there all take turns, each context its own.

use std::cell::RefCell;

use crate::config::cuda_version;
use crate::entry::{Code, Out, entry_points};
use crate::parts::Part;
use crate::process::{Context, Process, process};
use crate::results;

/// CU_DEV_RESOURCE_TYPE_SM.
const SMS: u32 = 1;
/// CU_GREEN_CTX_DEFAULT_STREAM, and CU_STREAM_NON_BLOCKING: the driver requires both.
const REQUIRED: u32 = 1;

/// CUdevResource. Which split it comes from, and where it begins, is the driver's own affair.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Resource {
    kind: u32,
    /// 0: the whole device.
    split: u32,
    first: u32,
    internal: [u32; 21],
    sms: u32,
    rest: [u32; 11],
}

const _: () = assert!(size_of::<Resource>() == 144);

fn resource(split: u32, first: u32, sms: u32) -> Resource {
    Resource { kind: SMS, split, first, internal: [0; 21], sms, rest: [0; 11] }
}

/// The process, where its driver has green contexts: from CUDA 12.4 on.
fn new_enough() -> Result<&'static Process, Code> {
    let process = process()?;
    if cuda_version(&process.loaded.config) < 12_040 { Err(results::NOT_SUPPORTED) } else { Ok(process) }
}

/// The least group of SMs, and what its size is a multiple of.
fn granularity(part: &Part) -> (u32, u32) {
    match part.capability().0 {
        9.. => (8, 8),
        8 => (4, 2),
        7 => (2, 2),
        _ => (1, 1),
    }
}

/// A green context of this process.
fn green(process: &Process, handle: u64) -> Result<(Context, u32), Code> {
    let context = process.tables().contexts.get(&handle).cloned().ok_or(results::INVALID_CONTEXT)?;
    let sms = context.green.ok_or(results::INVALID_CONTEXT)?;
    Ok((context, sms))
}

entry_points! {
    fn cuDeviceGetDevResource(device: i32, found: Out<Resource>, kind: u32) {
        let process = new_enough()?;
        let device = process.device(device)?;
        if kind != SMS {
            return Err(results::INVALID_RESOURCE_TYPE);
        }
        let topology = &process.gpu(device.gpu)?.part.topology;
        found.put(resource(0, 0, topology.computes.get(device.compute).map_or(0, |c| c.sms)))
    }

    fn cuDevSmResourceSplitByCount(
        groups: Out<Resource>,
        count: Out<u32>,
        input: Out<Resource>,
        remaining: Out<Resource>,
        _flags: u32,
        least: u32,
    ) {
        let process = new_enough()?;
        let (whole, asked) = (input.get()?, count.get()?);
        if whole.kind != SMS || whole.split != 0 || least > whole.sms {
            return Err(results::INVALID_RESOURCE_CONFIGURATION);
        }
        // All devices of a process are of one kind here.
        let part = &process.gpu(process.device(0)?.gpu)?.part;
        let (smallest, multiple) = granularity(part);
        let size = least.max(smallest).next_multiple_of(multiple);
        let most = whole.sms / size;
        let made = if groups.is_null() { most } else { most.min(asked) };
        count.put(made)?;
        if groups.is_null() {
            return Ok(());
        }
        let split = {
            let mut tables = process.tables();
            tables.splits += 1;
            tables.splits
        };
        let sms = part.config.green_sms.map_or(size, |most| most.min(size));
        groups.put_all((0..made).map(|n| resource(split, n * size, sms)))?;
        remaining.put_if(resource(split, made * size, whole.sms - made * size));
        Ok(())
    }

    fn cuDevResourceGenerateDesc(description: Out<u64>, resources: Out<Resource>, count: u32) {
        let process = new_enough()?;
        let all = RefCell::new(Vec::new());
        resources.each(count as usize, |resource| all.borrow_mut().push(*resource))?;
        let mut all = all.into_inner();
        all.sort_by_key(|resource| resource.first);
        let Some(first) = all.first() else { return Err(results::INVALID_VALUE) };
        let together = all.iter().all(|r| r.kind == SMS && r.split == first.split);
        let overlap = all.windows(2).any(|pair| pair[0].first + pair[0].sms > pair[1].first);
        if !together || overlap || (first.split == 0 && count > 1) {
            return Err(results::INVALID_RESOURCE_CONFIGURATION);
        }
        let mut tables = process.tables();
        let handle = tables.handle();
        tables.descriptions.insert(handle, all.iter().map(|r| r.sms).sum());
        description.put(handle)
    }

    fn cuGreenCtxCreate(made: Out<u64>, description: u64, device: i32, flags: u32) {
        let process = new_enough()?;
        process.device(device)?;
        if flags & REQUIRED == 0 {
            return Err(results::INVALID_VALUE);
        }
        let sms = process.tables().descriptions.get(&description).copied().ok_or(results::INVALID_VALUE)?;
        made.put(process.open_with(device as usize, Some(sms))?)
    }

    fn cuGreenCtxDestroy(context: u64) {
        let process = new_enough()?;
        green(process, context)?;
        process.close(context)
    }

    fn cuCtxFromGreenCtx(context: Out<u64>, handle: u64) {
        let process = new_enough()?;
        green(process, handle)?;
        context.put(handle)
    }

    fn cuGreenCtxGetDevResource(handle: u64, found: Out<Resource>, kind: u32) {
        let (_, sms) = green(new_enough()?, handle)?;
        if kind == SMS { found.put(resource(0, 0, sms)) } else { Err(results::INVALID_RESOURCE_TYPE) }
    }

    fn cuGreenCtxStreamCreate(stream: Out<u64>, handle: u64, flags: u32, _priority: i32) {
        let process = new_enough()?;
        let (context, _) = green(process, handle)?;
        if flags & REQUIRED == 0 {
            return Err(results::INVALID_VALUE);
        }
        let mut tables = process.tables();
        stream.put(process.new_stream(&mut tables, (handle, context.gpu, context.slot), false)?)
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: i32, _flags: u32) {
        process()?.device(device).map(drop)
    }
}
