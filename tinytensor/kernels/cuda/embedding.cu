// Rows of a table, and the gradient of the table: see embedding.py for the order of the launches.
// The gradient sorts the places by row and sums each row's places in that order, so it is the same
// from run to run; a row that many places took is summed in pieces first.

// the row of place i; `rows`, which is none, for what is out of range, and for the row `skip`
__device__ __forceinline__ long long row_at(const long long* index, long long i, long long rows,
                                            long long skip) {
  long long r = index[i];
  return r < 0 || r >= rows || r == skip ? rows : r;
}

// ---------------------------------------------------------------------------- forward

template <int N, class T>
__device__ __forceinline__ void take(real* out, const T* table, const long long* index, long long n,
                                     long long rows, long long width) {
  long long i = (long long)blockIdx.x * blockDim.y + threadIdx.y;
  if (i >= n) return;
  long long r = row_at(index, i, rows, -1);
  for (long long c = threadIdx.x * N; c < width; c += blockDim.x * N) {
    float v[N];
    if (r < rows) {
      load_many(v, table + r * width + c);
    } else {
#pragma unroll
      for (int k = 0; k < N; k++) v[k] = UNDEFINED;
    }
    store_many(out + i * width + c, v);
  }
}
template <class T>
__device__ __forceinline__ void take(real* out, const T* table, const long long* index, long long n,
                                     long long rows, long long width) {
  if (aligned(out) && aligned(table) && width % 8 == 0) {
    take<8>(out, table, index, n, rows, width);
  } else {
    take<1>(out, table, index, n, rows, width);
  }
}

// out[i] = table[index[i]], NaN where there is no such row; blocks of (columns, places)
extern "C" __global__ void __launch_bounds__(256) take_rows(
    real* out, const real* table, const long long* index, long long n, long long rows,
    long long width) {
  take(out, table, index, n, rows, width);
}
extern "C" __global__ void __launch_bounds__(256) take_float_rows(
    real* out, const float* table, const long long* index, long long n, long long rows,
    long long width) {
  take(out, table, index, n, rows, width);
}

// ---------------------------------------------------------------------------- the order of rows
// A stable radix sort, 8 bits a pass: a warp counts and places the digits of its tile, 32 places at
// a time. order null: the places as they are.

__device__ __forceinline__ unsigned digit_of(const long long* index, long long place,
                                             long long rows, long long skip, int shift) {
  return (unsigned)(row_at(index, place, rows, skip) >> shift) & 255u;
}

// counts[digit, tile]
extern "C" __global__ void __launch_bounds__(32) sort_count(
    unsigned* counts, const int* order, const long long* index, long long n, long long rows,
    long long skip, int shift, int tile) {
  __shared__ unsigned seen[256];
  for (int d = threadIdx.x; d < 256; d += 32) seen[d] = 0;
  __syncwarp();
  long long start = (long long)blockIdx.x * tile, end = start + tile < n ? start + tile : n;
  for (long long i = start + threadIdx.x; i < end; i += 32) {
    atomicAdd(&seen[digit_of(index, order ? order[i] : i, rows, skip, shift)], 1u);
  }
  __syncwarp();
  for (int d = threadIdx.x; d < 256; d += 32) {
    counts[(long long)d * gridDim.x + blockIdx.x] = seen[d];
  }
}

