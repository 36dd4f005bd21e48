// An assertion fails: what `assert` comes to in a kernel, a call into the driver's own code, which prints it to the standard
// error of its process. A fault to be tried, not a workload.
// channel: fault
// arguments: none
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..40
// sass: CALL
#include "common.cuh"

KERNEL __launch_bounds__(1024) fault_assert(State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    // Once, and not by every thread: each prints a line.
    if (blockIdx.x == 0 && threadIdx.x == 0) fail_assertion();
    end(state, stamp, sequence, launch, 0, STAY);
}
