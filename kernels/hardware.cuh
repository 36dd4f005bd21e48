// What kernels ask of the hardware by name: timers, loads with their cache hints, operations that no optimiser may fold.
// Every function here has a twin in plain C++ in emulate/hardware.h; nothing else in kernels/ holds inline assembly.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define DEVICE_CALL static __device__ __noinline__
#define KERNEL extern "C" __global__ void

// Nanoseconds on the device's axis. It ticks every 32 ns to 1 µs, by part: the host measures the tick.
DEVICE u64 global_timer() {
    u64 t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t)::"memory");
    return t;
}

// Cycles of this SM.
DEVICE u64 sm_cycles() {
    u64 t;
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(t)::"memory");
    return t;
}

// The physical SM that this block runs on.
DEVICE u32 sm_id() {
    u32 id;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(id));
    return id;
}

// 16 bytes past L1: nothing is left there for a later load to hit, and the load stays weak.
DEVICE uint4 load_past_l1(const uint4* p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

// 16 bytes that L1 may keep: the default, since an explicit .ca makes the load strong (LDG.E.STRONG.SM).
DEVICE uint4 load_through_l1(const uint4* p) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

// 16 bytes to L2.
DEVICE void store_vector(uint4* p, uint4 v) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// A node of a cycle: weak, and L1 may keep its line.
DEVICE uint2 node_through_l1(const void* p) {
    uint2 v;
    asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
    return v;
}

// A node of a cycle: weak, and L1 keeps nothing of it. Not ld.global.cg: sm_90 makes a strong load of that.
DEVICE uint2 node_past_l1(const void* p) {
    uint2 v;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
    return v;
}

// A node of a cycle: strong at the scope of the GPU, thus past L1 and ordered against barriers.
DEVICE uint2 node_strong(const void* p) {
    uint2 v;
    asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p) : "memory");
    return v;
}

