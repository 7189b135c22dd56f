//===- LayerSpecTest.cpp - Keys, values and combinations ------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Layer/LayerSpec.h"
#include "llvm/ADT/StringExtras.h"
#include "gtest/gtest.h"

#include <limits>

using namespace mlir;
using namespace mlir::moe;
using namespace mlir::moe::layer;

namespace {
/// The message of a setting that must fail and leave the spec alone.
std::string refused(StringRef key, StringRef value) {
  LayerSpec spec;
  std::string error;
  EXPECT_TRUE(failed(setLayerKey(spec, key, value, error))) << key.str();
  EXPECT_TRUE(getStatedKeys(spec).empty()) << key.str();
  return error;
}

/// The message of a combination that must not be valid.
std::string invalid(StringRef words) {
  LayerSpec spec;
  std::string error;
  EXPECT_TRUE(succeeded(setLayerKeys(spec, words, error))) << error;
  EXPECT_TRUE(failed(validate(spec, error))) << words.str();
  return error;
}

TEST(LayerSpec, DefaultsAreValidAndAsListed) {
  LayerSpec spec;
  std::string error;
  EXPECT_TRUE(succeeded(validate(spec, error))) << error;
  EXPECT_TRUE(getStatedKeys(spec).empty());
  unsigned count = 0;
  forEachLayerKey([&](const LayerKey &key) {
    ++count;
    EXPECT_FALSE(key.meaning.empty());
    LayerSpec other;
    EXPECT_TRUE(
        succeeded(setLayerKey(other, key.name, key.defaultValue, error)))
        << error;
    EXPECT_TRUE(getStatedKeys(other).empty()) << key.name.str();
  });
  EXPECT_EQ(count, 63u);
}

TEST(LayerSpec, EveryListedNameIsTaken) {
  forEachLayerKey([&](const LayerKey &key) {
    // "a, b or c" of an enumeration or a boolean.
    StringRef allowed = key.allowed;
    if (!allowed.contains(" or ") || allowed.contains("number"))
      return;
    SmallVector<StringRef> names;
    auto [head, last] = allowed.rsplit(" or ");
    head.split(names, ", ");
    names.push_back(last);
    for (StringRef name : names) {
      LayerSpec spec;
      std::string error;
      ASSERT_TRUE(succeeded(setLayerKey(spec, key.name, name, error))) << error;
      auto stated = getStatedKeys(spec);
      if (name == key.defaultValue)
        EXPECT_TRUE(stated.empty());
      else
        EXPECT_EQ(stated.front().second, name.str());
    }
  });
}

TEST(LayerSpec, StatedKeysReadBack) {
  LayerSpec spec;
  std::string error;
  ASSERT_TRUE(succeeded(setLayerKeys(
      spec,
      "name=a_1 tokens=17 eps=1e-20 scale=-2.827 norm_p=0.1 softcap=5e-324 "
      "act_alpha=1.7976931348623157e308 score=sqrt_softplus gated=false",
      error)))
      << error;
  EXPECT_EQ(spec.tokens, 17);
  EXPECT_EQ(spec.normP, 0.1);
  EXPECT_EQ(spec.softcap, std::numeric_limits<double>::denorm_min());
  auto stated = getStatedKeys(spec);
  EXPECT_EQ(stated.size(), 9u);
  LayerSpec copy;
  for (const auto &[key, value] : stated)
    ASSERT_TRUE(succeeded(setLayerKey(copy, key, value, error))) << error;
  EXPECT_EQ(getStatedKeys(copy), stated);
  EXPECT_EQ(copy.actAlpha, std::numeric_limits<double>::max());
  EXPECT_EQ(copy.scale, -2.827);
}

TEST(LayerSpec, RefusesValuesByName) {
  EXPECT_EQ(refused("top_k", "two"),
            "'top_k' takes an integer from 1 to 16777216, not 'two'");
  EXPECT_EQ(refused("gated", "1"), "'gated' takes true or false, not '1'");
  EXPECT_EQ(refused("score", "Softmax"),
            "'score' takes softmax, sigmoid, sqrt_softplus or none, not "
            "'Softmax'");
  EXPECT_EQ(refused("x_dtype", "fp8"),
            "'x_dtype' takes f32, bf16, f16 or f64, not 'fp8'");
  EXPECT_EQ(refused("eps", "-1e-9"),
            "'eps' takes a finite number, at least 0, not '-1e-9'");
  for (StringRef text : {"", " 3", "3 ", "0", "-1", "3.0", "1e3", "0x10",
                         "99999999999999999999", "16777217"})
    refused("experts", text);
  for (StringRef text : {"", "nan", "inf", "-inf", "1e999", "one", "1.0f"})
    refused("scale", text);
  for (StringRef text : {"", "1a", "a-b", "a b", "a.b"})
    refused("name", text);
}

TEST(LayerSpec, UnknownKeysListSimilarOnes) {
  EXPECT_EQ(refused("topk", "2"), "there is no key 'topk'; similar ones: "
                                  "top_k");
  EXPECT_EQ(refused("", "2"), "there is no key ''");
  EXPECT_EQ(refused("quantisation", "2"), "there is no key 'quantisation'");
  EXPECT_NE(refused("dtype", "f32").find("x_dtype"), std::string::npos);
}

TEST(LayerSpec, WordsNeedAnEquals) {
  LayerSpec spec;
  std::string error;
  EXPECT_TRUE(failed(setLayerKeys(spec, "experts=4 gated", error)));
  EXPECT_EQ(error, "'gated' is not of the form key=value");
}

TEST(LayerSpec, RefusesCombinations) {
  const std::pair<StringRef, StringRef> cases[] = {
      {"top_k=9", "top_k: chooses 9 of 8 experts"},
      {"groups=3", "groups: 3 do not divide 8 experts"},
      {"kept_groups=2", "kept_groups: keeps 2 of 1 groups"},
      {"groups=4 kept_groups=1 top_k=3",
       "top_k: chooses 3 of the 2 experts in the kept groups"},
      {"groups=8 kept_groups=4 group_score=top2sum",
       "group_score: top2sum needs two experts in each group"},
      {"groups=4 kept_groups=2 score_domain=topk",
       "kept_groups: a softmax over the chosen (score_domain=topk) has no "
       "scores to choose groups by"},
      {"indices=true select_bias=true",
       "select_bias: indices are given, so nothing is chosen"},
      {"indices=true groups=4 kept_groups=2",
       "kept_groups: indices are given, so nothing is chosen"},
      {"capacity=first_come zero_experts=2",
       "capacity: identity experts (zero_experts) have no rows to count"},
      {"capacity_factor=1e7", "capacity_factor: is above 1e6"},
      {"act_style=oai gated=false",
       "act_style: oai is a form of gated activations"},
      {"act_style=oai activation=gelu",
       "activation: act_style=oai has its own sigmoid, leave silu"},
      {"gated=false pairing=separate",
       "pairing: ungated experts have nothing to pair"},
      {"gated=false order=up_gate",
       "order: ungated experts have nothing to order"},
      {"latent=8 zero_experts=1",
       "zero_experts: identity experts act on x, which has not the width of a "
       "latent"},
      {"shared_gate=true",
       "shared_gate: there is no shared expert (shared_inter=0)"},
      {"shared_mode=average",
       "shared_mode: there is no shared expert (shared_inter=0)"},
      {"router=expert_choice score=sigmoid",
       "score: is for tokens that choose, not for router=expert_choice"},
      {"router=expert_choice capacity_per=slots",
       "capacity_per: is for tokens that choose, not for "
       "router=expert_choice"},
      {"router=expert_choice score_dtype=bf16",
       "score_dtype: expert choice does not round its scores, which are f32 "
       "here"},
      {"router=expert_choice logit_dtype=f64",
       "score_dtype: expert choice does not round its scores, which are f64 "
       "here"},
      {"experts=16777216 inter=16777216 hidden=16777216",
       "experts * inter * hidden: a weight of this size has no 64-bit number "
       "of bytes"},
      {"tokens=16777216 experts=4096 top_k=128",
       "tokens: 16777216 tokens of 128 slots are more rows than 32-bit ids "
       "count"},
  };
  for (const auto &[words, message] : cases)
    EXPECT_EQ(invalid(words), message.str()) << words.str();
}

TEST(LayerSpec, FieldsWrittenDirectlyAreChecked) {
  LayerSpec spec;
  std::string error;
  spec.hidden = -4;
  EXPECT_TRUE(failed(validate(spec, error)));
  EXPECT_EQ(error, "'hidden' takes an integer from 1 to 16777216, not '-4'");
  spec = LayerSpec();
  spec.scale = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(failed(validate(spec, error)));
  spec = LayerSpec();
  spec.score = static_cast<ScoreKind>(99);
  EXPECT_TRUE(failed(validate(spec, error)));
  spec = LayerSpec();
  spec.name = "not a name";
  EXPECT_TRUE(failed(validate(spec, error)));
}
} // namespace
