// Every lane walks the cycle on its own, one line a page: loads that hit in L2 and miss in the TLB. Lanes start spread
// over all lines, a line further with each launch. Checksum: 1 a touch.
// channel: tlb
// bound by: page walks
// arguments: buffer, filled by fill_cycle with a line every 2 MiB; bytes spanned; touches of each lane
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..40
// sass-chain: LDG.E.64
// sass-not: LDG.E.64.*STRONG
#include "chase.cuh"

#define PAGE (2u << 20)

KERNEL __launch_bounds__(32) touch_pages(const u8* buffer, u64 span, u32 touches, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    u64 lines = span / PAGE, walkers = (u64)gridDim.x * WARP, launches = state->offset;
    u64 walker = (u64)blockIdx.x * WARP + lane_id();
    u32 at = position((lines * walker / walkers + launches) % lines, PAGE);
    u32 right = 0;
#pragma unroll 4
    for (u32 i = 0; i < touches; ++i) {
        uint2 node = node_past_l1(node_at(buffer, at));
        right += node.y == mix(at);
        at = node.x;
    }
    end_warp(state, stamp, sequence, launch, right, Advance{launches, 1, lines, 1});
}
