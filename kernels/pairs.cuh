// Pairs of one FP32 multiply-add and one integer operation, independent of each other: src/workload/compute.rs says why
// pairs. Four chains of each keep a scheduler busy with two warps.
//
// Every operation undoes the one before: x -> 3 - x is exact for x in [1, 2] with 22 bits after the point, y -> ~y. So
// the result of any number of pairs is known, all bits toggle, and one wrong operation stays seen.
#pragma once
#include "common.cuh"

#define CHAINS 4
// Pairs of one unrolled body.
#define BODY 64

struct Pairs {
    float x[CHAINS];
    u32 y[CHAINS];
    float minus_one, three;
    // All ones, each.
    u32 ones, top, full;

    DEVICE_MEMBER Pairs() {
        // Grids and blocks have one dimension, which the compiler does not know: it can fold none of these. That they depend on
        // the thread keeps them in registers of its own; a subtraction is no part of the logic below.
        ones = 0u - gridDim.y - threadIdx.y;
        top = 0u - gridDim.z - threadIdx.z;
        full = 0u - blockDim.y - threadIdx.y;
        minus_one = (float)(int)(0u - gridDim.y);
        three = 3.0f * (float)gridDim.z;
#pragma unroll
        for (u32 j = 0; j < CHAINS; ++j) {
            u32 seed = mix(lane_id() * CHAINS + j);
            x[j] = 1.0f + (float)(seed >> 10) * 0x1p-22f;
            y[j] = seed;
        }
    }

    DEVICE_MEMBER void step(u32 j, bool odd) {
        x[j] = fmaf(x[j], minus_one, three);
        // Both are ~y. Two of a kind in a row would be merged into one instruction, and so would two that read three registers
        // together: these read four. Logic alone: with a subtraction in place of the odd one, an H100 issued a third less.
        y[j] = odd ? logic_three(y[j], ones, full) : logic_two(y[j], top);
    }

    DEVICE_MEMBER void bodies(u32 count) {
#pragma unroll 1
        for (u32 i = 0; i < count; ++i) {
#pragma unroll
            for (u32 k = 0; k < BODY; ++k) step(k % CHAINS, k / CHAINS % 2);
        }
    }

    // What is left of `pairs` after whole bodies.
    DEVICE_MEMBER void rest(u32 pairs) {
#pragma unroll 1
        for (u32 i = 0; i < pairs % BODY / CHAINS; ++i) {
#pragma unroll
            for (u32 j = 0; j < CHAINS; ++j) step(j, false);
        }
#pragma unroll 1
        for (u32 i = 0; i < pairs % CHAINS; ++i) step(0, false);
    }

    DEVICE_MEMBER u32 sum() const {
        u32 sum = 0;
#pragma unroll
        for (u32 j = 0; j < CHAINS; ++j) sum += __float_as_uint(x[j]) + y[j];
        return sum;
    }
};
