// All tensors of an optimizer in one launch: the norm of their gradients, scaling, Adam and AdamW.
//
// Every tensor is cut into chunks, and a block takes one: chunks (blocks, 2) says of each block
// which tensor, and which chunk of it; sizes (tensors) their elements. Gradients are new arrays in
// every step: their addresses come by value, so that nothing is uploaded, and a captured graph
// keeps them. Whatever a step computes is read in device memory, so that the host never waits.

#define MANY 448     // tensors a launch: addresses by value may take 4 KB, less the rest
#define CHUNK 8192   // elements a block
#define THREADS 256

struct Pointers {
  float* at[MANY];
};

struct Part {
  int tensor, count;
  long long start;
};

__device__ __forceinline__ Part part_of(const int* chunks, const long long* sizes) {
  int tensor = chunks[2 * blockIdx.x];
  long long start = (long long)chunks[2 * blockIdx.x + 1] * CHUNK, left = sizes[tensor] - start;
  return {tensor, left < CHUNK ? (int)left : CHUNK, start};
}

__device__ __forceinline__ bool finite(float v) { return fabsf(v) < INFINITE; }  // nor NaN

// partial[block] = the sum of the squares of its chunk
extern "C" __global__ void __launch_bounds__(THREADS) sum_squares(
    float* partial, const int* chunks, const long long* sizes, const Pointers gradients) {
  Part part = part_of(chunks, sizes);
  const float* g = gradients.at[part.tensor] + part.start;
  float sum = 0.f;
  int whole = aligned(g) ? part.count / 4 : 0;  // vectors
  for (int i = threadIdx.x; i < whole; i += THREADS) {
    Vector<float> v = load_vector(g + 4 * i);
    sum += v.at[0] * v.at[0] + v.at[1] * v.at[1] + (v.at[2] * v.at[2] + v.at[3] * v.at[3]);
  }
  for (int i = 4 * whole + threadIdx.x; i < part.count; i += THREADS) sum += g[i] * g[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// norm = sqrt(sum of partial), by one block: always in the same order
extern "C" __global__ void __launch_bounds__(1024) total_norm(
    float* norm, const float* partial, int n) {
  float sum = 0.f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *norm = sqrtf(sum);
}

// gradients *= factor; found_inf, if there is one, becomes 1 where a gradient was not finite
extern "C" __global__ void __launch_bounds__(THREADS) scale(
    const int* chunks, const long long* sizes, const Pointers gradients, const float* factor,
    float* found_inf) {
  float f = *factor;
  if (f == 1.f && !found_inf) return;
  Part part = part_of(chunks, sizes);
  float* g = gradients.at[part.tensor] + part.start;
  bool sound = true;
  int whole = aligned(g) ? part.count / 4 : 0;
  for (int i = threadIdx.x; i < whole; i += THREADS) {
    Vector<float> v = load_vector(g + 4 * i);
#pragma unroll
    for (int k = 0; k < 4; k++) sound &= finite(v.at[k]), v.at[k] *= f;
    store_vector(g + 4 * i, v);
  }
  for (int i = 4 * whole + threadIdx.x; i < part.count; i += THREADS) {
    sound &= finite(g[i]);
    g[i] *= f;
  }
  if (found_inf && !sound) *found_inf = 1.f;  // whoever writes, writes the same
}

// What one step is for one number; see tinytensor/optim/adam.py, whose formula it is
struct Step {
  float beta1, beta2, rest1, rest2;  // rest = 1 - beta
  float keep, size, small;           // of x, of the step, of what is added to the root
  float decay, inverse;              // L2 penalty, what gradients are multiplied by
};
__device__ __forceinline__ void update(float& x, float g, float& m, float& v, float* top, Step s) {
  g *= s.inverse;
  g += s.decay * x;
  m = s.beta1 * m + s.rest1 * g;
  v = s.beta2 * v + s.rest2 * (g * g);
  float most = v;
  if (top) most = *top = fmaxf(*top, v);
  x = s.keep * x - s.size * (m / (sqrtf(most) + s.small));
}

// addresses (4, tensors): of parameters, means, means of squares, and, with amsgrad, their maxima.
// steps (tensors): how many each has made, counted here. finished: 0, and 0 again afterwards.
// grad_scale: what gradients are to be divided by. Unless found_inf is 0, nothing is changed.
extern "C" __global__ void __launch_bounds__(THREADS) adamw(
    const int* chunks, const long long* sizes, const unsigned long long* addresses, int tensors,
    const Pointers gradients, long long* steps, unsigned* finished, const float* lr,
    const float* grad_scale, const float* found_inf, float beta1, float beta2, float rest1,
    float rest2, float log_beta1, float log_beta2, float eps, float weight_decay, bool decoupled,
    bool amsgrad, bool maximize) {
  if (found_inf && *found_inf != 0.f) return;  // NaN as well
  Part part = part_of(chunks, sizes);
  float* own[4];
#pragma unroll
  for (int i = 0; i < 4; i++)
    own[i] = (float*)addresses[(long long)i * tensors + part.tensor] + part.start;
  const float* g = gradients.at[part.tensor] + part.start;
  float *x = own[0], *m = own[1], *v = own[2], *top = own[3], rate = *lr;

  // 1 - beta^t = -expm1(t ln beta): exact for small t, where 1 - beta^t would cancel
  float t = (float)(steps[part.tensor] + 1);
  float correction1 = -expm1f(t * log_beta1), correction2 = sqrtf(-expm1f(t * log_beta2));
  Step s = {beta1, beta2, rest1, rest2};
  s.keep = decoupled ? 1.f - rate * weight_decay : 1.f;
  s.decay = decoupled ? 0.f : weight_decay;
  s.size = rate * correction2 / correction1;
  s.small = eps * correction2;
  s.inverse = (grad_scale ? 1.f / *grad_scale : 1.f) * (maximize ? -1.f : 1.f);

  bool vectors = aligned(x) && aligned(g) && aligned(m) && aligned(v) && (!amsgrad || aligned(top));
  int whole = vectors ? part.count / 4 : 0;
  for (int i = threadIdx.x; i < whole; i += THREADS) {
    Vector<float> X = load_vector(x + 4 * i), G = load_vector(g + 4 * i);
    Vector<float> M = load_vector(m + 4 * i), V = load_vector(v + 4 * i), T;
    if (amsgrad) T = load_vector(top + 4 * i);
#pragma unroll
    for (int k = 0; k < 4; k++)
      update(X.at[k], G.at[k], M.at[k], V.at[k], amsgrad ? T.at + k : nullptr, s);
    store_vector(x + 4 * i, X), store_vector(m + 4 * i, M), store_vector(v + 4 * i, V);
    if (amsgrad) store_vector(top + 4 * i, T);
  }
  for (int i = 4 * whole + threadIdx.x; i < part.count; i += THREADS)
    update(x[i], g[i], m[i], v[i], amsgrad ? top + i : nullptr, s);

  // the last block to come here counts the step: by then every block has read steps
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(finished, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  for (int i = threadIdx.x; i < tensors; i += THREADS) steps[i]++;
  if (threadIdx.x == 0) *finished = 0;
}
