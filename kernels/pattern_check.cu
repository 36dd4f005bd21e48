// Holds a range to the pattern of a tag; words that differ go to the report. Checksum: 1 a word that is right.
// channel: none
// bound by: bandwidth of device memory
// arguments: buffer; bytes, a multiple of 16; tag; the address that the first word was written for; report
// ptx: compute_70
// archs: 75 80 86 89 90 100 120
// registers: 1..64
// sass: LDG.E.(NA.)?128
#include "pattern.cuh"

KERNEL __launch_bounds__(THREADS, RESIDENT) pattern_check(const uint4* buffer, u64 bytes, u64 tag, u64 at, Report* report, State* state, Stamp* stamp, u32 sequence) {
    Launch launch = begin(state);
    Notice wrong;
    u32 looked = look(buffer, bytes, wrong, [&](u64 offset, u64 word) { return word != pattern_word(tag, at + offset); });
    wrong.tell(report);
    end(state, stamp, sequence, launch, looked - wrong.count, STAY);
}
