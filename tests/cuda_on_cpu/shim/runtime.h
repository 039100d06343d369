// What a compiled kernel and the two halves of the runtime (scheduler.cpp, memory.cpp) share.
#pragma once
#include <cstddef>
#include <cstdint>

struct uint3 {
  unsigned x, y, z;
};
namespace shim {
enum { WARP = 32, MOST_THREADS = 1024, STACK = 64 * 1024 };

// Where a call stands in the kernel's source: a default argument, so that nobody passes it.
struct Place {
  const char* file;
  int line;
  constexpr Place(const char* file = __builtin_FILE(), int line = __builtin_LINE())
      : file(file), line(line) {}
};

// One stretch of memory that a kernel may touch: an argument, or an array in shared memory.
// memory.py fills it in, so the layout is known there.
struct Region {
  uintptr_t start, bytes;
  uint64_t poison;    // the bits of an element nobody has written to; 0: any bits are a number
  uint32_t itemsize;  // of an element, which messages count in
  uint32_t constant, shared;
  const char* name;
};

// ---- scheduler.cpp: the threads of a block
unsigned current_thread();
void block_barrier(Place);
void warp_barrier(unsigned mask, Place);
// Deposits this lane's value and waits for the lanes of the mask to do the same; then `take` copies
// what a lane deposited.
void exchange(unsigned mask, const void* value, size_t size, const char* what, Place);
void take(unsigned lane, void* value, size_t size);
// Ends the launch with a message. An address of code in it, `@1a2b@` counted from where the kernels'
// library begins, becomes a line of the source in __init__.py.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// ---- memory.cpp: what is read and written
void begin_launch(const Region*, int count, uintptr_t image, uintptr_t image_end);
void begin_block();
void block_passed_barrier();
void warp_passed_barrier(unsigned warp);
void forget_copies(unsigned thread);
extern char* stacks;  // the threads' own: what lies there is nobody else's business


// As if code at `code` did it; the kernels' own accesses report themselves (memory.cpp).
void reads(uintptr_t address, unsigned size, uintptr_t code, bool unseen);
void copy_begins(uintptr_t address, unsigned size, uintptr_t code);  // into shared memory
void copy_lands(uintptr_t address, unsigned size);
void fence();

// ---- tensor.cpp: what device.h does with PTX on a GPU
struct Tile {
  float d[4];
  unsigned a[4], b[2];
};
struct Four {
  unsigned at[4];
};
Tile mma(Tile, bool bfloat16, Place);
Four load_matrix(const void* row, bool transposed, Place);
void copy_async(void* shared, const void* global, bool zeros);
void copy_commit();
void copy_wait(int pending);
}  // namespace shim
