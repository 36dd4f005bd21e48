// A layer of a small model: reads its weights from where the last layer stopped, computes beside the loads, and adds what
// it computed to the activations. Checksum: -2 a vector of weights, and that of the pairs.
// channel: block-slots, issue, hbm-bandwidth
// bound by: bandwidth of the weights or issue slots, whichever takes longer
// arguments: weights, filled by fill_vectors; activations, at least 1 KiB; bytes of all weights; bytes of this layer; pairs
//            of each thread
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 57..64
// sass: LDG.E.(NA.)?128
// sass-count: LDG.E.(NA.)?128 >= 4
// sass-not: LDG.*128.*STRONG
// sass-count: FFMA >= 64
#include "pairs.cuh"
#include "stream.cuh"

KERNEL __launch_bounds__(THREADS, RESIDENT) layer(const uint4* weights, u32* activations, u64 footprint, u64 bytes, u32 pairs, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    occupy_registers(state);
    Ring ring(state, footprint, bytes);
    Walk walk(ring);
    Pairs chains;
    u32 sum = 0;
    // Rounds of four loads, with an equal share of the bodies while they are under way.
    u32 rounds = (u32)((ring.total + 4 * walk.stride - 1) / (4 * walk.stride));
    rounds = rounds != 0 ? rounds : 1;
    u32 each = pairs / BODY / rounds, more = pairs / BODY % rounds;
#pragma unroll 1
    for (u32 round = 0; round < rounds; ++round) {
        uint4 v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            v[i] = uint4{0, 0, 0, 0};
            bool there = walk.index < ring.total;
            u64 at = walk.next(ring);
            if (there) v[i] = load_past_l1(weights + at);
        }
        chains.bodies(each + (round < more));
#pragma unroll
        for (int i = 0; i < 4; ++i) sum += vector_sum(v[i]);
    }
    chains.rest(pairs);
    u32 computed = chains.sum();
    if (blockIdx.x == 0) store_word(&activations[threadIdx.x], load_word(&activations[threadIdx.x]) + computed);
    end(state, stamp, sequence, launch, sum + computed, ring.advance());
}
