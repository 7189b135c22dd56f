// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels with results that are easy to know: KernelTest.cpp runs them.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

extern "C" __global__ void histogram(const int *x, int n, int *bins) {
  __shared__ int local[32];
  if (threadIdx.x < 32)
    local[threadIdx.x] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n;
       i += gridDim.x * blockDim.x)
    atomicAdd(&local[x[i] & 31], 1);
  __syncthreads();
  if (threadIdx.x < 32)
    atomicAdd(&bins[threadIdx.x], local[threadIdx.x]);
}

__device__ float warpSum(float value) {
  for (int d = 16; d; d >>= 1)
    value += __shfl_xor_sync(~0u, value, d);
  return value;
}

/// One row a block: y = x / sqrt(mean(x^2) + eps).
extern "C" __global__ void rowNorm(const float *x, float *y, int columns,
                                   float eps) {
  __shared__ float partial[32];
  x += (size_t)blockIdx.x * columns;
  y += (size_t)blockIdx.x * columns;
  float sum = 0;
  for (int i = threadIdx.x; i < columns; i += blockDim.x)
    sum += x[i] * x[i];
  sum = warpSum(sum);
  if (threadIdx.x % 32 == 0)
    partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    float value = threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0;
    value = warpSum(value);
    if (threadIdx.x == 0)
      partial[0] = value;
  }
  __syncthreads();
  float scale = rsqrtf(partial[0] / columns + eps);
  for (int i = threadIdx.x; i < columns; i += blockDim.x)
    y[i] = x[i] * scale;
}

/// Inclusive scan of one block.
extern "C" __global__ void scan(const int *x, int *y) {
  __shared__ int sums[32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int value = x[threadIdx.x];
  for (int d = 1; d < 32; d *= 2) {
    int other = __shfl_up_sync(~0u, value, d);
    if (lane >= d)
      value += other;
  }
  if (lane == 31)
    sums[warp] = value;
  __syncthreads();
  int before = 0;
  for (int i = 0; i < warp; ++i)
    before += sums[i];
  y[threadIdx.x] = value + before;
}

/// Each thread goes round as often as its number says.
extern "C" __global__ void collatz(const unsigned *x, unsigned *steps, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n)
    return;
  unsigned value = x[i], count = 0;
  while (value != 1) {
    if (value % 2)
      value = 3 * value + 1;
    else
      value /= 2;
    ++count;
  }
  steps[i] = count;
}

/// An array that stays in local memory, since its indices come from outside.
extern "C" __global__ void permute(const int *index, int *y) {
  int values[16];
  for (int i = 0; i < 16; ++i)
    values[index[i]] = (int)threadIdx.x * 100 + i;
  for (int i = 0; i < 16; ++i)
    y[threadIdx.x * 16 + i] = values[(i + threadIdx.x) % 16];
}

struct Pair {
  int first;
  long long second;
};

__device__ __noinline__ Pair inner(Pair p, int k) {
  return {p.first + k, p.second * k};
}
__device__ __noinline__ long long outer(int a, int b) {
  Pair p = inner({a, b}, 3);
  if (a & 1)
    p = inner(p, 5);
  return p.first + p.second;
}
extern "C" __global__ void calls(const int *x, long long *y) {
  y[threadIdx.x] = outer(x[threadIdx.x], (int)threadIdx.x);
}

/// y = a * x + y in f16 and in bf16.
extern "C" __global__ void axpyHalf(__half2 a, const __half2 *x, __half2 *y,
                                    int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n)
    y[i] = __hfma2(a, x[i], y[i]);
}
extern "C" __global__ void axpyBFloat(__nv_bfloat16 a, const __nv_bfloat16 *x,
                                      __nv_bfloat16 *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n)
    y[i] = __hfma(a, x[i], y[i]);
}

/// The last block to come adds what all have found.
__device__ unsigned blocksDone = 0;
extern "C" __global__ void sumOfBlocks(const float *x, float *partial,
                                       float *result) {
  __shared__ bool isLast;
  float sum = warpSum(x[blockIdx.x * 32 + threadIdx.x]);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    __threadfence();
    isLast = atomicInc(&blocksDone, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (!isLast)
    return;
  __threadfence();
  float total = 0;
  for (int i = threadIdx.x; i < gridDim.x; i += 32)
    total += partial[i];
  total = warpSum(total);
  if (threadIdx.x == 0)
    *result = total;
}

extern __shared__ double dynamicShared[];

/// Reverses a block's values through dynamic shared memory; 64-bit division.
extern "C" __global__ void reverse(const long long *x, long long *y,
                                   long long divisor) {
  dynamicShared[threadIdx.x] = (double)(x[threadIdx.x] / divisor);
  __syncthreads();
  y[threadIdx.x] =
      (long long)dynamicShared[blockDim.x - 1 - threadIdx.x] +
      x[threadIdx.x] % divisor;
}

__constant__ int table[8] = {3, 1, 4, 1, 5, 9, 2, 6};

/// Votes, matches and population counts; a switch over eight cases.
extern "C" __global__ void votes(const int *x, unsigned *y) {
  int value = x[threadIdx.x];
  unsigned ballot = __ballot_sync(~0u, value > 4);
  unsigned same = __match_any_sync(~0u, value);
  int any = __any_sync(~0u, value == 7), all = __all_sync(~0u, value < 8);
  unsigned result = __popc(ballot) * 1000 + __popc(same);
  switch (value) {
  case 0:
    result += 1 << 16;
    break;
  case 1:
    result ^= 0x55 << 16;
    break;
  case 2:
    result += table[2] << 20;
    break;
  case 3:
    result = ~result;
    break;
  case 4:
    result *= 3;
    break;
  case 5:
    result -= 77;
    break;
  default:
    result += table[value & 7];
  }
  y[threadIdx.x] = result + any * 10 + all * 20;
}
