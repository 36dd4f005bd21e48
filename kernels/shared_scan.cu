// Each block reads 48 KiB of shared memory that it has not written, and looks for words of a tag; they go to the report,
// offsets being those of the blocks' pieces in a row. Checksum: 1 a word looked at.
// channel: none
// bound by: shared memory
// arguments: tag; report
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..64
// sass: LDS
#include "pattern.cuh"

#define HELD 6144  // words

KERNEL __launch_bounds__(WARP) shared_scan(u64 tag, Report* report, State* state, Stamp* stamp, u32 sequence) {
    __shared__ u64 held[HELD];
    Launch launch = begin(state);
    Notice found;
    u32 looked = 0;
    for (u32 i = threadIdx.x; i < HELD; i += WARP) {
        u64 word = load_shared(held + i);
        if (word >> 16 == tag) found.note(((u64)blockIdx.x * HELD + i) * 8, word);
        ++looked;
    }
    found.tell(report);
    end_warp(state, stamp, sequence, launch, looked, STAY);
}
