"""The shim finds what it is there for: each bug is planted in a kernel that is right without it.

A bug counts as found only by the words for it, with the line, in the first schedule already; where
only the numbers can tell (swapped fragments), by the numbers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest

from tinytensor.kernels.cuda import launch

from . import shim
from .schedules import empty, run_everywhere

DEVICE = (launch.FOLDER / "device.h").read_text()
bfloat16 = ml_dtypes.bfloat16


def random(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape, np.float32).astype(dtype)


class Case(NamedTuple):
    """A kernel that is right, how it is launched, and what comes out of it."""

    text: str
    grid: tuple
    block: tuple
    args: list
    expected: list
    shared: int = 0

    def run(self, text: str = "") -> list[np.ndarray]:
        source = DEVICE + '\n#line 1 "case.cu"\n' + (text or self.text)
        (entry,) = launch.entries(self.text)
        return run_everywhere(
            "", entry, self.grid, self.block, self.args, shared=self.shared, source=source
        )


X = random(3, 200)
ROWS = Case(
    """// the mean of each row, and the row without it
extern "C" __global__ void center(float* out, float* mean, const float* x, int n) {
  __shared__ float part[8];
  const float* row = x + blockIdx.x * n;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float sum = 0.f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += row[i];
  sum = warp_sum(sum);
  if (lane == 0) part[warp] = sum;
  __syncthreads();
  sum = 0.f;
  for (int w = 0; w < blockDim.x / 32; w++) sum += part[w];
  for (int i = threadIdx.x; i < n; i += blockDim.x) out[blockIdx.x * n + i] = row[i] - sum / n;
  if (threadIdx.x == 0) mean[blockIdx.x] = sum / n;
  __syncthreads();
  if (lane == 0) part[warp] = 0.f;
}
""",
    (3,), (128,), [empty((3, 200), "float32"), empty(3, "float32"), X, 200],
    [X - X.mean(1, keepdims=True), X.mean(1)],
)  # fmt: skip

T = random(40, 56)
TILES = Case(
    """// out = x transposed, through tiles in dynamic shared memory
extern "C" __global__ void transpose(float* out, const float* x, int rows, int columns) {
  DYNAMIC_SHARED(float, tile);
  int top = blockIdx.y * 32, left = blockIdx.x * 32, lane = threadIdx.x;
  for (int r = threadIdx.y; r < 32; r += 8) {
    bool inside = top + r < rows && left + lane < columns;
    tile[r * 33 + lane] = inside ? x[(top + r) * columns + left + lane] : 0.f;
  }
  __syncthreads();
  for (int r = threadIdx.y; r < 32; r += 8)
    if (left + r < columns && top + lane < rows)
      out[(left + r) * rows + top + lane] = tile[lane * 33 + r];
}
""",
    (2, 2), (32, 8), [empty((56, 40), "float32"), T, 40, 56], [T.T], 32 * 33 * 4,
)  # fmt: skip

A, B = random(16, 64, dtype=bfloat16), random(8, 64, dtype=bfloat16)
PRODUCT = Case(
    """// out (16 x 8) = a (16 x 64) b (8 x 64)^T by one warp, 32 columns at a time, copied ahead
