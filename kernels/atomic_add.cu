// Every thread adds 1 to words all over the footprint; the lanes of a warp take the words of one line, so that no two meet.
// Checksum: 1 an addition made. It says that they were made, not that L2 kept them: the sum of all words does.
// channel: atomics, l2
// bound by: atomic units of L2
// arguments: buffer, zeroed; footprint in bytes, at least 128; operations of each thread
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 57..64
// sass: RED.E.ADD
#include "common.cuh"

KERNEL __launch_bounds__(THREADS, RESIDENT) atomic_add(u32* buffer, u64 footprint, u32 operations, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    occupy_registers(state);
    u32 lines = (u32)(footprint / LINE), warps = gridDim.x * (blockDim.x / WARP);
    u32 turn = blockIdx.x * (blockDim.x / WARP) + warp_id();
    u32 made = 0;
#pragma unroll 4
    for (u32 i = 0; i < operations; ++i, turn += warps) {
        u32 line = (u32)((u64)mix(turn) * lines >> 32);
        add_at_l2(buffer + (u64)line * WARP + lane_id(), 1);
        ++made;
    }
    end(state, stamp, sequence, launch, made, STAY);
}
