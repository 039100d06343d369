// What every kernel of ours may use: NVRTC and the CPU of tests/cuda_on_cpu compile it alike.
// It stands in front of each source, which is compiled once per storage type:
//     real    float, __half or __nv_bfloat16: how numbers lie in memory. Arithmetic is in float.
#pragma once

#ifndef CUDA_ON_CPU  // tests/cuda_on_cpu/shim.h has its own: this is the only place with PTX
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define DYNAMIC_SHARED(T, name)                                     \
  extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(dynamic_shared)

// D (16 x 8, float) += A (16 x 16, row-major) B (16 x 8, column-major), by one warp
__device__ __forceinline__ void mma_bf16(float* d, const unsigned* a, const unsigned* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_f16(float* d, const unsigned* a, const unsigned* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},"
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 16 bytes from global to shared memory, later: after copy_wait<N>() all but the last N committed
// groups have arrived for this thread, after a barrier for all
__device__ __forceinline__ void copy_async(void* shared, const void* global) {
  unsigned s = (unsigned)__cvta_generic_to_shared(shared);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(s), "l"(global) : "memory");
}
// the same, or 16 bytes of zeros, `global` left unread
__device__ __forceinline__ void copy_async_or_zero(void* shared, const void* global, bool copy) {
  unsigned s = (unsigned)__cvta_generic_to_shared(shared);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(s), "l"(global),
               "r"(copy ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// four 8 x 8 matrices of 16-bit numbers; lane l gives the address of row l % 8 of matrix l / 8
__device__ __forceinline__ void load_matrix(unsigned* r, const void* row) {
  unsigned s = (unsigned)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(s)
               : "memory");
}
__device__ __forceinline__ void load_matrix_transposed(unsigned* r, const void* row) {
  unsigned s = (unsigned)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(s)
               : "memory");
}
#endif

#define ALL_LANES 0xffffffffu
#define INFINITE __int_as_float(0x7f800000)
#define UNDEFINED __int_as_float(0x7fffffff)  // NaN

// ---------------------------------------------------------------------------- numbers in memory

__device__ __forceinline__ float load(const float* p) { return *p; }
__device__ __forceinline__ float load(const __half* p) { return __half2float(*p); }
__device__ __forceinline__ float load(const __nv_bfloat16* p) { return __bfloat162float(*p); }
__device__ __forceinline__ void store(float* p, float v) { *p = v; }
__device__ __forceinline__ void store(__half* p, float v) { *p = __float2half_rn(v); }
__device__ __forceinline__ void store(__nv_bfloat16* p, float v) { *p = __float2bfloat16_rn(v); }

__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
  __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<unsigned*>(&v);
}
__device__ __forceinline__ unsigned pack_f16(float low, float high) {
  __half2 v = __floats2half2_rn(low, high);
  return *reinterpret_cast<unsigned*>(&v);
}

// what tensor cores do, by the type of their operands
template <class T>
struct Half;
template <>
struct Half<__nv_bfloat16> {
  static __device__ __forceinline__ unsigned pack(float low, float high) {
    return pack_bf16(low, high);
  }
  static __device__ __forceinline__ void mma(float* d, const unsigned* a, const unsigned* b) {
    mma_bf16(d, a, b);
  }
};
template <>
struct Half<__half> {
  static __device__ __forceinline__ unsigned pack(float low, float high) {
    return pack_f16(low, high);
  }
  static __device__ __forceinline__ void mma(float* d, const unsigned* a, const unsigned* b) {
    mma_f16(d, a, b);
  }
};

// 16 bytes at once: N numbers of T. Only where aligned<T>(p)
template <class T>
struct alignas(16) Vector {
  static constexpr int N = 16 / sizeof(T);
  T at[N];
};
template <class T>
__device__ __forceinline__ bool aligned(const T* p) {
  return ((unsigned long long)p & 15) == 0;
}
template <class T>
__device__ __forceinline__ Vector<T> load_vector(const T* p) {
  return *reinterpret_cast<const Vector<T>*>(p);
}
template <class T>
__device__ __forceinline__ void store_vector(T* p, const Vector<T>& v) {
  *reinterpret_cast<Vector<T>*>(p) = v;
}

