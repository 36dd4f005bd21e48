// Runs kernels on the host and holds them to what src/workload says. Reads cases, a line each:
//     REFERENCE SYMBOL GRID BLOCK [ARGUMENT…]
// where an argument is a number, vBYTES (a buffer of vectors), zBYTES (zeros), cSPAN:DISTANCE (a cycle), tLINES (the
// table that fill_cycle makes a cycle of) or pBYTES:TAG (the pattern of a tag, written for addresses from PATTERN_AT on). Each case is launched twice, and a third time on broken data where it reads any.
// Prints a line that begins with WRONG for everything that is.
#include <ucontext.h>

#include <cstdarg>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tensor.cuh"
#include "chase.cuh"
#include "pairs.cuh"
#include "pattern.cuh"

// Every kernel in a namespace of its own: three are called `tensor`.
namespace atomic_add_ {
#include "atomic_add.cu"
}
namespace chase_ {
#include "chase.cu"
}
namespace chase_l1_ {
#include "chase_l1.cu"
}
namespace chase_strong_ {
#include "chase_strong.cu"
}
namespace empty_ {
#include "empty.cu"
}
namespace fault_assert_ {
#include "fault_assert.cu"
}
namespace fault_endless_ {
#include "fault_endless.cu"
}
namespace fault_illegal_address_ {
#include "fault_illegal_address.cu"
}
namespace fault_misaligned_address_ {
#include "fault_misaligned_address.cu"
}
namespace fault_stack_overflow_ {
#include "fault_stack_overflow.cu"
}
namespace fault_trap_ {
#include "fault_trap.cu"
}
namespace fences_ {
#include "fences.cu"
}
namespace fill_cycle_ {
#include "fill_cycle.cu"
}
namespace fill_vectors_ {
#include "fill_vectors.cu"
}
namespace fma_pairs_ {
#include "fma_pairs.cu"
}
namespace l1_read_ {
#include "l1_read.cu"
}
namespace layer_ {
#include "layer.cu"
}
namespace pattern_check_ {
#include "pattern_check.cu"
}
namespace pattern_fill_ {
#include "pattern_fill.cu"
}
namespace pattern_scan_ {
#include "pattern_scan.cu"
}
namespace scatter_read_ {
#include "scatter_read.cu"
}
namespace shared_fill_ {
#include "shared_fill.cu"
}
namespace shared_scan_ {
#include "shared_scan.cu"
}
namespace stamp_ {
#include "stamp.cu"
}
namespace stream_copy_ {
#include "stream_copy.cu"
}
namespace stream_read_ {
#include "stream_read.cu"
}
namespace stream_write_ {
#include "stream_write.cu"
}
namespace tensor_mma_ {
#include "tensor_mma.cu"
}
namespace tensor_wgmma_ {
#include "tensor_wgmma.cu"
}
namespace tensor_wmma_ {
#include "tensor_wmma.cu"
}
namespace touch_pages_ {
#include "touch_pages.cu"
}

namespace emulate {

// A barrier of some of the block's fibers.
struct Barrier {
    u32 arrived = 0, generation = 0;
};

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(64 << 10);
    bool done = false;
};

ucontext_t scheduler;
std::vector<Fiber> fibers(1024);
Barrier of_block, of_warp[32], of_group[8];
std::function<void()> body;

void wait(Barrier& barrier, u32 count) {
    u32 mine = barrier.generation;
    if (++barrier.arrived == count) {
        barrier.arrived = 0;
        ++barrier.generation;
        return;
    }
    while (barrier.generation == mine) swapcontext(&fibers[threadIdx.x].context, &scheduler);
}

void block_barrier() { wait(of_block, blockDim.x); }
void warp_barrier() { wait(of_warp[threadIdx.x / 32], 32); }
void group_barrier() { wait(of_group[threadIdx.x / 128], 128); }

void enter() {
    body();
    fibers[threadIdx.x].done = true;
}

