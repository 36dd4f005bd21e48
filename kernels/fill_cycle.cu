// Writes the nodes of a cycle; chase.cuh says where they stand and what is in them. Checksum: 1 a node.
// channel: none
// bound by: scattered stores
// arguments: buffer; bytes spanned; distance of two lines in bytes, a multiple of 128; next: for each line the index of
//            the line that follows it
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..64
#include "chase.cuh"

KERNEL __launch_bounds__(1024) fill_cycle(u8* buffer, u64 span, u64 distance, const u32* next, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    u64 lines = span / distance;
    u32 written = 0;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < lines; i += (u64)gridDim.x * blockDim.x) {
        u32 here = position(i, distance);
        *(uint2*)node_at(buffer, here) = uint2{position(next[i], distance), mix(here)};
        ++written;
    }
    end(state, stamp, sequence, launch, written, STAY);
}
