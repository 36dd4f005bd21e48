// Matrix products on tensor cores by wgmma m64n64k16, and a stream of loads beside them. Serves compute capability 9.0 alone.
// Checksum: -2 a vector of 16 bytes, and the products of each warp whose accumulators are exactly right at the end.
// channel: tensor, power, block-slots, hbm-bandwidth
// bound by: tensor cores, or bandwidth where the bytes take longer
// arguments: buffer, filled by fill_vectors; footprint in bytes; bytes to read; products of 4096 FLOP of each warp; FLOP per
//            SM and cycle, of which the kernel has no use
// ptx: compute_90a
// archs: 90a
// registers: 57..64
// sass: LDG.E.(NA.)?128
// sass-not: LDG.*128.*STRONG
// sass: HGMMA.64x64x16.F32
// sass-count: HGMMA.64x64x16.F32 >= 10
#include "tensor.cuh"

// A of four warps from registers, 64 columns of B from shared memory: half of what it delivers keeps the tensor cores fed.
struct Wgmma {
    enum { PRODUCTS = 8 };
    float d[8][4];
    u32 a[4];
    u64 b;

    DEVICE_MEMBER void prepare() {
        // Core matrices of 8 columns by 8 k (128 bytes, a column's 16 bytes together), without swizzling: eight of them one
        // after another along the columns, the other eight for the second half of k behind.
        __shared__ __align__(128) u16 columns[2][8][8][8];
        for (u32 i = threadIdx.x; i < 64 * K; i += blockDim.x) {
            u32 column = i / K, k = i % K;
            columns[k / 8][column / 8][column % 8][k % 8] = half_bits(operand_b(k, column));
        }
        publish_to_tensor_cores();
        __syncthreads();
        b = matrix_descriptor(&columns[0][0][0][0], 8 * 128, 128);
        fragment_a(a);
#pragma unroll
        for (u32 t = 0; t < 8; ++t) {
#pragma unroll
            for (u32 i = 0; i < 4; ++i) d[t][i] = 0;
        }
    }

    DEVICE_MEMBER void add() {
        wgmma_begin();
        wgmma_m64n64k16<1>(d, a, b);
        wgmma_wait();
    }

    DEVICE_MEMBER void pairs(u32 n) {
        // Groups of eight products between waits, the rest two by two; the other warps keep the tensor cores busy then.
#pragma unroll 1
        for (u32 i = 0; i < n / 4; ++i) {
            wgmma_begin();
#pragma unroll
            for (u32 j = 0; j < 4; ++j) {
                wgmma_m64n64k16<-1>(d, a, b);
                wgmma_m64n64k16<1>(d, a, b);
            }
            wgmma_wait();
        }
#pragma unroll 1
        for (u32 i = 0; i < n % 4; ++i) {
            wgmma_begin();
            wgmma_m64n64k16<-1>(d, a, b);
            wgmma_m64n64k16<1>(d, a, b);
            wgmma_wait();
        }
    }

    DEVICE_MEMBER bool right(int times) {
        __shared__ int sums[K][4];
        sum_columns(sums, 8);
        return accumulators_right<8>(d, sums, times);
    }
};

KERNEL __launch_bounds__(THREADS, RESIDENT) tensor(const uint4* buffer, u64 footprint, u64 bytes, u32 products, u32, State* state, Stamp* stamp, u32 sequence) {
    multiply<Wgmma>(buffer, footprint, bytes, products, state, stamp, sequence);
}