// One launch: blocks one after another, the last one first, since order must not matter.
void launch(u32 grid, u32 block) {
    gridDim.x = grid;
    blockDim.x = block;
    for (u32 b = grid; b-- > 0;) {
        blockIdx.x = b;
        for (u32 t = 0; t < block; ++t) {
            Fiber& fiber = fibers[t];
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.data();
            fiber.context.uc_stack.ss_size = fiber.stack.size();
            fiber.context.uc_link = &scheduler;
            fiber.done = false;
            makecontext(&fiber.context, enter, 0);
        }
        for (u32 left = block; left > 0;) {
            left = 0;
            for (u32 t = 0; t < block; ++t) {
                if (fibers[t].done) continue;
                threadIdx.x = t;
                swapcontext(&scheduler, &fibers[t].context);
                left += !fibers[t].done;
            }
        }
    }
}

}  // namespace emulate

namespace {

using Arguments = std::vector<u64>;
using Kernel = std::function<void(const Arguments&)>;

template <class T>
T as(u64 value) {
    if constexpr (std::is_pointer_v<T>) {
        return reinterpret_cast<T>(value);
    } else {
        return static_cast<T>(value);
    }
}

template <class... P, size_t... I>
Kernel adapt(void (*kernel)(P...), std::index_sequence<I...>) {
    return [kernel](const Arguments& a) { kernel(as<P>(a.at(I))...); };
}

template <class... P>
Kernel adapt(void (*kernel)(P...)) {
    return adapt(kernel, std::index_sequence_for<P...>());
}

const std::map<std::string, std::vector<std::pair<std::string, Kernel>>> KERNELS = {
#define ONE(name) {#name, {{#name, adapt(name##_::name)}}}
    ONE(atomic_add), ONE(chase), ONE(chase_l1), ONE(chase_strong), ONE(empty), ONE(fences), ONE(fill_cycle),
    ONE(fill_vectors), ONE(fma_pairs), ONE(l1_read), ONE(layer), ONE(pattern_check), ONE(pattern_fill), ONE(pattern_scan),
    ONE(scatter_read), ONE(shared_fill), ONE(shared_scan), ONE(stamp), ONE(stream_copy), ONE(stream_read),
    ONE(stream_write), ONE(touch_pages),
    ONE(fault_assert), ONE(fault_endless), ONE(fault_illegal_address), ONE(fault_misaligned_address),
    ONE(fault_stack_overflow), ONE(fault_trap),
    {"tensor", {{"tensor_mma", adapt(tensor_mma_::tensor)},
                {"tensor_wgmma", adapt(tensor_wgmma_::tensor)},
                {"tensor_wmma", adapt(tensor_wmma_::tensor)}}},
};

int wrongs = 0;

// Where patterns are written for: an address that takes more than 32 bits.
constexpr u64 PATTERN_AT = 1ull << 40;

// A buffer, aligned as device memory is.
struct Buffer {
    std::vector<uint4> memory;
    u64 bytes = 0, distance = 0;
    char kind = 0;

    u8* data() { return (u8*)memory.data(); }
    u32* words() { return (u32*)memory.data(); }
};

struct Case {
    std::string line, name;
    u32 reference, grid, block;
    Arguments arguments;  // numbers, and 0 for buffers until they are there
    std::vector<Buffer> buffers;
    std::vector<int> buffer_of;  // of each argument: its buffer, or -1

