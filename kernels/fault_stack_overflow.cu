// Calls itself until its stack is at an end. A fault to be tried, not a workload.
// channel: fault
// arguments: how deep: times 256 bytes, that is to be more than a thread can have (512 KiB of local memory)
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..40
// stack: yes
// sass: CALL
#include "common.cuh"

// Each call needs its own words after the one below has returned, so that no compiler makes a loop of it.
DEVICE_CALL u32 descend(u32 depth) {
    volatile u32 words[64];
    words[depth % 64] = depth;
    u32 below = depth == 0 ? 0 : descend(depth - 1);
    return mix(below) + words[depth % 64];
}

KERNEL __launch_bounds__(1024) fault_stack_overflow(u32 depth, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    u32 sum = descend(depth);
    if (threadIdx.x == 0) store_word(state->cursor, sum);
    end(state, stamp, sequence, launch, 0, STAY);
}
