// What every kernel shares: the other side of src/workload/kernel.rs. Layouts, order of arguments and checksums here and
// there are one contract; scripts/check_kernels.py --emulate compares the two.
//
// Every entry point takes the catalogue's arguments and then always `State* state, Stamp* stamp, u32 sequence`, begins
// with begin() and ends with end() or end_warp(). Grids have one dimension. Launches of one program never overlap.
#pragma once

#ifdef CROSSTALK_EMULATE
#include "emulate/hardware.h"
#else
#include "hardware.cuh"
#endif

// In device memory, one a program, zeroed when the program is loaded.
struct State {
    u64 begun;         // highest complement of %globaltimer at the start of a block; the last block resets it
    u64 offset;        // streams: where the next launch goes on, bytes; the last block advances it
    u32 done;          // blocks done; the last block resets it
    u32 checksum;      // sum (mod 2^32) over blocks and launches since the last stamp
    u32 cursor[2042];  // walkers: one more than the position of the next node, in lines; 0 before the first launch
};
static_assert(sizeof(State) == 8192, "src/workload/kernel.rs");

// In mapped host memory, or null: then nothing is stamped.
struct Stamp {
    u64 start_ns, end_ns;        // %globaltimer: earliest start of a block, end of the last
    u64 block_ns, block_cycles;  // how long the last block ran by both clocks: their ratio is its SM's clock
    u32 sm;                      // where the last block ran
    u32 checksum;                // state->checksum, which starts again at 0
    u32 reserved[5];
    u32 sequence;  // written last
};
static_assert(sizeof(Stamp) == 64, "src/workload/kernel.rs");

// Threads of a block of every kernel but the one-warp ones, and how many such blocks fill an SM.
#define THREADS 256
#define RESIDENT 4
#define WARP 32

// Bytes of a cache line: the unit of positions in a cycle, so that 32 bits reach over 512 GiB.
#define LINE 128

// A bijection of 32-bit words that looks random: pseudo-random data, and tags (an xorshift-multiply finaliser).
DEVICE u32 mix(u32 x) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

DEVICE u32 lane_id() { return threadIdx.x % WARP; }
DEVICE u32 warp_id() { return threadIdx.x / WARP; }

// A block's own start.
struct Launch {
    u64 ns, cycles, earlier;
};

DEVICE Launch begin(State* state) {
    Launch launch = {0, 0, 0};
    if (threadIdx.x == 0) {
        launch.cycles = sm_cycles();
        launch.ns = global_timer();
        launch.earlier = atomicMax(&state->begun, ~launch.ns);
    }
    return launch;
}

// Takes all 64 registers of a thread that the launch bounds allow, whatever the kernel itself needs, so that RESIDENT
// blocks fill an SM of any part: a kernel has as many registers as its hungriest path, and this one is never taken
// (grids have one dimension).
DEVICE void occupy_registers(State* state) {
    if (gridDim.y != 65535) return;
    u32 held[56];
#pragma unroll
    for (int i = 0; i < 56; ++i) held[i] = load_word(&state->cursor[threadIdx.x + i]);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 56; ++i) store_word(&state->cursor[threadIdx.x + i], held[55 - i]);
}

// Where the next launch goes on: `by` after `from`, in a ring of `ring` units of `unit` bytes; nowhere if `ring` is 0.
struct Advance {
    u64 from, by, ring;
    u32 unit;
};
#define STAY Advance{0, 0, 0, 0}

DEVICE u32 warp_sum(u32 v) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) v += __shfl_xor_sync(0xffffffffu, v, distance);
    return v;
}

// By one thread of the block, when all of it is done: count it, and stamp if it is the last.
DEVICE void finish(State* state, Stamp* stamp, u32 sequence, Launch launch, u32 checksum, Advance next) {
    // One atomic operation counts the block and adds its checksum, so that the last block sees all of both without a
    // barrier, which would be felt on the channel `membar`. The same holds for `begun`: this operation depends on the
    // value that the one in begin() returned (never all ones: the timer is not 0), so that it is performed later.
    u64 one = launch.earlier == ~0ull ? 2 : 1;
    u64 before = atomicAdd((u64*)&state->done, (u64)checksum << 32 | one);
    if ((u32)before + 1 != gridDim.x) return;

    u64 begun = atomicExch(&state->begun, 0ull);
    if (next.ring != 0) state->offset = (next.from + next.by) % next.ring * next.unit;
    if (stamp == nullptr) {
        state->done = 0;
        return;
    }
    *(u64*)&state->done = 0;
    u64 cycles = sm_cycles() - launch.cycles;
    u64 now = global_timer();
    stamp->start_ns = ~begun;
    stamp->end_ns = now;
    stamp->block_ns = now - launch.ns;
    stamp->block_cycles = cycles;
    stamp->sm = sm_id();
    stamp->checksum = (u32)(before >> 32) + checksum;
    __threadfence_system();
    store_word(&stamp->sequence, sequence);
}

// Ends a kernel of one-warp blocks; every lane calls it. No shared memory: all of it is L1's.
DEVICE void end_warp(State* state, Stamp* stamp, u32 sequence, Launch launch, u32 checksum, Advance next) {
    checksum = warp_sum(checksum);
    if (threadIdx.x == 0) finish(state, stamp, sequence, launch, checksum, next);
}

// Ends a kernel; every thread of the block calls it.
DEVICE void end(State* state, Stamp* stamp, u32 sequence, Launch launch, u32 checksum, Advance next) {
    __shared__ u32 sums[32];
    checksum = warp_sum(checksum);
    if (lane_id() == 0) sums[warp_id()] = checksum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (u32 warp = 1; warp < (blockDim.x + WARP - 1) / WARP; ++warp) checksum += sums[warp];
    finish(state, stamp, sequence, launch, checksum, next);
}
