// Walks over one random cycle. A node stands at the head of a line: {position of the next node, mix(own position)}.
//
// Positions are in lines of 128 bytes from the start of the buffer. Lines further apart than that do not all begin at
// the same place of their page: node i stands at i x distance + (i x 128) mod distance, since lines at one distance of
// 2 MiB fall into few sets of L2 and would evict one another long before it is full.
#pragma once
#include "common.cuh"

DEVICE u32 position(u64 index, u64 distance) {
    return (u32)((index * distance + index * LINE % distance) / LINE);
}

DEVICE const void* node_at(const void* buffer, u32 position) { return (const u8*)buffer + (u64)position * LINE; }

// `loads` dependent loads of one thread, from where this block's last walk stopped; walkers start spread over the cycle.
// Returns how many nodes were the right ones.
template <uint2 (*load)(const void*)>
DEVICE u32 walk(const void* buffer, u64 span, u64 distance, u32 loads, State* state) {
    u32* cursor = &state->cursor[blockIdx.x];
    u32 at = *cursor;
    at = at != 0 ? at - 1 : position(span / distance * blockIdx.x / gridDim.x, distance);
    u32 right = 0;
#pragma unroll 4
    for (u32 i = 0; i < loads; ++i) {
        uint2 node = load(node_at(buffer, at));
        right += node.y == mix(at);
        at = node.x;
    }
    *cursor = at + 1;
    return right;
}
