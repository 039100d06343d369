// cuda_shim.h - run CUDA C kernels on one CPU thread: a block's threads are fibers, blocks run in sequence.
// Force-included (g++ -include cuda_shim.h) in front of the *unchanged* kernel source; never seen by NVRTC/nvcc.
#pragma once
#include <cmath>
#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <type_traits>
#include <utility>

#define CUDA_ON_CPU 1
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static __attribute__((section("shim_shared")))
extern "C" { extern char __start_shim_shared[] __attribute__((weak)), __stop_shim_shared[] __attribute__((weak)); }

struct dim3 { unsigned x, y, z; constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {} };
struct uint3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
static inline float2 make_float2(float a, float b) { return {a, b}; }
static inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
static inline uint2 make_uint2(unsigned a, unsigned b) { return {a, b}; }
static inline uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d) { return {a, b, c, d}; }

// ------------------------------------------------------------------ scheduler
namespace shim {
enum { MAXT = 1024, WARP = 32, STACK = 64 * 1024 };
struct Bar { uint32_t gen = 0, arrived = 0; int line = 0; };              // a barrier: block's, or one (warp, mask)
struct Warp { Bar bar; uint64_t slot[2][WARP][4]; uint32_t alive; uint32_t mask_now; const char* op; };
struct Fiber { void* sp; uint32_t* wait_gen; uint32_t wait_val; bool done; uint8_t par; int line; const char* what; };
static Fiber fib[MAXT]; static Warp warps[MAXT / WARP]; static Bar blockbar;
static char* stacks = nullptr; static void* main_sp; static void (*body)(void*); static void* body_arg;
static unsigned order[MAXT], pos_of[MAXT], nthr, ndone, cur; static uint64_t n_switch; static bool strict = true, greedy = false;
static char err[1024]; static bool failed; static char* dyn; static size_t dyn_bytes; static sigjmp_buf segv_env;
} // namespace shim
static uint3 threadIdx, blockIdx; static dim3 blockDim, gridDim; static constexpr int warpSize = 32;

