//===- LayerSpec.h - A layer described by keys and values -------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One flat description of a Mixture-of-Experts layer, the same keys for the
// command line, the language bindings and the reference. From it a function
// of `moe` and upstream ops is built.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LAYER_LAYERSPEC_H
#define MOE_LAYER_LAYERSPEC_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "llvm/ADT/STLFunctionalExtras.h"

#include <cstdint>
#include <string>
#include <utility>

namespace mlir::moe::layer {

enum class DType { f32, bf16, f16, f64 };
enum class RouterKind { top_k, expert_choice };
enum class WeightSite { output, input };
enum class CapacityMode { none, first_come, prioritized };
enum class SharedMode { sum, average };

/// The name of a value, empty past the last one.
StringRef stringifyEnum(DType value);
StringRef stringifyEnum(RouterKind value);
StringRef stringifyEnum(WeightSite value);
StringRef stringifyEnum(CapacityMode value);
StringRef stringifyEnum(SharedMode value);

/// A layer. Each field is the key of the same name in snake_case; what a field
/// means is stated where the keys are listed (forEachLayerKey).
struct LayerSpec {
  // The function.
  std::string name = "layer";
  int64_t tokens = 0;
  // Shape.
  int64_t experts = 8;
  int64_t zeroExperts = 0;
  int64_t topK = 2;
  int64_t hidden = 64;
  int64_t inter = 128;
  int64_t latent = 0;
  // Types: stored operands, then the points at which routing rounds.
  DType xDtype = DType::f32;
  DType routerDtype = DType::f32;
  DType weightDtype = DType::f32;
  DType logitDtype = DType::f32;
  DType scoreDtype = DType::f32;
  DType routeDtype = DType::f32;
  // Router.
  RouterKind router = RouterKind::top_k;
  ScoreKind score = ScoreKind::softmax;
  ScoreDomain scoreDomain = ScoreDomain::all;
  double softcap = 0.0;
  bool selectBias = false;
  int64_t groups = 1;
  int64_t keptGroups = 1;
  GroupScore groupScore = GroupScore::max;
  GroupFill groupFill = GroupFill::neg_inf;
  Normalize normalize = Normalize::none;
  double normP = 1.0;
  double eps = 0.0;
  EpsMode epsMode = EpsMode::add;
  double scale = 1.0;
  bool expertScale = false;
  WeightSite weightSite = WeightSite::output;
  bool indices = false;
  bool routerBias = false;
  bool routerNorm = false;
  // Capacity, shared by token choice and expert choice.
  CapacityMode capacity = CapacityMode::none;
  int64_t capacityFixed = 0;
  double capacityFactor = 1.0;
  Rounding capacityRounding = Rounding::floor;
  int64_t capacityMultiple = 1;
  int64_t capacityMin = 1;
  CapacityPer capacityPer = CapacityPer::tokens;
  // Expert choice.
  ChoiceAxis choiceAxis = ChoiceAxis::experts;
  bool choiceNormalize = false;
  // Experts.
  bool gated = true;
  ActivationKind activation = ActivationKind::silu;
  double actLimit = 0.0;
  ActivationStyle actStyle = ActivationStyle::plain;
  double actAlpha = 1.702;
  bool expertBias = false;
  // Layout.
  Orientation orientation = Orientation::out_in;
  Orientation downOrientation = Orientation::out_in;
  Pairing pairing = Pairing::cat;
  PairOrder order = PairOrder::gate_up;
  ExpertAxis expertAxis = ExpertAxis::lead;
  // Around the experts.
  int64_t sharedInter = 0;
  bool sharedGate = false;
  SharedMode sharedMode = SharedMode::sum;
  double outputScale = 1.0;
  bool outputBias = false;
  bool tokenMask = false;
  bool groupOffsets = false;
  // Further results.
  bool expertLoads = false;
  bool ids = false;
  bool weights = false;

  /// R, the columns of a score row.
  int64_t getRouterWidth() const { return experts + zeroExperts; }
  /// D, what an expert reads and writes.
  int64_t getExpertWidth() const { return latent ? latent : hidden; }
  bool expertsChoose() const { return router == RouterKind::expert_choice; }
  /// Whether some experts cannot be chosen because of their group.
  bool dropsGroups() const { return keptGroups < groups; }
};

/// What is known of one key.
struct LayerKey {
  StringRef name;
  std::string defaultValue;
  std::string allowed; ///< As in "true or false".
  StringRef meaning;
};

/// Calls `fn` for every key in the order of the fields.
void forEachLayerKey(llvm::function_ref<void(const LayerKey &)> fn);

/// Sets one key. An unknown key or a value that the key does not take leaves
/// the spec as it was and describes the mistake in `error`.
LogicalResult setLayerKey(LayerSpec &spec, StringRef key, StringRef value,
                          std::string &error);

/// Sets keys from `key=value` words parted by spaces.
LogicalResult setLayerKeys(LayerSpec &spec, StringRef words,
                           std::string &error);

/// The keys whose values differ from the defaults, as text that setLayerKey
/// reads back exactly.
SmallVector<std::pair<std::string, std::string>>
getStatedKeys(const LayerSpec &spec);

/// Checks what no single key shows. A valid spec is one that buildLayer turns
/// into IR that verifies.
LogicalResult validate(const LayerSpec &spec, std::string &error);

/// Builds a module with the layer's function. An invalid spec is reported at
/// the module's location and gives a null module.
OwningOpRef<ModuleOp> buildLayer(MLIRContext *context, const LayerSpec &spec);

} // namespace mlir::moe::layer

#endif // MOE_LAYER_LAYERSPEC_H
