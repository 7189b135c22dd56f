//===- machine.cpp - What a processor can do at most ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   moe_peer_dot          dot products of bf16 that nothing waits for
//   moe_peer_read_ahead   one linear stream over f32 numbers that is fetched
//                         ahead, summed by lanes
//
//===----------------------------------------------------------------------===//

#include "lanes.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

/// `steps` steps of 24 vdpbf16ps of 32 pairs each, in as many chains; false
/// where the processor has none.
extern "C" bool moe_peer_dot(int64_t steps, float *out) {
#ifdef __AVX512BF16__
  constexpr int kSums = 24;
  __m512 sums[kSums];
  __m512bh factor = (__m512bh)_mm512_set1_epi32(0x3f803f80);
  for (int i = 0; i < kSums; ++i)
    sums[i] = _mm512_set1_ps(static_cast<float>(i));
  asm volatile("" : "+v"(factor));
  for (int64_t step = 0; step < steps; ++step)
    for (__m512 &sum : sums)
      sum = _mm512_dpbf16_ps(sum, factor, factor);
  __m512 all = _mm512_setzero_ps();
  for (__m512 sum : sums)
    all = _mm512_add_ps(all, sum);
  _mm512_storeu_ps(out, all);
  return true;
#else
  return false;
#endif
}

/// Reads `count` numbers, a multiple of 4 vectors.
extern "C" void moe_peer_read_ahead(const float *numbers, int64_t count,
                                    float *out) {
  constexpr int kSums = 4, kAhead = 1024;
  Lanes sums[kSums] = {};
  for (int64_t i = 0; i < count; i += kSums * kLanes)
    for (int sum = 0; sum < kSums; ++sum) {
      __builtin_prefetch(numbers + i + sum * kLanes + kAhead, 0, 2);
      sums[sum] += load(numbers + i + sum * kLanes);
    }
  store(sums[0] + sums[1] + sums[2] + sums[3], out);
}
