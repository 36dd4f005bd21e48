// 16-byte loads from the first half of the footprint, each stored to the second. Checksum: -2 a vector copied.
// channel: hbm-bandwidth
// bound by: bandwidth of device memory, both ways
// arguments: buffer, filled by fill_vectors; footprint in bytes; bytes to move, read and written together
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 57..64
// sass: LDG.E.(NA.)?128
// sass-count: LDG.E.(NA.)?128 >= 4
// sass: STG.E.128
// sass-not: LDG.*128.*STRONG
#include "stream.cuh"

KERNEL __launch_bounds__(THREADS, RESIDENT) stream_copy(uint4* buffer, u64 footprint, u64 bytes, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    occupy_registers(state);
    Ring ring(state, footprint / 2, bytes / 2);
    Walk walk(ring);
    uint4* target = buffer + ring.size;
    u32 sum = 0;
    while (walk.index + 3 * walk.stride < ring.total) {
        u64 at[4];
        uint4 v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) at[i] = walk.next(ring);
#pragma unroll
        for (int i = 0; i < 4; ++i) v[i] = load_past_l1(buffer + at[i]);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            store_vector(target + at[i], v[i]);
            sum += vector_sum(v[i]);
        }
    }
    while (walk.index < ring.total) {
        u64 at = walk.next(ring);
        uint4 v = load_past_l1(buffer + at);
        store_vector(target + at, v);
        sum += vector_sum(v);
    }
    end(state, stamp, sequence, launch, sum, ring.advance());
}
