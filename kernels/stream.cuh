// Vectors of 16 bytes that come by in order: a ring, and the part of it that a launch moves.
//
// A vector is {a, ~a, b, ~b}, so that it sums to -2 wherever it stands: a launch is checked without knowing where the
// launch before it stopped.
#pragma once
#include "common.cuh"

DEVICE u32 vector_sum(uint4 v) { return v.x + v.y + v.z + v.w; }

DEVICE uint4 vector_of(u32 a, u32 b) { return uint4{a, ~a, b, ~b}; }

struct Ring {
    u64 size;   // vectors in the ring
    u64 from;   // where this launch starts
    u64 total;  // vectors that it moves

    // Of `footprint` bytes, `bytes` of which are moved, from where the program's last launch stopped.
    DEVICE_MEMBER Ring(const State* state, u64 footprint, u64 bytes)
        : size(footprint / sizeof(uint4)), from(state->offset / sizeof(uint4)), total(bytes / sizeof(uint4)) {}

    DEVICE_MEMBER Advance advance() const { return Advance{from, total, size, sizeof(uint4)}; }
};

// A thread's own way through the ring: every `stride`-th vector.
struct Walk {
    u64 index;   // of this launch's vectors, the one that is next
    u64 at;      // its place in the ring
    u64 stride;  // threads of the grid
    u64 step;    // the same, in a ring

    DEVICE_MEMBER Walk(const Ring& ring)
        : index((u64)blockIdx.x * blockDim.x + threadIdx.x), stride((u64)gridDim.x * blockDim.x) {
        at = (ring.from + index) % ring.size;
        step = stride % ring.size;
    }

    // The place of the next vector; moves on.
    DEVICE_MEMBER u64 next(const Ring& ring) {
        u64 here = at;
        index += stride;
        at += step;
        if (at >= ring.size) at -= ring.size;
        return here;
    }
};
