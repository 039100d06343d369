// LayerNorm and RMSNorm, forward and backward.
//
// A row belongs to blockDim.x threads, whole warps; a block has blockDim.y rows at a time. Each
// thread keeps its share of a row, up to KEPT numbers, in registers from the one read to the one
// write: a row has at most KEPT * blockDim.x numbers. Where there is no `mean` it is RMSNorm.

constexpr int KEPT_FORWARD = 24, KEPT_BACKWARD = 16;
constexpr int N = Vector<real>::N;  // side by side: of such runs, a thread has each blockDim.x-th

__device__ __forceinline__ int column(int run) {
  return (run * (int)blockDim.x + (int)threadIdx.x) * N;
}

// sums over the threads of a row; each of them gets all K
template <int K>
__device__ __forceinline__ void row_sums(float (&v)[K]) {
#pragma unroll
  for (int k = 0; k < K; k++) v[k] = warp_sum(v[k]);
  if (blockDim.x == 32) return;
  __shared__ float part[K][32];
  int warps = blockDim.x / 32, first = threadIdx.y * warps;
  if (threadIdx.x % 32 == 0)
    for (int k = 0; k < K; k++) part[k][first + threadIdx.x / 32] = v[k];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < K; k++) {
    v[k] = 0.f;
    for (int w = 0; w < warps; w++) v[k] += part[k][first + w];
  }
  __syncthreads();  // the next call writes part again
}

// ---------------------------------------------------------------------------- forward

// out = (t - mean) * inv_std * weight + bias of t = x + residual, which is stored as `total`.
// WIDE: C is a multiple of N, and every pointer of 16 bytes
template <bool WIDE>
__device__ __forceinline__ void forward(
    real* out, real* total, float* mean, float* inv_std, const real* x, const real* residual,
    const float* weight, const float* bias, long long rows, int C, float eps) {
  constexpr int RUNS = KEPT_FORWARD / N;
  long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y, start = row * C;
  int width = row < rows ? C : 0;  // a row too many does nothing, but is there at each barrier
  Run<real, N> t[RUNS];
#pragma unroll
  for (int r = 0; r < RUNS; r++) {
    int c = column(r);
    if (c < width) t[r] = load_run<N, WIDE>(x + start + c, width - c);
  }
  if (residual) {
    Run<real, N> other[RUNS];
#pragma unroll
    for (int r = 0; r < RUNS; r++) {
      int c = column(r);
      if (c < width) other[r] = load_run<N, WIDE>(residual + start + c, width - c);
    }
#pragma unroll
    for (int r = 0; r < RUNS; r++) {
      int c = column(r);
      if (c >= width) continue;
#pragma unroll
      for (int i = 0; i < N; i++) store(t[r].at + i, load(t[r].at + i) + load(other[r].at + i));
      store_run<N, WIDE>(total + start + c, t[r], width - c);
    }
  }

  float m = 0.f;
  if (mean) {
    float sum[1] = {0.f};
#pragma unroll
    for (int r = 0; r < RUNS; r++)
#pragma unroll
      for (int i = 0; i < N; i++)
        if (column(r) < width) sum[0] += load(t[r].at + i);
    row_sums(sum);
    m = sum[0] / C;
  }
  float squares[1] = {0.f};
#pragma unroll
  for (int r = 0; r < RUNS; r++)
#pragma unroll
    for (int i = 0; i < N; i++)
      if (column(r) + (WIDE ? 0 : i) < width) {
        float d = load(t[r].at + i) - m;
        squares[0] += d * d;
      }
  row_sums(squares);
  float inv = 1.f / sqrtf(squares[0] / C + eps);
  if (threadIdx.x == 0 && width) {
    if (mean) mean[row] = m;
    inv_std[row] = inv;
  }

#pragma unroll
  for (int r = 0; r < RUNS; r++) {
    int c = column(r);
    if (c >= width) continue;
    Run<float, N> w, b;
    if (weight) w = load_run<N, WIDE>(weight + c, width - c);
    if (bias) b = load_run<N, WIDE>(bias + c, width - c);
#pragma unroll
    for (int i = 0; i < N; i++) {
      float v = (load(t[r].at + i) - m) * inv;
      if (weight) v *= w.at[i];
      if (bias) v += b.at[i];
      store(t[r].at + i, v);
    }
    store_run<N, WIDE>(out + start + c, t[r], width - c);
  }
}

