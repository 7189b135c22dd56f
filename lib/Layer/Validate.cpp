//===- Validate.cpp - Which combinations of keys are a layer --------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Layer/LayerSpec.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::layer;

namespace {
/// Checks in order and keeps the first mistake.
class Validator {
public:
  Validator(const LayerSpec &spec, std::string &error)
      : spec(spec), error(error) {}

  LogicalResult run() {
    LogicalResult ok = success();
    for (auto check : {&Validator::checkValues, &Validator::checkSizes,
                       &Validator::checkTokenChoice, &Validator::checkGroups,
                       &Validator::checkExpertChoice, &Validator::checkCapacity,
                       &Validator::checkExperts, &Validator::checkSurroundings})
      if (succeeded(ok))
        ok = (this->*check)();
    return ok;
  }

private:
  LogicalResult refuse(const Twine &message) {
    error = message.str();
    return failure();
  }

  LogicalResult checkValues();
  LogicalResult checkSizes();
  LogicalResult checkTokenChoice();
  LogicalResult checkGroups();
  LogicalResult checkExpertChoice();
  LogicalResult checkCapacity();
  LogicalResult checkExperts();
  LogicalResult checkSurroundings();

  const LayerSpec &spec;
  std::string &error;
};
} // namespace

/// Fields can be written without setLayerKey: each must read back as itself.
LogicalResult Validator::checkValues() {
  LayerSpec copy;
  for (const auto &[key, value] : getStatedKeys(spec))
    if (failed(setLayerKey(copy, key, value, error)))
      return failure();
  return success();
}

/// Whether the product of positive sizes is at most `limit`.
static bool isProductAtMost(ArrayRef<int64_t> sizes, int64_t limit) {
  for (int64_t size : sizes) {
    if (size > limit)
      return false;
    limit /= size;
  }
  return true;
}

LogicalResult Validator::checkSizes() {
  constexpr int64_t kBytes = std::numeric_limits<int64_t>::max() / 8;
  int64_t depth = std::max(spec.getExpertWidth(), spec.hidden);
  if (!isProductAtMost({spec.experts, 2 * spec.inter, depth}, kBytes))
    return refuse("experts * inter * hidden: a weight of this size has no "
                  "64-bit number of bytes");
  constexpr int64_t kIds = std::numeric_limits<int32_t>::max();
  int64_t slots = spec.expertsChoose() ? spec.experts : spec.topK;
  if (spec.tokens && !isProductAtMost({spec.tokens, slots}, kIds))
    return refuse("tokens: " + Twine(spec.tokens) + " tokens of " +
                  Twine(slots) + " slots are more rows than 32-bit ids count");
  return success();
}

LogicalResult Validator::checkTokenChoice() {
  if (spec.expertsChoose())
    return success();
  int64_t width = spec.getRouterWidth();
  if (spec.indices) {
    if (spec.selectBias)
      return refuse("select_bias: indices are given, so nothing is chosen");
    if (spec.dropsGroups())
      return refuse("kept_groups: indices are given, so nothing is chosen");
    return success();
  }
  if (spec.topK > width)
    return refuse("top_k: chooses " + Twine(spec.topK) + " of " + Twine(width) +
                  " experts");
  return success();
}

LogicalResult Validator::checkGroups() {
  int64_t width = spec.getRouterWidth();
  if (spec.keptGroups > spec.groups)
    return refuse("kept_groups: keeps " + Twine(spec.keptGroups) + " of " +
                  Twine(spec.groups) + " groups");
  if (width % spec.groups != 0)
    return refuse("groups: " + Twine(spec.groups) + " do not divide " +
                  Twine(width) + " experts");
  if (!spec.dropsGroups() || spec.expertsChoose())
    return success();
  int64_t size = width / spec.groups;
  if (spec.groupScore == GroupScore::top2sum && size < 2)
    return refuse("group_score: top2sum needs two experts in each group");
  if (spec.topK > spec.keptGroups * size)
    return refuse("top_k: chooses " + Twine(spec.topK) + " of the " +
                  Twine(spec.keptGroups * size) +
                  " experts in the kept groups");
  if (spec.scoreDomain == ScoreDomain::topk && spec.score == ScoreKind::softmax)
    return refuse("kept_groups: a softmax over the chosen (score_domain=topk) "
                  "has no scores to choose groups by");
  return success();
}

LogicalResult Validator::checkExpertChoice() {
  if (!spec.expertsChoose())
    return success();
  // What experts choose by is the softmax alone; a setting that would be
  // ignored is a mistake.
  LayerSpec defaults;
  for (auto [stated, key] :
       {std::pair(spec.zeroExperts != 0, "zero_experts"),
        std::pair(spec.score != defaults.score, "score"),
        std::pair(spec.scoreDomain != defaults.scoreDomain, "score_domain"),
        std::pair(spec.softcap != 0.0, "softcap"),
        std::pair(spec.selectBias, "select_bias"),
        std::pair(spec.groups != 1, "groups"),
        std::pair(spec.normalize != defaults.normalize, "normalize"),
        std::pair(spec.scale != 1.0, "scale"),
        std::pair(spec.expertScale, "expert_scale"),
        std::pair(spec.indices, "indices"),
        std::pair(spec.capacity != defaults.capacity, "capacity"),
        std::pair(spec.capacityPer != defaults.capacityPer, "capacity_per")})
    if (stated)
      return refuse(Twine(key) + ": is for tokens that choose, not for "
                                 "router=expert_choice");
  DType exact = spec.logitDtype == DType::f64 ? DType::f64 : DType::f32;
  if (spec.scoreDtype != exact)
    return refuse("score_dtype: expert choice does not round its scores, "
                  "which are " +
                  stringifyEnum(exact) + " here");
  return success();
}

LogicalResult Validator::checkCapacity() {
  if (spec.capacity != CapacityMode::none && spec.zeroExperts > 0)
    return refuse("capacity: identity experts (zero_experts) have no rows to "
                  "count");
  // The rule is computed in f64 and then read as an integer.
  constexpr double kLargestFactor = 1.0e6;
  if (spec.capacityFactor > kLargestFactor)
    return refuse("capacity_factor: is above 1e6");
  return success();
}

LogicalResult Validator::checkExperts() {
  if (spec.actStyle == ActivationStyle::oai && !spec.gated)
    return refuse("act_style: oai is a form of gated activations");
  if (spec.actStyle == ActivationStyle::oai &&
      spec.activation != ActivationKind::silu)
    return refuse("activation: act_style=oai has its own sigmoid, leave silu");
  if (!spec.gated && spec.pairing != Pairing::cat)
    return refuse("pairing: ungated experts have nothing to pair");
  if (!spec.gated && spec.order != PairOrder::gate_up)
    return refuse("order: ungated experts have nothing to order");
  if (spec.latent && spec.zeroExperts)
    return refuse("zero_experts: identity experts act on x, which has not the "
                  "width of a latent");
  return success();
}

LogicalResult Validator::checkSurroundings() {
  if (spec.sharedInter == 0 && spec.sharedGate)
    return refuse("shared_gate: there is no shared expert (shared_inter=0)");
  if (spec.sharedInter == 0 && spec.sharedMode != SharedMode::sum)
    return refuse("shared_mode: there is no shared expert (shared_inter=0)");
  return success();
}

LogicalResult layer::validate(const LayerSpec &spec, std::string &error) {
  return Validator(spec, error).run();
}
