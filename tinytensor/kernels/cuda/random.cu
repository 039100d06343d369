// What tinytensor/random.py draws, a block of four words a thread.

template <class T, class F>
__device__ __forceinline__ void fill(T* out, const unsigned long long* base,
                                     unsigned long long seed, unsigned long long block,
                                     long long n, F f) {
  long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (4 * t >= n) return;
  Words words = words_at(base, seed, block, t);
#pragma unroll
  for (int k = 0; k < 4; k++) {
    if (4 * t + k < n) out[4 * t + k] = f(words.at[k]);
  }
}

extern "C" __global__ void __launch_bounds__(256) words(
    unsigned long long* out, const unsigned long long* base, unsigned long long seed,
    unsigned long long block, long long n) {
  fill(out, base, seed, block, n, [](unsigned long long w) { return w; });
}
extern "C" __global__ void __launch_bounds__(256) uniform(
    float* out, const unsigned long long* base, unsigned long long seed, unsigned long long block,
    long long n) {
  fill(out, base, seed, block, n,
       [](unsigned long long w) { return (float)(w >> 40) * 5.9604644775390625e-8f; });  // 2^-24
}
extern "C" __global__ void __launch_bounds__(256) uniform_double(
    double* out, const unsigned long long* base, unsigned long long seed, unsigned long long block,
    long long n) {
  fill(out, base, seed, block, n,
       [](unsigned long long w) { return (double)(w >> 11) * 1.1102230246251565e-16; });  // 2^-53
}
extern "C" __global__ void __launch_bounds__(256) integers(
    long long* out, const unsigned long long* base, unsigned long long seed,
    unsigned long long block, unsigned long long range, long long low, long long n) {
  fill(out, base, seed, block, n,
       [=](unsigned long long w) { return (long long)(w % range) + low; });
}

// Box and Muller's: word i of the stream and word n + i make number i
template <class T>
__device__ __forceinline__ void fill_normal(T* out, const unsigned long long* base,
                                            unsigned long long seed, unsigned long long block,
                                            long long n) {
  long long t = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (4 * t >= n) return;
  Words first = words_at(base, seed, block, t);
  Words low = words_at(base, seed, block, t + n / 4), high = low;
  int skip = n % 4;  // word 4 t + n + k is k + skip of these two blocks
  if (skip) high = words_at(base, seed, block, t + n / 4 + 1);
#pragma unroll
  for (int k = 0; k < 4; k++) {
    unsigned long long second = 0;
#pragma unroll
    for (int s = 0; s < 4; s++) {
      if (s == skip) second = k + s < 4 ? low.at[(k + s) % 4] : high.at[(k + s) % 4];
    }
    double u = ((double)(first.at[k] >> 11) + 1.0) * 1.1102230246251565e-16;  // (0, 1]
    double v = (double)(second >> 11) * 1.1102230246251565e-16;
    if (4 * t + k < n) out[4 * t + k] = (T)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
  }
}
extern "C" __global__ void __launch_bounds__(256) normal(
    float* out, const unsigned long long* base, unsigned long long seed, unsigned long long block,
    long long n) {
  fill_normal(out, base, seed, block, n);
}
extern "C" __global__ void __launch_bounds__(256) normal_double(
    double* out, const unsigned long long* base, unsigned long long seed, unsigned long long block,
    long long n) {
  fill_normal(out, base, seed, block, n);
}