    void wrong(const char* format, ...) __attribute__((format(printf, 2, 3))) {
        ++wrongs;
        printf("WRONG %s [%s]: ", name.c_str(), line.c_str());
        va_list list;
        va_start(list, format);
        vprintf(format, list);
        va_end(list);
        printf("\n");
    }
};

u32 random_state = 1;
u32 random_below(u32 n) { return (u32)((u64)mix(random_state++) * n >> 32); }

// Sattolo's shuffle: for each line the one that follows, all in one cycle.
std::vector<u32> one_cycle(u32 lines) {
    std::vector<u32> next(lines);
    std::iota(next.begin(), next.end(), 0u);
    for (u32 i = lines - 1; i > 0; --i) std::swap(next[i], next[random_below(i)]);
    return next;
}

void fill(Buffer& buffer) {
    u64 rounded = (buffer.bytes + 15) / 16;
    buffer.memory.assign(rounded, uint4{0, 0, 0, 0});
    if (buffer.kind == 'v') {
        for (uint4& v : buffer.memory) {
            u32 a = mix(random_state++);
            v = vector_of(a, mix(random_state++));
        }
    } else if (buffer.kind == 'c') {
        u32 lines = (u32)(buffer.bytes / buffer.distance);
        std::vector<u32> next = one_cycle(lines);
        for (u32 i = 0; i < lines; ++i) {
            u32 here = position(i, buffer.distance);
            *(uint2*)node_at(buffer.data(), here) = uint2{position(next[i], buffer.distance), mix(here)};
        }
    } else if (buffer.kind == 'p') {
        for (u64 i = 0; i < buffer.bytes / 8; ++i) ((u64*)buffer.data())[i] = pattern_word(buffer.distance, PATTERN_AT + i * 8);
    } else if (buffer.kind == 't') {
        std::vector<u32> next = one_cycle((u32)(buffer.bytes / 4));
        memcpy(buffer.data(), next.data(), next.size() * 4);
    }
}

Case parse(const std::string& line) {
    Case c;
    c.line = line;
    std::istringstream in(line);
    in >> c.reference >> c.name >> c.grid >> c.block;
    for (std::string argument; in >> argument;) {
        if (isdigit(argument[0])) {
            c.arguments.push_back(std::stoull(argument));
            c.buffer_of.push_back(-1);
            continue;
        }
        Buffer buffer;
        buffer.kind = argument[0];
        size_t colon = argument.find(':');
        buffer.bytes = std::stoull(argument.substr(1, colon - 1));
        if (colon != std::string::npos) buffer.distance = std::stoull(argument.substr(colon + 1));
        if (buffer.kind == 't') buffer.bytes *= 4;
        c.buffer_of.push_back((int)c.buffers.size());
        c.arguments.push_back(0);
        c.buffers.push_back(buffer);
    }
    return c;
}

u32 launch(const Case& c, const Kernel& kernel, State& state, Stamp* stamp, u32 sequence) {
    Arguments all = c.arguments;
    all.insert(all.end(), {(u64)&state, (u64)stamp, sequence});
    emulate::body = [&] { kernel(all); };
    emulate::launch(c.grid, c.block);
    return stamp != nullptr ? stamp->checksum : state.checksum;
}

u32 total(const Buffer& buffer) {
    u32 sum = 0;
    for (const uint4& v : buffer.memory) sum += vector_sum(v);
    return sum;
}

// Where a walk of `loads` from `at` leads.
u32 walked(Buffer& buffer, u32 at, u64 loads) {
    for (u64 i = 0; i < loads; ++i) at = ((const uint2*)node_at(buffer.data(), at))->x;
    return at;
}

void check_cycle(Case& c, Buffer& buffer, u64 span, u64 distance) {
    u64 lines = span / distance;
    std::set<u32> seen;
    u32 at = position(0, distance);
    do {
        uint2 node = *(const uint2*)node_at(buffer.data(), at);
        if (node.y != mix(at)) return c.wrong("the node at line %u has another's tag", at);
        if (!seen.insert(at).second || seen.size() > lines) return c.wrong("the walk runs into itself");
        at = node.x;
        if ((u64)at * LINE >= span) return c.wrong("a node leads out of the buffer");
    } while (at != position(0, distance));
    if (seen.size() != lines) c.wrong("the cycle has %zu nodes of %llu", seen.size(), (unsigned long long)lines);
    std::set<u64> pages;
    for (u32 line : seen) pages.insert((u64)line * LINE / distance);
    if (pages.size() != lines) c.wrong("two nodes stand in one place");
    // Lines far apart differ in where they stand, unless distances are that of neighbouring lines.
    std::set<u64> offsets;
    for (u32 line : seen) offsets.insert((u64)line * LINE % distance);
    if (distance > LINE && offsets.size() * LINE < std::min(lines * LINE, distance)) c.wrong("nodes stand in few sets");
}

void check_report(Case& c, Buffer& buffer, u64 count, u64 first, u64 last) {
    Report& report = *(Report*)buffer.data();
    if (report.count != count) c.wrong("it reports %llu words, not %llu", report.count, (unsigned long long)count);
    if (count == 0 ? report.samples != 0 : report.samples == 0) c.wrong("it reports %llu samples", report.samples);
    if (count == 0) return;
    if (~report.first != first) c.wrong("the first word is at %llu, not at %llu", ~report.first, (unsigned long long)first);
    if (report.last != last) c.wrong("the last word is at %llu, not at %llu", report.last, (unsigned long long)last);
}

// What two launches must have left in memory.
void check_memory(Case& c, State& state) {
    auto argument = [&](size_t i) { return c.arguments.at(i); };
    u64 threads = (u64)c.grid * c.block;
    auto ring = [&](u64 footprint, u64 bytes) {
        u64 expected = 2 * (bytes / 16) % (footprint / 16) * 16;
        if (state.offset != expected) {
            c.wrong("it goes on at %llu, not at %llu", state.offset, (unsigned long long)expected);
        }
    };
    const std::string& n = c.name;
    if (n == "stream_read" || n == "stream_write" || n.starts_with("tensor")) ring(argument(1), argument(2));
    if (n == "layer") ring(argument(2), argument(3));
    if (n == "stream_copy") {
        ring(argument(1) / 2, argument(2) / 2);
        u64 half = argument(1) / 2 / 16, copied = std::min(half, 2 * (argument(2) / 2 / 16));
        uint4* all = c.buffers[0].memory.data();
        if (memcmp(all, all + half, copied * 16) != 0) c.wrong("the second half is not the first");
    }
    if (n == "stream_write") {
        u64 written = 0;
        for (const uint4& v : c.buffers[0].memory) written += vector_sum(v) == 0u - 2;
        u64 expected = std::min(argument(1) / 16, 2 * (argument(2) / 16));
        if (written != expected) c.wrong("%llu vectors are written, not %llu", written, (unsigned long long)expected);
    }
    if (n == "fill_vectors") {
        std::set<u32> different;
        for (const uint4& v : c.buffers[0].memory) different.insert(v.x);
        u64 vectors = argument(1) / 16;
        if (total(c.buffers[0]) != 0u - (u32)(2 * vectors)) c.wrong("what is there is no vectors");
        if (different.size() < vectors - vectors / 100) c.wrong("%zu different vectors", different.size());
    }
    if (n == "pattern_fill") {
        const u64* words = (const u64*)c.buffers[0].data();
        std::set<u64> different;
        for (u64 i = 0; i < argument(1) / 8; ++i) {
            if (words[i] != pattern_word(argument(2), argument(3) + i * 8)) return c.wrong("word %llu is another", i);
            different.insert(words[i]);
        }
        if (different.size() < std::min<u64>(argument(1) / 8, 1 << 14) / 2) c.wrong("%zu different words", different.size());
    }
    if (n == "pattern_check") check_report(c, c.buffers[1], 0, 0, 0);
    if (n == "pattern_scan") {
        bool own = c.buffers[0].distance == argument(2);
        check_report(c, c.buffers[1], own ? argument(1) / 8 * 2 : 0, 0, argument(1) - 8);
    }
    if (n == "shared_scan") check_report(c, c.buffers[0], 0, 0, 0);
    if (n == "fill_cycle") check_cycle(c, c.buffers[0], argument(1), argument(2));
    if (n.starts_with("chase")) {
        u64 lines = argument(1) / argument(2);
        for (u32 b = 0; b < c.grid; ++b) {
            u32 start = position(lines * b / c.grid, argument(2));
            if (state.cursor[b] != walked(c.buffers[0], start, 2 * argument(3)) + 1) c.wrong("walker %u is elsewhere", b);
        }
    }
    if (n == "touch_pages" && state.offset != 2 % (argument(1) >> 21)) c.wrong("it does not go on with another line");
    if (n == "atomic_add" && std::accumulate(c.buffers[0].words(), c.buffers[0].words() + c.buffers[0].bytes / 4, 0u) !=
                                 (u32)(2 * threads * argument(2))) {
        c.wrong("not every addition is there");
    }
    if (n == "fences") {
        for (u64 w = 0; w < threads / 32; ++w) {
            if (c.buffers[0].words()[w * 32] != 42 + (u32)argument(1)) c.wrong("warp %llu stored something else", w);
        }
    }
    if (n == "layer") {
        u32 added = std::accumulate(c.buffers[1].words(), c.buffers[1].words() + c.block, 0u);
        u32 computed = c.reference + (u32)(2 * (argument(3) / 16));
        if (added * c.grid != 2 * computed) c.wrong("activations are not what the pairs make");
    }
}

// One wrong bit must be seen.
void check_sight(Case& c, const Kernel& kernel) {
    for (Buffer& buffer : c.buffers) fill(buffer);
    if (c.buffers.empty() || c.name == "stream_write" || c.name.starts_with("f") || c.name == "atomic_add") return;
    if (c.name.starts_with("tensor") && c.arguments[2] == 0) return;  // it reads nothing
    if (c.name == "pattern_fill" || c.name == "pattern_scan" || c.name.starts_with("shared")) return;
    State state = {};
    Buffer& buffer = c.buffers[0];
    if (buffer.kind == 'c') {
        // The node that the first walker meets first.
        ((uint2*)node_at(buffer.data(), position(0, buffer.distance)))->y ^= 1;
    } else if (c.name == "scatter_read") {
        for (uint4& v : buffer.memory) v.x ^= 1;
    } else {
        buffer.memory[0].z ^= 1u << 17;
    }
    if (launch(c, kernel, state, nullptr, 1) == c.reference) c.wrong("a wrong bit in memory goes unseen");
    if (c.name == "pattern_check") {
        check_report(c, c.buffers[1], 1, 8, 8);
        const Report& report = *(const Report*)c.buffers[1].data();
        if (report.sample[0][0] != 8 || report.sample[0][1] != ((const u64*)buffer.data())[1]) c.wrong("the sample is another");
    }
}

void check_product(Case& c, const Kernel& kernel) {
    State state = {};
    emulate::broken_products = 1;
    u32 checksum = launch(c, kernel, state, nullptr, 1);
    emulate::broken_products = 0;
    if (c.arguments[3] > 0 && checksum == c.reference) c.wrong("a wrong product goes unseen");
}

void run(Case c, const Kernel& kernel) {
    for (Buffer& buffer : c.buffers) fill(buffer);
    auto point = [&] {
        for (size_t i = 0; i < c.arguments.size(); ++i) {
            if (c.buffer_of[i] >= 0) c.arguments[i] = (u64)c.buffers[(size_t)c.buffer_of[i]].data();
        }
    };
    point();
    State state = {};
    u32 first = launch(c, kernel, state, nullptr, 7);
    if (first != c.reference) c.wrong("its checksum is %u, and the reference %u", first, c.reference);
    if (state.begun != 0 || state.done != 0) c.wrong("the last block of the first launch left its marks");
    Stamp stamp = {};
    u64 before = emulate::clock;
    u32 both = launch(c, kernel, state, &stamp, 42);
    if (both != first + c.reference) c.wrong("two launches make %u, not twice the reference", both);
    if (state.begun != 0 || state.done != 0 || state.checksum != 0) c.wrong("the second launch left its marks");
    if (stamp.sequence != 42) c.wrong("no sequence word");
    // The first block to start is the first that the emulation runs; the last ends last.
    if (stamp.start_ns != before + 100 || stamp.end_ns != emulate::clock) c.wrong("the times are not those of the launch");
    // The endless one reads the clock itself.
    bool still = c.name != "fault_endless";
    if (still && (stamp.block_ns != 100 || stamp.block_cycles > 200)) c.wrong("the last block's own times are wrong");
    if (stamp.sm != 0) c.wrong("the last block ran elsewhere");
    check_memory(c, state);
    check_sight(c, kernel);
    if (c.name.starts_with("tensor")) {
        for (Buffer& buffer : c.buffers) fill(buffer);
        point();
        check_product(c, kernel);
    }
}

}  // namespace

int main() {
    std::set<std::string> seen;
    int cases = 0;
    for (std::string line; std::getline(std::cin, line);) {
        if (line.empty() || line[0] == '#') continue;
        Case c = parse(line);
        auto found = KERNELS.find(c.name);
        if (found == KERNELS.end()) {
            c.wrong("no such kernel");
            continue;
        }
        for (const auto& [name, kernel] : found->second) {
            c.name = name;
            run(c, kernel);
            seen.insert(name);
            ++cases;
        }
    }
    size_t all = 0;
    for (const auto& [symbol, variants] : KERNELS) {
        for (const auto& [name, kernel] : variants) {
            // Those are compiled, and not run: each would end the emulation. The endless one ends where it is told to.
            if (name.starts_with("fault_") && name != "fault_endless") continue;
            ++all;
            if (!seen.contains(name)) printf("WRONG %s: no case\n", name.c_str());
        }
    }
    printf("%d cases of %zu kernels emulated\n", cases, all);
    return wrongs != 0 || seen.size() != all;
}
