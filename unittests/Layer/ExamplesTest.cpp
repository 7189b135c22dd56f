//===- ExamplesTest.cpp - Every example builds and keeps its numbers ------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Layer/Examples.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::layer;

namespace {
TEST(Examples, AllBuildAndVerify) {
  llvm::StringSet<> names, functions;
  MLIRContext context;
  for (const LayerExample &example : listExamples()) {
    SCOPED_TRACE(example.name.str());
    EXPECT_TRUE(names.insert(example.name).second) << "a name twice";
    EXPECT_FALSE(example.description.empty());
    // Every setting of the table is one that the spec takes.
    LayerSpec spec;
    std::string error;
    ASSERT_TRUE(succeeded(setLayerKeys(spec, example.family, error))) << error;
    ASSERT_TRUE(succeeded(setLayerKeys(spec, example.own, error))) << error;

    spec = getExampleSpec(example);
    EXPECT_TRUE(functions.insert(spec.name).second) << "a function twice";
    ASSERT_TRUE(succeeded(validate(spec, error))) << error;
    OwningOpRef<ModuleOp> module = buildLayer(&context, spec);
    ASSERT_TRUE(module);
    EXPECT_TRUE(succeeded(verify(*module)));
    EXPECT_TRUE(module->lookupSymbol<func::FuncOp>(spec.name));
  }
  EXPECT_GE(names.size(), 60u);
}

/// Routed parameters of one expert in millions, as published.
TEST(Examples, ExpertSizes) {
  const std::pair<StringRef, double> expected[] = {
      {"mixtral", 176.16},       {"grok-1", 603.98},
      {"jetmoe", 34.60},         {"switch-base-8", 4.72},
      {"nllb", 33.55},           {"olmoe", 6.29},
      {"flex-olmo", 135.27},     {"qwen1.5-moe", 8.65},
      {"qwen2-moe", 27.53},      {"qwen3-30b", 4.72},
      {"qwen3-next", 3.15},      {"deepseek-v2", 23.59},
      {"deepseek-v3", 44.04},    {"deepseek-v4-pro", 66.06},
      {"gpt-oss-120b", 24.88},   {"granite-4.0-h-small", 9.44},
      {"llama4-scout", 125.83},  {"glm-4.5-air", 17.30},
      {"ernie-4.5-300b", 88.08}, {"minimax-m3", 56.62},
      {"longcat", 37.75},        {"aria", 12.78},
      {"lfm2", 11.01},           {"gemma4", 5.95},
      {"nemotron-3-nano", 9.98}, {"mistral4", 25.17},
      {"solar-open", 15.73},     {"mellum-2", 6.19},
  };
  for (const auto &[name, millions] : expected) {
    const LayerExample *example = lookupExample(name);
    ASSERT_NE(example, nullptr) << name.str();
    LayerSpec spec = getExampleSpec(*example);
    double count = (spec.gated ? 3.0 : 2.0) * static_cast<double>(spec.hidden) *
                   static_cast<double>(spec.inter);
    EXPECT_NEAR(count / 1e6, millions, 0.0051) << name.str();
  }
}

TEST(Examples, TheFirstIsTheDefault) {
  EXPECT_TRUE(getStatedKeys(getExampleSpec(*lookupExample("layer"))).empty());
}

TEST(Examples, AliasIsTheSameLayer) {
  LayerSpec alias = getExampleSpec(*lookupExample("deepseek"));
  LayerSpec original = getExampleSpec(*lookupExample("deepseek-v3"));
  alias.name = original.name;
  EXPECT_EQ(getStatedKeys(alias), getStatedKeys(original));
}

TEST(Examples, LookupIsExact) {
  EXPECT_EQ(lookupExample(""), nullptr);
  EXPECT_EQ(lookupExample("Mixtral"), nullptr);
  EXPECT_EQ(lookupExample("mixtral "), nullptr);
}

TEST(Examples, MistakesWriteNothing) {
  for (ExampleRequest request :
       {ExampleRequest{false, false, "no-such-model", {}},
        ExampleRequest{false, false, "", {}},
        ExampleRequest{false, false, "mixtral", {"top_k"}},
        ExampleRequest{false, false, "mixtral", {"top_k=2", "top_j=2"}},
        ExampleRequest{false, false, "mixtral", {"top_k=9"}}}) {
    std::string text, error;
    llvm::raw_string_ostream os(text);
    EXPECT_TRUE(failed(printExample(request, os, error)));
    EXPECT_EQ(text, "");
    EXPECT_FALSE(error.empty());
  }
}

TEST(Examples, LaterSettingsWin) {
  std::string text, error;
  llvm::raw_string_ostream os(text);
  ExampleRequest request = {
      false, false, "mixtral", {"experts=4", "experts=6", "name=other"}};
  ASSERT_TRUE(succeeded(printExample(request, os, error))) << error;
  EXPECT_NE(text.find("@other("), std::string::npos);
  EXPECT_NE(text.find("experts 6"), std::string::npos);
}
} // namespace
