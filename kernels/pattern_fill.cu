// Fills a range with the pattern of a tag. Checksum: 1 a word.
// channel: none
// bound by: bandwidth of device memory
// arguments: buffer; bytes, a multiple of 16; tag, at most 48 bits; the address that the first word is written for
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..64
// sass: STG.E.128
#include "pattern.cuh"

KERNEL __launch_bounds__(THREADS, RESIDENT) pattern_fill(uint4* buffer, u64 bytes, u64 tag, u64 at, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    u64 vectors = bytes / sizeof(uint4);
    u32 written = 0;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < vectors; i += (u64)gridDim.x * blockDim.x) {
        u64 here = at + i * sizeof(uint4);
        store_vector(buffer + i, two_words(pattern_word(tag, here), pattern_word(tag, here + 8)));
        written += 2;
    }
    end(state, stamp, sequence, launch, written, STAY);
}
