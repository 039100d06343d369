// Cross-entropy of rows of logits with its gradient: see cross_entropy.py for who calls what.
//     loss = ln(sum of e^(x - top)) + top - x[target],   d_x = (e^(x - top) / sum - one_hot(target)) g
// A team, a block for long rows and a warp for short ones, takes a row: once for the largest logit
// and the sum together (Milakov and Gimelshein 2018), once to write the gradient, when the row is
// still in the L2 cache. A target of no class gives NaN, which nobody has to wait for to see.

struct Block {
  long long row = blockIdx.x;
  int rank = threadIdx.x, size = blockDim.x;
  __device__ float max(float v) { return block_max(v); }
  __device__ float sum(float v) { return block_sum(v); }
};
struct Warp {
  long long row = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  int rank = threadIdx.x % 32, size = 32;
  __device__ float max(float v) { return warp_max(v); }
  __device__ float sum(float v) {
    v = warp_sum(v);
    __syncwarp();  // what was read before may be written
    return v;
  }
};

// half precision keeps 11 bits, and ex2.approx has 22
__device__ __forceinline__ float exponential(float v) {
  return sizeof(real) == 4 ? expf(v) : __expf(v);
}

// f(place, N numbers) for all of a row by the threads of a team; what f leaves in them goes to out,
// unless that is null. 16 bytes at a time, but for the ends
template <class Team, class F>
__device__ __forceinline__ void visit(Team team, const real* row, real* out, long long n, F f) {
  constexpr int N = Vector<real>::N;
  long long head = (16 - (long long)((unsigned long long)row & 15)) % 16 / (int)sizeof(real);
  if (out && (((unsigned long long)row ^ (unsigned long long)out) & 15)) head = n;
  if (head > n) head = n;
  long long vectors = (n - head) / N, tail = head + vectors * N;
  auto single = [&](long long i) {
    float v[1];
    load_many(v, row + i);
    f(i, v);
    if (out) store_many(out + i, v);
  };
  for (long long i = team.rank; i < head; i += team.size) single(i);
  for (long long k = team.rank; k < vectors; k += team.size) {
    long long i = head + k * N;
    float v[N];
    load_many(v, row + i);
    f(i, v);
    if (out) store_many(out + i, v);
  }
  for (long long i = tail + team.rank; i < n; i += team.size) single(i);
}

// loss and lse of a row; then, unless d_logits is null, its gradient for g. That may take the place
// of the logits
template <class Team>
__device__ __forceinline__ void forward(Team team, float* losses, float* lse, const real* logits,
                                        real* d_logits, const long long* targets, float g,
                                        long long n, long long classes, long long step,
                                        long long ignore_index) {
  if (team.row >= n) return;
  const real* row = logits + team.row * step;
  long long target = targets[team.row];
  bool kept = target != ignore_index, good = 0 <= target && target < classes;
  float own = kept && good ? load(row + target) : 0.f;
  float top = -INFINITE, total = 0.f;
  visit(team, row, (real*)nullptr, classes, [&](long long, auto& v) {
    constexpr int N = sizeof(v) / sizeof(float);
    float high = v[0];
#pragma unroll
    for (int k = 1; k < N; k++) high = fmaxf(high, v[k]);
    if (high > top) {
      total *= exponential(top - high);
      top = high;
    }
    float shift = top == -INFINITE ? 0.f : top;  // -inf - -inf would be NaN
#pragma unroll
    for (int k = 0; k < N; k++) total += exponential(v[k] - shift);
  });
  float highest = team.max(top);
  if (top != highest) total *= exponential(top - highest);
  total = team.sum(total);
  if (team.rank == 0) {
    float log_total = logf(total);
    losses[team.row] = !kept ? 0.f : good ? log_total + (highest - own) : UNDEFINED;
    lse[team.row] = log_total + highest;
  }
  if (!d_logits) return;
  float rate = good ? g / total : UNDEFINED;
  visit(team, row, d_logits + team.row * step, classes, [&](long long i, auto& v) {
    constexpr int N = sizeof(v) / sizeof(float);
#pragma unroll
    for (int k = 0; k < N; k++) {
      v[k] = kept ? exponential(v[k] - highest) * rate - (i + k == target ? g : 0.f) : 0.f;
    }
  });
}

