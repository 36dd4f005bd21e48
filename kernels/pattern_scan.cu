// Looks for words of a tag, whatever address they were written for; they go to the report. Checksum: 1 a word looked at.
// channel: none
// bound by: bandwidth of device memory
// arguments: buffer; bytes, a multiple of 16; tag; report
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..64
// sass: LDG.E.(NA.)?128
#include "pattern.cuh"

KERNEL __launch_bounds__(THREADS, RESIDENT) pattern_scan(const uint4* buffer, u64 bytes, u64 tag, Report* report, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    Notice found;
    u32 looked = look(buffer, bytes, found, [&](u64, u64 word) { return word >> 16 == tag; });
    found.tell(report);
    end(state, stamp, sequence, launch, looked, STAY);
}
