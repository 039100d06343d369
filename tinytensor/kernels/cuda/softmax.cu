// Softmax of rows, and the weights of attention whose scores are in memory. A row has a warp, or
// with WHOLE_BLOCK a block: all threads of either are a group that adds and compares together.
#ifndef WHOLE_BLOCK
#define WHOLE_BLOCK 0
#endif

struct Group {
  long long row;
  int first, step;  // this thread's place in the row, and how many threads there are
};
__device__ __forceinline__ Group group() {
  int warps = blockDim.x / 32;
  if (WHOLE_BLOCK) return {(long long)blockIdx.x, (int)threadIdx.x, (int)blockDim.x};
  return {(long long)blockIdx.x * warps + threadIdx.x / 32, (int)threadIdx.x % 32, 32};
}
__device__ __forceinline__ float group_sum(float v) { return WHOLE_BLOCK ? block_sum(v) : warp_sum(v); }
__device__ __forceinline__ float group_max(float v) { return WHOLE_BLOCK ? block_max(v) : warp_max(v); }

// e^x is e^(x - top) * e^top: the largest x, and the sum of e^(x - top)
struct Statistics {
  float top, sum;
};
template <class At>
__device__ __forceinline__ Statistics statistics(const Group& group, int n, At at) {
  float top = -INFINITE, sum = 0.f;
#pragma unroll 4
  for (int i = group.first; i < n; i += group.step) {
    float x = at(i);
    if (x == -INFINITE) continue;
    if (x > top) sum *= expf(top - x), top = x;
    sum += expf(x - top);
  }
  float all = group_max(top);
  return {all, group_sum(sum == 0.f ? 0.f : sum * expf(top - all))};
}

extern "C" __global__ void softmax_forward(real* out, const real* x, long long rows, int n) {
  Group g = group();
  if (g.row >= rows) return;
  out += g.row * n, x += g.row * n;
  Statistics s = statistics(g, n, [&](int i) { return load(x + i); });
  for (int i = g.first; i < n; i += g.step) store(out + i, expf(load(x + i) - s.top) / s.sum);
}

extern "C" __global__ void softmax_backward(real* dx, const real* g_out, const real* out,
                                            long long rows, int n) {
  Group g = group();
  if (g.row >= rows) return;
  dx += g.row * n, g_out += g.row * n, out += g.row * n;
  float sum = 0.f;
  for (int i = g.first; i < n; i += g.step) sum += load(g_out + i) * load(out + i);
  sum = group_sum(sum);
  for (int i = g.first; i < n; i += g.step)
    store(dx + i, load(out + i) * (load(g_out + i) - sum));
}

extern "C" __global__ void log_softmax_forward(real* out, const real* x, long long rows, int n) {
  Group g = group();
  if (g.row >= rows) return;
  out += g.row * n, x += g.row * n;
  Statistics s = statistics(g, n, [&](int i) { return load(x + i); });
  float log_sum = logf(s.sum);
  for (int i = g.first; i < n; i += g.step) store(out + i, load(x + i) - s.top - log_sum);
}

extern "C" __global__ void log_softmax_backward(real* dx, const real* g_out, const real* out,
                                                long long rows, int n) {
  Group g = group();
  if (g.row >= rows) return;
  dx += g.row * n, g_out += g.row * n, out += g.row * n;
  float sum = 0.f;
  for (int i = g.first; i < n; i += g.step) sum += load(g_out + i);
  sum = group_sum(sum);
  for (int i = g.first; i < n; i += g.step)
    store(dx + i, load(g_out + i) - expf(load(out + i)) * sum);
}

// ---------------------------------------------------------------------------- attention

// A row of scores (heads of all sequences, count, n): query `first` + row % count of L sees the
// first n keys, those up to itself with is_causal, those that `seen` says, its scores are times
// `scale` and plus `bias`; these two at batch * mask_batch + head * mask_head + ...
struct Scores {
  const float* s;
  const bool* seen;
  const float* bias;
  const unsigned* keep;  // of dropout, see keep_bits.cu
  int visible;
  long long column;
  float scale;
  __device__ __forceinline__ float operator()(int i) const {
    float x = s[i] * scale;
    if (seen && !seen[i * column]) return -INFINITE;
    return bias ? x + bias[i * column] : x;
  }
  __device__ __forceinline__ bool kept(int i) const { return !keep || keep[i / 32] >> i % 32 & 1; }
};
__device__ __forceinline__ Scores scores_of(long long row, const float* s, const unsigned* keep,
                                            const bool* seen, const float* bias, int heads,
                                            int count, int first, int L, int n, int words,
                                            bool is_causal, float scale, long long mask_batch,
                                            long long mask_head, long long mask_row,
                                            long long mask_column) {
  long long head = row / count;
  int query = first + (int)(row % count);
  long long at = head / heads * mask_batch + head % heads * mask_head + query * mask_row;
  return {s + row * n, seen ? seen + at : seen, bias ? bias + at : bias,
          keep ? keep + (head * L + query) * words : keep,
          is_causal ? min(n, query + 1) : n, mask_column, scale};
}

// p = softmax of each row, dropped and scaled
extern "C" __global__ void attention_weights(
    real* p, const float* s, const unsigned* keep, const bool* seen, const float* bias,
    long long rows, int heads, int count, int first, int L, int n, int words, bool is_causal,
    float scale, float keep_scale, long long mask_batch, long long mask_head, long long mask_row,
    long long mask_column) {
  Group g = group();
  if (g.row >= rows) return;
  Scores score = scores_of(g.row, s, keep, seen, bias, heads, count, first, L, n, words, is_causal,
                           scale, mask_batch, mask_head, mask_row, mask_column);
  Statistics all = statistics(g, score.visible, score);
  float factor = keep_scale / all.sum;
  p += g.row * n;
  for (int i = g.first; i < n; i += g.step) {
    float weight = i < score.visible ? expf(score(i) - all.top) * factor : 0.f;
    store(p + i, score.kept(i) ? weight : 0.f);
  }
}

// the same p, and ds = scale P (dp - D), D = sum of P dp, of dp (p's gradient) dropped and scaled
extern "C" __global__ void attention_weights_backward(
    real* p, real* ds, const float* s, const float* dp, const unsigned* keep, const bool* seen,
    const float* bias, long long rows, int heads, int count, int first, int L, int n, int words,
    bool is_causal, float scale, float keep_scale, long long mask_batch, long long mask_head,
    long long mask_row, long long mask_column) {
  Group g = group();
  if (g.row >= rows) return;
  Scores score = scores_of(g.row, s, keep, seen, bias, heads, count, first, L, n, words, is_causal,
                           scale, mask_batch, mask_head, mask_row, mask_column);
  Statistics all = statistics(g, score.visible, score);
  float factor = 1.f / all.sum, D = 0.f;
  p += g.row * n, ds += g.row * n, dp += g.row * n;
  for (int i = g.first; i < score.visible; i += g.step)
    if (score.kept(i)) D += expf(score(i) - all.top) * factor * keep_scale * dp[i];
  D = group_sum(D);
  for (int i = g.first; i < n; i += g.step) {
    float weight = i < score.visible ? expf(score(i) - all.top) * factor : 0.f;
    float kept = score.kept(i) ? keep_scale : 0.f;
    store(p + i, weight * kept);
    store(ds + i, i < score.visible ? scale * weight * (dp[i] * kept - D) : 0.f);
  }
}
