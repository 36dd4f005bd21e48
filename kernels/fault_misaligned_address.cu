// Writes a word of four bytes into memory of its own, but not at a multiple of four. A fault to be tried, not a workload.
// channel: fault
// arguments: bytes by which the address is off, no multiple of four: the compiler is not to know
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..40
// sass: ST
#include "common.cuh"

KERNEL __launch_bounds__(1024) fault_misaligned_address(u32 off, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    store_word((u32*)((u8*)state->cursor + off), sequence);
    end(state, stamp, sequence, launch, 0, STAY);
}
