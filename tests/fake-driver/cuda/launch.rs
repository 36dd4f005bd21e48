//! Launches: arguments by the catalogue's types, demand and result by its functions.

use std::ffi::c_void;

use crosstalk::workload::{Arg, Kernel, LaunchArgs, ParamType, Stamp};

use crate::entry::{Code, Out, entry_points};
use crate::process::{Tables, current, process};
use crate::results;
use crate::streams::{Effect, Step};
use crate::touch::Touch;

/// A kernel of a module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    pub(crate) module: u64,
    pub(crate) context: u64,
    pub(crate) kernel: &'static Kernel,
}

/// Reads the argument at `index`.
fn argument<T: Copy>(params: *const *const c_void, index: usize) -> Result<T, Code> {
    if params.is_null() {
        return Err(results::INVALID_VALUE);
    }
    // SAFETY: the caller of cuLaunchKernel says that there is a pointer for every parameter of the kernel, each to a value
    // of its type.
    unsafe {
        let place = params.add(index).read();
        if place.is_null() { Err(results::INVALID_VALUE) } else { Ok(place.cast::<T>().read_unaligned()) }
    }
}

/// What a launch is: its demand, and what its end leaves.
fn launch(
    tables: &Tables,
    kernel: &'static Kernel,
    (grid, block): (u32, u32),
    params: *const *const c_void,
) -> Result<Step, Code> {
    let mut args = Vec::with_capacity(kernel.params.len());
    let mut given = Vec::with_capacity(kernel.params.len());
    for (index, param) in kernel.params.iter().enumerate() {
        given.push(match param {
            ParamType::U32 => u64::from(argument::<u32>(params, index)?),
            ParamType::U64 | ParamType::Pointer => argument(params, index)?,
        });
        args.push(match param {
            ParamType::U32 => Arg::U32(argument(params, index)?),
            ParamType::U64 => Arg::U64(argument(params, index)?),
            ParamType::Pointer => {
                let address: u64 = argument(params, index)?;
                if tables.heap.holds(address, 1).is_none() && !tables.heap.is_pinned(address, 1) {
                    return Err(results::ILLEGAL_ADDRESS);
                }
                Arg::Buffer(0)
            }
        });
    }
    let at = kernel.params.len();
    let (state, stamp, sequence) = (argument(params, at)?, argument::<u64>(params, at + 1)?, argument(params, at + 2)?);
    if tables.heap.holds(state, 8192).is_none() {
        return Err(results::ILLEGAL_ADDRESS);
    }
    let stamp = (stamp != 0).then_some(stamp);
    if stamp.is_some_and(|at| at % 64 != 0 || !tables.heap.is_pinned(at, size_of::<Stamp>() as u64)) {
        return Err(results::ILLEGAL_ADDRESS);
    }
    let launch = LaunchArgs { grid, block, args: &args };
    let touch = Touch::of(tables, kernel, grid, &given)?;
    let effect = match kernel.symbol.strip_prefix("fault_") {
        Some("endless") => {
            let words = argument(params, 0)?;
            if !tables.heap.is_pinned(words, 128) {
                return Err(results::ILLEGAL_ADDRESS);
            }
            Effect::Spin { words, state, stamp, sequence }
        }
        Some(fault) => Effect::Fault(fault),
        None => Effect::Launch { state, adds: (kernel.reference)(&launch), stamp, sequence, touch },
    };
    Ok(Step::Run { demand: (kernel.demand)(&launch), times: 1, effect })
}

entry_points! {
    fn cuLaunchKernel(
        function: u64,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        _shared: u32,
        stream: u64,
        params: *const *const c_void,
        _extra: *const *const c_void,
    ) {
        let process = process()?;
        let mut tables = process.tables();
        let (handle, _) = current(&tables)?;
        let found = *tables.functions.get(&function).ok_or(results::INVALID_HANDLE)?;
        let product = |x: u32, y: u32, z: u32| x.checked_mul(y)?.checked_mul(z).filter(|n| *n > 0);
        let grid = product(grid_x, grid_y, grid_z).ok_or(results::INVALID_VALUE)?;
        let block = product(block_x, block_y, block_z).filter(|n| *n <= 1024).ok_or(results::INVALID_VALUE)?;
        if found.context != handle {
            return Err(results::INVALID_HANDLE);
        }
        let stream = process.stream(&tables, stream)?;
        tables.launches += 1;
        match launch(&tables, found.kernel, (grid, block), params) {
            Ok(step) => process.push(&mut tables, stream, [step]),
            // On hardware the launch succeeds, and everything after it fails.
            Err(code) if code == results::ILLEGAL_ADDRESS => {
                eprintln!("crosstalk stand-in driver: {} was given an address that is none", found.kernel.symbol);
                tables.lose(handle, code);
                Ok(())
            }
            Err(code) => Err(code),
        }
    }

    fn cuFuncGetAttribute(value: Out<i32>, attribute: u32, function: u64) {
        let process = process()?;
        let tables = process.tables();
        let found = tables.functions.get(&function).ok_or(results::INVALID_HANDLE)?;
        let gpu = tables.contexts.get(&found.context).ok_or(results::INVALID_CONTEXT)?.gpu;
        let (major, minor) = process.gpu(gpu)?.part.capability();
        value.put(match attribute {
            0 => 1024,
            4 => 64,
            5 => 70,
            6 => (major * 10 + minor) as i32,
            1 | 2 | 3 | 7..=15 => 0,
            _ => return Err(results::INVALID_VALUE),
        })
    }

    fn cuFuncSetAttribute(function: u64, _attribute: u32, _value: i32) {
        process()?.tables().functions.get(&function).map(drop).ok_or(results::INVALID_HANDLE)
    }

    fn cuFuncSetCacheConfig(function: u64, _config: u32) {
        process()?.tables().functions.get(&function).map(drop).ok_or(results::INVALID_HANDLE)
    }
}
