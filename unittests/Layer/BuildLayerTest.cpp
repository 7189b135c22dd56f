//===- BuildLayerTest.cpp - The functions that specs become ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "moe/Layer/LayerSpec.h"
#include "llvm/ADT/StringExtras.h"
#include "gtest/gtest.h"

#include <random>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::layer;

namespace {
class BuildLayer : public ::testing::Test {
protected:
  /// The verified function of a layer.
  func::FuncOp build(const LayerSpec &spec) {
    std::string error;
    EXPECT_TRUE(succeeded(validate(spec, error))) << error;
    module = buildLayer(&context, spec);
    if (!module || failed(verify(*module)))
      return {};
    return module->lookupSymbol<func::FuncOp>(spec.name);
  }

  func::FuncOp build(StringRef words) {
    LayerSpec spec;
    std::string error;
    EXPECT_TRUE(succeeded(setLayerKeys(spec, words, error))) << error;
    func::FuncOp function = build(spec);
    EXPECT_TRUE(function) << words.str();
    return function;
  }

  template <typename OpT> OpT find() {
    OpT found;
    module->walk([&](OpT op) { found = op; });
    return found;
  }

  template <typename OpT> unsigned count() {
    unsigned number = 0;
    module->walk([&](OpT) { ++number; });
    return number;
  }

  /// "x:?x64xf32 ..." of arguments, by moe.name.
  static std::string describeArguments(func::FuncOp function) {
    std::string text;
    llvm::raw_string_ostream os(text);
    for (BlockArgument argument : function.getArguments()) {
      auto type = cast<RankedTensorType>(argument.getType());
      os << (argument.getArgNumber() ? " " : "")
         << function
                .getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                              kNameAttrName)
                .getValue()
         << ":";
      for (int64_t size : type.getShape())
        ShapedType::isDynamic(size) ? os << "?x" : os << size << "x";
      os << type.getElementType();
    }
    return text;
  }

