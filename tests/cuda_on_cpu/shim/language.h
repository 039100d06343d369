// CUDA C's words for the CPU: qualifiers, the built-in variables and vector types.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static  // a block at a time runs: what is static is the block's


// Of the scheduler, which changes them from thread to thread. To each thread they are constants, and
// what is const is not watched.
namespace shim {
extern char* const dynamic_shared;
}
extern const uint3 threadIdx, blockIdx, blockDim, gridDim;
static constexpr int warpSize = 32;
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(shim::dynamic_shared)

#define VECTORS(T, N)                                            \
  struct alignas(2 * sizeof(T)) N##2 { T x, y; };                \
  struct N##3 { T x, y, z; };                                    \
  struct alignas(16) N##4 { T x, y, z, w; };                     \
  static inline N##2 make_##N##2(T x, T y) { return {x, y}; }    \
  static inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(float, float)
VECTORS(int, int)
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