const int PITCH = 40;
__device__ void fetch(__nv_bfloat16* to, const __nv_bfloat16* a, const __nv_bfloat16* b, int half) {
  for (int i = threadIdx.x; i < 24 * 4; i += 32) {
    int row = i / 4, column = i % 4 * 8;
    const __nv_bfloat16* from = row < 16 ? a + row * 64 : b + (row - 16) * 64;
    copy_async(to + row * PITCH + column, from + half * 32 + column);
  }
  copy_commit();
}
extern "C" __global__ void product(float* out, const __nv_bfloat16* a, const __nv_bfloat16* b) {
  DYNAMIC_SHARED(__nv_bfloat16, tiles);
  int lane = threadIdx.x;
  float sum[4] = {0.f, 0.f, 0.f, 0.f};
  fetch(tiles, a, b, 0);
  fetch(tiles + 24 * PITCH, a, b, 1);
  for (int half = 0; half < 2; half++) {
    if (half == 0) copy_wait<1>(); else copy_wait<0>();
    __syncthreads();
    const __nv_bfloat16* tile = tiles + half * 24 * PITCH;
    unsigned right[4], left[4];
    load_matrix(right, tile + (16 + lane % 8) * PITCH + lane / 8 * 8);
    for (int k = 0; k < 2; k++) {
      load_matrix(left, tile + lane % 16 * PITCH + k * 16 + lane / 16 * 8);
      mma_bf16(sum, left, right + 2 * k);
    }
  }
  int row = lane / 4, column = lane % 4 * 2;
  *reinterpret_cast<float2*>(out + row * 8 + column) = make_float2(sum[0], sum[1]);
  *reinterpret_cast<float2*>(out + (row + 8) * 8 + column) = make_float2(sum[2], sum[3]);
}
""",
    (1,), (32,), [empty((16, 8), "float32"), A, B], [A.astype("f8") @ B.astype("f8").T],
    2 * 24 * 40 * 2,
)  # fmt: skip

N = random(1000)
LAST = Case(
    """// the sum: each block leaves a part, the last one to finish adds them up