  static std::string describeResults(func::FuncOp function) {
    SmallVector<StringRef> names;
    for (unsigned i = 0; i < function.getNumResults(); ++i)
      names.push_back(function.getResultAttrOfType<StringAttr>(i, kNameAttrName)
                          .getValue());
    return llvm::join(names, " ");
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
};

TEST_F(BuildLayer, DefaultLayer) {
  func::FuncOp function = build("");
  EXPECT_EQ(function.getName(), "layer");
  EXPECT_TRUE(function->hasAttr(kEntryAttrName));
  EXPECT_EQ(describeArguments(function),
            "x:?x64xf32 router_weight:8x64xf32 gate_up:8x256x64xf32 "
            "down:8x64x128xf32");
  EXPECT_EQ(describeResults(function), "y");
  EXPECT_TRUE(function.getArgAttr(2, kLayoutAttrName));
  EXPECT_TRUE(function.getArgAttr(3, kLayoutAttrName));
  EXPECT_FALSE(function.getArgAttr(1, kLayoutAttrName));
  // Nothing but the layer's own ops: the rest is only where it is needed.
  EXPECT_EQ(std::distance(function.front().begin(), function.front().end()), 6);
}

TEST_F(BuildLayer, OperandsComeInTheStatedOrder) {
  func::FuncOp function =
      build("experts=4 hidden=16 inter=6 latent=8 router_bias=true "
            "router_norm=true select_bias=true expert_scale=true "
            "token_mask=true group_offsets=true expert_bias=true "
            "shared_inter=10 shared_gate=true output_bias=true x_dtype=bf16 "
            "router_dtype=f16 weight_dtype=bf16");
  EXPECT_EQ(describeArguments(function),
            "x:?x16xbf16 router_weight:4x16xf16 router_bias:4xf16 "
            "router_scale:16xf16 selection_bias:4xf32 expert_scale:4xf32 "
            "token_mask:?xi1 group_offsets:?xi32 gate_up:4x12x8xbf16 "
            "gate_up_bias:4x12xbf16 down:4x8x6xbf16 down_bias:4x8xbf16 "
            "shared_gate_up:20x16xbf16 shared_down:16x10xbf16 "
            "shared_gate:1x16xbf16 latent_in:8x16xbf16 latent_out:16x8xbf16 "
            "output_bias:16xbf16");
}

TEST_F(BuildLayer, DimensionsThatAreEqualShareAName) {
  func::FuncOp function = build("indices=true token_mask=true "
                                "group_offsets=true ids=true");
  auto dimsOf = [&](unsigned argument) {
    return function.getArgAttrOfType<ArrayAttr>(argument, kDimsAttrName);
  };
  Builder b(&context);
  EXPECT_EQ(dimsOf(0), b.getStrArrayAttr({"T", ""}));
  EXPECT_EQ(dimsOf(2), b.getStrArrayAttr({"T", ""}));
  EXPECT_EQ(dimsOf(3), b.getStrArrayAttr({"T"}));
  EXPECT_EQ(dimsOf(4), b.getStrArrayAttr({"G1"}));
  EXPECT_FALSE(dimsOf(1));
  EXPECT_EQ(function.getResultAttr(1, kDimsAttrName),
            b.getStrArrayAttr({"T", ""}));
}

TEST_F(BuildLayer, LayoutsShapeTheWeights) {
  EXPECT_NE(describeArguments(build("orientation=in_out "
                                    "down_orientation=in_out"))
                .find("gate_up:8x64x256xf32 down:8x128x64xf32"),
            std::string::npos);
  EXPECT_NE(describeArguments(build("pairing=separate expert_axis=folded "
                                    "down_orientation=in_out"))
                .find("gate:1024x64xf32 up:1024x64xf32 down:1024x64xf32"),
            std::string::npos);
  EXPECT_NE(
      describeArguments(build("gated=false")).find("gate_up:8x128x64xf32"),
      std::string::npos);
}

TEST_F(BuildLayer, BiasesOfSeparateWeightsFollowTheOrder) {
  for (bool upFirst : {false, true}) {
    build(upFirst ? "pairing=separate expert_bias=true order=up_gate"
                  : "pairing=separate expert_bias=true");
    auto experts = find<ExpertsOp>();
    ASSERT_EQ(experts.getUpBias().size(), 2u);
    auto gate = experts.getUpBias()[0].getDefiningOp<tensor::ExtractSliceOp>();
    EXPECT_EQ(gate.getStaticOffset(1), upFirst ? 128 : 0);
    EXPECT_EQ(experts.getLayout().getOrder(), PairOrder::gate_up);
  }
}

TEST_F(BuildLayer, StaticTokensAreStaticEverywhere) {
  func::FuncOp function = build("tokens=24 ids=true weights=true "
                                "shared_inter=8 shared_gate=true");
  for (Type type : function.getResultTypes())
    EXPECT_TRUE(cast<RankedTensorType>(type).hasStaticShape());
  EXPECT_EQ(find<DispatchOp>().getRows().getType().getDimSize(0), 48);
  EXPECT_EQ(count<tensor::DimOp>(), 0u);
  build("tokens=24 router=expert_choice capacity_factor=2.0");
  EXPECT_EQ(find<RouteExpertsOp>().getIds().getType().getDimSize(1), 6);
  EXPECT_FALSE(find<CombineOp>().getNumTokens());
}

TEST_F(BuildLayer, RoundingsAreTypes) {
  build("x_dtype=bf16 weight_dtype=bf16 logit_dtype=f16 route_dtype=bf16 "
        "score_dtype=bf16");
  EXPECT_TRUE(find<GateOp>().getLogits().getType().getElementType().isF16());
  EXPECT_TRUE(find<RouteOp>().getWeights().getType().getElementType().isBF16());
  auto router = cast<TopKAttr>(find<RouteOp>().getRouter());
  EXPECT_TRUE(router.getScoreDtype() && router.getScoreDtype().isBF16());
  // f64 logits are scored in f64: storing scores in f32 rounds.
  build("logit_dtype=f64");
  router = cast<TopKAttr>(find<RouteOp>().getRouter());
  EXPECT_TRUE(router.getScoreDtype() && router.getScoreDtype().isF32());
  build("logit_dtype=f64 score_dtype=f64");
  EXPECT_FALSE(cast<TopKAttr>(find<RouteOp>().getRouter()).getScoreDtype());
}

TEST_F(BuildLayer, WeightsActWhereTheyShould) {
  build("");
  EXPECT_FALSE(find<DispatchOp>().getWeights());
  EXPECT_TRUE(find<CombineOp>().getWeights());
  build("weight_site=input");
  EXPECT_TRUE(find<DispatchOp>().getWeights());
  EXPECT_FALSE(find<CombineOp>().getWeights());
  // Identity slots have no expert that could have applied theirs.
  build("weight_site=input zero_experts=2");
  EXPECT_TRUE(find<DispatchOp>().getWeights());
  EXPECT_TRUE(
      find<CombineOp>().getWeights().getDefiningOp<linalg::GenericOp>());
  EXPECT_TRUE(find<CombineOp>().getIdentity());
}

TEST_F(BuildLayer, GroupsThatAreAllKeptAreNone) {
  build("groups=4 kept_groups=4 indices=true");
  EXPECT_EQ(cast<TopKAttr>(find<RouteOp>().getRouter()).getGroups(), 1);
  build("groups=4 kept_groups=2 group_score=top2sum");
  EXPECT_EQ(cast<TopKAttr>(find<RouteOp>().getRouter()).getGroups(), 4);
}

TEST_F(BuildLayer, LatentTakesWhatFollowsTheSum) {
  build("latent=16 output_scale=2.0 shared_inter=8 shared_mode=average "
        "output_bias=true");
  auto combine = find<CombineOp>();
  EXPECT_FALSE(combine.getResidual());
  EXPECT_FALSE(combine.getBias());
  EXPECT_FALSE(combine.getAverage());
  EXPECT_EQ(combine.getScale().convertToDouble(), 1.0);
  EXPECT_EQ(combine.getOutput().getType().getDimSize(1), 16);
  EXPECT_EQ(count<linalg::MatmulOp>(), 2u);
  build("output_scale=2.0 shared_inter=8 shared_mode=average "
        "output_bias=true");
  combine = find<CombineOp>();
  EXPECT_TRUE(combine.getResidual());
  EXPECT_TRUE(combine.getAverage());
  EXPECT_EQ(combine.getScale().convertToDouble(), 2.0);
  // The average halves what it adds, so the bias goes in doubled.
  auto doubled = combine.getBias().getDefiningOp<linalg::GenericOp>();
  ASSERT_TRUE(doubled);
  EXPECT_TRUE(isa<arith::AddFOp>(doubled.getBody()->front()));
}

TEST_F(BuildLayer, FurtherResults) {
  EXPECT_EQ(describeResults(build("expert_loads=true ids=true weights=true")),
            "y expert_loads ids weights");
  EXPECT_EQ(describeResults(build("weights=true")), "y weights");
  // With a capacity they are those of the slots that were kept.
  func::FuncOp function = build("capacity=first_come ids=true");
  auto results = function.front().getTerminator()->getOperands();
  EXPECT_TRUE(results[1].getDefiningOp<LimitCapacityOp>());
}

TEST_F(BuildLayer, InvalidSpecsAreReportedAndGiveNothing) {
  std::string message;
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    message += diagnostic.str();
    return success();
  });
  LayerSpec spec;
  spec.topK = 9;
  EXPECT_FALSE(buildLayer(&context, spec));
  EXPECT_EQ(message, "top_k: chooses 9 of 8 experts");
}

