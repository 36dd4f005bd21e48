// Words of 8 bytes that say whose they are and for which address they were written: 48 bits of a tag, which a scan
// recognises wherever they turn up, and 16 bits mixed from the address. src/workload/pattern.rs makes the same words.
#pragma once
#include "common.cuh"

DEVICE u64 pattern_word(u64 tag, u64 at) {
    return tag << 16 | (mix((u32)(at >> 3) ^ mix((u32)(at >> 35))) & 0xffff);
}

DEVICE u64 low_word(uint4 v) { return (u64)v.y << 32 | v.x; }
DEVICE u64 high_word(uint4 v) { return (u64)v.w << 32 | v.z; }
DEVICE uint4 two_words(u64 low, u64 high) { return uint4{(u32)low, (u32)(low >> 32), (u32)high, (u32)(high >> 32)}; }

// Words that came to notice, in device memory; all zeros before the first launch. Launches add to it.
#define SAMPLES 14
struct Report {
    u64 count;
    u64 first;                // highest complement of an offset: the lowest offset, bytes
    u64 last;                 // highest offset, bytes
    u64 samples;              // threads that noticed any; of the first few:
    u64 sample[SAMPLES][2];   // the offset of a word, and the word
};
static_assert(sizeof(Report) == 256, "src/workload/pattern.rs");

// What one thread noticed. Kept in registers until its end, so that a range full of such words costs no atomics.
struct Notice {
    u64 first, last, word;
    u32 count;

    DEVICE_MEMBER Notice() : first(0), last(0), word(0), count(0) {}

    DEVICE_MEMBER void note(u64 offset, u64 found) {
        if (count == 0) {
            first = offset;
            word = found;
        }
        last = offset;
        ++count;
    }

    DEVICE_MEMBER void tell(Report* report) const {
        if (count == 0) return;
        atomicAdd(&report->count, (u64)count);
        atomicMax(&report->first, ~first);
        atomicMax(&report->last, last);
        u64 slot = atomicAdd(&report->samples, 1ull);
        if (slot >= SAMPLES) return;
        report->sample[slot][0] = first;
        report->sample[slot][1] = word;
    }
};

// Looks at every word of `bytes`, a multiple of 16, for those of which `matters(offset, word)` says so; four loads in
// flight a thread. Words looked at.
template <class Matters>
DEVICE u32 look(const uint4* buffer, u64 bytes, Notice& notice, Matters matters) {
    constexpr int FLIGHT = 4;
    u64 vectors = bytes / sizeof(uint4), stride = (u64)gridDim.x * blockDim.x;
    u32 looked = 0;
    // In rounds that all threads make, so that the loop has one way round.
    u64 rounds = (vectors + FLIGHT * stride - 1) / (FLIGHT * stride), i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
#pragma unroll 1
    for (u64 round = 0; round < rounds; ++round, i += FLIGHT * stride) {
        uint4 v[FLIGHT];
        // Beyond the end the last vector is read again, and not looked at.
#pragma unroll
        for (int k = 0; k < FLIGHT; ++k) {
            u64 at = i + (u64)k * stride;
            v[k] = load_past_l1(buffer + (at < vectors ? at : vectors - 1));
        }
#pragma unroll
        for (int k = 0; k < FLIGHT; ++k) {
            u64 at = i + (u64)k * stride, offset = at * sizeof(uint4), low = low_word(v[k]), high = high_word(v[k]);
            bool there = at < vectors;
            if (there && matters(offset, low)) notice.note(offset, low);
            if (there && matters(offset + 8, high)) notice.note(offset + 8, high);
            looked += there ? 2 : 0;
        }
    }
    return looked;
}
