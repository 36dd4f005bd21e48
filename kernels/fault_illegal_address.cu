// Writes where nothing is mapped: the context that it runs in is lost. A fault to be tried, not a workload.
// channel: fault
// arguments: an address of which nothing is
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..40
// sass: ST
#include "common.cuh"

KERNEL __launch_bounds__(1024) fault_illegal_address(u64 address, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    store_word((u32*)address, sequence);
    end(state, stamp, sequence, launch, 0, STAY);
}
