// Flash attention, forward and backward (Dao, arXiv:2307.08691), on tensor cores by mma.sync.
// storage: __half, __nv_bfloat16
//
//     S = q k^T,  P = e^(scale S - lse),  out = P v,  lse = ln(sum of e^(scale S)) of each row
//     dv = P^T g,  dS = P (g v^T - D),  D = sum of g out of each row,
//     dq = scale dS k,  dk = scale dS^T q
//
// Nothing of size L x S is in memory but, with dropout, a bit each (keep_bits.cu). A block has some
// rows of one operand, 16 M of them a warp, and steps through the others' in tiles: these arrive in
// one of two buffers while the last are worked on. P and dS stay in registers: where a product
// leaves its numbers is where the next one wants its first operand. Gradients of keys and values,
// and of queries, have a kernel each: P is made twice, and no two blocks add to the same number.
//
// A head has `width` numbers, of HEAD in shared memory: what is not there is 0. Operands lie at
// x + x_at + batch * x_batch + head * x_head + row * x_row: heads of (B, T, 3C) are read in place.
// lse and D have `padded` rows a head, L and then some, where lse is infinite, and so P is 0.
#ifndef HEAD
#define HEAD 64  // 32, 64 or 128
#endif
#ifndef DROPOUT
#define DROPOUT 0
#endif
#define LOG2E 1.4426950408889634f

constexpr int THREADS = 128, STEP = 64;                // rows of a tile
constexpr int M = HEAD == 128 ? 1 : 2, ROWS = 64 * M;  // in backward: rows of a block are 64 M
constexpr int LD = HEAD + 8;      // a row of shared memory: 8 rows begin in different banks
constexpr int CHUNKS = HEAD / 8;  // 16 bytes each

// ---------------------------------------------------------------------------- tiles

// rows of global memory to shared memory, soon; zeros where there are none
template <int N>
__device__ __forceinline__ void load_tile(real* tile, const real* from, long long row, int rows,
                                          int width) {
  constexpr int PASS = THREADS / CHUNKS;  // rows at a time
  int r = threadIdx.x / CHUNKS, c = threadIdx.x % CHUNKS * 8;
  tile += r * LD + c, from += r * row + c;
  rows = c < width ? rows - r : 0;
#pragma unroll
  for (int n = 0; n < N; n += PASS, from += PASS * row)
    copy_async_or_zero(tile + n * LD, from, n < rows);
}

// a warp's rows: registers, times a factor a row, by way of `tile` to global memory
template <int N>
__device__ __forceinline__ void store_rows(real* to, long long row, int rows, int width, real* tile,
                                           const float (&acc)[N][CHUNKS][4],
                                           const float (&factor)[N][2]) {
  int lane = threadIdx.x % 32;
  __syncwarp();  // the last to read the tile was this warp
#pragma unroll
  for (int m = 0; m < N; m++)
#pragma unroll
    for (int n = 0; n < CHUNKS; n++)
#pragma unroll
      for (int h = 0; h < 2; h++)
        *reinterpret_cast<unsigned*>(tile + (m * 16 + h * 8 + lane / 4) * LD + n * 8 +
                                     lane % 4 * 2) =
            Half<real>::pack(acc[m][n][2 * h] * factor[m][h], acc[m][n][2 * h + 1] * factor[m][h]);
  __syncwarp();
#pragma unroll
  for (int n = 0; n < N * CHUNKS / 2; n++) {
    int i = n * 32 + lane, r = i / CHUNKS, c = i % CHUNKS * 8;
    if (r < rows && c < width) store_vector(to + r * row + c, load_vector(tile + r * LD + c));
  }
}

// ---------------------------------------------------------------------------- products

