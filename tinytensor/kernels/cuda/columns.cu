// Sums over the rows of a matrix, such as a bias's gradient: always added in the same order.

constexpr int N = Vector<real>::N;  // columns of a thread
constexpr int ROWS = 16;            // that a block, 32 x ROWS threads, reads at a time

// sums[y] = sum of the rows of x whose turn is y, of gridDim.y
template <bool WIDE>
__device__ __forceinline__ void sum(float* sums, const real* x, long long rows, int C) {
  __shared__ float part[ROWS][32 * N];
  int first = blockIdx.x * 32 * N, c = first + threadIdx.x * N;
  float own[N] = {};
  if (c < C)
#pragma unroll 4
    for (long long r = blockIdx.y * ROWS + threadIdx.y; r < rows; r += gridDim.y * ROWS) {
      Run<real, N> v = load_run<N, WIDE>(x + r * C + c, C - c);
#pragma unroll
      for (int i = 0; i < N; i++) own[i] += load(v.at + i);
    }
#pragma unroll
  for (int i = 0; i < N; i++) part[threadIdx.y][threadIdx.x * N + i] = own[i];
  __syncthreads();
  c = threadIdx.y * 32 + threadIdx.x;
  if (c >= 32 * N || first + c >= C) return;
  float total = 0.f;
#pragma unroll
  for (int y = 0; y < ROWS; y++) total += part[y][c];
  sums[(long long)blockIdx.y * C + first + c] = total;
}

extern "C" __global__ void __launch_bounds__(512) column_sums(
    float* sums, const real* x, long long rows, int C) {
  if (C % N == 0 && aligned(x))
    sum<true>(sums, x, rows, C);
  else
    sum<false>(sums, x, rows, C);
}
