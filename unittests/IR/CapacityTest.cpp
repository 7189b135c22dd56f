//===- CapacityTest.cpp - The capacity rule, in numbers and in code ---*- C++
//-*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include <limits>
#include <random>
#include <vector>

using namespace mlir;
using namespace mlir::moe;

namespace {

/// A rule whose factor is the fraction numerator / denominator.
struct Rule {
  int64_t numerator, denominator;
  Rounding rounding;
  CapacityPer per;
  int64_t multiple, min;

  CapacityAttr get(MLIRContext *context) const {
    return CapacityAttr::get(
        context, /*fixed=*/0,
        APFloat(static_cast<double>(numerator) / denominator), rounding, per,
        multiple, min);
  }

  /// The rule in integers. Denominators here are powers of two and numbers are
  /// small, so that f64 has no rounding of its own before the division.
  int64_t evaluate(int64_t tokens, int64_t experts, int64_t slots) const {
    int64_t above = numerator * tokens;
    if (per == CapacityPer::slots)
      above *= slots;
    int64_t below = denominator * experts;
    int64_t whole = above / below;
    if (rounding == Rounding::ceil)
      whole = (above + below - 1) / below;
    else if (rounding == Rounding::nearest)
      whole = (2 * above + below) / (2 * below);
    return std::max(min, (whole + multiple - 1) / multiple * multiple);
  }
};

class CapacityTest : public IRTest {
protected:
  CapacityTest() {
    for (int64_t numerator : {0, 1, 5, 8, 11})
      for (Rounding rounding :
           {Rounding::floor, Rounding::ceil, Rounding::nearest})
        for (CapacityPer per : {CapacityPer::tokens, CapacityPer::slots})
          for (int64_t multiple : {1, 4})
            for (int64_t min : {0, 1, 3})
              rules.push_back({numerator, 4, rounding, per, multiple, min});
  }

  /// The code for a value that turns out to be `tokens` once it is folded.
  template <typename Fn> int64_t fold(int64_t tokens, Fn build) {
    OwningOpRef<ModuleOp> module = ModuleOp::create(location);
    builder.setInsertionPointToEnd(module->getBody());
    auto function = func::FuncOp::create(
        builder, location, "f",
        builder.getFunctionType({}, {builder.getIndexType()}));
    builder.setInsertionPointToEnd(function.addEntryBlock());
    // Addition hides the constant from the builder.
    Value one = arith::ConstantIndexOp::create(builder, location, 1);
    Value rest = arith::ConstantIndexOp::create(builder, location, tokens - 1);
    Value count = arith::AddIOp::create(builder, location, rest, one);
    Value result = getValueOrCreateConstantIndexOp(builder, location,
                                                   build(OpFoldResult(count)));
    auto end = func::ReturnOp::create(builder, location, result);
    EXPECT_TRUE(succeeded(applyPatternsGreedily(*module, {})));
    return *getConstantIntValue(end.getOperand(0));
  }

  std::vector<Rule> rules;
};

TEST_F(CapacityTest, NumbersAreTheRule) {
  for (const Rule &rule : rules)
    for (int64_t tokens : {0, 1, 2, 6, 7, 1000})
      for (int64_t experts : {1, 3, 8})
        for (int64_t slots : {1, 3})
          EXPECT_EQ(rule.get(&context).getCapacity(tokens, experts, slots),
                    rule.evaluate(tokens, experts, slots))
              << rule.numerator << "/4, " << tokens << " tokens, " << experts
              << " experts, " << slots << " slots";
}

TEST_F(CapacityTest, CodeGivesTheNumbers) {
  for (const Rule &rule : rules) {
    CapacityAttr attr = rule.get(&context);
    for (int64_t tokens : {0, 7}) {
      EXPECT_EQ(fold(tokens,
                     [&](OpFoldResult count) {
                       return attr.build(builder, location, count,
                                         /*numExperts=*/3, /*numSlots=*/2);
                     }),
                rule.evaluate(tokens, 3, 2));
      for (int64_t groups : {1, 4})
        EXPECT_EQ(fold(tokens,
                       [&](OpFoldResult count) {
                         return attr.buildChoiceBound(
                             builder, location, count,
                             builder.getIndexAttr(groups), /*numExperts=*/3);
                       }),
                  attr.getChoiceBound(tokens, groups, 3));
      // The number of groups known only at run time.
      for (int64_t groups : {0, 1, 4})
        EXPECT_EQ(fold(groups,
                       [&](OpFoldResult count) {
                         return attr.buildChoiceBound(
                             builder, location, builder.getIndexAttr(tokens),
                             count, /*numExperts=*/3);
                       }),
                  attr.getChoiceBound(tokens, groups, 3));
    }
  }
}

// Whatever the sizes of the groups are, their slots fit the bound.
TEST_F(CapacityTest, ChoiceBoundHoldsForEveryPartition) {
  std::mt19937 random(7);
  for (const Rule &rule : rules) {
    if (rule.per == CapacityPer::slots)
      continue;
    CapacityAttr attr = rule.get(&context);
    for (int trial = 0; trial < 50; ++trial) {
      int64_t experts = 1 + random() % 9, groups = 1 + random() % 6;
      int64_t tokens = 0, filled = 0;
      for (int64_t group = 0; group < groups; ++group) {
        int64_t size = random() % 12;
        tokens += size;
        filled += std::min(size, attr.getCapacity(size, experts, 1));
      }
      int64_t bound = attr.getChoiceBound(tokens, groups, experts);
      EXPECT_LE(filled, bound);
      EXPECT_LE(bound, tokens);
      if (groups == 1) {
        EXPECT_EQ(filled, bound);
      }
    }
  }
}

TEST_F(CapacityTest, FixedIsFixed) {
  auto attr = CapacityAttr::get(&context, /*fixed=*/5, APFloat(0.0),
                                Rounding::floor, CapacityPer::slots, 4, 9);
  EXPECT_EQ(attr.getCapacity(1000, 8, 2), 5);
  EXPECT_EQ(attr.getChoiceBound(1000, 3, 8), 15);
  EXPECT_EQ(attr.getChoiceBound(4, 1, 8), 4);
  EXPECT_EQ(attr.getChoiceBound(0, 0, 8), 0);
}

TEST_F(CapacityTest, HugeSizesSaturate) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  auto attr = CapacityAttr::get(&context, 0, APFloat(0x1p20), Rounding::ceil,
                                CapacityPer::slots, kMost, kMost);
  EXPECT_GT(attr.getCapacity(kHuge, 1, kHuge), kMost);
  EXPECT_EQ(attr.getChoiceBound(kHuge, kHuge, 1), kHuge);
}

} // namespace
