// Attention of one query a head over the keys and values of a cache: what a generated token costs.

// out (B, heads, width), q (B, heads, width); keys and values of head h of sequence b begin at
// k + k_at + b k_batch + h k_head, a row every k_row numbers, and the same with v. `seen`, if there
// is one, (B, S): which keys count. A block a head: some lanes share a key, 16 bytes of it each,
// and take every so-many-th key; what they have seen is put together at the end.
extern "C" __global__ void __launch_bounds__(256) attention_decode(
    real* out, const real* q, const real* k, const real* v, const bool* seen, int heads, int S,
    int width, float scale, long long k_batch, long long k_head, long long k_row, long long v_batch,
    long long v_head, long long v_row, long long q_at, long long q_batch, long long q_head,
    long long k_at, long long v_at) {
  constexpr int N = Vector<real>::N, AHEAD = 4;  // numbers of a lane; keys under way
  __shared__ float tops[8], sums[8], parts[8][32 * N];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int lanes = 1;  // that share a key
  while (lanes * N < width) lanes *= 2;
  int part = lane % lanes * N, groups = blockDim.x / lanes;
  bool mine = part < width;
  long long batch = blockIdx.x / heads, head = blockIdx.x % heads;
  k += k_at + batch * k_batch + head * k_head + part;
  v += v_at + batch * v_batch + head * v_head + part;
  if (seen) seen += batch * S;

  float query[N], acc[N], top = -INFINITE, sum = 0.f;
  Vector<real> zero;
#pragma unroll
  for (int i = 0; i < N; i++) store(zero.at + i, 0.f), acc[i] = 0.f;
  Vector<real> own = mine ? load_vector(q + q_at + batch * q_batch + head * q_head + part) : zero;
#pragma unroll
  for (int i = 0; i < N; i++) query[i] = load(own.at + i) * scale;

  for (int first = threadIdx.x / lanes; first - (int)threadIdx.x / lanes < S;
       first += groups * AHEAD) {
    Vector<real> keys[AHEAD], values[AHEAD];
    float score[AHEAD], now = top;
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
      int j = first + a * groups;
      bool there = mine && j < S;
      keys[a] = there ? load_vector(k + j * k_row) : zero;
      values[a] = there ? load_vector(v + j * v_row) : zero;
    }
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
      int j = first + a * groups;
      float dot = 0.f;
#pragma unroll
      for (int i = 0; i < N; i++) dot += query[i] * load(keys[a].at + i);
      for (int o = lanes / 2; o > 0; o >>= 1) dot += __shfl_xor_sync(ALL_LANES, dot, o);
      score[a] = j < S && (!seen || seen[j]) ? dot : -INFINITE;
      now = fmaxf(now, score[a]);
    }
    float shift = now == -INFINITE ? 0.f : now, factor = expf(top - shift);
    sum *= factor, top = now;
#pragma unroll
    for (int i = 0; i < N; i++) acc[i] *= factor;
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
      float weight = expf(score[a] - shift);
      sum += weight;
#pragma unroll
      for (int i = 0; i < N; i++) acc[i] += weight * load(values[a].at + i);
    }
  }

  float all = warp_max(top), factor = top == -INFINITE ? 0.f : expf(top - all);
  sum *= factor;
  for (int o = lanes; o < 32; o *= 2) sum += __shfl_xor_sync(ALL_LANES, sum, o);
#pragma unroll
  for (int i = 0; i < N; i++) {
    acc[i] *= factor;
    for (int o = lanes; o < 32; o *= 2) acc[i] += __shfl_xor_sync(ALL_LANES, acc[i], o);
    if (lane < lanes) parts[warp][part + i] = acc[i];
  }
  if (lane == 0) tops[warp] = all, sums[warp] = sum;
  __syncthreads();
  for (int c = threadIdx.x; c < width; c += blockDim.x) {
    float best = -INFINITE, total = 0.f, value = 0.f;
    for (int w = 0; w < blockDim.x / 32; w++) best = fmaxf(best, tops[w]);
    for (int w = 0; w < blockDim.x / 32; w++) {
      float share = tops[w] == -INFINITE ? 0.f : expf(tops[w] - best);
      total += sums[w] * share, value += parts[w][c] * share;
    }
    store(out + (long long)blockIdx.x * width + c, value / total);
  }
}
