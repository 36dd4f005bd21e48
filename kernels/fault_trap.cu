// Traps. A fault to be tried, not a workload.
// channel: fault
// arguments: none
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..40
// sass: BPT
#include "common.cuh"

KERNEL __launch_bounds__(1024) fault_trap(State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    trap();
    end(state, stamp, sequence, launch, 0, STAY);
}
