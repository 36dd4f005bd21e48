// Each warp: a store to its own line, then __threadfence(), which waits for it; again and again. Checksum: fences of each
// warp whose last store is there at the end.
// channel: membar
// bound by: memory barriers
// arguments: buffer, a line of 128 bytes for every warp; fences of each warp
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 57..64
// sass: MEMBAR.*GPU
#include "common.cuh"

KERNEL __launch_bounds__(THREADS, RESIDENT) fences(u8* buffer, u32 fences, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    occupy_registers(state);
    u32 done = 0;
    if (lane_id() == 0) {
        u32* word = (u32*)(buffer + ((u64)blockIdx.x * (blockDim.x / WARP) + warp_id()) * LINE);
        u32 last = sequence;
#pragma unroll 1
        for (u32 i = 0; i < fences; ++i) {
            store_word(word, ++last);
            __threadfence();
        }
        done = load_word(word) == last ? fences : 0;
    }
    end(state, stamp, sequence, launch, done, STAY);
}
