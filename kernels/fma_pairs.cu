// Multiply-adds and integer operations in pairs, on registers alone. Checksum: what every chain must hold at the end.
// channel: issue, block-slots, power
// bound by: issue slots: warps x pairs x 2 / 4 schedulers
// arguments: pairs of each thread
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 57..64
// sass-count: FFMA >= 64
// sass-count: LOP3|IADD|VIADD >= 64
#include "pairs.cuh"

KERNEL __launch_bounds__(THREADS, RESIDENT) fma_pairs(u32 pairs, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    occupy_registers(state);
    Pairs chains;
    chains.bodies(pairs / BODY);
    chains.rest(pairs);
    end(state, stamp, sequence, launch, chains.sum(), STAY);
}
