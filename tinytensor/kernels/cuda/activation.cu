// Elementwise activations and their derivatives. A block has N * THREADS numbers, a thread N.

constexpr int N = Vector<real>::N, THREADS = 256;

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.f, 1.f + expf(-x)); }

// ---------------------------------------------------------------------------- the functions

// x/2 (1 + tanh u) = x sigmoid(2u),  u = sqrt(2/pi) (x + 0.044715 x^3)
struct GeluTanh {
  static constexpr float C = 1.5957691216f;  // 2 sqrt(2/pi)
  static __device__ __forceinline__ float value(float x) {
    return x * sigmoid(C * (x + 0.044715f * x * x * x));
  }
  static __device__ __forceinline__ float slope(float x) {
    float s = sigmoid(C * (x + 0.044715f * x * x * x));
    return s + x * (s * (1.f - s)) * (C * (1.f + 3.f * 0.044715f * x * x));
  }
};

// x Phi(x), Phi the normal distribution function
struct GeluErf {
  static __device__ __forceinline__ float Phi(float x) {
    return 0.5f * (1.f + erff(x * 0.7071067812f));
  }
  static __device__ __forceinline__ float value(float x) { return x * Phi(x); }
  static __device__ __forceinline__ float slope(float x) {
    return Phi(x) + x * (0.3989422804f * expf(-0.5f * x * x));
  }
};

struct Silu {
  static __device__ __forceinline__ float value(float x) { return x * sigmoid(x); }
  static __device__ __forceinline__ float slope(float x) {
    float s = sigmoid(x);
    return s * (1.f + x * (1.f - s));
  }
};

// a NaN stays one; the slope at the output is that at x
struct Relu {
  static __device__ __forceinline__ float value(float x) { return x < 0.f ? 0.f : x; }
  static __device__ __forceinline__ float slope(float x) { return x > 0.f ? 1.f : 0.f; }
};

// ---------------------------------------------------------------------------- over an array

// out = F(x) or, with gradients g to pass on, out = g F'(x)
template <class F, bool BACKWARD>
__device__ __forceinline__ void map(real* out, const real* g, const real* x, long long n) {
  long long first = (long long)blockIdx.x * N * THREADS;
  if (first + N * THREADS <= n && aligned(out) && aligned(x) && (!BACKWARD || aligned(g))) {
    long long i = first + threadIdx.x * N;
    Vector<real> v = load_vector(x + i), w;
    if (BACKWARD) w = load_vector(g + i);
#pragma unroll
    for (int k = 0; k < N; k++) {
      float at = load(v.at + k);
      store(v.at + k, BACKWARD ? load(w.at + k) * F::slope(at) : F::value(at));
    }
    store_vector(out + i, v);
  } else {
    for (int k = 0; k < N; k++) {
      long long i = first + k * THREADS + threadIdx.x;
      if (i >= n) return;
      float at = load(x + i);
      store(out + i, BACKWARD ? load(g + i) * F::slope(at) : F::value(at));
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS) gelu_tanh_forward(
    real* out, const real* x, long long n) {
  map<GeluTanh, false>(out, nullptr, x, n);
}
extern "C" __global__ void __launch_bounds__(THREADS) gelu_tanh_backward(
    real* dx, const real* g, const real* x, long long n) {
  map<GeluTanh, true>(dx, g, x, n);
}

extern "C" __global__ void __launch_bounds__(THREADS) gelu_erf_forward(
    real* out, const real* x, long long n) {
  map<GeluErf, false>(out, nullptr, x, n);
}
extern "C" __global__ void __launch_bounds__(THREADS) gelu_erf_backward(
    real* dx, const real* g, const real* x, long long n) {
  map<GeluErf, true>(dx, g, x, n);
}

extern "C" __global__ void __launch_bounds__(THREADS) silu_forward(
    real* out, const real* x, long long n) {
  map<Silu, false>(out, nullptr, x, n);
}
extern "C" __global__ void __launch_bounds__(THREADS) silu_backward(
    real* dx, const real* g, const real* x, long long n) {
  map<Silu, true>(dx, g, x, n);
}

extern "C" __global__ void __launch_bounds__(THREADS) relu_forward(
    real* out, const real* x, long long n) {
  map<Relu, false>(out, nullptr, x, n);
}
extern "C" __global__ void __launch_bounds__(THREADS) relu_backward(
    real* dx, const real* g, const real* out, long long n) {
  map<Relu, true>(dx, g, out, n);
}