// A word that is loaded here and now.
DEVICE u32 load_word(const u32* p) {
    u32 v;
    asm volatile("ld.volatile.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}

// A word that is stored here and now.
DEVICE void store_word(u32* p, u32 v) {
    asm volatile("st.volatile.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}

// An addition performed at L2 whose old value nobody waits for.
DEVICE void add_at_l2(u32* p, u32 v) {
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}

// Ends the thread.
// One instruction of the logic pipe each, not to be folded into another: y ^ a, and (y ^ a) & b.
DEVICE u32 logic_two(u32 y, u32 a) {
    u32 z;
    asm volatile("xor.b32 %0, %1, %2;" : "=r"(z) : "r"(y), "r"(a));
    return z;
}
DEVICE u32 logic_three(u32 y, u32 a, u32 b) {
    u32 z;
    // (0xf0 ^ 0xcc) & 0xaa
    asm volatile("lop3.b32 %0, %1, %2, %3, 0x28;" : "=r"(z) : "r"(y), "r"(a), "r"(b));
    return z;
}

DEVICE void leave() { asm volatile("exit;"); }

// Stops the whole grid with an error.
DEVICE void trap() { asm volatile("trap;"); }

// What `assert` of CUDA calls: the driver has it, whatever compiles the kernel.
extern "C" __device__ void __assertfail(const char* message, const char* file, unsigned line, const char* function,
                                        decltype(sizeof(0)) bytes_of_a_character);
DEVICE void fail_assertion() { __assertfail("false", "crosstalk", 1, "fault_assert", 1); }

// The bits of a whole number of at most eleven bits as fp16.
DEVICE u32 half_bits(int n) {
    u16 h;
    asm("cvt.rn.f16.s32 %0, %1;" : "=h"(h) : "r"(n));
    return h;
}

// d += a x b on tensor cores, one warp: 16 rows, 8 columns, k = 16, fp16 into fp32.
DEVICE void mma_m16n8k16(float d[4], const u32 a[4], const u32 b[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// An address in shared memory as instructions take it.
DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// A word of shared memory that is stored here and now, whether anybody reads it or not.
DEVICE void store_shared(u64* p, u64 v) {
    asm volatile("st.volatile.shared.u64 [%0], %1;" ::"r"(shared_address(p)), "l"(v) : "memory");
}

// A word of shared memory as it is, whether anybody has written it or not.
DEVICE u64 load_shared(const u64* p) {
    u64 v;
    asm volatile("ld.volatile.shared.u64 %0, [%1];" : "=l"(v) : "r"(shared_address(p)) : "memory");
    return v;
}

// Fragments of A (16 rows of 16 halves) and B (16 columns of 16 halves) from shared memory, aligned to 32 bytes.
DEVICE void wmma_load_a(u32 a[8], const u16* rows) {
    asm volatile("wmma.load.a.sync.aligned.row.m16n16k16.shared.f16 {%0, %1, %2, %3, %4, %5, %6, %7}, [%8], 16;"
                 : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3]), "=r"(a[4]), "=r"(a[5]), "=r"(a[6]), "=r"(a[7])
                 : "r"(shared_address(rows))
                 : "memory");
}

DEVICE void wmma_load_b(u32 b[8], const u16* columns) {
    asm volatile("wmma.load.b.sync.aligned.col.m16n16k16.shared.f16 {%0, %1, %2, %3, %4, %5, %6, %7}, [%8], 16;"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3]), "=r"(b[4]), "=r"(b[5]), "=r"(b[6]), "=r"(b[7])
                 : "r"(shared_address(columns))
                 : "memory");
}

// d += a x b on tensor cores, one warp: 16 rows, 16 columns, k = 16, fp16 into fp32.
DEVICE void wmma_m16n16k16(float d[8], const u32 a[8], const u32 b[8]) {
    asm volatile(
        "wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 {%0, %1, %2, %3, %4, %5, %6, %7}, "
        "{%8, %9, %10, %11, %12, %13, %14, %15}, {%16, %17, %18, %19, %20, %21, %22, %23}, "
        "{%0, %1, %2, %3, %4, %5, %6, %7};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(a[4]), "r"(a[5]), "r"(a[6]), "r"(a[7]), "r"(b[0]), "r"(b[1]),
          "r"(b[2]), "r"(b[3]), "r"(b[4]), "r"(b[5]), "r"(b[6]), "r"(b[7]));
}

// 16 rows of 16 accumulators to shared memory, aligned to 32 bytes.
DEVICE void wmma_store_d(float* rows, const float d[8]) {
    asm volatile("wmma.store.d.sync.aligned.row.m16n16k16.shared.f32 [%0], {%1, %2, %3, %4, %5, %6, %7, %8}, 16;" ::"r"(
                     shared_address(rows)),
                 "f"(d[0]), "f"(d[1]), "f"(d[2]), "f"(d[3]), "f"(d[4]), "f"(d[5]), "f"(d[6]), "f"(d[7])
                 : "memory");
}

// What this thread stored to shared memory becomes visible to wgmma after the next barrier.
DEVICE void publish_to_tensor_cores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A matrix in shared memory for wgmma, not swizzled (PTX ISA, matrix descriptor): address, distance of core matrices along
// k, and along columns, each in units of 16 bytes.
DEVICE u64 matrix_descriptor(const void* p, u32 along_k, u32 along_columns) {
    return (u64)(shared_address(p) >> 4 & 0x3fff) | (u64)(along_k >> 4) << 16 | (u64)(along_columns >> 4) << 32;
}

// Registers are wgmma's from here on.
DEVICE void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Registers are the program's again.
DEVICE void wgmma_wait() {
    asm volatile("wgmma.commit_group.sync.aligned;\n\twgmma.wait_group.sync.aligned 0;" ::: "memory");
}

// d += SIGN x a x b on tensor cores, four warps: 16 rows each, 64 columns, k = 16, fp16 into fp32; b a descriptor.
template <int SIGN>
DEVICE void wgmma_m64n64k16(float d[8][4], const u32 a[4], u64 b) {
#define FOUR(t) "+f"(d[t][0]), "+f"(d[t][1]), "+f"(d[t][2]), "+f"(d[t][3])
    asm volatile(
        "{\n\t"
        ".reg .pred add;\n\t"
        "setp.ne.b32 add, %37, 0;\n\t"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "{%32, %33, %34, %35}, %36, add, %38, 1, 0;\n\t"
        "}"
        : FOUR(0), FOUR(1), FOUR(2), FOUR(3), FOUR(4), FOUR(5), FOUR(6), FOUR(7)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1), "n"(SIGN)
        : "memory");
#undef FOUR
}