// operands of mma, out of shared memory: 16 x 16 of a; 16 x 16 of b, whose rows are columns of the
// product; 16 x 16 of b, whose rows are those of b
__device__ __forceinline__ void load_a(unsigned* a, const real* tile) {
  int lane = threadIdx.x % 32;
  load_matrix(a, tile + lane % 16 * LD + lane / 16 * 8);
}
__device__ __forceinline__ void load_b(unsigned* b, const real* tile) {
  int lane = threadIdx.x % 32;
  load_matrix(b, tile + (lane % 8 + lane / 16 * 8) * LD + lane / 8 % 2 * 8);
}
__device__ __forceinline__ void load_b_rows(unsigned* b, const real* tile) {
  int lane = threadIdx.x % 32;
  load_matrix_transposed(b, tile + lane % 16 * LD + lane / 16 * 8);
}

// 16 R rows of HEAD numbers as first operand: in registers, or fetched again for each product
template <int R, bool KEPT>
struct Rows {
  unsigned at[KEPT ? R : 1][KEPT ? HEAD / 16 : 1][4];
  const real* tile;
  __device__ __forceinline__ void load(const real* from) {
    tile = from;
    if constexpr (KEPT)
#pragma unroll
      for (int m = 0; m < R; m++)
#pragma unroll
        for (int k = 0; k < HEAD / 16; k++) load_a(at[m][k], tile + m * 16 * LD + k * 16);
  }
  __device__ __forceinline__ void get(unsigned (&a)[R][4], int k) const {
#pragma unroll
    for (int m = 0; m < R; m++)
      if constexpr (KEPT) {
#pragma unroll
        for (int i = 0; i < 4; i++) a[m][i] = at[m][k][i];
      } else {
        load_a(a[m], tile + m * 16 * LD + k * 16);
      }
  }
};

// s (16 R x 8 N) = a b^T, over HEAD columns
template <int R, int N, bool KEPT>
__device__ __forceinline__ void dots(float (&s)[R][N][4], const Rows<R, KEPT>& rows,
                                     const real* b) {
#pragma unroll
  for (int m = 0; m < R; m++)
#pragma unroll
    for (int n = 0; n < N; n++) s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0.f;
#pragma unroll
  for (int k = 0; k < HEAD / 16; k++) {
    unsigned fa[R][4], fb[4];
    rows.get(fa, k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      load_b(fb, b + n * 8 * LD + k * 16);
#pragma unroll
      for (int m = 0; m < R; m++) {
        Half<real>::mma(s[m][n], fa[m], fb);
        Half<real>::mma(s[m][n + 1], fa[m], fb + 2);
      }
    }
  }
}

// acc (16 R x HEAD) += p (16 R x 8 N) b
template <int R, int N>
__device__ __forceinline__ void add_product(float (&acc)[R][CHUNKS][4], const float (&p)[R][N][4],
                                            const real* b) {
#pragma unroll
  for (int k = 0; k < N / 2; k++) {
    unsigned fa[R][4], fb[4];
#pragma unroll
    for (int m = 0; m < R; m++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float* pair = p[m][2 * k + i / 2] + i % 2 * 2;
        fa[m][i] = Half<real>::pack(pair[0], pair[1]);
      }
#pragma unroll
    for (int n = 0; n < CHUNKS; n += 2) {
      load_b_rows(fb, b + k * 16 * LD + n * 8);
#pragma unroll
      for (int m = 0; m < R; m++) {
        Half<real>::mma(acc[m][n], fa[m], fb);
        Half<real>::mma(acc[m][n + 1], fa[m], fb + 2);
      }
    }
  }
}

template <int R>
__device__ __forceinline__ void clear(float (&acc)[R][CHUNKS][4]) {
#pragma unroll
  for (int m = 0; m < R; m++)
#pragma unroll
    for (int n = 0; n < CHUNKS; n++)
      acc[m][n][0] = acc[m][n][1] = acc[m][n][2] = acc[m][n][3] = 0.f;
}

// -inf in place of scores that are none: from query `row` and key `column` on
template <int R, int N>
__device__ __forceinline__ void hide(float (&s)[R][N][4], int row, int column, int S,
                                     bool is_causal) {
  row += threadIdx.x % 32 / 4, column += threadIdx.x % 4 * 2;
#pragma unroll
  for (int m = 0; m < R; m++)
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int key = column + n * 8 + i % 2, query = row + m * 16 + i / 2 * 8;
        if (key >= S || (is_causal && key > query)) s[m][n][i] = -INFINITE;
      }
}