// d_x from lse, and g per row
template <class Team>
__device__ __forceinline__ void backward(Team team, real* d_logits, const float* g,
                                         const real* logits, const long long* targets,
                                         const float* lse, long long n, long long classes,
                                         long long ignore_index) {
  if (team.row >= n) return;
  long long target = targets[team.row], place = team.row * classes;
  bool kept = target != ignore_index, good = 0 <= target && target < classes;
  float rate = good ? g[team.row] : UNDEFINED, shift = lse[team.row];
  visit(team, logits + place, d_logits + place, classes, [&](long long i, auto& v) {
    constexpr int N = sizeof(v) / sizeof(float);
#pragma unroll
    for (int k = 0; k < N; k++) {
      v[k] = kept ? (exponential(v[k] - shift) - (i + k == target ? 1.f : 0.f)) * rate : 0.f;
    }
  });
}

extern "C" __global__ void __launch_bounds__(1024) cross_entropy_by_block(
    float* losses, float* lse, const real* logits, const long long* targets, long long n,
    long long classes, long long step, long long ignore_index) {
  forward(Block(), losses, lse, logits, nullptr, targets, 0.f, n, classes, step, ignore_index);
}
extern "C" __global__ void __launch_bounds__(1024) cross_entropy_by_warp(
    float* losses, float* lse, const real* logits, const long long* targets, long long n,
    long long classes, long long step, long long ignore_index) {
  forward(Warp(), losses, lse, logits, nullptr, targets, 0.f, n, classes, step, ignore_index);
}
extern "C" __global__ void __launch_bounds__(1024) cross_entropy_in_place_by_block(
    float* losses, float* lse, real* logits, const long long* targets, float g,
    long long n, long long classes, long long step, long long ignore_index) {
  forward(Block(), losses, lse, logits, logits, targets, g, n, classes, step, ignore_index);
}
extern "C" __global__ void __launch_bounds__(1024) cross_entropy_in_place_by_warp(
    float* losses, float* lse, real* logits, const long long* targets, float g,
    long long n, long long classes, long long step, long long ignore_index) {
  forward(Warp(), losses, lse, logits, logits, targets, g, n, classes, step, ignore_index);
}
extern "C" __global__ void __launch_bounds__(1024) cross_entropy_backward_by_block(
    real* d_logits, const float* g, const real* logits, const long long* targets, const float* lse,
    long long n, long long classes, long long ignore_index) {
  backward(Block(), d_logits, g, logits, targets, lse, n, classes, ignore_index);
}
extern "C" __global__ void __launch_bounds__(1024) cross_entropy_backward_by_warp(
    real* d_logits, const float* g, const real* logits, const long long* targets, const float* lse,
    long long n, long long classes, long long ignore_index) {
  backward(Warp(), d_logits, g, logits, targets, lse, n, classes, ignore_index);
}

// out = (sum of the losses) / divisor, by one block in a fixed order; no divisor: 1
extern "C" __global__ void __launch_bounds__(1024) mean_loss(
    float* out, const float* losses, const long long* divisor, long long n) {
  float total = 0.f;
  for (long long i = threadIdx.x; i < n; i += blockDim.x) total += losses[i];
  total = block_sum(total);
  if (threadIdx.x == 0) out[0] = total / (divisor ? (float)divisor[0] : 1.f);
}

// x *= g / (divisor scale); x comes of an allocation of its own
extern "C" __global__ void __launch_bounds__(256) scale_gradient(
    real* x, const float* g, const long long* divisor, float scale, long long n) {
  constexpr int N = Vector<real>::N;
  float rate = g[0] / ((divisor ? (float)divisor[0] : 1.f) * scale);
  long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * N;
  if (i + N <= n) {
    float v[N];
    load_many(v, x + i);
#pragma unroll
    for (int k = 0; k < N; k++) v[k] *= rate;
    store_many(x + i, v);
  } else {
    for (; i < n; i++) store(x + i, load(x + i) * rate);
  }
}
