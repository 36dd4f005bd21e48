// Matrix products on tensor cores by mma m16n8k16, and a stream of loads beside them. Serves compute capability 8.0 and later, but 9.0.
// Checksum: -2 a vector of 16 bytes, and the products of each warp whose accumulators are exactly right at the end.
// channel: tensor, power, block-slots, hbm-bandwidth
// bound by: tensor cores, or bandwidth where the bytes take longer
// arguments: buffer, filled by fill_vectors; footprint in bytes; bytes to read; products of 4096 FLOP of each warp; FLOP per
//            SM and cycle, of which the kernel has no use
// ptx: compute_80
// archs: 80 86 89 100 120
// registers: 57..64
// sass: LDG.E.(NA.)?128
// sass-not: LDG.*128.*STRONG
// sass: HMMA.16816.F32
// sass-count: HMMA.16816.F32 >= 32
#include "tensor.cuh"

// Four tiles of 8 columns: as many products in flight as hide the latency of one.
struct Mma {
    enum { PRODUCTS = 4 };
    float d[4][4];
    u32 plus[4], minus[4], b[4][2];

    DEVICE_MEMBER void prepare() {
        fragment_a(plus);
#pragma unroll
        for (u32 i = 0; i < 4; ++i) minus[i] = plus[i] ^ 0x80008000u;
        u32 k = lane_id() % 4 * 2, column = lane_id() / 4;
#pragma unroll
        for (u32 t = 0; t < 4; ++t) {
#pragma unroll
            for (u32 i = 0; i < 2; ++i) {
                u32 row = k + i * 8;
                b[t][i] = two_halves(operand_b(row, t * 8 + column), operand_b(row + 1, t * 8 + column));
            }
#pragma unroll
            for (u32 i = 0; i < 4; ++i) d[t][i] = 0;
        }
    }

    DEVICE_MEMBER void add() {
#pragma unroll
        for (u32 t = 0; t < 4; ++t) mma_m16n8k16(d[t], plus, b[t]);
    }

    DEVICE_MEMBER void pairs(u32 n) {
#pragma unroll 4
        for (u32 i = 0; i < n; ++i) {
#pragma unroll
            for (u32 t = 0; t < 4; ++t) mma_m16n8k16(d[t], minus, b[t]);
            add();
        }
    }

    DEVICE_MEMBER bool right(int times) {
        __shared__ int sums[K][4];
        sum_columns(sums, 4);
        return accumulators_right<4>(d, sums, times);
    }
};

KERNEL __launch_bounds__(THREADS, RESIDENT) tensor(const uint4* buffer, u64 footprint, u64 bytes, u32 products, u32, State* state, Stamp* stamp, u32 sequence) {
    multiply<Mma>(buffer, footprint, bytes, products, state, stamp, sequence);
}