// N numbers that lie side by side. WIDE: all of them are there, and p is `aligned`; else `count`,
// and the others are 0
template <class T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Run {
  T at[N];
};
template <int N, bool WIDE, class T>
__device__ __forceinline__ Run<T, N> load_run(const T* p, int count) {
  if constexpr (WIDE) {
    return *reinterpret_cast<const Run<T, N>*>(p);
  } else {
    Run<T, N> v;
#pragma unroll
    for (int i = 0; i < N; i++) store(v.at + i, i < count ? load(p + i) : 0.f);
    return v;
  }
}
template <int N, bool WIDE, class T>
__device__ __forceinline__ void store_run(T* p, const Run<T, N>& v, int count) {
  if constexpr (WIDE) {
    *reinterpret_cast<Run<T, N>*>(p) = v;
  } else {
#pragma unroll
    for (int i = 0; i < N; i++)
      if (i < count) p[i] = v.at[i];
  }
}

// N numbers, a multiple of Vector<T>::N, from and to where aligned<T>(p); one number from anywhere
template <int N, class T>
__device__ __forceinline__ void load_many(float (&v)[N], const T* p) {
  if constexpr (N == 1) {
    v[0] = load(p);
  } else {
#pragma unroll
    for (int i = 0; i < N; i += Vector<T>::N) {
      Vector<T> part = load_vector(p + i);
#pragma unroll
      for (int k = 0; k < Vector<T>::N; k++) v[i + k] = load(&part.at[k]);
    }
  }
}
template <int N, class T>
__device__ __forceinline__ void store_many(T* p, const float (&v)[N]) {
  if constexpr (N == 1) {
    store(p, v[0]);
  } else {
#pragma unroll
    for (int i = 0; i < N; i += Vector<T>::N) {
      Vector<T> part;
#pragma unroll
      for (int k = 0; k < Vector<T>::N; k++) store(&part.at[k], v[i + k]);
      store_vector(p + i, part);
    }
  }
}

// ---------------------------------------------------------------------------- sums and maxima

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
  return v;
}
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, o));
  return v;
}

// over a block of whole warps; every thread gets it
__device__ __forceinline__ float block_sum(float v) {
  __shared__ float part[32];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  v = warp_sum(v);
  if (lane == 0) part[warp] = v;
  __syncthreads();
  v = warp_sum(lane < blockDim.x / 32 ? part[lane] : 0.f);
  __syncthreads();  // the next call writes part again
  return v;
}
__device__ __forceinline__ float block_max(float v) {
  __shared__ float part[32];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  v = warp_max(v);
  if (lane == 0) part[warp] = v;
  __syncthreads();
  v = warp_max(lane < blockDim.x / 32 ? part[lane] : -INFINITE);
  __syncthreads();
  return v;
}

// ---------------------------------------------------------------------------- random numbers

// Philox4x64-10 (Salmon et al. 2011), block `block` of the stream of `seed`: the four words that
// tinytensor/random.py gives there, NumPy's counting included
struct Words {
  unsigned long long at[4];
};
__device__ __forceinline__ Words philox(unsigned long long seed, unsigned long long block) {
  const unsigned long long M0 = 0xD2E7470EE14C6C93ull, M1 = 0xCA5A826395121157ull;
  const unsigned long long W0 = 0x9E3779B97F4A7C15ull, W1 = 0xBB67AE8584CAA73Bull;
  unsigned long long c0 = block + 1, c1 = 0, c2 = 0, c3 = 0, k0 = seed, k1 = 0;
#pragma unroll
  for (int round = 0; round < 10; round++) {
    unsigned long long high0 = __umul64hi(c0, M0), high1 = __umul64hi(c2, M1);
    unsigned long long low0 = c0 * M0, low1 = c2 * M1;
    c0 = high1 ^ c1 ^ k0, c1 = low1, c2 = high0 ^ c3 ^ k1, c3 = low0;
    k0 += W0, k1 += W1;
  }
  return {{c0, c1, c2, c3}};
}

// the words at a Key of tinytensor/random.py, `offset` blocks on. Its base, {seed, block} in device
// memory, is null but in a captured graph
__device__ __forceinline__ Words words_at(const unsigned long long* base, unsigned long long seed,
                                          unsigned long long block, long long offset) {
  if (base) seed += base[0], block += base[1];
  return philox(seed, block + offset);
}