// over the four lanes that have a row's numbers
__device__ __forceinline__ float row_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 1));
  return fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 2));
}
__device__ __forceinline__ float row_sum(float v) {
  v += __shfl_xor_sync(ALL_LANES, v, 1);
  return v + __shfl_xor_sync(ALL_LANES, v, 2);
}

// ---------------------------------------------------------------------------- forward

extern "C" __global__ void __launch_bounds__(128) attention_forward(
    real* out, float* lse, const real* q, const real* k, const real* v, const unsigned* keep,
    int heads, int L, int S, int width, int padded, int words, bool is_causal, float scale,
    float keep_scale, long long q_batch, long long q_head, long long q_row, long long k_batch,
    long long k_head, long long k_row, long long out_batch, long long out_head, long long out_row,
    long long q_at, long long k_at, long long v_at) {
  constexpr int R = 2, OWN = 64 * R;  // queries of a block
  // keys at a time: so many of P are in registers
  constexpr int ROOM = HEAD + 32 * DROPOUT, PART = ROOM > 128 ? 16 : ROOM > 64 ? 32 : 64;
  DYNAMIC_SHARED(real, shared);
  real *Q = shared, *tiles = Q + OWN * LD;  // keys and values, twice
  int blocks = (L + OWN - 1) / OWN, head = blockIdx.x / blocks;
  int first = (blocks - 1 - (int)(blockIdx.x % blocks)) * OWN;  // the longest come first
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, own = first + warp * 16 * R;
  long long batch = head / heads, h = head % heads;
  q += q_at + batch * q_batch + h * q_head + first * q_row;
  k += k_at + batch * k_batch + h * k_head;
  v += v_at + batch * k_batch + h * k_head;
  int seen = is_causal ? min(S, first + OWN) : S, steps = (seen + STEP - 1) / STEP;

  auto fetch = [&](int step) {
    real* tile = tiles + step % 2 * 2 * STEP * LD;
    load_tile<STEP>(tile, k + step * STEP * k_row, k_row, S - step * STEP, width);
    load_tile<STEP>(tile + STEP * LD, v + step * STEP * k_row, k_row, S - step * STEP, width);
    copy_commit();
  };
  load_tile<OWN>(Q, q, q_row, L - first, width);
  fetch(0);

  Rows<R, HEAD <= 64> queries;
  float acc[R][CHUNKS][4], top[R][2], total[R][2], c = scale * LOG2E;
  clear(acc);
#pragma unroll
  for (int m = 0; m < R; m++) top[m][0] = top[m][1] = -INFINITE, total[m][0] = total[m][1] = 0.f;

  for (int step = 0; step < steps; step++) {
    copy_wait<0>();
    __syncthreads();  // this tile is there, and nobody reads the other
    if (step + 1 < steps) fetch(step + 1);
    if (step == 0) queries.load(Q + warp * 16 * R * LD);
    const real *K = tiles + step % 2 * 2 * STEP * LD, *V = K + STEP * LD;
#pragma unroll
    for (int part = 0; part < STEP; part += PART) {
      int begin = step * STEP + part;
      if (own >= L || begin >= S || (is_causal && begin >= own + 16 * R)) break;  // nothing to see
      float p[R][PART / 8][4];
      dots(p, queries, K + part * LD);
      if (begin + PART > S || (is_causal && begin + PART > own + 1))
        hide(p, own, begin, S, is_causal);
#pragma unroll
      for (int m = 0; m < R; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
          float before = top[m][r], now = before, sum = 0.f;
#pragma unroll
          for (int n = 0; n < PART / 8; n++)
            now = fmaxf(now, fmaxf(p[m][n][2 * r], p[m][n][2 * r + 1]));
          now = top[m][r] = row_max(now);
          float shift = now * c, factor = exp2f(before * c - shift);
#pragma unroll
          for (int n = 0; n < PART / 8; n++)
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; i++) {
              p[m][n][i] = exp2f(fmaf(p[m][n][i], c, -shift));
              sum += p[m][n][i];
            }
          total[m][r] = total[m][r] * factor + sum;
#pragma unroll
          for (int n = 0; n < CHUNKS; n++)
            acc[m][n][2 * r] *= factor, acc[m][n][2 * r + 1] *= factor;
#if DROPOUT
          int row = own + m * 16 + r * 8 + lane / 4;
          const unsigned* bits = keep + ((long long)head * L + min(row, L - 1)) * words + step * 2;
#pragma unroll
          for (int n = 0; n < PART / 8; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
              int at = part + n * 8;
              if (!(bits[at / 32] >> (at % 32 + lane % 4 * 2 + i) & 1)) p[m][n][2 * r + i] = 0.f;
            }
#endif
        }
      add_product(acc, p, V + part * LD);
    }
  }

  float factor[R][2];
