// Dependent strong loads (ld.relaxed.gpu). Checksum: 1 a load.
// channel: membar
// bound by: latency of L2, and the barriers of anybody on the GPU
// arguments: buffer, filled by fill_cycle; bytes spanned; distance of two lines in bytes, a multiple of 128; loads of
//            each walker. One walker a block
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..40
// sass-chain: LDG.E.64.STRONG.GPU
#include "chase.cuh"

KERNEL __launch_bounds__(32) chase_strong(const u8* buffer, u64 span, u64 distance, u32 loads, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    u32 right = threadIdx.x == 0 ? walk<node_strong>(buffer, span, distance, loads, state) : 0;
    end_warp(state, stamp, sequence, launch, right, STAY);
}
