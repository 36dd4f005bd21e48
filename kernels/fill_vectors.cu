// Fills a buffer with vectors {a, ~a, b, ~b}, a and b pseudo-random. Checksum: -2 a vector.
// channel: none
// bound by: bandwidth of device memory
// arguments: buffer; bytes to fill; seed
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..64
// sass: STG.E.128
#include "stream.cuh"

KERNEL __launch_bounds__(1024) fill_vectors(uint4* buffer, u64 bytes, u32 seed, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    u64 vectors = bytes / sizeof(uint4);
    u32 sum = 0;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < vectors; i += (u64)gridDim.x * blockDim.x) {
        u32 a = mix((u32)i ^ mix((u32)(i >> 32) ^ seed));
        uint4 v = vector_of(a, mix(a + seed));
        store_vector(buffer + i, v);
        sum += vector_sum(v);
    }
    end(state, stamp, sequence, launch, sum, STAY);
}
