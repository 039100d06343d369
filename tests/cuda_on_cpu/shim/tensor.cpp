// The warp's matrix instructions and the asynchronous copy, after the PTX ISA's tables ("Matrix
// Fragments for mma.m16n8k16", "ldmatrix", "cp.async"), not after any kernel.
#include <cstring>
#include <vector>

#include "runtime.h"

namespace shim {
namespace {

constexpr unsigned ALL = 0xffffffffu;

float half_of(unsigned word, unsigned which, bool bfloat16) {
  uint16_t half = which ? word >> 16 : word;
  if (!bfloat16) {
    _Float16 h;
    std::memcpy(&h, &half, 2);
    return h;
  }
  unsigned bits = unsigned(half) << 16;  // the upper half of a float
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

// A copy lands as late as the program allows: who does not wait for it reads what was there before.
struct Copy {
  void* to;
  unsigned char bytes[16];
  unsigned group;
};
std::vector<Copy> copies[MOST_THREADS];
unsigned groups[MOST_THREADS];

}  // namespace

void forget_copies(unsigned thread) { copies[thread].clear(), groups[thread] = 0; }

// With g = lane / 4 and t = lane % 4 a lane holds
//   a0 a1 a2 a3   A[g + 8 * (i % 2)][2t + 8 * (i / 2) + {0, 1}]
//   b0 b1         B[2t + 8 * i + {0, 1}][g]
//   d0 d1 d2 d3   D[g + 8 * (i / 2)][2t + i % 2]
Tile mma(Tile mine, bool bfloat16, Place at) {
  exchange(ALL, &mine, sizeof mine, "mma.m16n8k16", at);
  float a[16][16], b[16][8];
  for (unsigned lane = 0; lane < WARP; lane++) {
    Tile theirs;
    take(lane, &theirs, sizeof theirs);
    unsigned g = lane / 4, t = lane % 4;
    for (unsigned i = 0; i < 4; i++)
      for (unsigned h = 0; h < 2; h++)
        a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + h] = half_of(theirs.a[i], h, bfloat16);
    for (unsigned i = 0; i < 2; i++)
      for (unsigned h = 0; h < 2; h++) b[2 * t + 8 * i + h][g] = half_of(theirs.b[i], h, bfloat16);
  }
  unsigned g = current_thread() % WARP / 4, t = current_thread() % WARP % 4;
  for (unsigned i = 0; i < 4; i++)
    for (unsigned k = 0; k < 16; k++)
      mine.d[i] += a[g + 8 * (i / 2)][k] * b[k][2 * t + i % 2];
  return mine;
}

// Lane l's address is row l % 8 of matrix l / 8. Of each matrix lane l gets row l / 4, columns
// 2 * (l % 4) and the next; of the transposed one the same.
Four load_matrix(const void* row, bool transposed, Place at) {
  uintptr_t code = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  reads(reinterpret_cast<uintptr_t>(row), 16, code, true);  // rows of no use hold anything
  exchange(ALL, &row, sizeof row, "ldmatrix", at);
  unsigned lane = current_thread() % WARP;
  Four out;
  for (unsigned matrix = 0; matrix < 4; matrix++) {
    uint16_t pair[2];
    for (unsigned h = 0; h < 2; h++) {
      unsigned i = lane / 4, j = 2 * (lane % 4) + h;
      const char* start;
      take(8 * matrix + (transposed ? j : i), &start, sizeof start);
      std::memcpy(&pair[h], start + 2 * (transposed ? i : j), 2);
    }
    out.at[matrix] = pair[0] | unsigned(pair[1]) << 16;
  }
  exchange(ALL, &row, sizeof row, "ldmatrix", at);  // nobody goes on to write before all have read
  return out;
}

void copy_async(void* to, const void* from, bool zeros) {
  uintptr_t code = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  Copy copy{to, {}, groups[current_thread()]};
  if (!zeros) {
    reads(reinterpret_cast<uintptr_t>(from), 16, code, false);
    std::memcpy(copy.bytes, from, 16);
  }
  copy_begins(reinterpret_cast<uintptr_t>(to), 16, code);
  copies[current_thread()].push_back(copy);
}
void copy_commit() { groups[current_thread()]++; }
void copy_wait(int pending) {
  std::vector<Copy>& mine = copies[current_thread()];
  size_t kept = 0;
  for (Copy& c : mine) {
    if (int(groups[current_thread()] - c.group) > pending) {
      std::memcpy(c.to, c.bytes, 16);
      copy_lands(reinterpret_cast<uintptr_t>(c.to), 16);
    } else {
      mine[kept++] = c;
    }
  }
  mine.resize(kept);
}

}  // namespace shim