#pragma unroll
  for (int m = 0; m < R; m++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      int row = own + m * 16 + r * 8 + lane / 4;
      float sum = row_sum(total[m][r]);
      factor[m][r] = (DROPOUT ? keep_scale : 1.f) / sum;
      if (lane % 4 == 0 && row < padded)
        lse[(long long)head * padded + row] = row < L ? top[m][r] * scale + logf(sum) : INFINITE;
    }
  out += batch * out_batch + h * out_head + own * out_row;
  store_rows(out, out_row, L - own, width, Q + warp * 16 * R * LD, acc, factor);
}

// ---------------------------------------------------------------------------- backward

// dq, and D on the way
extern "C" __global__ void __launch_bounds__(128) attention_backward_query(
    real* dq, float* D, const real* g, const real* out, const float* lse, const real* q,
    const real* k, const real* v, const unsigned* keep, int heads, int L, int S, int width,
    int padded, int words, bool is_causal, float scale, float keep_scale, long long q_batch,
    long long q_head, long long q_row, long long k_batch, long long k_head, long long k_row,
    long long out_batch, long long out_head, long long out_row, long long q_at, long long k_at,
    long long v_at) {
  constexpr int PART = 32;  // keys at a time: so many of S and dP are in registers
  DYNAMIC_SHARED(real, shared);
  __shared__ float sums[ROWS];
  real *Q = shared, *G = Q + ROWS * LD, *tiles = G + ROWS * LD;  // keys and values, twice
  int blocks = (L + ROWS - 1) / ROWS, head = blockIdx.x / blocks;
  int first = (blocks - 1 - (int)(blockIdx.x % blocks)) * ROWS;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, own = first + warp * 16 * M;
  long long batch = head / heads, h = head % heads;
  q += q_at + batch * q_batch + h * q_head + first * q_row;
  k += k_at + batch * k_batch + h * k_head;
  v += v_at + batch * k_batch + h * k_head;
  g += batch * out_batch + h * out_head + first * out_row;
  out += batch * out_batch + h * out_head + first * out_row;
  int seen = is_causal ? min(S, first + ROWS) : S, steps = (seen + STEP - 1) / STEP;

  auto fetch = [&](int step) {
    real* tile = tiles + step % 2 * 2 * STEP * LD;
    load_tile<STEP>(tile, k + step * STEP * k_row, k_row, S - step * STEP, width);
    load_tile<STEP>(tile + STEP * LD, v + step * STEP * k_row, k_row, S - step * STEP, width);
    copy_commit();
  };
  load_tile<ROWS>(Q, q, q_row, L - first, width);
  load_tile<ROWS>(G, g, out_row, L - first, width);
  fetch(0);

#pragma unroll
  for (int n = 0; n < ROWS * CHUNKS / THREADS; n++) {
    int i = n * THREADS + threadIdx.x, r = i / CHUNKS, c = i % CHUNKS * 8;
    float sum = 0.f;
    if (first + r < L && c < width) {
      Vector<real> a = load_vector(g + r * out_row + c), b = load_vector(out + r * out_row + c);
#pragma unroll
      for (int j = 0; j < 8; j++) sum += load(a.at + j) * load(b.at + j);
    }
#pragma unroll
    for (int o = CHUNKS / 2; o > 0; o >>= 1) sum += __shfl_xor_sync(ALL_LANES, sum, o);
    if (c == 0) sums[r] = D[(long long)head * padded + first + r] = sum;
  }

  Rows<M, HEAD <= 64> queries;  // registers hold one of the two
  Rows<M, HEAD == 32> grads;
  float acc[M][CHUNKS][4], shift[M][2], d[M][2], c = scale * LOG2E;
  clear(acc);

  for (int step = 0; step < steps; step++) {
    copy_wait<0>();
    __syncthreads();
    if (step + 1 < steps) fetch(step + 1);
    if (step == 0) {
      queries.load(Q + warp * 16 * M * LD), grads.load(G + warp * 16 * M * LD);
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
          int row = own + m * 16 + r * 8 + lane / 4;
          shift[m][r] = lse[(long long)head * padded + row] * LOG2E;
          d[m][r] = sums[row - first];
        }
    }
    const real *K = tiles + step % 2 * 2 * STEP * LD, *V = K + STEP * LD;
#pragma unroll 1
    for (int part = 0; part < STEP; part += PART) {
      int begin = step * STEP + part;
      if (own >= L || begin >= S || (is_causal && begin >= own + 16 * M)) break;
      float p[M][PART / 8][4], dp[M][PART / 8][4];
      dots(p, queries, K + part * LD);
      dots(dp, grads, V + part * LD);
      if (begin + PART > S || (is_causal && begin + PART > own + 1))
        hide(p, own, begin, S, is_causal);
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
#if DROPOUT
          int row = own + m * 16 + r * 8 + lane / 4;
          unsigned word = keep[((long long)head * L + min(row, L - 1)) * words + begin / 32];
          word >>= lane % 4 * 2;
#endif
#pragma unroll
          for (int n = 0; n < PART / 8; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
              int j = 2 * r + i;
              float weight = exp2f(fmaf(p[m][n][j], c, -shift[m][r])), slope = dp[m][n][j];
#if DROPOUT
              slope = word >> (n * 8 + i) & 1 ? slope * keep_scale : 0.f;
#endif
              p[m][n][j] = weight * (slope - d[m][r]);
            }
        }
      add_product(acc, p, K + part * LD);
    }
  }
  float factor[M][2];
