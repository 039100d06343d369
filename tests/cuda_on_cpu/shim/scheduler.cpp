// One CPU thread plays a whole grid: blocks run one after the other, a block's threads are fibers
// that change places only where CUDA lets them wait for each other. So every launch can be repeated
// exactly, and in orders that a GPU may choose but seldom does.
#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

#include "runtime.h"

uint3 threadIdx, blockIdx, blockDim, gridDim;  // const to the kernels (language.h)

extern "C" void shim_switch(void** from, void* to);  // saves the stack pointer, goes to another
#if defined(__x86_64__)
asm(R"(
.text
.type shim_switch, @function
shim_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");
#else
#error "the shim switches between threads on x86-64 only"
#endif

namespace shim {
namespace {

enum Order { FORWARD, BACKWARD, SHUFFLED, ONE_AHEAD, WARPS_SHUFFLED_ONE_AHEAD };

// Who waits: the whole block, or lanes of one warp. `passed` counts how often it was complete.
struct Barrier {
  unsigned passed = 0, arrived = 0;
  const char* what = "";
  Place at;
};
struct Warp {
  Barrier barrier;
  unsigned alive = 0;  // lanes that have not exited
  unsigned char slots[2][WARP][48];  // two sides: who is late reads one while others fill the other
};
struct Fiber {
  void* stack_pointer;
  const Barrier* waits_for;
  unsigned passed;  // waits while waits_for->passed is this
  bool done;
  unsigned char side;
};

constexpr const char* SYNCWARP = "__syncwarp";  // alone among the warp's waits it orders memory
constexpr uint64_t CANARY = 0x5ca1ab1e0ddba11;

Fiber fibers[MOST_THREADS];
Warp warps[MOST_THREADS / WARP];
Barrier block;
unsigned order[MOST_THREADS], position[MOST_THREADS];  // who comes after whom
unsigned threads, done, current;
bool one_ahead;  // whoever comes first in the order runs as far as it can
void* outside;   // the stack of who launched
void (*kernel)(void**);
void** arguments;
char message[1024];
bool failed;

unsigned lane() { return current % WARP; }
Warp& warp() { return warps[current / WARP]; }

void become(unsigned thread) {
  current = thread;
  threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y,
               thread / (blockDim.x * blockDim.y)};
}

[[noreturn]] void leave() {
  void* never;
  shim_switch(&never, outside);
  __builtin_unreachable();
}

bool blocked(const Fiber& f) { return f.done || (f.waits_for && f.waits_for->passed == f.passed); }

[[noreturn]] void deadlock() {
  char who[600] = "";
  size_t k = 0;
  const Barrier* told = nullptr;
  for (unsigned i = 0; i < threads && k < sizeof who - 120; i++) {
    const Barrier* b = fibers[i].waits_for;
    if (fibers[i].done || !b || b == told) continue;
    told = b;
    k += std::snprintf(who + k, sizeof who - k, "; thread %u waits in %s at %s:%d", i, b->what,
                       b->at.file, b->at.line);
  }
  fail("deadlock: %u of %u threads have exited%s", done, threads, who);
}

// The next thread in the order that can go on does. Returns when this one's turn has come again.
void yield() {
  unsigned me = current, p = one_ahead ? threads - 1 : position[me];
  for (unsigned k = 0; k < threads; k++) {
    if (++p == threads) p = 0;
    unsigned next = order[p];
    if (blocked(fibers[next])) continue;
    if (next == me) return;
    become(next);
    shim_switch(&fibers[me].stack_pointer, fibers[next].stack_pointer);
    return;
  }
  if (done == threads) leave();
  deadlock();
}

void wait(Barrier& b, const char* what, Place at, unsigned needed) {
  if (b.arrived == 0) {
    b.what = what, b.at = at;
  } else if (b.at.line != at.line || std::strcmp(b.at.file, at.file) || std::strcmp(b.what, what)) {
    fail("is in %s at %s:%d while others wait in %s at %s:%d", what, at.file, at.line, b.what,
         b.at.file, b.at.line);
  }
  if (++b.arrived == needed) {
    b.arrived = 0, b.passed++;
    if (&b == &block) block_passed_barrier();
    else if (what == SYNCWARP) warp_passed_barrier(current / WARP);
    return;
  }
  Fiber& f = fibers[current];
  f.waits_for = &b, f.passed = b.passed;
  while (b.passed == f.passed) yield();
  f.waits_for = nullptr;
}

// NVIDIA allows less, but not ours: every lane of the warp that has not exited takes part.
void wait_for_lanes(unsigned mask, const char* what, Place at) {
  Warp& w = warp();
  if (mask != w.alive)
    fail("%s at %s:%d: mask %08x, but the lanes of its warp that have not exited are %08x", what,
         at.file, at.line, mask, w.alive);
  wait(w.barrier, what, at, __builtin_popcount(mask));
}

// The other end of a stack that grows down: whoever overwrote it has gone beyond.
uint64_t& canary(unsigned thread) {
  return *reinterpret_cast<uint64_t*>(stacks + size_t(thread) * STACK);
}

void run_thread() {
  kernel(arguments);
  if (canary(current) != CANARY) fail("needs more than %d bytes of stack", STACK);
  Warp& w = warp();
  if (w.barrier.arrived)
    fail("exits while lanes of its warp wait for it in %s at %s:%d", w.barrier.what,
         w.barrier.at.file, w.barrier.at.line);
  if (block.arrived)
    fail("exits while others wait in %s at %s:%d", block.what, block.at.file, block.at.line);
  fibers[current].done = true, done++;
  w.alive &= ~(1u << lane());
  yield();
  __builtin_unreachable();
}

uint64_t random_state;
unsigned below(unsigned n) {  // xorshift64
  random_state ^= random_state << 13, random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state % n;
}
void shuffle(unsigned* a, unsigned n) {
  for (unsigned i = n; i > 1; i--) std::swap(a[i - 1], a[below(i)]);
}

void choose_order(int how) {
  for (unsigned i = 0; i < threads; i++) order[i] = how == BACKWARD ? threads - 1 - i : i;
  if (how == SHUFFLED) shuffle(order, threads);
  if (how == WARPS_SHUFFLED_ONE_AHEAD) {
    unsigned which[MOST_THREADS / WARP], n = (threads + WARP - 1) / WARP, k = 0;
    for (unsigned i = 0; i < n; i++) which[i] = i;
    shuffle(which, n);
    for (unsigned i = 0; i < n; i++)
      for (unsigned t = which[i] * WARP; t < (which[i] + 1) * WARP && t < threads; t++) order[k++] = t;
  }
  for (unsigned i = 0; i < threads; i++) position[order[i]] = i;
  one_ahead = how >= ONE_AHEAD;
}

void run_block(int how) {
  choose_order(how);
  begin_block();
  block = Barrier{}, done = 0;
  for (unsigned w = 0; w * WARP < threads; w++) {
    unsigned lanes = threads - w * WARP;
    warps[w].barrier = Barrier{};
    warps[w].alive = lanes >= WARP ? ~0u : (1u << lanes) - 1;
  }
  for (unsigned i = 0; i < threads; i++) {
    // stacks start at different places of a page: else all would fall on the same cache lines
    char* top = stacks + size_t(i + 1) * STACK - 64 - (i % 16) * 64;
    void** sp = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15));
    *--sp = nullptr;                                   // run_thread has nobody to return to
    *--sp = reinterpret_cast<void*>(&run_thread);      // where shim_switch's ret goes
    sp -= 6;                                           // six registers, whatever is in them
    fibers[i] = Fiber{sp, nullptr, 0, false, 0};
    canary(i) = CANARY;
    forget_copies(i);
  }
  become(order[0]);
  shim_switch(&outside, fibers[order[0]].stack_pointer);
}

