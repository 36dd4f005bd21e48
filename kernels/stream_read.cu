// 16-byte loads in order, four in flight a thread, past L1. Checksum: -2 a vector of 16 bytes.
// channel: hbm-bandwidth, or l2 where the footprint fits there
// bound by: bandwidth of the level that holds the footprint
// arguments: buffer, filled by fill_vectors; footprint in bytes; bytes to read
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 57..64
// sass: LDG.E.(NA.)?128
// sass-count: LDG.E.(NA.)?128 >= 4
// sass-not: LDG.*128.*STRONG
#include "stream.cuh"

KERNEL __launch_bounds__(THREADS, RESIDENT) stream_read(const uint4* buffer, u64 footprint, u64 bytes, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    occupy_registers(state);
    Ring ring(state, footprint, bytes);
    Walk walk(ring);
    u32 sum = 0;
    while (walk.index + 3 * walk.stride < ring.total) {
        uint4 v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) v[i] = load_past_l1(buffer + walk.next(ring));
#pragma unroll
        for (int i = 0; i < 4; ++i) sum += vector_sum(v[i]);
    }
    while (walk.index < ring.total) sum += vector_sum(load_past_l1(buffer + walk.next(ring)));
    end(state, stamp, sequence, launch, sum, ring.advance());
}