#pragma unroll
  for (int m = 0; m < M; m++) factor[m][0] = factor[m][1] = scale;
  dq += q_at + batch * q_batch + h * q_head + own * q_row;
  store_rows(dq, q_row, L - own, width, Q + warp * 16 * M * LD, acc, factor);
}

// dk and dv: scores are made transposed, a row a key, to be first operands of the last products
extern "C" __global__ void __launch_bounds__(128) attention_backward_key_value(
    real* dk, real* dv, const real* g, const float* lse, const float* D, const real* q,
    const real* k, const real* v, const unsigned* keep, int heads, int L, int S, int width,
    int padded, int words, bool is_causal, float scale, float keep_scale, long long q_batch,
    long long q_head, long long q_row, long long k_batch, long long k_head, long long k_row,
    long long out_batch, long long out_head, long long out_row, long long q_at, long long k_at,
    long long v_at) {
  constexpr int PART = HEAD == 32 ? 32 : 16;  // queries at a time
  DYNAMIC_SHARED(real, shared);
  __align__(16) __shared__ float statistics[2][2][STEP];  // lse and D, twice
  real *K = shared, *V = K + ROWS * LD, *tiles = V + ROWS * LD;  // q and g, twice
  int blocks = (S + ROWS - 1) / ROWS, head = blockIdx.x / blocks;
  int first = blockIdx.x % blocks * ROWS;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, own = first + warp * 16 * M;
  long long batch = head / heads, h = head % heads;
  q += q_at + batch * q_batch + h * q_head;
  k += k_at + batch * k_batch + h * k_head + first * k_row;
  v += v_at + batch * k_batch + h * k_head + first * k_row;
  g += batch * out_batch + h * out_head;
  lse += (long long)head * padded, D += (long long)head * padded;

  auto fetch = [&](int step) {
    real* tile = tiles + step % 2 * 2 * STEP * LD;
    load_tile<STEP>(tile, q + step * STEP * q_row, q_row, L - step * STEP, width);
    load_tile<STEP>(tile + STEP * LD, g + step * STEP * out_row, out_row, L - step * STEP, width);
    int i = threadIdx.x * 4;
    if (i < 2 * STEP)
      copy_async(&statistics[step % 2][i / STEP][i % STEP],
                 (i < STEP ? lse : D) + step * STEP + i % STEP);
    copy_commit();
  };
  int start = is_causal ? first / STEP : 0, steps = (L + STEP - 1) / STEP;
  load_tile<ROWS>(K, k, k_row, S - first, width);
  load_tile<ROWS>(V, v, k_row, S - first, width);
  if (start < steps) fetch(start);

  Rows<M, HEAD + DROPOUT <= 64> keys;  // registers hold one of the two
  Rows<M, HEAD == 32> values;
  float to_k[M][CHUNKS][4], to_v[M][CHUNKS][4], c = scale * LOG2E;
  clear(to_k), clear(to_v);

  for (int step = start; step < steps; step++) {
    copy_wait<0>();
    __syncthreads();
    if (step + 1 < steps) fetch(step + 1);
    if (step == start)
      keys.load(K + warp * 16 * M * LD), values.load(V + warp * 16 * M * LD);
    const real *Q = tiles + step % 2 * 2 * STEP * LD, *G = Q + STEP * LD;
#pragma unroll 1
    for (int part = 0; part < STEP; part += PART) {
      int begin = step * STEP + part;
      if (own >= S || begin >= L) break;
      if (is_causal && begin + PART <= own) continue;  // before all of this warp's keys
      float p[M][PART / 8][4], dp[M][PART / 8][4];
      dots(p, keys, Q + part * LD);
      dots(dp, values, G + part * LD);
      if (is_causal && begin < own + 16 * M - 1)
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
          for (int n = 0; n < PART / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
              int key = own + m * 16 + i / 2 * 8 + lane / 4;
              if (key > begin + n * 8 + lane % 4 * 2 + i % 2) p[m][n][i] = -INFINITE;
            }
#pragma unroll
      for (int n = 0; n < PART / 8; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
          int at = part + n * 8 + lane % 4 * 2 + i;
          float shift = statistics[step % 2][0][at] * LOG2E, d = statistics[step % 2][1][at];
#if DROPOUT
          int row = min(step * STEP + at, L - 1);
          unsigned word = keep[((long long)head * L + row) * words + own / 32];
          word >>= own % 32 + lane / 4;
#endif
#pragma unroll
          for (int m = 0; m < M; m++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
              int j = 2 * r + i;
              float weight = exp2f(fmaf(p[m][n][j], c, -shift)), slope = dp[m][n][j];
#if DROPOUT
              bool kept = word >> (m * 16 + r * 8) & 1;
              slope = kept ? slope * keep_scale : 0.f;
              p[m][n][j] = kept ? weight : 0.f;
#else
              p[m][n][j] = weight;
#endif
              dp[m][n][j] = weight * (slope - d);
            }
        }
      add_product(to_v, p, G + part * LD);
      add_product(to_k, dp, Q + part * LD);
    }
  }
  copy_commit();
  copy_wait<0>();  // where no query sees these keys, nobody has waited for them
  __syncthreads();
  float factor[M][2];
#pragma unroll
  for (int m = 0; m < M; m++) factor[m][0] = factor[m][1] = scale;
  dk += k_at + batch * k_batch + h * k_head + own * k_row;
  store_rows(dk, k_row, S - own, width, K + warp * 16 * M * LD, to_k, factor);
#pragma unroll
  for (int m = 0; m < M; m++) factor[m][0] = factor[m][1] = DROPOUT ? keep_scale : 1.f;
  dv += v_at + batch * k_batch + h * k_head + own * k_row;
  store_rows(dv, k_row, S - own, width, V + warp * 16 * M * LD, to_v, factor);
}
