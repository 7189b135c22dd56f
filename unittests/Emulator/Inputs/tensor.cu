// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products on tensor cores, written with inline PTX: TensorTest.cpp runs them.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

// One tile by one warp: a [16][K] row-major, b [K][8] as [8][K], c [16][8].
// Fragments are read straight from global memory, as the PTX manual draws them.

#define MMA4(NAME, K, TEXT)                                                    \
  extern "C" __global__ void NAME(const uint32_t *a, const uint32_t *b,        \
                                  const uint32_t *c, uint32_t *d) {            \
    const int g = threadIdx.x / 4, t = threadIdx.x % 4, n = K;                 \
    uint32_t a0 = a[g * n + t], a1 = a[(g + 8) * n + t],                       \
             a2 = a[g * n + t + 4], a3 = a[(g + 8) * n + t + 4];               \
    uint32_t b0 = b[g * n + t], b1 = b[g * n + t + 4];                         \
    int i = g * 8 + 2 * t, j = i + 64;                                         \
    uint32_t d0, d1, d2, d3;                                                   \
    asm volatile(TEXT " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "               \
                      "{%10,%11,%12,%13};"                                     \
                 : "=r"(d0), "=r"(d1), "=r"(d2), "=r"(d3)                      \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1),       \
                   "r"(c[i]), "r"(c[i + 1]), "r"(c[j]), "r"(c[j + 1]));        \
    d[i] = d0;                                                                 \
    d[i + 1] = d1;                                                             \
    d[j] = d2;                                                                 \
    d[j + 1] = d3;                                                             \
  }

#define MMA2(NAME, K, TEXT)                                                    \
  extern "C" __global__ void NAME(const uint32_t *a, const uint32_t *b,        \
                                  const uint32_t *c, uint32_t *d) {            \
    const int g = threadIdx.x / 4, t = threadIdx.x % 4, n = K;                 \
    uint32_t a0 = a[g * n + t], a1 = a[(g + 8) * n + t], b0 = b[g * n + t];    \
    int i = g * 8 + 2 * t, j = i + 64;                                         \
    uint32_t d0, d1, d2, d3;                                                   \
    asm volatile(TEXT " {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};"         \
                 : "=r"(d0), "=r"(d1), "=r"(d2), "=r"(d3)                      \
                 : "r"(a0), "r"(a1), "r"(b0), "r"(c[i]), "r"(c[i + 1]),        \
                   "r"(c[j]), "r"(c[j + 1]));                                  \
    d[i] = d0;                                                                 \
    d[i + 1] = d1;                                                             \
    d[j] = d2;                                                                 \
    d[j + 1] = d3;                                                             \
  }

// K counts words of 32 bits.
MMA4(mmaHalf16, 8, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
MMA2(mmaHalf8, 4, "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32")
MMA4(mmaBFloat16, 8, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")
MMA2(mmaBFloat8, 4, "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32")
MMA4(mmaTF8, 8, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32")
MMA2(mmaTF4, 4, "mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32")
MMA4(mmaS8x32, 8, "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32")
MMA4(mmaU8x32, 8, "mma.sync.aligned.m16n8k32.row.col.satfinite.s32.u8.s8.s32")
MMA2(mmaS8x16, 4, "mma.sync.aligned.m16n8k16.row.col.s32.s8.u8.s32")

/// Sums in f16: c and d hold two values a word.
extern "C" __global__ void mmaHalfSums(const uint32_t *a, const uint32_t *b,
                                       const uint32_t *c, uint32_t *d) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4, n = 8;
  uint32_t d0, d1;
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 "
               "{%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%8,%9};"
               : "=r"(d0), "=r"(d1)
               : "r"(a[g * n + t]), "r"(a[(g + 8) * n + t]),
                 "r"(a[g * n + t + 4]), "r"(a[(g + 8) * n + t + 4]),
                 "r"(b[g * n + t]), "r"(b[g * n + t + 4]), "r"(c[g * 4 + t]),
                 "r"(c[(g + 8) * 4 + t]));
  d[g * 4 + t] = d0;
  d[(g + 8) * 4 + t] = d1;
}

// c [m][n] = a [m][k] b [k][n], all row-major; n and k are multiples of the
// tile, rows past m are filled with zeros on the way in and left out on the way
// out. Three stages of cp.async, ldmatrix, mma.

constexpr int kTileM = 64, kTileN = 64, kTileK = 32, kStages = 3;
constexpr int kPitchA = kTileK + 8, kPitchB = kTileN + 8;

struct Stage {
  __half a[kTileM * kPitchA];
  __half b[kTileK * kPitchB];
};

__device__ uint32_t sharedAddress(const void *p) {
  return (uint32_t)__cvta_generic_to_shared(p);
}

__device__ void copy16(void *to, const void *from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   sharedAddress(to)),
               "l"(from), "r"(valid ? 16 : 0));
}

__device__ void loadStage(Stage &stage, const __half *a, const __half *b,
                          int m, int n, int k, int step) {
  const int row0 = blockIdx.y * kTileM, column0 = blockIdx.x * kTileN;
  for (int i = threadIdx.x; i < kTileM * kTileK / 8; i += blockDim.x) {
    int row = i / (kTileK / 8), column = i % (kTileK / 8) * 8;
    bool valid = row0 + row < m;
    const __half *from =
        a + (size_t)(valid ? row0 + row : 0) * k + step * kTileK + column;
    copy16(&stage.a[row * kPitchA + column], from, valid);
  }
  for (int i = threadIdx.x; i < kTileK * kTileN / 8; i += blockDim.x) {
    int row = i / (kTileN / 8), column = i % (kTileN / 8) * 8;
    copy16(&stage.b[row * kPitchB + column],
           b + (size_t)(step * kTileK + row) * n + column0 + column, true);
  }
}

