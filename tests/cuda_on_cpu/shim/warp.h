// Barriers, the exchange of values within a warp, atomics.
#pragma once

static inline void __syncthreads(shim::Place at = {}) { shim::block_barrier(at); }
static inline void __syncwarp(unsigned mask = 0xffffffffu, shim::Place at = {}) {
  shim::warp_barrier(mask, at);
}

namespace shim {
// What `lane` deposited in the exchange that this lane takes part in with v.
template <class T>
inline T from_lane(unsigned mask, T v, unsigned lane, const char* what, Place at) {
  static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
  exchange(mask, &v, sizeof v, what, at);
  if (!(mask >> lane & 1))
    fail("%s at %s:%d reads lane %u, which is not in mask %08x", what, at.file, at.line, lane, mask);
  take(lane, &v, sizeof v);
  return v;
}
inline int lane() { return current_thread() % WARP; }
}  // namespace shim

// A lane whose source is beyond its group of `width` keeps its own value.
template <class T>
inline T __shfl_sync(unsigned mask, T v, int source, int width = 32, shim::Place at = {}) {
  int first = shim::lane() / width * width;
  return shim::from_lane(mask, v, first + (source & (width - 1)), "__shfl_sync", at);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T v, int x, int width = 32, shim::Place at = {}) {
  int lane = shim::lane(), source = lane ^ x;
  if (source / width > lane / width) source = lane;
  return shim::from_lane(mask, v, source, "__shfl_xor_sync", at);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, shim::Place at = {}) {
  int lane = shim::lane(), source = lane + by;
  if (source / width != lane / width) source = lane;
  return shim::from_lane(mask, v, source, "__shfl_down_sync", at);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, shim::Place at = {}) {
  int lane = shim::lane(), source = lane - int(by);
  if (source < lane / width * width) source = lane;
  return shim::from_lane(mask, v, source, "__shfl_up_sync", at);
}

static inline unsigned __ballot_sync(unsigned mask, int yes, shim::Place at = {}) {
  shim::exchange(mask, &yes, sizeof yes, "__ballot_sync", at);
  unsigned all = 0;
  for (unsigned lane = 0; lane < 32; lane++) {
    if (!(mask >> lane & 1)) continue;
    shim::take(lane, &yes, sizeof yes);
    all |= unsigned(yes != 0) << lane;
  }
  return all;
}
static inline int __any_sync(unsigned mask, int yes, shim::Place at = {}) {
  return __ballot_sync(mask, yes, at) != 0;
}
static inline int __all_sync(unsigned mask, int yes, shim::Place at = {}) {
  return __ballot_sync(mask, yes, at) == mask;
}
static inline unsigned __activemask() = delete;  // says nothing about who will take part

// ------------------------------------------------------------------ atomics, of integers

// g++ gives these to memory.cpp. With floats the sum would depend on the order: not in this house.
#define ATOMICS(T)                                                                              \
  static __forceinline__ T atomicAdd(T* p, T v) { return __atomic_fetch_add(p, v, 0); }         \
  static __forceinline__ T atomicExch(T* p, T v) { return __atomic_exchange_n(p, v, 0); }       \
  static __forceinline__ T atomicCAS(T* p, T expected, T v) {                                   \
    __atomic_compare_exchange_n(p, &expected, v, false, 0, 0);                                  \
    return expected;                                                                            \
  }                                                                                             \
  static __forceinline__ T atomicMax(T* p, T v) {                                               \
    T before = __atomic_load_n(p, 0);                                                           \
    if (v > before) __atomic_exchange_n(p, v, 0);                                               \
    return before;                                                                              \
  }                                                                                             \
  static __forceinline__ T atomicMin(T* p, T v) {                                               \
    T before = __atomic_load_n(p, 0);                                                           \
    if (v < before) __atomic_exchange_n(p, v, 0);                                               \
    return before;                                                                              \
  }
ATOMICS(int)
ATOMICS(unsigned)
ATOMICS(unsigned long long)
float atomicAdd(float*, float) = delete;
static __forceinline__ unsigned atomicInc(unsigned* p, unsigned last) {
  unsigned before = __atomic_load_n(p, 0);
  return __atomic_exchange_n(p, before >= last ? 0 : before + 1, 0);
}
static inline void __threadfence() { shim::fence(); }
static inline void __threadfence_block() {}
