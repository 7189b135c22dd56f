//===- memory.cpp - What bandwidth is measured by -------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   moe_peer_read   one linear stream over f32 numbers, summed by lanes
//
//===----------------------------------------------------------------------===//

#include "lanes.h"

/// Reads `count` numbers, a multiple of 4 vectors.
extern "C" void moe_peer_read(const float *numbers, int64_t count, float *out) {
  constexpr int kSums = 4;
  Lanes sums[kSums] = {};
  for (int64_t i = 0; i < count; i += kSums * kLanes)
    for (int sum = 0; sum < kSums; ++sum)
      sums[sum] += load(numbers + i + sum * kLanes);
  store(sums[0] + sums[1] + sums[2] + sums[3], out);
}
