// Only stamps: ends a request whose last operation is a copy, and ties the clocks of device and host together.
// channel: none
// bound by: the front end, and the store to host memory
// arguments: none
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..32
// sass: MEMBAR.*SYS
#include "common.cuh"

KERNEL __launch_bounds__(1024) stamp(State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    end(state, stamp, sequence, launch, 0, STAY);
}
