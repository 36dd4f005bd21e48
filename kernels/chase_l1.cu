// Dependent loads that hit L1. The warp first touches every line once, since a launch finds L1 empty; that counts as
// nothing, unless a node is wrong. Checksum: 1 a load.
// channel: l1
// bound by: latency of L1
// arguments: buffer, filled by fill_cycle; bytes spanned; distance of two lines in bytes, a multiple of 128; loads of
//            each walker. One walker a block
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..40
// sass-chain: LDG.E.64
// sass-not: LDG.E.64.*STRONG
#include "chase.cuh"

KERNEL __launch_bounds__(32) chase_l1(const u8* buffer, u64 span, u64 distance, u32 loads, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    u32 lines = (u32)(span / distance);
    u32 right = 0;
    for (u32 i = lane_id(); i < lines; i += WARP) {
        u32 here = position(i, distance);
        uint2 node = node_through_l1(node_at(buffer, here));
        right += node.y == mix(here);
    }
    u32 wrong = lines / WARP + (lane_id() < lines % WARP) - right;
    __syncwarp();
    right = threadIdx.x == 0 ? walk<node_through_l1>(buffer, span, distance, loads, state) : 0;
    end_warp(state, stamp, sequence, launch, right - wrong, STAY);
}
