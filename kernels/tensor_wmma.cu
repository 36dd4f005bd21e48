// Matrix products on tensor cores by wmma m16n16k16, and a stream of loads beside them. Serves compute capability 7.0 to 7.5.
// Checksum: -2 a vector of 16 bytes, and the products of each warp whose accumulators are exactly right at the end.
// channel: tensor, power, block-slots, hbm-bandwidth
// bound by: tensor cores, or bandwidth where the bytes take longer
// arguments: buffer, filled by fill_vectors; footprint in bytes; bytes to read; products of 4096 FLOP of each warp; FLOP per
//            SM and cycle, of which the kernel has no use
// ptx: compute_70
// archs: 75
// registers: 57..64
// sass: LDG.E.(NA.)?128
// sass-not: LDG.*128.*STRONG
// sass: HMMA.1688.F32
// sass-count: HMMA.1688.F32 >= 16
#include "tensor.cuh"

// Two tiles of 16 columns. Fragments are opaque, so that operands and results go through shared memory.
struct Wmma {
    enum { PRODUCTS = 4 };
    float d[2][8];
    u32 a[8], b[2][8];

    DEVICE_MEMBER void prepare() {
        // A by rows, B by columns: both are k = 16 halves for each of a row or column.
        __shared__ __align__(32) u16 rows[128][K];
        __shared__ __align__(32) u16 columns[32][K];
        for (u32 i = threadIdx.x; i < 128 * K; i += blockDim.x) rows[i / K][i % K] = half_bits(operand_a(i / K, i % K));
        for (u32 i = threadIdx.x; i < 32 * K; i += blockDim.x) columns[i / K][i % K] = half_bits(operand_b(i % K, i / K));
        __syncthreads();
        wmma_load_a(a, &rows[warp_id() * 16][0]);
#pragma unroll
        for (u32 t = 0; t < 2; ++t) {
            wmma_load_b(b[t], &columns[t * 16][0]);
#pragma unroll
            for (u32 i = 0; i < 8; ++i) d[t][i] = 0;
        }
    }

    DEVICE_MEMBER void add() {
#pragma unroll
        for (u32 t = 0; t < 2; ++t) wmma_m16n16k16(d[t], a, b[t]);
    }

    // A by its sign bits: a fragment of its own would not fit in the registers.
    DEVICE_MEMBER void negate() {
#pragma unroll
        for (u32 i = 0; i < 8; ++i) a[i] ^= 0x80008000u;
    }

    DEVICE_MEMBER void pairs(u32 n) {
#pragma unroll 1
        for (u32 i = 0; i < n; ++i) {
            negate();
            add();
            negate();
            add();
        }
    }

    DEVICE_MEMBER bool right(int times) {
        __shared__ __align__(32) float results[8][16][16];
        u32 row = lane_id() / 2, half = lane_id() % 2;
        bool right = true;
#pragma unroll
        for (u32 t = 0; t < 2; ++t) {
            __syncwarp();
            wmma_store_d(&results[warp_id()][0][0], d[t]);
            __syncwarp();
            for (u32 j = half * 8; j < half * 8 + 8; ++j) {
                int expected = 0;
                for (u32 k = 0; k < K; ++k) expected += operand_a(warp_id() * 16 + row, k) * operand_b(k, t * 16 + j);
                right = right && (int)results[warp_id()][row][j] == times * expected;
            }
        }
        return right;
    }
};

KERNEL __launch_bounds__(THREADS, RESIDENT) tensor(const uint4* buffer, u64 footprint, u64 bytes, u32 products, u32, State* state, Stamp* stamp, u32 sequence) {
    multiply<Wmma>(buffer, footprint, bytes, products, state, stamp, sequence);
}