void vfail(const char* format, va_list list) {
  int k = std::snprintf(message, sizeof message, "block (%u,%u,%u) thread (%u,%u,%u) ", blockIdx.x,
                        blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
  std::vsnprintf(message + k, sizeof message - k, format, list);
  failed = true;
}

}  // namespace

char* stacks;
char* dynamic_shared;

void fail(const char* format, ...) {
  va_list list;
  va_start(list, format);
  vfail(format, list);
  va_end(list);
  leave();
}

unsigned current_thread() { return current; }
void block_barrier(Place at) { wait(block, "__syncthreads", at, threads); }
void warp_barrier(unsigned mask, Place at) { wait_for_lanes(mask, SYNCWARP, at); }
void exchange(unsigned mask, const void* value, size_t size, const char* what, Place at) {
  Fiber& f = fibers[current];
  std::memcpy(warp().slots[f.side][lane()], value, size);
  wait_for_lanes(mask, what, at);
  f.side ^= 1;
}
void take(unsigned lane, void* value, size_t size) {
  std::memcpy(value, warp().slots[fibers[current].side ^ 1][lane], size);
}

}  // namespace shim

// Runs a grid. 0: done; 1: `said` has what was noticed.
extern "C" int shim_launch(void (*call)(void**), void** args, const unsigned* grid,
                           const unsigned* block_size, char* dynamic, int how, unsigned seed,
                           const shim::Region* regions, int count, uintptr_t image,
                           uintptr_t image_end, char* said, size_t room) {
  using namespace shim;
  if (!stacks)
    stacks = static_cast<char*>(mmap(nullptr, size_t(STACK) * MOST_THREADS, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  kernel = call, arguments = args, dynamic_shared = dynamic;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block_size[0], block_size[1], block_size[2]};
  threads = blockDim.x * blockDim.y * blockDim.z;
  failed = false, random_state = seed * 0x9E3779B97F4A7C15ull + 1;
  begin_launch(regions, count, image, image_end);
  uint64_t blocks = uint64_t(grid[0]) * grid[1] * grid[2];
  for (uint64_t i = 0; i < blocks && !failed; i++) {
    uint64_t b = how == BACKWARD ? blocks - 1 - i : i;
    blockIdx = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]),
                unsigned(b / grid[0] / grid[1])};
    run_block(how);
  }
  if (failed) std::snprintf(said, room, "%s", message);
  return failed;
}
