// What tinytensor/kernels/cuda/device.h does with PTX: the same functions, played by tensor.cpp.
// They are inlined so that a message names the kernel's line.
#pragma once

namespace shim {
__forceinline__ void mma_in_place(float* d, const unsigned* a, const unsigned* b, bool bfloat16,
                                  Place at) {
  Tile t = mma({{d[0], d[1], d[2], d[3]}, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, bfloat16, at);
  d[0] = t.d[0], d[1] = t.d[1], d[2] = t.d[2], d[3] = t.d[3];
}
}  // namespace shim
static __forceinline__ void mma_bf16(float* d, const unsigned* a, const unsigned* b,
                                     shim::Place at = {}) {
  shim::mma_in_place(d, a, b, true, at);
}
static __forceinline__ void mma_f16(float* d, const unsigned* a, const unsigned* b,
                                    shim::Place at = {}) {
  shim::mma_in_place(d, a, b, false, at);
}

static __forceinline__ void load_matrix(unsigned* r, const void* row, shim::Place at = {}) {
  shim::Four v = shim::load_matrix(row, false, at);
  r[0] = v.at[0], r[1] = v.at[1], r[2] = v.at[2], r[3] = v.at[3];
}
static __forceinline__ void load_matrix_transposed(unsigned* r, const void* row,
                                                   shim::Place at = {}) {
  shim::Four v = shim::load_matrix(row, true, at);
  r[0] = v.at[0], r[1] = v.at[1], r[2] = v.at[2], r[3] = v.at[3];
}

static __forceinline__ void copy_async(void* shared, const void* global) {
  shim::copy_async(shared, global, false);
}
static __forceinline__ void copy_async_or_zero(void* shared, const void* global, bool copy) {
  shim::copy_async(shared, global, !copy);
}
static __forceinline__ void copy_commit() { shim::copy_commit(); }
template <int N>
static __forceinline__ void copy_wait() {
  shim::copy_wait(N);
}