// counts become the sums of those before, by one block
extern "C" __global__ void __launch_bounds__(1024) sort_scan(unsigned* counts, long long n) {
  __shared__ unsigned of_warp[32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  long long each = (n + blockDim.x - 1) / blockDim.x, start = threadIdx.x * each;
  long long end = start + each < n ? start + each : n;
  unsigned own = 0;
  for (long long i = start; i < end; i++) own += counts[i];
  unsigned upto = own;
#pragma unroll
  for (int o = 1; o < 32; o *= 2) {
    unsigned other = __shfl_up_sync(ALL_LANES, upto, o);
    if (lane >= o) upto += other;
  }
  if (lane == 31) of_warp[warp] = upto;
  __syncthreads();
  unsigned before = upto - own;
  for (int w = 0; w < warp; w++) before += of_warp[w];
  for (long long i = start; i < end; i++) {
    unsigned count = counts[i];
    counts[i] = before;
    before += count;
  }
}

extern "C" __global__ void __launch_bounds__(32) sort_place(
    int* sorted, const int* order, const unsigned* counts, const long long* index, long long n,
    long long rows, long long skip, int shift, int tile) {
  __shared__ unsigned next[256];
  int lane = threadIdx.x;
  for (int d = lane; d < 256; d += 32) next[d] = counts[(long long)d * gridDim.x + blockIdx.x];
  __syncwarp();
  long long start = (long long)blockIdx.x * tile, end = start + tile < n ? start + tile : n;
  for (long long first = start; first < end; first += 32) {
    long long i = first + lane;
    bool here = i < end;
    int place = !here ? 0 : order ? order[i] : (int)i;
    unsigned digit = here ? digit_of(index, place, rows, skip, shift) : 0;
    unsigned same = ALL_LANES;  // the lanes with this digit; those not here are behind all that are
#pragma unroll
    for (int b = 0; b < 8; b++) {
      unsigned set = __ballot_sync(ALL_LANES, digit >> b & 1);
      same &= digit >> b & 1 ? set : ~set;
    }
    unsigned before = __popc(same & ((1u << lane) - 1));
    if (here) sorted[next[digit] + before] = place;
    __syncwarp();
    if (here && before == 0) next[digit] += __popc(same);
    __syncwarp();
  }
}

// ---------------------------------------------------------------------------- sums of rows

#define PIECE 32  // sorted places

// A block sums a piece. A row whose places all lie in it is done; else the sum is an end:
// ends[piece, 0] if the row began in a piece before, ends[piece, 1] if only goes on behind.
template <int N>
__device__ __forceinline__ void sum(float* __restrict__ out, float* __restrict__ ends,
                                    const real* __restrict__ x, const int* places,
                                    const long long* row, int count, long long rows,
                                    long long width) {
  float* end = ends + 2 * blockIdx.x * width;
  for (long long c = threadIdx.x * N; c < width; c += blockDim.x * N) {
    float total[N] = {};
    bool first = true;
#pragma unroll 4
    for (int k = 0; k < count; k++) {  // row[k + 1] is this place's, between its neighbours'
      float v[N];
      load_many(v, x + places[k] * width + c);
#pragma unroll
      for (int j = 0; j < N; j++) total[j] += v[j];
      long long r = row[k + 1];
      bool done = r != row[k + 2];
      if (!done && k + 1 < count) continue;
      float* to = first && row[0] == r ? end : done ? out + r * width : end + width;
      if (r < rows) store_many(to + c, total);
#pragma unroll
      for (int j = 0; j < N; j++) total[j] = 0.f;
      first = false;
    }
  }
}

extern "C" __global__ void __launch_bounds__(256) sum_pieces(
    float* out, float* ends, const real* x, const int* order, const long long* index, long long n,
    long long rows, long long skip, long long width) {
  __shared__ long long row[PIECE + 2];
  __shared__ int places[PIECE];
  long long start = (long long)blockIdx.x * PIECE;
  int count = n - start < PIECE ? (int)(n - start) : PIECE;
  for (int k = threadIdx.x; k < count + 2; k += blockDim.x) {
    long long i = start + k - 1;
    int place = i < 0 || i >= n ? 0 : order[i];
    row[k] = i < 0 || i >= n ? -1 : row_at(index, place, rows, skip);
    if (0 < k && k <= count) places[k - 1] = place;
  }
  __syncthreads();
  if (aligned(x) && width % 8 == 0) {  // out and ends are allocations of their own
    sum<8>(out, ends, x, places, row, count, rows, width);
  } else {
    sum<1>(out, ends, x, places, row, count, rows, width);
  }
}

// A block per piece: where a row begins that goes on behind, the sum of its ends
extern "C" __global__ void __launch_bounds__(256) sum_ends(
    float* out, const float* ends, const int* order, const long long* index, long long n,
    long long rows, long long skip, long long width) {
  long long piece = blockIdx.x, start = piece * PIECE, behind = start + PIECE;
  if (behind >= n) return;
  long long r = row_at(index, order[behind], rows, skip);
  if (r >= rows || row_at(index, order[behind - 1], rows, skip) != r) return;
  if (start > 0 && row_at(index, order[start - 1], rows, skip) == r) return;
  long long last = piece + 1, none = (n + PIECE - 1) / PIECE;  // the last piece that it reaches
  while (none - last > 1) {
    long long middle = (last + none) / 2;
    if (row_at(index, order[middle * PIECE], rows, skip) == r) {
      last = middle;
    } else {
      none = middle;
    }
  }
  for (long long c = threadIdx.x; c < width; c += blockDim.x) {
    float total = ends[(2 * piece + 1) * width + c];
#pragma unroll 8
    for (long long p = piece + 1; p <= last; p++) total += ends[2 * p * width + c];
    out[r * width + c] = total;
  }
}
