// Each block reads its part of the bytes, 16 a lane, through a footprint that all blocks share: every SM's L1 holds a copy
// of its own. Checksum: -2 a vector of 16 bytes.
// channel: l1
// bound by: bandwidth of L1, where the footprint fits there
// arguments: buffer, filled by fill_vectors; footprint in bytes, below 4 GiB; bytes to read by all blocks together
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 57..64
// sass: LDG.E.(NA.)?128
// sass-count: LDG.E.(NA.)?128 >= 4
// sass-not: LDG.*128.*STRONG
#include "stream.cuh"

KERNEL __launch_bounds__(THREADS, RESIDENT) l1_read(const uint4* buffer, u64 footprint, u64 bytes, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    occupy_registers(state);
    u64 total = bytes / sizeof(uint4);
    u64 mine = total / gridDim.x + (blockIdx.x < total % gridDim.x);
    u32 ring = (u32)(footprint / sizeof(uint4)), at = threadIdx.x % ring, step = blockDim.x % ring;
    u32 left = (u32)(mine / blockDim.x + (threadIdx.x < mine % blockDim.x));
    u32 sum = 0;
    for (; left >= 4; left -= 4) {
        uint4 v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            v[i] = load_through_l1(buffer + at);
            at += step;
            at -= at >= ring ? ring : 0;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) sum += vector_sum(v[i]);
    }
    for (; left > 0; --left) {
        sum += vector_sum(load_through_l1(buffer + at));
        at += step;
        at -= at >= ring ? ring : 0;
    }
    end(state, stamp, sequence, launch, sum, STAY);
}
