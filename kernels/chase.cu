// Dependent weak loads past L1. Checksum: 1 a load.
// channel: l2, hbm-bandwidth, tlb: by footprint and distance
// bound by: latency of the level that holds the footprint
// arguments: buffer, filled by fill_cycle; bytes spanned; distance of two lines in bytes, a multiple of 128; loads of
//            each walker. One walker a block
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..40
// sass-chain: LDG.E.64
// sass-not: LDG.E.64.*STRONG
#include "chase.cuh"

KERNEL __launch_bounds__(32) chase(const u8* buffer, u64 span, u64 distance, u32 loads, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    u32 right = threadIdx.x == 0 ? walk<node_past_l1>(buffer, span, distance, loads, state) : 0;
    end_warp(state, stamp, sequence, launch, right, STAY);
}