extern "C" void shim_switch(void** save, void* to);
#if defined(__x86_64__)
asm(".text\n.local shim_switch\n.type shim_switch,@function\nshim_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
#else
#error "add a context switch for this CPU (or use ucontext)"
#endif

namespace shim {
[[noreturn]] static void fail(const char* fmt, ...) {
  va_list ap; va_start(ap, fmt); int k = std::snprintf(err, sizeof err, "block (%u,%u,%u) thread (%u,%u,%u): ", blockIdx.x,
      blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
  std::vsnprintf(err + k, sizeof err - k, fmt, ap); va_end(ap); failed = true;
  void* dead; shim_switch(&dead, main_sp); __builtin_unreachable();
}
static inline void set_tid(unsigned t) { threadIdx = {t % blockDim.x, (t / blockDim.x) % blockDim.y, t / (blockDim.x * blockDim.y)}; }
__attribute__((noinline)) static void yield_next() {  // give the CPU to the next fiber that can run
  unsigned p = greedy ? nthr - 1 : pos_of[cur], me = cur;   // greedy: one warp runs as far ahead of the others as it may
  for (unsigned k = 0; k < nthr; k++) {
    if (++p == nthr) p = 0;
    Fiber& f = fib[order[p]];
    if (f.done || (f.wait_gen && *f.wait_gen == f.wait_val)) continue;
    if (order[p] == me) return;
    cur = order[p]; set_tid(cur); n_switch++;
    shim_switch(&fib[me].sp, f.sp); return;
  }
  if (ndone == nthr) { void* dead; shim_switch(&dead, main_sp); }
  char list[600]; int k = 0; unsigned shown = 0;
  for (unsigned i = 0; i < nthr && shown < 6; i++) if (!fib[i].done && (i == 0 || fib[i].line != fib[i-1].line || fib[i-1].done)) {
    k += std::snprintf(list + k, sizeof list - k, " thread %u waits in %s at line %d;", i, fib[i].what, fib[i].line); shown++; }
  fail("deadlock (divergent barrier or shuffle):%s %u of %u threads have exited", list, ndone, nthr);
}
static inline void wait(Bar& b, const char* what, int line, uint32_t need) {
  Fiber& f = fib[cur]; f.line = line; f.what = what;
  if (b.arrived == 0) b.line = line;
  else if (strict && b.line != line) fail("%s at line %d while other threads wait at line %d", what, line, b.line);
  if (++b.arrived >= need) { b.arrived = 0; b.gen++; return; }
  f.wait_gen = &b.gen; f.wait_val = b.gen;
  while (b.gen == f.wait_val) yield_next();
  f.wait_gen = nullptr;
}
static inline void warp_wait(unsigned mask, const char* what, int line) {
  unsigned w = cur / WARP, lane = cur % WARP; Warp& W = warps[w];
  if (!(mask >> lane & 1)) fail("%s at line %d: mask %08x does not hold this lane %u", what, line, mask, lane);
  if (mask & ~W.alive) fail("%s at line %d: mask %08x names lanes that exited or do not exist (alive %08x)", what, line, mask, W.alive);
  if (W.bar.arrived && W.mask_now != mask) fail("%s at line %d: mask %08x, but the warp is in %s with mask %08x", what, line, mask, W.op, W.mask_now);
  W.mask_now = mask; W.op = what;
  wait(W.bar, what, line, __builtin_popcount(mask));
}
template <class T> static inline void put(const T& v) { static_assert(sizeof(T) <= 32, ""); std::memcpy(warps[cur / WARP].slot[fib[cur].par][cur % WARP], &v, sizeof(T)); }
template <class T> static inline T got(unsigned lane) { T r; std::memcpy(&r, warps[cur / WARP].slot[fib[cur].par ^ 1][lane], sizeof(T)); return r; }
// deposit, wait for the mask's lanes, flip the parity (double buffering makes one wait per exchange enough)
template <class T> static inline void exchange(unsigned mask, const T& v, const char* what, int line) { put(v); warp_wait(mask, what, line); fib[cur].par ^= 1; }
static void exit_thread() {
  unsigned w = cur / WARP; fib[cur].done = true; ndone++; warps[w].alive &= ~(1u << (cur % WARP));
  if (blockbar.arrived && strict) fail("exits while other threads wait in __syncthreads() at line %d", blockbar.line);
  if (blockbar.arrived && blockbar.arrived == nthr - ndone) { blockbar.arrived = 0; blockbar.gen++; }
  yield_next(); __builtin_unreachable();
}
static void entry() { body(body_arg); exit_thread(); }
static void on_segv(int, siginfo_t* si, void*) {
  int k = std::snprintf(err, sizeof err, "block (%u,%u,%u) thread (%u,%u,%u): bad memory access at %p", blockIdx.x, blockIdx.y, blockIdx.z,
    threadIdx.x, threadIdx.y, threadIdx.z, si->si_addr); (void)k; failed = true; siglongjmp(segv_env, 1);
}
template <class F> struct Sig; 
template <class... A> struct Sig<void (*)(A...)> {
  template <size_t... I> static void call(void (*f)(A...), void** a, std::index_sequence<I...>) { f(*reinterpret_cast<std::remove_cv_t<std::remove_reference_t<A>>*>(a[I])...); }
  struct Pack { void (*f)(A...); void** a; };
  static void go(void* p) { auto* q = static_cast<Pack*>(p); call(q->f, q->a, std::index_sequence_for<A...>{}); }
  static const char* code(void) { static const char* c = __PRETTY_FUNCTION__; return c; }
};
template <class F> static int run(F f, const unsigned* g, const unsigned* b, size_t smem, void** args, int mode, unsigned seed, char* msg, size_t msgn) {
  typename Sig<F>::Pack pk{f, args}; body = &Sig<F>::go; body_arg = &pk;
  gridDim = dim3(g[0], g[1], g[2]); blockDim = dim3(b[0], b[1], b[2]); nthr = b[0] * b[1] * b[2]; failed = false; err[0] = 0;
  if (!nthr || nthr > MAXT) { std::snprintf(msg, msgn, "bad block size %u", nthr); return 1; }
  if (!stacks) stacks = (char*)mmap(nullptr, (size_t)STACK * MAXT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  // dynamic shared memory ends at a page that may not be touched
  size_t pg = 4096, dn = (smem + 15) / 16 * 16, full = (dn + pg - 1) / pg * pg + pg; char* m = (char*)mmap(nullptr, full, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(m + full - pg, pg, PROT_NONE); dyn = m + full - pg - dn; dyn_bytes = smem;
  uint64_t rng = seed * 0x9E3779B97F4A7C15ull + 1;
  static char alt[65536]; stack_t ss{}, os{}; ss.ss_sp = alt; ss.ss_size = sizeof alt; sigaltstack(&ss, &os);
  struct sigaction sa{}, o1, o2; sa.sa_sigaction = on_segv; sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER; sigaction(SIGSEGV, &sa, &o1); sigaction(SIGBUS, &sa, &o2);
  if (sigsetjmp(segv_env, 1) == 0) {
    uint64_t nb = (uint64_t)g[0] * g[1] * g[2];
    for (uint64_t bi = 0; bi < nb && !failed; bi++) {
      uint64_t q = mode == 1 ? nb - 1 - bi : bi; blockIdx = {unsigned(q % g[0]), unsigned(q / g[0] % g[1]), unsigned(q / g[0] / g[1])};
      if (&__start_shim_shared[0]) std::memset(__start_shim_shared, 0xFF, __stop_shim_shared - __start_shim_shared);  // NaN / -1
      std::memset(dyn, 0xFF, dn);
      for (unsigned i = 0; i < nthr; i++) order[i] = mode == 1 ? nthr - 1 - i : i;
      greedy = mode >= 3;
      if (mode == 4) { unsigned nw = (nthr + 31) / 32, k = 0, wo[32]; for (unsigned i = 0; i < nw; i++) wo[i] = i;
        for (unsigned i = nw - 1; i > 0; i--) { rng ^= rng << 13; rng ^= rng >> 7; rng ^= rng << 17; std::swap(wo[i], wo[rng % (i + 1)]); }
        for (unsigned i = 0; i < nw; i++) for (unsigned l = 0; l < 32; l++) if (wo[i] * 32 + l < nthr) order[k++] = wo[i] * 32 + l; }
      if (mode == 2) for (unsigned i = nthr - 1; i > 0; i--) { rng ^= rng << 13; rng ^= rng >> 7; rng ^= rng << 17; std::swap(order[i], order[rng % (i + 1)]); }
      blockbar = Bar{}; ndone = 0;
      for (unsigned w = 0; w * WARP < nthr; w++) { warps[w].bar = Bar{}; unsigned n = nthr - w * WARP; warps[w].alive = n >= 32 ? ~0u : (1u << n) - 1; }
      for (unsigned i = 0; i < nthr; i++) {
        pos_of[order[i]] = i; char* top = stacks + (size_t)(i + 1) * STACK - 64 - (i % 16) * 64;   // stagger against cache aliasing
        void** sp = (void**)((uintptr_t)top & ~(uintptr_t)15); *--sp = nullptr; *--sp = (void*)&entry; sp -= 6;
        fib[i] = Fiber{sp, nullptr, 0, false, 0, 0, ""};
      }
      cur = order[0]; set_tid(cur); shim_switch(&main_sp, fib[cur].sp);
    }
  }
  sigaction(SIGSEGV, &o1, nullptr); sigaction(SIGBUS, &o2, nullptr); sigaltstack(&os, nullptr); munmap(m, full);
  if (failed) { std::snprintf(msg, msgn, "%s", err); return 1; }
  return 0;
}
} // namespace shim
#define SHIM_EXPORT(k) extern "C" int shim_run_##k(const unsigned* g, const unsigned* b, size_t smem, void** a, int mode, unsigned seed, char* msg, size_t n) \
  { return shim::run(&k, g, b, smem, a, mode, seed, msg, n); } extern "C" const char* shim_sig_##k() { return shim::Sig<decltype(&k)>::code(); }
extern "C" uint64_t shim_switches() { return shim::n_switch; }
extern "C" void shim_strict(int v) { shim::strict = v; }

// ------------------------------------------------------------------ CUDA's builtins
#define __syncthreads() shim::wait(shim::blockbar, "__syncthreads", __LINE__, shim::nthr - (shim::strict ? 0 : shim::ndone))
#define __syncwarp(...) shim::warp_wait(shim_mask(__VA_ARGS__), "__syncwarp", __LINE__)
static inline unsigned shim_mask(unsigned m = 0xffffffffu) { return m; }
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(shim::dyn)
namespace shim {
template <class T> static inline T shfl(unsigned m, T v, int src, const char* w, int line) { exchange(m, v, w, line); src &= 31;
  if (!(m >> src & 1)) fail("%s at line %d reads lane %d, which is not in mask %08x", w, line, src, m); return got<T>(src); }
template <class T> static inline T sh_xor(int line, unsigned m, T v, int x, int width = 32) { int l = cur % 32, s = l ^ x; if (s / width > l / width) s = l; return shfl(m, v, s, "__shfl_xor_sync", line); }
template <class T> static inline T sh_down(int line, unsigned m, T v, unsigned d, int width = 32) { int l = cur % 32, s = l + d; if (s / width != l / width) s = l; return shfl(m, v, s, "__shfl_down_sync", line); }
template <class T> static inline T sh_up(int line, unsigned m, T v, unsigned d, int width = 32) { int l = cur % 32, s = l - (int)d; if (s < l / width * width) s = l; return shfl(m, v, s, "__shfl_up_sync", line); }
template <class T> static inline T sh_idx(int line, unsigned m, T v, int i, int width = 32) { int l = cur % 32; return shfl(m, v, l / width * width + i % width, "__shfl_sync", line); }
static inline unsigned ballot(int line, unsigned m, int p) { exchange(m, p, "__ballot_sync", line); unsigned r = 0; for (int i = 0; i < 32; i++) if (m >> i & 1) r |= unsigned(got<int>(i) != 0) << i; return r; }
}
#define __shfl_xor_sync(...) shim::sh_xor(__LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) shim::sh_down(__LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) shim::sh_up(__LINE__, __VA_ARGS__)
#define __shfl_sync(...) shim::sh_idx(__LINE__, __VA_ARGS__)
#define __ballot_sync(m, p) shim::ballot(__LINE__, m, p)
#define __any_sync(m, p) (shim::ballot(__LINE__, m, p) != 0)
#define __all_sync(m, p) (shim::ballot(__LINE__, m, p) == (m))
template <class T, class U> static inline T atomicAdd(T* p, U v) { T o = *p; *p = o + (T)v; return o; }
template <class T, class U> static inline T atomicMax(T* p, U v) { T o = *p; if ((T)v > o) *p = (T)v; return o; }
template <class T> static inline T atomicCAS(T* p, T c, T v) { T o = *p; if (o == c) *p = v; return o; }
template <class T> static inline T atomicExch(T* p, T v) { T o = *p; *p = v; return o; }
static inline unsigned atomicInc(unsigned* p, unsigned lim) { unsigned o = *p; *p = o >= lim ? 0 : o + 1; return o; }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline T __ldcs(const T* p) { return *p; }
template <class T> static inline void __stcs(T* p, T v) { *p = v; }
using std::max; using std::min;
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
#define __expf expf  // glibc declares __expf, __logf, __sinf ... itself
#define __logf logf
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline unsigned __float_as_uint(float f) { unsigned u; std::memcpy(&u, &f, 4); return u; }
static inline float __uint_as_float(unsigned u) { float f; std::memcpy(&f, &u, 4); return f; }
static inline int __float_as_int(float f) { return (int)__float_as_uint(f); }
static inline float __int_as_float(int u) { return __uint_as_float((unsigned)u); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t)a * b >> 32); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline unsigned __cvta_generic_to_shared_u(const void* p) { return (unsigned)((const char*)p - shim::dyn); }

// ------------------------------------------------------------------ bfloat16 (round to nearest even, like the hardware)
struct alignas(2) __nv_bfloat16 { uint16_t bits; };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
static inline float __bfloat162float(__nv_bfloat16 h) { return __uint_as_float((unsigned)h.bits << 16); }
static inline __nv_bfloat16 __float2bfloat16(float f) { unsigned u = __float_as_uint(f); if ((u & 0x7fffffffu) > 0x7f800000u) return {0x7fff}; u += 0x7fffu + (u >> 16 & 1); return {uint16_t(u >> 16)}; }
static inline __nv_bfloat16 __float2bfloat16_rn(float f) { return __float2bfloat16(f); }
static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) { return {__float2bfloat16(a), __float2bfloat16(b)}; }
static inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {__bfloat162float(v.x), __bfloat162float(v.y)}; }

// ------------------------------------------------------------------ float16
struct alignas(2) __half { _Float16 v; };
struct alignas(4) __half2 { __half x, y; };
static inline float __half2float(__half h) { return (float)h.v; }
static inline __half __float2half_rn(float f) { return {(_Float16)f}; }
static inline __half2 __floats2half2_rn(float a, float b) { return {__float2half_rn(a), __float2half_rn(b)}; }
static inline float2 __half22float2(__half2 v) { return {__half2float(v.x), __half2float(v.y)}; }
static inline uint64_t __umul64hi(unsigned long long a, unsigned long long b) { return uint64_t((unsigned __int128)a * b >> 64); }

// ------------------------------------------------------------------ what device.h does by PTX
// written from the PTX ISA's fragment tables, independently of any kernel
static inline float shim_bf(unsigned w, int hi) { return __uint_as_float(hi ? (w & 0xffff0000u) : (w << 16)); }
static inline float shim_f16(unsigned w, int hi) { uint16_t u = uint16_t(hi ? w >> 16 : w); _Float16 h; std::memcpy(&h, &u, 2); return (float)h; }
#define mma_bf16(d, a, b) shim_mma_16816(__LINE__, d, a, b, shim_bf)
#define mma_f16(d, a, b) shim_mma_16816(__LINE__, d, a, b, shim_f16)
template <class F> static inline void shim_mma_16816(int line, float* d, const unsigned* a, const unsigned* b, F number) {
  struct P { unsigned a[4], b[2]; } p; std::memcpy(p.a, a, 16); std::memcpy(p.b, b, 8);
  shim::exchange(0xffffffffu, p, "mma.m16n8k16", line);
  int lane = shim::cur % 32, g = lane >> 2, t = lane & 3;
  for (int i = 0; i < 4; i++) {                       // c_i: row g (+8 for i>=2), column 2t + (i&1)
    int row = g + (i >= 2 ? 8 : 0), col = 2 * t + (i & 1); float s = d[i];
    for (int k = 0; k < 16; k++) {
      int ka = k % 8 / 2, ra = (row >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0);              // A: a_j of lane (row%8)*4 + (k%8)/2
      P pa = shim::got<P>((row % 8) * 4 + ka); float av = number(pa.a[ra], k & 1);
      P pb = shim::got<P>(col * 4 + k % 8 / 2); float bv = number(pb.b[k >= 8], k & 1);  // B: b_j of lane col*4 + (k%8)/2
      s += av * bv;
    }
    d[i] = s;
  }
}
// copies land as late as the program allows: a missing wait reads stale (poisoned) shared memory
struct ShimCp { void* s; uint64_t v[2]; int group; };
static ShimCp shim_cps[shim::MAXT][256]; static int shim_ncp[shim::MAXT], shim_grp[shim::MAXT];
static inline void copy_async(void* s, const void* g) {
  if (((uintptr_t)s | (uintptr_t)g) & 15) shim::fail("cp.async: address not a multiple of 16");
  int& n = shim_ncp[shim::cur]; if (n == 256) shim::fail("cp.async: over 256 copies pending");
  ShimCp& c = shim_cps[shim::cur][n++]; c.s = s; std::memcpy(c.v, g, 16); c.group = shim_grp[shim::cur];
}
static inline void copy_async_or_zero(void* s, const void* g, bool copy) {
  alignas(16) static const uint64_t zero[2] = {0, 0};
  copy_async(s, copy ? g : zero);
}
static inline void copy_commit() { shim_grp[shim::cur]++; }
template <int N> static inline void copy_wait() {
  int t = shim::cur, k = 0; for (int i = 0; i < shim_ncp[t]; i++) { ShimCp& c = shim_cps[t][i];
    if (c.group < shim_grp[t] - N) std::memcpy(c.s, c.v, 16); else shim_cps[t][k++] = c; }
  shim_ncp[t] = k;
}
#define load_matrix(r, p) shim_ldm(__LINE__, r, p, false)
#define load_matrix_transposed(r, p) shim_ldm(__LINE__, r, p, true)
static inline void shim_ldm(int line, unsigned* r, const void* p, bool tr) {
  if ((uintptr_t)p & 15) shim::fail("ldmatrix at line %d: row address not a multiple of 16", line);
  shim::exchange(0xffffffffu, p, "ldmatrix", line); int lane = shim::cur % 32;
  for (int j = 0; j < 4; j++) {                      // matrix j: row i at the address lane 8j+i gave; lane l gets row l/4, columns 2*(l%4)..
    uint16_t e[2];
    for (int h = 0; h < 2; h++) { int row = tr ? 2 * (lane & 3) + h : lane >> 2, col = tr ? lane >> 2 : 2 * (lane & 3) + h;
      std::memcpy(&e[h], (const char*)shim::got<const void*>(8 * j + row) + 2 * col, 2); }
    r[j] = e[0] | (unsigned)e[1] << 16;
  }
  shim::exchange(0xffffffffu, p, "ldmatrix", line);  // others have read before anyone overwrites shared memory
}
