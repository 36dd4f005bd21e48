// 16-byte stores in order. What is written is vectors again, other ones in each place. Checksum: -2 a vector.
// channel: hbm-bandwidth
// bound by: bandwidth of device memory
// arguments: buffer; footprint in bytes; bytes to write
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 57..64
// sass: STG.E.128
// sass-count: STG.E.128 >= 4
// sass-not: LDG.*128
#include "stream.cuh"

KERNEL __launch_bounds__(THREADS, RESIDENT) stream_write(uint4* buffer, u64 footprint, u64 bytes, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    occupy_registers(state);
    Ring ring(state, footprint, bytes);
    Walk walk(ring);
    u32 seed = mix((u32)ring.from ^ threadIdx.x), sum = 0;
#pragma unroll 4
    while (walk.index < ring.total) {
        u64 at = walk.next(ring);
        u32 a = (u32)at * 0x9e3779b1u ^ seed;
        uint4 v = vector_of(a, a * 0x85ebca6bu);
        store_vector(buffer + at, v);
        sum += vector_sum(v);
    }
    end(state, stamp, sequence, launch, sum, ring.advance());
}
