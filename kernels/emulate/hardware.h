// The twin of hardware.cuh in plain C++, and as much of CUDA as the kernels use. Blocks run one after another, the threads
// of a block as fibers that take turns at barriers, so that every run is the same.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE static inline
#define DEVICE_MEMBER inline
#define DEVICE_CALL static __attribute__((noinline))
#define KERNEL static void
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))

struct uint2 {
    u32 x, y;
};
struct alignas(16) uint4 {
    u32 x, y, z, w;
};
struct dim3 {
    u32 x = 1, y = 1, z = 1;
};

// Set by the scheduler before a fiber goes on.
inline dim3 gridDim, blockDim, blockIdx{0, 0, 0}, threadIdx{0, 0, 0};

namespace emulate {
// Waits for `count` fibers: those of the block, or of a warp, that call it.
void block_barrier();
void warp_barrier();
void group_barrier();  // four warps
// What the threads of the block hand to one another.
inline u32 exchanged[1024];
inline u32 fragments[1024][16];
inline const u8* shared_base;
inline u64 clock = 1'000'000;
// Products that are still to come out wrong, to see whether it is seen.
inline int broken_products = 0;
}  // namespace emulate

inline void __syncthreads() { emulate::block_barrier(); }
inline void __syncwarp() { emulate::warp_barrier(); }
inline void __threadfence() {}
inline void __threadfence_system() {}

inline u32 __shfl_xor_sync(u32, u32 v, int distance) {
    emulate::exchanged[threadIdx.x] = v;
    emulate::warp_barrier();
    u32 other = emulate::exchanged[threadIdx.x ^ (u32)distance];
    emulate::warp_barrier();
    return other;
}

inline bool __all_sync(u32, bool v) {
    emulate::exchanged[threadIdx.x] = v;
    emulate::warp_barrier();
    bool all = true;
    for (u32 i = 0; i < 32; ++i) all = all && emulate::exchanged[threadIdx.x / 32 * 32 + i] != 0;
    emulate::warp_barrier();
    return all;
}

inline u64 atomicAdd(u64* p, u64 v) {
    u64 old = *p;
    *p += v;
    return old;
}
inline u64 atomicMax(u64* p, u64 v) {
    u64 old = *p;
    *p = old > v ? old : v;
    return old;
}
inline u64 atomicExch(u64* p, u64 v) {
    u64 old = *p;
    *p = v;
    return old;
}

inline u32 __float_as_uint(float f) {
    u32 bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

DEVICE u64 global_timer() { return emulate::clock += 100; }
DEVICE u64 sm_cycles() { return emulate::clock * 2; }
DEVICE u32 sm_id() { return blockIdx.x % 3; }
DEVICE uint4 load_past_l1(const uint4* p) { return *p; }
DEVICE uint4 load_through_l1(const uint4* p) { return *p; }
DEVICE void store_vector(uint4* p, uint4 v) { *p = v; }
DEVICE uint2 node_through_l1(const void* p) { return *(const uint2*)p; }
DEVICE uint2 node_past_l1(const void* p) { return *(const uint2*)p; }
DEVICE uint2 node_strong(const void* p) { return *(const uint2*)p; }
DEVICE u32 load_word(const u32* p) { return *p; }
DEVICE void store_word(u32* p, u32 v) { *p = v; }
DEVICE void add_at_l2(u32* p, u32 v) { *p += v; }
DEVICE u32 logic_two(u32 y, u32 a) { return y ^ a; }
DEVICE u32 logic_three(u32 y, u32 a, u32 b) { return (y ^ a) & b; }
DEVICE void leave() {}
DEVICE void store_shared(u64* p, u64 v) { *p = v; }
DEVICE u64 load_shared(const u64* p) { return *p; }
// Kernels that take a fault are compiled here, and not run.
DEVICE void trap() { __builtin_trap(); }
DEVICE void fail_assertion() { __builtin_trap(); }

DEVICE u32 half_bits(int n) {
    if (n == 0) return 0;
    u32 sign = n < 0 ? 0x8000u : 0, m = n < 0 ? (u32)-n : (u32)n, exponent = 31 - (u32)__builtin_clz(m);
    return sign | (exponent + 15) << 10 | ((m << (10 - exponent)) & 0x3ff);
}

// Value of an fp16 that is a whole number.
DEVICE float half_value(u32 bits) {
    u32 exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
    float value = exponent == 0 ? 0.0f : std::ldexp((float)(mantissa | 0x400), (int)exponent - 25);
    return bits & 0x8000 ? -value : value;
}

// Half `i` of lane `lane` of the calling thread's warp, as it handed it over.
DEVICE float handed(u32 warp, u32 lane, u32 i) {
    return half_value(emulate::fragments[warp * 32 + lane][i / 2] >> i % 2 * 16 & 0xffff);
}

// The element of A at (row, k) in the fragments of a warp. PTX ISA, fragments of mma.m16n8k16: group = lane / 4 is the row
// for a0, a1, a4, a5 and 8 below for the others; the column is (lane % 4) x 2 + i % 2, and 8 further from a4 on.
DEVICE float element_a(u32 warp, u32 row, u32 k) {
    u32 lane = row % 8 * 4 + k % 8 / 2, i = k % 2 + (row >= 8 ? 2 : 0) + (k >= 8 ? 4 : 0);
    return handed(warp, lane, i);
}

// What an accumulator is off by: nothing, unless a product is to come out wrong.
DEVICE float error() { return threadIdx.x == 37 && emulate::broken_products-- > 0 ? 1.0f : 0.0f; }

DEVICE void mma_m16n8k16(float d[4], const u32 a[4], const u32 b[2]) {
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int i = 0; i < 4; ++i) emulate::fragments[threadIdx.x][i] = a[i];
    for (int i = 0; i < 2; ++i) emulate::fragments[threadIdx.x][4 + i] = b[i];
    emulate::warp_barrier();
    for (u32 i = 0; i < 4; ++i) {
        // Of C and D: rows as in A, columns (lane % 4) x 2 + i % 2.
        u32 row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
        for (u32 k = 0; k < 16; ++k) {
            // Of B: column lane / 4, k = (lane % 4) x 2 + i % 2, and 8 further from b2 on.
            u32 from = column * 4 + k % 8 / 2, at = 8 + k % 2 + (k >= 8 ? 2 : 0);
            d[i] += element_a(warp, row, k) * handed(warp, from, at);
        }
    }
    d[1] += error();
    emulate::warp_barrier();
}

