//! What buffers hold before the first request: words that sum to −2 wherever they stand, and one random cycle.

use std::ffi::c_void;

use super::gpu::{Gpu, launch_once, zero};
use crate::cuda::{DeviceBuffer, settle_default_stream};
use crate::random::{Key, Stream};
use crate::tenant::protocol::Failed;
use crate::workload::{Arg, Buffer, Fill, Kernel, SETUP};

/// Threads of a block that fills.
const THREADS: u32 = 256;
/// Blocks for each SM.
const BLOCKS_PER_SM: u32 = 4;

/// Fills the buffer at `address`, and checks that the device wrote what it was to write.
///
/// # Errors
/// Where the device fails, or wrote something else.
pub(super) fn fill(gpu: &mut Gpu, buffer: &Buffer, address: u64, seed: u64, key: &[Key<'_>]) -> Result<(), Failed> {
    let (bytes, grid) = (buffer.bytes.0, gpu.seen.sms.saturating_mul(BLOCKS_PER_SM));
    let mut stream = Stream::new(seed, key);
    match buffer.fill {
        Fill::Zero => Ok(zero(gpu.driver, address, bytes)?),
        Fill::Vectors => {
            let args = vec![Arg::Buffer(0), Arg::U64(bytes), Arg::U32(stream.bits() as u32)];
            gpu.call(&launch_once(kernel("fill_vectors")?, grid, THREADS, args), &[address])
        }
        Fill::Cycle { distance } => {
            let next = cycle(&mut stream, u32::try_from(bytes / distance.max(1)).unwrap_or(u32::MAX));
            let length = next.len() * size_of::<u32>();
            let table = DeviceBuffer::new(gpu.driver, length as u64)?;
            // SAFETY: `next` holds so many bytes, and the buffer on the device as many.
            let code = unsafe { gpu.driver.cuMemcpyHtoD_v2(table.address(), next.as_ptr().cast::<c_void>(), length) };
            gpu.driver.check("cuMemcpyHtoD_v2", code)?;
            settle_default_stream(gpu.driver)?;
            let args = vec![Arg::Buffer(0), Arg::U64(bytes), Arg::U64(distance), Arg::Buffer(1)];
            gpu.call(&launch_once(kernel("fill_cycle")?, grid, THREADS, args), &[address, table.address()])
        }
    }
}

fn kernel(symbol: &str) -> Result<&'static Kernel, Failed> {
    SETUP
        .iter()
        .copied()
        .find(|kernel| kernel.symbol == symbol)
        .ok_or_else(|| super::gpu::failed(format!("there is no kernel {symbol}: this is a bug in crosstalk")))
}

/// Which line follows which: one cycle through all of them, each such cycle as likely as any other (Sattolo's algorithm,
/// Information Processing Letters 22, 1986).
fn cycle(stream: &mut Stream, lines: u32) -> Vec<u32> {
    let mut next: Vec<u32> = (0..lines).collect();
    for i in (1..next.len()).rev() {
        // Below i, never i itself: that is what makes it one cycle.
        next.swap(i, stream.below(i as u64) as usize);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_walk_comes_through_all_lines_before_it_comes_back() {
        for lines in [1u32, 2, 3, 17, 1_000] {
            let next = cycle(&mut Stream::new(u64::from(lines), &[]), lines);
            let (mut at, mut steps) = (0, 0);
            loop {
                at = next[at as usize];
                steps += 1;
                if at == 0 || steps > lines {
                    break;
                }
            }
            assert_eq!(steps, lines);
        }
        assert!(cycle(&mut Stream::new(1, &[]), 0).is_empty());
        let (a, b) = (cycle(&mut Stream::new(1, &[]), 50), cycle(&mut Stream::new(2, &[]), 50));
        assert_ne!(a, b, "another seed, another cycle");
    }
}
