// Spins until the host says to stop: for ever, where nobody does. A fault to be tried, not a workload.
// channel: fault
// arguments: words in mapped host memory: the first is to become other than 0 when it is to stop; the 17th becomes 1, by
// this kernel, once it runs
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..40
// sass: CS2R|S2UR|S2R
#include "common.cuh"

// Host memory is looked at so often: a thread that does nothing else would be traffic on PCIe.
#define LOOK_NS 100000

KERNEL __launch_bounds__(1024) fault_endless(u32* words, State* state, Stamp* stamp, u32 sequence) {
    __shared__ u32 stop;
    Launch launch = begin(state);
    if (threadIdx.x == 0) {
        store_word(words + 16, 1);
        __threadfence_system();
        stop = 0;
    }
    do {
        __syncthreads();
        u64 begun = global_timer();
        while (global_timer() - begun < LOOK_NS) {}
        if (threadIdx.x == 0) stop = load_word(words);
        __syncthreads();
    } while (stop == 0);
    end(state, stamp, sequence, launch, 0, STAY);
}