/// Walks through the valid specs: key after key is set to one of its values,
/// and kept where the combination is valid.
class RandomSpecs {
public:
  explicit RandomSpecs(unsigned seed) : engine(seed) {
    forEachLayerKey([&](const LayerKey &key) { keys.push_back(key); });
  }

  LayerSpec draw() {
    LayerSpec spec;
    // Few walks would reach it: most keys keep a spec from changing over.
    if (below(4) == 0)
      spec.router = RouterKind::expert_choice;
    for (unsigned step = 0; step < 60; ++step) {
      LayerSpec changed = spec;
      std::string error;
      const LayerKey &key = keys[below(keys.size())];
      if (succeeded(setLayerKey(changed, key.name, drawValue(key), error)) &&
          succeeded(validate(changed, error)))
        spec = changed;
    }
    return spec;
  }

private:
  unsigned below(size_t count) {
    // Not a distribution of the library: those differ between libraries.
    return static_cast<unsigned>(engine() % count);
  }

  std::string drawValue(const LayerKey &key) {
    if (StringRef(key.allowed).contains("number"))
      return std::to_string(below(9) * 0.25);
    if (StringRef(key.allowed).contains("integer"))
      return std::to_string(below(13));
    SmallVector<StringRef> names;
    auto [head, last] = StringRef(key.allowed).rsplit(" or ");
    head.split(names, ", ");
    names.push_back(last);
    return names[below(names.size())].str();
  }

  std::mt19937 engine;
  SmallVector<LayerKey> keys;
};

TEST_F(BuildLayer, RandomSpecsVerify) {
  RandomSpecs specs(20240607);
  unsigned expertChoice = 0, latent = 0, identity = 0, staticTokens = 0;
  for (unsigned i = 0; i < 600; ++i) {
    LayerSpec spec = specs.draw();
    std::string text;
    for (const auto &[key, value] : getStatedKeys(spec))
      text += key + "=" + value + " ";
    SCOPED_TRACE(text);
    func::FuncOp function = build(spec);
    ASSERT_TRUE(function);
    EXPECT_EQ(count<GateOp>(), 1u);
    EXPECT_EQ(count<ExpertsOp>(), spec.sharedInter ? 2u : 1u);
    expertChoice += spec.expertsChoose();
    latent += spec.latent != 0;
    identity += spec.zeroExperts != 0;
    staticTokens += spec.tokens != 0;
  }
  // The walk goes everywhere.
  EXPECT_GT(expertChoice, 30u);
  EXPECT_GT(latent, 100u);
  EXPECT_GT(identity, 30u);
  EXPECT_GT(staticTokens, 100u);
}
} // namespace
