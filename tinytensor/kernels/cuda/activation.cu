// Elementwise activations (a first kernel; see activation.py).

// GELU, tanh approximation: out = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
extern "C" __global__ void gelu_tanh_forward(real* out, const real* x, long long n) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float v = load(x + i);
  store(out + i, 0.5f * v * (1.f + tanhf(0.7978845608f * (v + 0.044715f * v * v * v))));
}
