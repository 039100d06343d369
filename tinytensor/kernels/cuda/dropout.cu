// out = x * scale where a random half word is at least `threshold`, else x * 0: keep_mask() of
// tinytensor/random.py, which is drawn again in backward. A block of words serves 8 numbers; that,
// and not memory, is what it costs.
extern "C" __global__ void __launch_bounds__(256) dropout(
    real* out, const real* x, const unsigned long long* base, unsigned long long seed,
    unsigned long long block, unsigned long long threshold, float scale, long long n) {
  long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x, start = 8 * t;
  if (start >= n) return;
  Words words = words_at(base, seed, block, t);
  float factor[8];
#pragma unroll
  for (int k = 0; k < 8; k++) {
    factor[k] = (words.at[k / 2] >> k % 2 * 32 & 0xffffffffull) >= threshold ? scale : 0.f;
  }
  if (start + 8 <= n && aligned(x) && aligned(out)) {
    float v[8];
    load_many(v, x + start);
#pragma unroll
    for (int k = 0; k < 8; k++) v[k] *= factor[k];
    store_many(out + start, v);
  } else {
#pragma unroll
    for (int k = 0; k < 8; k++) {
      if (start + k < n) store(out + start + k, load(x + start + k) * factor[k]);
    }
  }
}
