// What a kernel reads and writes, byte for byte: g++ -fsanitize=thread puts a call of __tsan_readN or
// __tsan_writeN in front of each access of a kernel to memory that another thread might know. These
// are ours, not ThreadSanitizer's: a GPU's blocks and barriers order memory by other rules. Noticed:
//   - memory that is none of the kernel's arguments, or is const, or not aligned as the access needs
//   - memory that nobody has written to: shared, or global that still holds POISON (__init__.py)
//   - two accesses, one of them a write, by threads that no barrier orders: a race, in whatever order
//     they happened to run; between blocks nothing but an atomic with a fence before it orders
//   - shared memory that an asynchronous copy may still be writing
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "runtime.h"

namespace shim {
namespace {

using Time = uint32_t;  // counts barriers and blocks, over all launches: 0 is before everything

// The last accesses to an element (of shared memory: to a byte).
struct Cell {
  Time wrote, read[2];  // two readers, of different threads
  uint32_t wrote_code, read_code[2];
  uint16_t writer, reader[2];
  uint16_t how;
};
enum { ATOMIC = 1, ARRIVING = 2, UNSEEN = 4 };  // how: UNSEEN is read, but need not be a number

struct Watched : Region {
  Cell* cells;  // null: const, so that nothing can happen, or too large to be watched
  unsigned shift;
};

constexpr size_t MOST_CELLS = size_t(1) << 23;  // 256 MB of address space, touched as far as needed
constexpr size_t WATCHED = size_t(1) << 21;     // elements of the largest array that is watched

std::vector<Watched> regions;  // by address; none overlap
unsigned likely[256];  // which region a page's last access was to
Cell* all_cells;
uintptr_t image, image_end;

Time now, launch_began, block_began, block_barrier_passed, warp_barrier_passed[MOST_THREADS / WARP];

// Blocks that this one knows to have written before: by an atomic that they, after a fence, and then
// this block applied to the same number.
std::vector<Time> began;                                           // blocks, in the order they ran
std::unordered_map<uintptr_t, std::vector<unsigned>> released_at;  // who left word at an address
std::vector<bool> known;
bool unfenced;

Watched* find(uintptr_t address) {
  unsigned& guess = likely[address >> 12 & 255];
  if (guess < regions.size() && address - regions[guess].start < regions[guess].bytes)
    return &regions[guess];
  auto after = std::upper_bound(regions.begin(), regions.end(), address,
                                [](uintptr_t a, const Watched& r) { return a < r.start; });
  if (after == regions.begin() || address - after[-1].start >= after[-1].bytes) return nullptr;
  guess = after - regions.begin() - 1;
  return &regions[guess];
}

struct Name {  // of an element, to be printed
  char text[96];
  Name(const Watched& r, uintptr_t address) {
    long long at = (long long)(address - r.start);
    std::snprintf(text, sizeof text, r.shared ? "byte %2$lld of %1$s" : "%1$s[%2$lld]", r.name,
                  at >= 0 ? at / r.itemsize : -((-at + r.itemsize - 1) / r.itemsize));
  }
};

const char* does(bool writes) { return writes ? "writes" : "reads"; }

[[noreturn]] void beyond(uintptr_t address, unsigned size, bool writes, uintptr_t code) {
  if (address < 4096) fail("%s through a null pointer at @%zx@", does(writes), code);
  const Watched* nearest = nullptr;
  uint64_t least = ~0ull;
  for (const Watched& r : regions) {
    uint64_t far = address < r.start ? r.start - address : address - (r.start + r.bytes);
    if (far < least) least = far, nearest = &r;
  }
  if (!nearest || least > 1 << 20)
    fail("%s %u bytes that belong to none of its arguments at @%zx@", does(writes), size, code);
  fail("%s %s, out of bounds: %s has %zu elements of %u bytes, at @%zx@", does(writes),
       Name(*nearest, address).text, nearest->name, nearest->bytes / nearest->itemsize,
       nearest->itemsize, code);
}

[[noreturn]] void race(const Watched& r, uintptr_t address, const char* mine, uintptr_t code,
                       const char* theirs, Time when, unsigned thread, uint32_t their_code) {
  if (when < block_began)
    fail("%s %s at @%zx@: thread %u of another block %s it at @%x@, and which block comes first is "
         "open",
         mine, Name(r, address).text, code, thread, theirs, their_code);
  fail("%s %s at @%zx@: thread %u %s it at @%x@, and no barrier is between", mine,
       Name(r, address).text, code, thread, theirs, their_code);
}

// Might an access then, by that thread, as well have come after what is done now?
bool unordered(const Watched& r, Time when, unsigned thread) {
  if (when < launch_began || (r.shared && when < block_began)) return false;
  if (when < block_began)
    return !known[std::upper_bound(began.begin(), began.end(), when) - began.begin() - 1];
  unsigned me = current_thread();
  if (thread == me || when < block_barrier_passed) return false;
  return thread / WARP != me / WARP || when >= warp_barrier_passed[me / WARP];
}

void check_arrived(const Watched& r, const Cell& c, uintptr_t address, const char* mine,
                   uintptr_t code) {
  if (c.how & ARRIVING && c.wrote >= block_began)
    fail("%s %s at @%zx@ while the copy_async of thread %u at @%x@ may not have arrived: a copy_wait "
         "is missing",
         mine, Name(r, address).text, code, c.writer, c.wrote_code);
}

void read_cell(const Watched& r, Cell& c, uintptr_t address, uintptr_t code, unsigned how) {
  if (r.shared && c.wrote < block_began && !(how & UNSEEN))
    fail("reads %s, which nobody has written, at @%zx@", Name(r, address).text, code);
  check_arrived(r, c, address, "reads", code);
  if (unordered(r, c.wrote, c.writer))
    race(r, address, "reads", code, "wrote", c.wrote, c.writer, c.wrote_code);
  // replaced is what no write can conflict with any more, or this thread's own, else the second
  unsigned me = current_thread();
  int which = c.read[0] < (r.shared ? block_barrier_passed : launch_began) || c.reader[0] == me ? 0 : 1;
  c.read[which] = now, c.reader[which] = me, c.read_code[which] = code;
}

void write_cell(const Watched& r, Cell& c, uintptr_t address, uintptr_t code, unsigned how) {
  check_arrived(r, c, address, "writes", code);
  if (!(c.how & how & ATOMIC) && unordered(r, c.wrote, c.writer))
    race(r, address, "writes", code, "wrote", c.wrote, c.writer, c.wrote_code);
  for (int i = 0; i < 2; i++)
    if (unordered(r, c.read[i], c.reader[i]))
      race(r, address, "writes", code, "read", c.read[i], c.reader[i], c.read_code[i]);
  c = Cell{now, {0, 0}, uint32_t(code), {0, 0}, uint16_t(current_thread()), {0, 0}, uint16_t(how)};
}

bool poisoned(const Watched& r, uintptr_t address) {
  return !std::memcmp(reinterpret_cast<void*>(address), &r.poison, r.itemsize);
}

void access(uintptr_t address, unsigned size, bool writes, uintptr_t code, unsigned how = 0) {
  if (address - reinterpret_cast<uintptr_t>(stacks) < size_t(STACK) * MOST_THREADS) return;
  Watched* r = find(address);
  code -= image + 1;  // a return address: the call is before it
  if (!r) {
    if (address - image < image_end - image) return;  // a table of constants
    beyond(address, size, writes, code);
  }
  if (address + size > r->start + r->bytes) beyond(address, size, writes, code);
  if (writes && r->constant) fail("writes %s, which is const, at @%zx@", Name(*r, address).text, code);
  if (address & (size - 1))
    fail("%s %s at @%zx@: %u bytes at once, but the address is not a multiple of %u", does(writes),
         Name(*r, address).text, code, size, size);
  if (!writes && r->poison && !(how & UNSEEN))
    for (uintptr_t a = address; a + r->itemsize <= address + size; a += r->itemsize)
      if (poisoned(*r, a))
        fail("reads %s, which nobody has written, at @%zx@", Name(*r, a).text, code);
  if (writes && !r->shared && !(how & ATOMIC)) unfenced = true;
  if (!r->cells) return;
  Cell* c = r->cells + ((address - r->start) >> r->shift);
  for (unsigned done = 0; done < size; done += 1u << r->shift, c++)
    if (writes) write_cell(*r, *c, address + done, code, how);
    else read_cell(*r, *c, address + done, code, how);
}

// After a fence an atomic tells the others what this block has written, and the block what they have.
void atomic(uintptr_t address, unsigned size, uintptr_t code) {
  access(address, size, true, code, ATOMIC);
  std::vector<unsigned>& released = released_at[address];
  for (unsigned b : released) known[b] = true;
  if (!unfenced && (released.empty() || released.back() != began.size() - 1))
    released.push_back(began.size() - 1);
}

}  // namespace

void begin_launch(const Region* given, int count, uintptr_t start, uintptr_t end) {
  if (!all_cells || now > 0xf0000000u) {
    if (all_cells) munmap(all_cells, MOST_CELLS * sizeof(Cell)), all_cells = nullptr;
    void* memory = mmap(nullptr, MOST_CELLS * sizeof(Cell), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    all_cells = static_cast<Cell*>(memory), now = 0;
  }
  image = start, image_end = end;
  regions.clear(), began.clear(), released_at.clear();
  launch_began = ++now;
  size_t used = 0;
  for (int i = 0; i < count; i++) {
    const Region& r = given[i];
    unsigned shift = r.shared ? 0 : __builtin_ctz(r.itemsize);
    size_t cells = r.bytes >> shift;
    bool watched = !r.constant && cells <= WATCHED && used + cells <= MOST_CELLS;
    Watched w;
    static_cast<Region&>(w) = r;
    w.cells = watched ? all_cells + used : nullptr, w.shift = shift;
    regions.push_back(w);
    if (watched) used += cells;
  }
  std::sort(regions.begin(), regions.end(),
            [](const Watched& a, const Watched& b) { return a.start < b.start; });
}

void begin_block() {
  block_began = block_barrier_passed = ++now;
  for (Time& t : warp_barrier_passed) t = now;
  began.push_back(now);
  known.assign(began.size(), false);
  unfenced = false;
  for (const Watched& r : regions)
    if (r.shared) std::memset(reinterpret_cast<void*>(r.start), 0xff, r.bytes);  // NaN, -1
}
void block_passed_barrier() { block_barrier_passed = ++now; }
void warp_passed_barrier(unsigned warp) { warp_barrier_passed[warp] = ++now; }
void fence() { unfenced = false; }

void reads(uintptr_t address, unsigned size, uintptr_t code, bool unseen) {
  access(address, size, false, code, unseen ? UNSEEN : 0);
}
void copy_begins(uintptr_t address, unsigned size, uintptr_t code) {
  access(address, size, true, code, ARRIVING);
}
void copy_lands(uintptr_t address, unsigned size) {
  Watched* r = find(address);
  if (!r || !r->cells) return;
  Cell* c = r->cells + ((address - r->start) >> r->shift);
  for (unsigned i = 0; i < size; i++) c[i].how = 0, c[i].wrote = now;
}

}  // namespace shim

// ------------------------------------------------------------------ what g++ -fsanitize=thread calls

using shim::access;
using shim::atomic;
#define CODE reinterpret_cast<uintptr_t>(__builtin_return_address(0))
#define ADDRESS reinterpret_cast<uintptr_t>(p)
#define EXPORT extern "C" __attribute__((visibility("default")))

#define ACCESSES(N)                                                        \
  EXPORT void __tsan_read##N(void* p) { access(ADDRESS, N, false, CODE); } \
  EXPORT void __tsan_write##N(void* p) { access(ADDRESS, N, true, CODE); }
ACCESSES(1) ACCESSES(2) ACCESSES(4) ACCESSES(8) ACCESSES(16)

// A type less aligned than it is large: a struct of two floats, say. Its parts are.
static void in_parts(uintptr_t p, size_t size, bool writes, uintptr_t code) {
  while (size) {
    unsigned part = 16;
    while (part > size || p & (part - 1)) part /= 2;
    access(p, part, writes, code);
    p += part, size -= part;
  }
}
#define IN_PARTS(N)                                                                    \
  EXPORT void __tsan_unaligned_read##N(void* p) { in_parts(ADDRESS, N, false, CODE); } \
  EXPORT void __tsan_unaligned_write##N(void* p) { in_parts(ADDRESS, N, true, CODE); }
IN_PARTS(2) IN_PARTS(4) IN_PARTS(8) IN_PARTS(16)
EXPORT void __tsan_read_range(void* p, size_t n) { in_parts(ADDRESS, n, false, CODE); }
EXPORT void __tsan_write_range(void* p, size_t n) { in_parts(ADDRESS, n, true, CODE); }

// One CPU thread runs everything: a plain update is atomic.
#define ATOMICS(BITS)                                                                            \
  EXPORT uint##BITS##_t __tsan_atomic##BITS##_fetch_add(uint##BITS##_t* p, uint##BITS##_t v, int) { \
    atomic(ADDRESS, BITS / 8, CODE);                                                             \
    uint##BITS##_t before = *p;                                                                  \
    *p = before + v;                                                                             \
    return before;                                                                               \
  }                                                                                              \
  EXPORT uint##BITS##_t __tsan_atomic##BITS##_exchange(uint##BITS##_t* p, uint##BITS##_t v, int) { \
    atomic(ADDRESS, BITS / 8, CODE);                                                             \
    uint##BITS##_t before = *p;                                                                  \
    *p = v;                                                                                      \
    return before;                                                                               \
  }                                                                                              \
  EXPORT int __tsan_atomic##BITS##_compare_exchange_strong(                                      \
      uint##BITS##_t* p, uint##BITS##_t* expected, uint##BITS##_t v, int, int) {                 \
    atomic(ADDRESS, BITS / 8, CODE);                                                             \
    uint##BITS##_t before = *p, wanted = *expected;                                              \
    if (before == wanted) *p = v;                                                                \
    *expected = before;                                                                          \
    return before == wanted;                                                                     \
  }                                                                                              \
  EXPORT uint##BITS##_t __tsan_atomic##BITS##_load(const uint##BITS##_t* p, int) {               \
    atomic(ADDRESS, BITS / 8, CODE);                                                             \
    return *p;                                                                                   \
  }
ATOMICS(32) ATOMICS(64)

EXPORT void __tsan_init() {}
EXPORT void __tsan_func_entry(void*) {}
EXPORT void __tsan_func_exit() {}

// ------------------------------------------------------------------ what -fsanitize=bounds,... calls

struct Fault {  // each kind's description begins with the place
  const char* file;
  uint32_t line, column;
};
#define FAULT(NAME, WHAT)                                                              \
  EXPORT void __ubsan_handle_##NAME(Fault* f) { shim::fail(WHAT " at %s:%u", f->file, f->line); }
FAULT(out_of_bounds, "uses an index that its array does not have,")
FAULT(type_mismatch_v1, "reads or writes through a pointer that is null or not aligned as its type,")
FAULT(shift_out_of_bounds, "shifts by more bits than there are")
FAULT(add_overflow, "adds beyond the largest int")
FAULT(sub_overflow, "subtracts beyond the largest int")
FAULT(mul_overflow, "multiplies beyond the largest int")
FAULT(negate_overflow, "negates the smallest int")
FAULT(divrem_overflow, "divides by zero")
