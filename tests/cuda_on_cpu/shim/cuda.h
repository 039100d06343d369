// Stands in front of a kernel's source, which g++ then takes unchanged.
#pragma once
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "runtime.h"
#define CUDA_ON_CPU 1
#include "language.h"
#include "numbers.h"
#include "maths.h"
#include "warp.h"
#include "tensor.h"

// ------------------------------------------------------------------ how Python gets at an entry

namespace shim {
template <class F>
struct Entry;
template <class... A>
struct Entry<void (*)(A...)> {
  template <size_t... I>
  static void call(void (*entry)(A...), void** values, std::index_sequence<I...>) {
    entry(*reinterpret_cast<std::remove_cv_t<A>*>(values[I])...);
  }
  static void call(void (*entry)(A...), void** values) {
    call(entry, values, std::index_sequence_for<A...>{});
  }
  static constexpr int sizes[] = {int(sizeof(A))..., 0};
  static const char* signature() { return __PRETTY_FUNCTION__; }  // "... [with A = {float*, int}]"
};
}  // namespace shim
extern "C" __attribute__((visibility("hidden"))) char __ehdr_start, _end;  // the linker's

#define SHIM_IMAGE                                                              \
  extern "C" __attribute__((no_sanitize("thread"))) void shim_image(void** start, void** end) { \
    *start = &__ehdr_start, *end = &_end;                          \
  }
#define SHIM_ENTRY(name)                                                                     \
  extern "C" void shim_call_##name(void** v) { shim::Entry<decltype(&name)>::call(&name, v); } \
  extern "C" const char* shim_signature_##name() { return shim::Entry<decltype(&name)>::signature(); } \
  extern "C" const int* shim_sizes_##name() { return shim::Entry<decltype(&name)>::sizes; }
