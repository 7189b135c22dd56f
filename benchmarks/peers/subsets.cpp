//===- subsets.cpp - What compiled marginals are raced against ------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Marginals of k = 8 of E experts, logits and results [T, E] of f32:
//   moe_peer_recipe  by hand, 16 tokens a vector, linear with a shift: the same
//                    mathematics as the compiled form, without its range check
//   moe_peer_scalar  one token at a time in log space
//
//===----------------------------------------------------------------------===//

#include "lanes.h"
#include <algorithm>
#include <vector>

namespace {

constexpr int kSize = 8;

/// The mean of the largest logits.
Lanes findShift(const float *logits, int64_t width) {
  Lanes best[kSize];
  for (Lanes &value : best)
    value = -INFINITY;
  for (int64_t e = 0; e < width; ++e) {
    Lanes logit = load(logits + e * kLanes);
    for (int place = kSize - 1; place > 0; --place)
      best[place] = __builtin_elementwise_max(
          best[place], __builtin_elementwise_min(best[place - 1], logit));
    best[0] = __builtin_elementwise_max(best[0], logit);
  }
  Lanes sum = 0.0f;
  for (Lanes value : best)
    sum += value;
  return sum / float(kSize);
}

void marginals(const float *logits, int64_t width, float *prefix, float *odds,
               float *out) {
  Lanes shift = findShift(logits, width);
  Lanes sums[kSize + 1];
  sums[0] = 1.0f;
  for (int degree = 1; degree <= kSize; ++degree)
    sums[degree] = 0.0f;
  for (int64_t e = 0; e < width; ++e) {
    Lanes own = expOf(load(logits + e * kLanes) - shift);
    store(own, odds + e * kLanes);
    for (int degree = 0; degree < kSize; ++degree)
      store(sums[degree], prefix + (e * kSize + degree) * kLanes);
    for (int degree = kSize; degree > 0; --degree)
      sums[degree] =
          __builtin_elementwise_fma(own, sums[degree - 1], sums[degree]);
  }
  Lanes scale = 1.0f / sums[kSize];
  Lanes behind[kSize];
  behind[0] = 1.0f;
  for (int degree = 1; degree < kSize; ++degree)
    behind[degree] = 0.0f;
  for (int64_t e = width - 1; e >= 0; --e) {
    Lanes own = load(odds + e * kLanes);
    Lanes parts[2] = {0.0f, 0.0f};
    for (int degree = 0; degree < kSize; ++degree)
      parts[degree % 2] = __builtin_elementwise_fma(
          load(prefix + (e * kSize + degree) * kLanes),
          behind[kSize - 1 - degree], parts[degree % 2]);
    store(own * scale * (parts[0] + parts[1]), out + e * kLanes);
    for (int degree = kSize - 1; degree > 0; --degree)
      behind[degree] =
          __builtin_elementwise_fma(own, behind[degree - 1], behind[degree]);
  }
}

float logAdd(float x, float y) {
  float large = std::fmax(x, y), small = std::fmin(x, y);
  if (small == -INFINITY)
    return large;
  return large + log1pf(expf(small - large));
}

} // namespace

extern "C" void moe_peer_recipe(const float *logits, int64_t tokens,
                                int64_t width, float *out) {
  std::vector<float> rows(width * kLanes), odds(rows), results(rows);
  std::vector<float> prefix(width * kSize * kLanes);
  for (int64_t first = 0; first + kLanes <= tokens; first += kLanes) {
    readBlock(logits + first * width, width, rows.data());
    marginals(rows.data(), width, prefix.data(), odds.data(), results.data());
    writeBlock(results.data(), width, out + first * width);
  }
}

extern "C" void moe_peer_scalar(const float *logits, int64_t tokens,
                                int64_t width, float *out) {
  constexpr int kColumns = kSize + 1;
  std::vector<float> before((width + 1) * kColumns), behind(before);
  for (int64_t token = 0; token < tokens; ++token) {
    const float *row = logits + token * width;
    std::fill(before.begin(), before.end(), -INFINITY);
    std::fill(behind.begin(), behind.end(), -INFINITY);
    before[0] = 0.0f;
    behind[width * kColumns] = 0.0f;
    for (int64_t e = 0; e < width; ++e)
      for (int j = 0; j <= kSize; ++j)
        before[(e + 1) * kColumns + j] =
            j == 0 ? 0.0f
                   : logAdd(before[e * kColumns + j],
                            before[e * kColumns + j - 1] + row[e]);
    for (int64_t e = width - 1; e >= 0; --e)
      for (int j = 0; j <= kSize; ++j)
        behind[e * kColumns + j] =
            j == 0 ? 0.0f
                   : logAdd(behind[(e + 1) * kColumns + j],
                            behind[(e + 1) * kColumns + j - 1] + row[e]);
    float total = before[width * kColumns + kSize];
    for (int64_t e = 0; e < width; ++e) {
      float sum = -INFINITY;
      for (int j = 0; j < kSize; ++j)
        sum = logAdd(sum, before[e * kColumns + j] +
                              behind[(e + 1) * kColumns + kSize - 1 - j]);
      out[token * width + e] = expf(sum + row[e] - total);
    }
  }
}