extern "C" __global__ void __launch_bounds__(512) norm_forward(
    real* out, real* total, float* mean, float* inv_std, const real* x, const real* residual,
    const float* weight, const float* bias, long long rows, int C, float eps) {
  if (C % N == 0 && aligned(out) && aligned(total) && aligned(x) && aligned(residual) &&
      aligned(weight) && aligned(bias))
    forward<true>(out, total, mean, inv_std, x, residual, weight, bias, rows, C, eps);
  else
    forward<false>(out, total, mean, inv_std, x, residual, weight, bias, rows, C, eps);
}

// ---------------------------------------------------------------------------- backward

// dx = inv_std * (g_hat - mean of g_hat - x_hat * mean of g_hat x_hat) + g_total,
// g_hat = g * weight, x_hat = (x - mean) * inv_std.  sums[block] = of this block's rows, the sum of
// g x_hat, C numbers, and of g, C more: the gradients of weight and bias, to be added up
template <bool WIDE>
__device__ __forceinline__ void backward(
    real* dx, float* sums, const real* g, const real* g_total, const real* x, const float* weight,
    const float* mean, const float* inv_std, long long rows, int C) {
  constexpr int RUNS = KEPT_BACKWARD / N;
  float d_weight[RUNS][N] = {}, d_bias[RUNS][N] = {};
  for (long long first = (long long)blockIdx.x * blockDim.y; first < rows;
       first += (long long)gridDim.x * blockDim.y) {
    long long row = first + threadIdx.y, start = row * C;
    int width = row < rows ? C : 0;
    Run<real, N> own[RUNS], at[RUNS], further[RUNS];
#pragma unroll
    for (int r = 0; r < RUNS; r++) {
      int c = column(r);
      if (c >= width) continue;
      own[r] = load_run<N, WIDE>(g + start + c, width - c);
      at[r] = load_run<N, WIDE>(x + start + c, width - c);
      if (g_total) further[r] = load_run<N, WIDE>(g_total + start + c, width - c);
    }
    float inv = width ? inv_std[row] : 0.f, m = width && mean ? mean[row] : 0.f;
    float sum[2] = {0.f, 0.f};  // of g_hat, of g_hat x_hat
#pragma unroll
    for (int r = 0; r < RUNS; r++) {
      int c = column(r);
      if (c >= width) continue;
      Run<float, N> w;
      if (weight) w = load_run<N, WIDE>(weight + c, width - c);
#pragma unroll
      for (int i = 0; i < N; i++) {
        float v = load(own[r].at + i), x_hat = (load(at[r].at + i) - m) * inv;
        d_weight[r][i] += v * x_hat;
        d_bias[r][i] += v;
        if (weight) v *= w.at[i];
        sum[0] += v;
        sum[1] += v * x_hat;
      }
    }
    row_sums(sum);
    float shift = mean ? sum[0] / C : 0.f, slope = sum[1] / C;
#pragma unroll
    for (int r = 0; r < RUNS; r++) {
      int c = column(r);
      if (c >= width) continue;
      Run<float, N> w;
      if (weight) w = load_run<N, WIDE>(weight + c, width - c);
#pragma unroll
      for (int i = 0; i < N; i++) {
        float v = load(own[r].at + i), x_hat = (load(at[r].at + i) - m) * inv;
        if (weight) v *= w.at[i];
        v = inv * (v - shift - x_hat * slope);
        if (g_total) v += load(further[r].at + i);
        store(own[r].at + i, v);
      }
      store_run<N, WIDE>(dx + start + c, own[r], width - c);
    }
  }
  if (!sums) return;

  DYNAMIC_SHARED(float, part);  // (blockDim.y, 2, C)
#pragma unroll
  for (int r = 0; r < RUNS; r++)
#pragma unroll
    for (int i = 0; i < N; i++) {
      int c = column(r) + i;
      if (c >= C) continue;
      part[2 * threadIdx.y * C + c] = d_weight[r][i];
      part[(2 * threadIdx.y + 1) * C + c] = d_bias[r][i];
    }
  __syncthreads();
  for (int c = threadIdx.y * blockDim.x + threadIdx.x; c < 2 * C; c += blockDim.y * blockDim.x) {
    float sum = 0.f;
    for (int y = 0; y < blockDim.y; y++) sum += part[2 * y * C + c];
    sums[(long long)blockIdx.x * 2 * C + c] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(512) norm_backward(
    real* dx, float* sums, const real* g, const real* g_total, const real* x, const float* weight,
    const float* mean, const float* inv_std, long long rows, int C) {
  if (C % N == 0 && aligned(dx) && aligned(g) && aligned(g_total) && aligned(x) && aligned(weight))
    backward<true>(dx, sums, g, g_total, x, weight, mean, inv_std, rows, C);
  else
    backward<false>(dx, sums, g, g_total, x, weight, mean, inv_std, rows, C);
}
