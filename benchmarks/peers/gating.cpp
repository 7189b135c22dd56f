//===- gating.cpp - What compiled gating is raced against -----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   moe_peer_top_k     the ids of the 8 largest of E logits [T, E] and the
//                      softmax of these, by hand: 16 tokens a vector, 8 scans
//                      for the largest, each of which removes what it found
//   moe_peer_softmax   the same after a softmax over all, whose sum cancels
//   moe_peer_peak      multiply-adds of f32 that nothing waits for
//
//===----------------------------------------------------------------------===//

#include "lanes.h"
#include <vector>

namespace {

constexpr int kSize = 8, kChains = 4;
using Ids = int32_t __attribute__((ext_vector_type(kLanes)));

/// The largest of each lane and where it stands; the lower place of equals.
/// Chains over quarters of the row, so that compares need not wait.
void findLargest(const float *row, int64_t width, Lanes &largest, Ids &place) {
  int64_t quarter = width / kChains;
  Lanes best[kChains];
  Ids at[kChains];
  for (int chain = 0; chain < kChains; ++chain) {
    best[chain] = load(row + chain * quarter * kLanes);
    at[chain] = static_cast<int32_t>(chain * quarter);
  }
  for (int64_t e = 1; e < quarter; ++e)
    for (int chain = 0; chain < kChains; ++chain) {
      Lanes own = load(row + (chain * quarter + e) * kLanes);
      Ids above = own > best[chain];
      best[chain] = above ? own : best[chain];
      at[chain] =
          above ? Ids(static_cast<int32_t>(chain * quarter + e)) : at[chain];
    }
  largest = best[0];
  place = at[0];
  for (int chain = 1; chain < kChains; ++chain) {
    Ids above = best[chain] > largest;
    largest = above ? best[chain] : largest;
    place = above ? at[chain] : place;
  }
}

template <bool OverAll>
void choose(const float *logits, int64_t tokens, int64_t width, int32_t *ids,
            float *weights) {
  std::vector<float> row(width * kLanes);
  for (int64_t first = 0; first + kLanes <= tokens; first += kLanes) {
    readBlock(logits + first * width, width, row.data());
    Lanes sumOfAll = 1.0f, top = 0.0f;
    if (OverAll) {
      Lanes chains[kChains];
      for (int chain = 0; chain < kChains; ++chain)
        chains[chain] = load(row.data() + chain * kLanes);
      for (int64_t e = kChains; e < width; ++e)
        chains[e % kChains] = __builtin_elementwise_max(
            chains[e % kChains], load(row.data() + e * kLanes));
      top = chains[0];
      for (Lanes own : chains)
        top = __builtin_elementwise_max(top, own);
      for (Lanes &own : chains)
        own = 0.0f;
      for (int64_t e = 0; e < width; ++e)
        chains[e % kChains] += expOf(load(row.data() + e * kLanes) - top);
      sumOfAll = (chains[0] + chains[1]) + (chains[2] + chains[3]);
    }
    Lanes scores[kSize], sum = 0.0f;
    for (int slot = 0; slot < kSize; ++slot) {
      Lanes largest;
      Ids place;
      findLargest(row.data(), width, largest, place);
      if (!OverAll && slot == 0)
        top = largest;
      for (int lane = 0; lane < kLanes; ++lane) {
        row[place[lane] * kLanes + lane] = -INFINITY;
        ids[(first + lane) * kSize + slot] = place[lane];
      }
      scores[slot] = expOf(largest - top) / sumOfAll;
      sum += scores[slot];
    }
    for (int slot = 0; slot < kSize; ++slot) {
      Lanes weight = scores[slot] / sum;
      for (int lane = 0; lane < kLanes; ++lane)
        weights[(first + lane) * kSize + slot] = weight[lane];
    }
  }
}

} // namespace

extern "C" void moe_peer_top_k(const float *logits, int64_t tokens,
                               int64_t width, int32_t *ids, float *weights) {
  choose</*OverAll=*/false>(logits, tokens, width, ids, weights);
}

extern "C" void moe_peer_softmax(const float *logits, int64_t tokens,
                                 int64_t width, int32_t *ids, float *weights) {
  choose</*OverAll=*/true>(logits, tokens, width, ids, weights);
}

/// `steps` steps of 24 multiply-adds of 16 numbers each, in as many chains.
extern "C" void moe_peer_peak(int64_t steps, float *out) {
  constexpr int kSums = 24;
  Lanes sums[kSums], factor = 0.5f, term = 1.0f;
  for (int i = 0; i < kSums; ++i)
    sums[i] = static_cast<float>(i);
  asm volatile("" : "+x"(factor), "+x"(term));
  for (int64_t step = 0; step < steps; ++step)
    for (Lanes &sum : sums)
      sum = __builtin_elementwise_fma(sum, factor, term);
  Lanes all = 0.0f;
  for (Lanes sum : sums)
    all += sum;
  store(all, out);
}
