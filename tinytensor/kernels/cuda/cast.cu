// float32 to half precision and back, and transposed copies.

#define EACH 8  // numbers a thread

template <class To, class From>
__device__ __forceinline__ void cast(To* out, const From* x, long long n) {
  long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * EACH;
  if (i + EACH <= n && aligned(out) && aligned(x)) {
    float v[EACH];
    load_many(v, x + i);
    store_many(out + i, v);
  } else {
    for (int k = 0; k < EACH && i + k < n; k++) store(out + i + k, load(x + i + k));
  }
}
extern "C" __global__ void __launch_bounds__(256) narrow(real* out, const float* x, long long n) {
  cast(out, x, n);
}
extern "C" __global__ void __launch_bounds__(256) widen(float* out, const real* x, long long n) {
  cast(out, x, n);
}

// out[b, j, i] = x[b, i, j], x (batch, rows, columns): a tile goes through shared memory, so that
// both sides see whole rows of it. Blocks of 32 x 8 threads; grid (tiles across, tiles down, batch)
#define SIDE 32
extern "C" __global__ void __launch_bounds__(256) transpose(
    real* out, const real* x, long long rows, long long columns, long long batch) {
  __shared__ real tile[SIDE][SIDE + 4 / sizeof(real)];  // a word more: no two rows in one bank
  long long i0 = (long long)blockIdx.y * SIDE, j0 = (long long)blockIdx.x * SIDE;
  int down = (int)min(rows - i0, (long long)SIDE), across = (int)min(columns - j0, (long long)SIDE);
  int a = threadIdx.x;
  for (long long b = blockIdx.z; b < batch; b += gridDim.z) {
    const real* from = x + (b * rows + i0) * columns + j0;
    real* to = out + (b * columns + j0) * rows + i0;
    for (int k = threadIdx.y; k < down; k += 8) {
      if (a < across) tile[k][a] = from[k * columns + a];
    }
    __syncthreads();
    for (int k = threadIdx.y; k < across; k += 8) {
      if (a < down) to[k * rows + a] = tile[a][k];
    }
    __syncthreads();
  }
}
