// Matrix products on tensor cores with a stream of operands beside them: what the three variants share.
//
// A block multiplies A (16 rows a warp) by B (as many columns as its variant's step takes, the same for all warps), over
// k = 16, again and again: whole numbers from -255 to 256 as fp16, pseudo-random, so that 2 x 16 products stay below 2^24
// and the sum in fp32 is exact in any order. One or two steps add A x B, whichever leaves an even number; the rest come in
// pairs that take it away and add it again. The accumulators therefore end as one or two times A x B, never zero, and are
// compared with whole-number arithmetic: a warp whose accumulators are right counts all of its products.
#pragma once
#include "stream.cuh"

#define K 16

DEVICE int operand(u32 seed) { return (int)(mix(seed) & 511) - 255; }
// Row of the block's A; 128 of them.
DEVICE int operand_a(u32 row, u32 k) { return operand(0x10000 + row * K + k); }
DEVICE int operand_b(u32 k, u32 column) { return operand(0x20000 + column * K + k); }

DEVICE u32 two_halves(int low, int high) { return half_bits(low) | half_bits(high) << 16; }

// The fragment of A of an m16 x k16 product, as mma.m16n8k16 and wgmma take it from registers (PTX ISA, matrix fragments).
DEVICE void fragment_a(u32 a[4]) {
    u32 row = warp_id() * 16 + lane_id() / 4, k = lane_id() % 4 * 2;
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
        u32 r = row + i % 2 * 8, c = k + i / 2 * 8;
        a[i] = two_halves(operand_a(r, c), operand_a(r, c + 1));
    }
}

// Sums over columns of B, made once, so that one sum over a thread's accumulators checks them all.
// sums[k][q]: over the columns that lanes with lane % 4 = q hold of `tiles` tiles of 8 columns.
DEVICE void sum_columns(int sums[K][4], u32 tiles) {
    if (threadIdx.x < K * 4) {
        u32 k = threadIdx.x / 4, q = threadIdx.x % 4;
        int sum = 0;
        for (u32 t = 0; t < tiles; ++t) sum += operand_b(k, t * 8 + q * 2) + operand_b(k, t * 8 + q * 2 + 1);
        sums[k][q] = sum;
    }
    __syncthreads();
}

// Whether a thread's accumulators of 16 rows by `TILES` x 8 columns are `times` A x B: both of its rows.
template <u32 TILES>
DEVICE bool accumulators_right(const float (*d)[4], const int sums[K][4], int times) {
    u32 row = warp_id() * 16 + lane_id() / 4, q = lane_id() % 4;
    int above = 0, below = 0;
#pragma unroll
    for (u32 t = 0; t < TILES; ++t) {
        above += (int)d[t][0] + (int)d[t][1];
        below += (int)d[t][2] + (int)d[t][3];
    }
#pragma unroll 4
    for (u32 k = 0; k < K; ++k) {
        above -= times * operand_a(row, k) * sums[k][q];
        below -= times * operand_a(row + 8, k) * sums[k][q];
    }
    return above == 0 && below == 0;
}

// The kernel's body. A Variant has PRODUCTS (of 4096 FLOP, of a warp in one step; a launch rounds up to whole steps),
// prepare(), add(), pairs(n) and right(times).
template <class Variant>
DEVICE void multiply(const uint4* buffer, u64 footprint, u64 bytes, u32 products, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    occupy_registers(state);
    Variant tensor;
    tensor.prepare();

    u32 steps = products / Variant::PRODUCTS + (products % Variant::PRODUCTS != 0);
    u32 first = steps == 0 ? 0 : 2 - steps % 2;
    u32 pairs = (steps - first) / 2;
    for (u32 i = 0; i < first; ++i) tensor.add();

    // Rounds of two loads, with an equal share of the products while they are under way. Every warp makes all rounds.
    Ring ring(state, footprint, bytes);
    Walk walk(ring);
    u32 rounds = (u32)((ring.total + 2 * walk.stride - 1) / (2 * walk.stride));
    rounds = rounds != 0 ? rounds : 1;
    u32 each = pairs / rounds, more = pairs % rounds;
    u32 sum = 0;
#pragma unroll 1
    for (u32 round = 0; round < rounds; ++round) {
        uint4 v[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            v[i] = uint4{0, 0, 0, 0};
            bool there = walk.index < ring.total;
            u64 at = walk.next(ring);
            if (there) v[i] = load_past_l1(buffer + at);
        }
        tensor.pairs(each + (round < more));
        sum += vector_sum(v[0]) + vector_sum(v[1]);
    }
    bool right = tensor.right((int)first);
    if (__all_sync(0xffffffffu, right) && lane_id() == 0) sum += products;
    end(state, stamp, sequence, launch, sum, ring.advance());
}