extern "C" __global__ void total(float* out, float* parts, unsigned* finished, const float* x,
                                 int n) {
  __shared__ bool last;
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  float sum = block_sum(i < n ? x[i] : 0.f);
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = sum;
    __threadfence();
    last = atomicInc(finished, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (last) {
    sum = block_sum(threadIdx.x < gridDim.x ? parts[threadIdx.x] : 0.f);
    if (threadIdx.x == 0) *out = sum;
  }
}
""",
    (4,), (256,), [empty(1, "float32"), empty(4, "float32"), np.zeros(1, np.uint32), N, 1000],
    [N.sum(keepdims=True)],
)  # fmt: skip

HALVES = random(4, 64, dtype=bfloat16)
WIDE = Case(
    """// out = 2 x, eight numbers at once
extern "C" __global__ void twice(__nv_bfloat16* out, const __nv_bfloat16* x, int n) {
  int i = 8 * threadIdx.x;
  if (i >= n) return;
  Vector<__nv_bfloat16> v = load_vector(x + i);
  for (int k = 0; k < 8; k++) store(v.at + k, 2.f * load(v.at + k));
  store_vector(out + i, v);
}
""",
    (1,), (64,), [empty((4, 64), "bfloat16"), HALVES, 256], [2 * HALVES.astype(np.float32)],
)  # fmt: skip
CASES = {"rows": ROWS, "tiles": TILES, "product": PRODUCT, "last": LAST, "wide": WIDE}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_without_a_bug_all_is_well(case):
    for a, b in zip(case.run(), case.expected):
        np.testing.assert_allclose(a.astype(np.float32), b, 2e-5, 2e-5)


ANY = r"case\.cu:\d+"
BARRIER = "  __syncthreads();\n"
BUGS = {
    # what        case, text, in its place, what the shim says
    "no barrier before a read": (
        ROWS, "= sum;\n" + BARRIER, "= sum;\n",
        rf"reads byte \d+ of part, which nobody has written, at {ANY}"),
    "no barrier before a read of what was there": (
        ROWS, "  sum = warp_sum(sum);\n",
        "  if (threadIdx.x < 8) part[threadIdx.x] = 0.f;\n" + BARRIER + "  sum = warp_sum(sum);\n"
        "  if (lane == 0) part[warp] = sum;\n  if (part[0] == 1.f) sum = 0.f;\n",
        rf"writes byte 0 of part at {ANY}: thread \d+ read it at {ANY}, and no barrier"),
    "no barrier before a write": (
        ROWS, BARRIER + "  if (lane == 0) part[warp] = 0.f;", "  if (lane == 0) part[warp] = 0.f;",
        rf"(writes byte \d+ of part at {ANY}: thread \d+ read it|"
        rf"reads byte \d+ of part at {ANY}: thread \d+ wrote it) at {ANY}, and no barrier"),
    "a barrier in divergent code": (
        ROWS, "  if (threadIdx.x == 0) mean", "  if (warp == 0) __syncthreads();\n"
        "  if (threadIdx.x == 0) mean", r"__syncthreads at case\.cu:16 while others wait in "
        r"__syncthreads at case\.cu:14|__syncthreads at case\.cu:14 while others wait in "),
    "an exit before a barrier": (
        ROWS, "  float sum = 0.f;", "  if (threadIdx.x >= 96) return;\n  float sum = 0.f;",
        r"exits while others wait in __syncthreads|deadlock: 32 of 128 threads have exited; thread "
        r"0 waits in __syncthreads at case\.cu:11"),
    "a shuffle in divergent code": (
        ROWS, "  sum = warp_sum(sum);", "  if (lane < 16) sum = warp_sum(sum);",
        r"is in __syncthreads|deadlock: .* waits in __shfl_xor_sync"),
    "a mask that lacks lanes": (
        ROWS, "  sum = warp_sum(sum);", "  sum += __shfl_xor_sync(0xffffu, sum, 8);",
        r"__shfl_xor_sync at case\.cu:8: mask 0000ffff, but the lanes .* are ffffffff"),
    "a mask that names lanes that are gone": (
        ROWS, "  float sum = 0.f;", "  if (lane == 31) return;\n  float sum = 0.f;",
        r"mask ffffffff, but the lanes .* are 7fffffff|exits while lanes of its warp wait"),
    "a read of other lanes' writes without __syncwarp": (
        ROWS, "  sum = 0.f;\n", "  sum = 0.f;\n  __shared__ float own[128];\n"
        "  own[threadIdx.x] = lane;\n  sum = warp_sum(sum);\n"
        "  sum = 0.f * own[threadIdx.x / 32 * 32 + 31 - lane];\n",
        rf"reads byte \d+ of own at {ANY}: thread \d+ wrote it at {ANY}, and no barrier"),
    "a global read out of bounds": (
        ROWS, "i < n; i += blockDim.x) sum", "i <= n; i += blockDim.x) sum",
        rf"reads x\[600\], out of bounds: x has 600 elements of 4 bytes, at {ANY}"),
    "a global write out of bounds": (
        ROWS, "mean[blockIdx.x] = sum", "mean[blockIdx.x + 1] = sum",
        rf"writes mean\[3\], out of bounds: mean has 3 elements of 4 bytes, at {ANY}"),
    "a global write before the start": (
        ROWS, "mean[blockIdx.x] = sum", "mean[(int)blockIdx.x - 1] = sum",
        rf"writes mean\[-1\], out of bounds: .* at {ANY}"),
    "an index beyond an array in shared memory": (
        ROWS, "part[warp] = sum", "part[warp + 6] = sum",
        r"uses an index that its array does not have, at case\.cu:9"),
    "shared memory that nobody has written": (
        ROWS, "w < blockDim.x / 32", "w < 8",
        rf"reads byte 16 of part, which nobody has written, at {ANY}"),
    "global memory that nobody has written": (
        ROWS, "mean[blockIdx.x] = sum", "mean[blockIdx.x] += sum",
        rf"reads mean\[0\], which nobody has written, at {ANY}"),
    "const memory written": (
        ROWS, "  if (threadIdx.x == 0) mean", "  const_cast<float*>(x)[threadIdx.x] = 1.f;\n"
        "  if (threadIdx.x == 0) mean", r"writes x\[\d+\], which is const, at case\.cu:14"),
    "two blocks that write one element": (
        ROWS, "mean[blockIdx.x] = sum", "mean[0] = sum",
        rf"writes mean\[0\] at {ANY}: thread 0 of another block wrote it at {ANY}"),
    "a block that reads what another wrote": (
        ROWS, "  const float* row = x", "  if (blockIdx.x) mean[blockIdx.x] = mean[blockIdx.x - 1];"
        "\n  const float* row = x",
        rf"reads mean\[\d\](, which nobody| at {ANY}: thread 0 of another)|"
        r"writes mean\[\d\] at .*: thread \d+ wrote it"),
    "no barrier between tiles": (TILES, BARRIER, "", r"reads byte \d+ of dynamic shared memory"),
    "too little dynamic shared memory": (
        TILES._replace(shared=32 * 33 * 4 - 8), "tile", "tile",
        rf"writes byte 4216 of dynamic shared memory, out of bounds: .* at {ANY}"),
    "an overflow of int": (
        TILES, "(top + r) * columns", "(top + r + 2000000000) * columns",
        r"(multiplies|adds) beyond the largest int at case\.cu:7"),
    "no wait for an asynchronous copy": (
        PRODUCT, "copy_wait<0>()", "copy_wait<1>()",
        rf"reads byte \d+ of dynamic shared memory at {ANY} while the copy_async of thread \d+ at "
        rf"{ANY} may not have arrived"),
    "no barrier after the wait": (
        PRODUCT, "    __syncthreads();\n", "",
        rf"(reads|writes) byte \d+ of dynamic shared memory at {ANY}( while the copy|: thread)"),
    "a copy into what is still read": (
        PRODUCT, "  int row = lane / 4, column = lane % 4 * 2;", "  fetch(tiles, a, b, 0);\n"
        "  int row = lane / 4, column = lane % 4 * 2;\n  fetch(tiles + 24 * PITCH, a, b, 1);",
        rf"writes byte \d+ of dynamic shared memory at {ANY}.*: thread \d+ read it at {ANY}"),
    "swapped halves of a fragment": (PRODUCT, "left, right + 2 * k", "left, right + 2 - 2 * k", ""),
    "rows of a fragment exchanged": (PRODUCT, "(sum[0], sum[1])", "(sum[1], sum[0])", ""),
    "a matrix that should be transposed": (
        PRODUCT, "load_matrix(right", "load_matrix_transposed(right", ""),
    "ldmatrix from an address that is no multiple of 16": (
        PRODUCT._replace(shared=24 * 36 * 2 * 2), "PITCH = 40", "PITCH = 36",
        rf"byte \d+ of dynamic shared memory at {ANY}.*: 16 bytes at once, but the address is not"),
    "cp.async from an address that is no multiple of 16": (
        PRODUCT, "half * 32 + column", "half * 32 + column - (column ? 4 : 0)",
        rf"reads a\[\d+\] at {ANY}.*: 16 bytes at once, but the address is not a multiple of 16"),
    "no fence before the word that a part is there": (
        LAST, "    __threadfence();\n", "",
        rf"reads parts\[0\] at {ANY}: thread 0 of another block wrote it at {ANY}"),
    "no atomic": (
        LAST, "atomicInc(finished, gridDim.x - 1)", "(*finished)++",
        rf"(reads|writes) finished\[0\] at {ANY}: thread 0 of another block wrote it at {ANY}"),
    "the last block is taken to be the last to finish": (
        LAST, "atomicInc(finished, gridDim.x - 1) == gridDim.x - 1", "blockIdx.x == gridDim.x - 1",
        rf"reads parts\[\d\](, which nobody has written,| at {ANY}: thread 0 of another)"),
    "a vector from an address that is no multiple of 16": (
        WIDE, "load_vector(x + i)", "load_vector(x + i - (i ? 1 : 0))", "not aligned"),
    "a vector beyond the end": (WIDE, "i >= n", "i > n", r"reads x\[256\], out of bounds"),
}  # fmt: skip


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name):
    case, right, wrong, words = BUGS[name]
    assert case.text.count(right) >= 1
    broken = case.text.replace(right, wrong)
    if words:
        with pytest.raises(shim.KernelError) as caught:
            case.run(broken)
        assert re.search(words, str(caught.value)), caught.value
    else:
        found = case.run(broken)
        assert not np.allclose(found[0], case.expected[0], 1e-2, 1e-2)