// Fragments of wmma are opaque: here lane l holds row (or column) l % 16 of an operand, all of its k, and accumulators
// 8 l to 8 l + 7 by rows.
DEVICE void wmma_load_a(u32 a[8], const u16* rows) { memcpy(a, rows + threadIdx.x % 16 * 16, 32); }
DEVICE void wmma_load_b(u32 b[8], const u16* columns) { memcpy(b, columns + threadIdx.x % 16 * 16, 32); }

DEVICE void wmma_m16n16k16(float d[8], const u32 a[8], const u32 b[8]) {
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int i = 0; i < 8; ++i) emulate::fragments[threadIdx.x][i] = a[i];
    for (int i = 0; i < 8; ++i) emulate::fragments[threadIdx.x][8 + i] = b[i];
    emulate::warp_barrier();
    for (u32 i = 0; i < 8; ++i) {
        u32 row = (lane * 8 + i) / 16, column = (lane * 8 + i) % 16;
        for (u32 k = 0; k < 16; ++k) d[i] += handed(warp, row, k) * handed(warp, column, 16 + k);
    }
    d[1] += error();
    emulate::warp_barrier();
}

DEVICE void wmma_store_d(float* rows, const float d[8]) { memcpy(rows + threadIdx.x % 32 * 8, d, 32); }

DEVICE void publish_to_tensor_cores() {}

// The address field holds 14 bits of 16 bytes: addresses count from the matrix itself here.
DEVICE u64 matrix_descriptor(const void* p, u32 along_k, u32 along_columns) {
    emulate::shared_base = (const u8*)p;
    return (u64)(along_k >> 4) << 16 | (u64)(along_columns >> 4) << 32;
}
DEVICE void wgmma_begin() {}
DEVICE void wgmma_wait() {}

template <int SIGN>
DEVICE void wgmma_m64n64k16(float d[8][4], const u32 a[4], u64 b) {
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int i = 0; i < 4; ++i) emulate::fragments[threadIdx.x][i] = a[i];
    emulate::group_barrier();
    // PTX ISA, K-major without swizzling: core matrices of 8 columns x 16 bytes; the leading dimension's offset leads to the
    // second half of k, the stride dimension's to the next 8 columns.
    u32 leading = (u32)(b >> 16 & 0x3fff) << 4, stride = (u32)(b >> 32 & 0x3fff) << 4;
    for (u32 t = 0; t < 8; ++t) {
        for (u32 i = 0; i < 4; ++i) {
            u32 row = lane / 4 + (i >= 2 ? 8 : 0), column = t * 8 + lane % 4 * 2 + i % 2;
            for (u32 k = 0; k < 16; ++k) {
                u16 bits;
                memcpy(&bits, emulate::shared_base + k / 8 * leading + column / 8 * stride + column % 8 * 16 + k % 8 * 2, 2);
                d[t][i] += SIGN * element_a(warp, row, k) * half_value(bits);
            }
        }
    }
    d[1][1] += error();
    emulate::group_barrier();
}