__device__ void multiplyStage(const Stage &stage, float (&sum)[2][4][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int rowWarp = warp / 2 * 32, columnWarp = warp % 2 * 32;
  for (int kk = 0; kk < kTileK; kk += 16) {
    uint32_t fa[2][4], fb[4][2];
    for (int i = 0; i < 2; ++i) {
      uint32_t at = sharedAddress(
          &stage.a[(rowWarp + 16 * i + lane % 16) * kPitchA + kk +
                   lane / 16 * 8]);
      asm volatile(
          "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
          : "=r"(fa[i][0]), "=r"(fa[i][1]), "=r"(fa[i][2]), "=r"(fa[i][3])
          : "r"(at)
          : "memory");
    }
    for (int j = 0; j < 4; ++j) {
      uint32_t at = sharedAddress(
          &stage.b[(kk + lane % 16) * kPitchB + columnWarp + 8 * j]);
      asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, "
                   "[%2];"
                   : "=r"(fb[j][0]), "=r"(fb[j][1])
                   : "r"(at)
                   : "memory");
    }
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 4; ++j)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(sum[i][j][0]), "+f"(sum[i][j][1]),
                       "+f"(sum[i][j][2]), "+f"(sum[i][j][3])
                     : "r"(fa[i][0]), "r"(fa[i][1]), "r"(fa[i][2]),
                       "r"(fa[i][3]), "r"(fb[j][0]), "r"(fb[j][1]));
  }
}

extern "C" __global__ void __launch_bounds__(128)
    gemm(const __half *a, const __half *b, float *c, int m, int n, int k) {
  __shared__ __align__(16) Stage stages[kStages];
  const int steps = k / kTileK;
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < steps)
      loadStage(stages[s], a, b, m, n, k, s);
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  float sum[2][4][4] = {};
  for (int s = 0; s < steps; ++s) {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2) : "memory");
    __syncthreads();
    if (s + kStages - 1 < steps)
      loadStage(stages[(s + kStages - 1) % kStages], a, b, m, n, k,
                s + kStages - 1);
    asm volatile("cp.async.commit_group;" ::: "memory");
    multiplyStage(stages[s % kStages], sum);
  }
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row0 = blockIdx.y * kTileM + warp / 2 * 32 + lane / 4;
  const int column0 = blockIdx.x * kTileN + warp % 2 * 32 + lane % 4 * 2;
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j)
      for (int h = 0; h < 2; ++h)
        if (row0 + 16 * i + 8 * h < m)
          *(float2 *)&c[(size_t)(row0 + 16 * i + 8 * h) * n + column0 +
                        8 * j] =
              make_float2(sum[i][j][2 * h], sum[i][j][2 * h + 1]);
}

/// A ring of two buffers between one warp that copies and one that adds, with
/// mbarriers for full and for empty.
extern "C" __global__ void pipeline(const int *x, int *y, int rounds) {
  __shared__ int buffer[2][32];
  __shared__ uint64_t full[2], empty[2];
  if (threadIdx.x == 0)
    for (int i = 0; i < 2; ++i) {
      asm volatile("mbarrier.init.shared.b64 [%0], 32;" ::"r"(
          sharedAddress(&full[i])));
      asm volatile("mbarrier.init.shared.b64 [%0], 32;" ::"r"(
          sharedAddress(&empty[i])));
    }
  __syncthreads();
  int lane = threadIdx.x % 32, sum = 0;
  for (int r = 0; r < rounds; ++r) {
    uint32_t fullAt = sharedAddress(&full[r % 2]);
    uint32_t emptyAt = sharedAddress(&empty[r % 2]);
    if (threadIdx.x < 32) {
      // Fresh barriers count as passed for the parity before their first.
      uint32_t parity = r / 2 % 2 ^ 1;
      asm volatile("{\n.reg .pred p;\nWAIT:\n"
                   "mbarrier.test_wait.parity.shared.b64 p, [%0], %1;\n"
                   "@!p bra WAIT;\n}" ::"r"(emptyAt),
                   "r"(parity)
                   : "memory");
      asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(
                       sharedAddress(&buffer[r % 2][lane])),
                   "l"(x + r * 32 + lane)
                   : "memory");
      asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(
                       fullAt)
                   : "memory");
    } else {
      uint32_t parity = r / 2 % 2;
      asm volatile("{\n.reg .pred p;\nWAIT:\n"
                   "mbarrier.test_wait.parity.shared.b64 p, [%0], %1;\n"
                   "@!p bra WAIT;\n}" ::"r"(fullAt),
                   "r"(parity)
                   : "memory");
      sum += buffer[r % 2][(lane + r) % 32];
      asm volatile("{\n.reg .b64 s;\nmbarrier.arrive.shared.b64 s, [%0];\n}" ::"r"(
                       emptyAt)
                   : "memory");
    }
  }
  if (threadIdx.x >= 32)
    y[lane] = sum;
}
