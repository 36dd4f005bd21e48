// Each block fills as much shared memory as any part gives a block without asking (48 KiB) with the pattern of a tag, and
// leaves it there. Checksum: 1 a word.
// channel: none
// bound by: shared memory
// arguments: tag
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..64
// sass: STS
#include "pattern.cuh"

#define HELD 6144  // words

KERNEL __launch_bounds__(WARP) shared_fill(u64 tag, State* state, Stamp* stamp, u32 sequence) {
    __shared__ u64 held[HELD];
    Launch launch = begin(state);
    u32 written = 0;
    for (u32 i = threadIdx.x; i < HELD; i += WARP) {
        store_shared(held + i, pattern_word(tag, (u64)i * 8));
        ++written;
    }
    end_warp(state, stamp, sequence, launch, written, STAY);
}
