// Every warp reads 512 bytes at a time, 16 a lane, at pseudo-random places of the footprint, past L1; each launch goes on
// in the sequence of places where the last one stopped. Checksum: -2 a vector of 16 bytes.
// channel: l2
// bound by: bandwidth of L2, and of device memory for what L2 misses
// arguments: buffer, filled by fill_vectors; footprint in bytes, at least 512; bytes to read
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 57..64
// sass: LDG.E.(NA.)?128
// sass-count: LDG.E.(NA.)?128 >= 4
// sass-not: LDG.*128.*STRONG
#include "stream.cuh"

// Vectors that a warp reads side by side.
#define PIECE WARP

KERNEL __launch_bounds__(THREADS, RESIDENT) scatter_read(const uint4* buffer, u64 footprint, u64 bytes, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    occupy_registers(state);
    u32 places = (u32)(footprint / (PIECE * sizeof(uint4)));
    u64 total = bytes / sizeof(uint4), stride = (u64)gridDim.x * blockDim.x;
    u64 from = state->offset / (PIECE * sizeof(uint4));
    u32 sum = 0;
#pragma unroll 4
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += stride) {
        // The same for all lanes of a warp: blocks and strides are multiples of a piece.
        u32 place = (u32)((u64)mix((u32)(from + i / PIECE)) * places >> 32);
        sum += vector_sum(load_past_l1(buffer + (u64)place * PIECE + lane_id()));
    }
    // A counter of pieces that starts again after 2^32.
    end(state, stamp, sequence, launch, sum, Advance{from, (total + PIECE - 1) / PIECE, 1ull << 32, PIECE * sizeof(uint4)});
}
