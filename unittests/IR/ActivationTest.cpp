//===- ActivationTest.cpp - Activation bodies, folded on constants ---*- C++
//-*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include <cmath>
#include <optional>

using namespace mlir;
using namespace mlir::moe;

namespace {

class ActivationTest : public IRTest {
protected:
  ActivationAttr get(ActivationKind kind,
                     ActivationStyle style = ActivationStyle::plain,
                     double limit = 0.0, double alpha = 1.702) {
    return ActivationAttr::get(&context, kind, style, APFloat(limit),
                               APFloat(alpha));
  }

  /// The body's value in f64, by the folders of arith and math.
  double evaluate(ActivationAttrInterface activation, double gate,
                  std::optional<double> up = std::nullopt) {
    OwningOpRef<ModuleOp> module = ModuleOp::create(location);
    ImplicitLocOpBuilder b(location, &context);
    b.setInsertionPointToEnd(module->getBody());
    auto function =
        func::FuncOp::create(b, "f", b.getFunctionType({}, {b.getF64Type()}));
    b.setInsertionPointToEnd(function.addEntryBlock());
    auto constant = [&](double value) -> Value {
      return arith::ConstantOp::create(b, b.getF64FloatAttr(value));
    };
    Value result = activation.buildActivation(b, constant(gate),
                                              up ? constant(*up) : Value());
    auto end = func::ReturnOp::create(b, result);
    EXPECT_TRUE(succeeded(applyPatternsGreedily(*module, {})));
    FloatAttr folded;
    if (!matchPattern(end.getOperand(0), m_Constant(&folded))) {
      ADD_FAILURE() << "the body does not fold";
      return NAN;
    }
    return folded.getValueAsDouble();
  }
};

constexpr double kClose = 1e-12;

TEST_F(ActivationTest, KindsAtHandComputedPoints) {
  EXPECT_NEAR(evaluate(get(ActivationKind::silu), 1.0), 0.7310585786300049,
              kClose);
  EXPECT_NEAR(evaluate(get(ActivationKind::gelu), 1.0), 0.8413447460685429,
              kClose);
  EXPECT_NEAR(evaluate(get(ActivationKind::gelu_tanh), 1.0), 0.8411919906082768,
              kClose);
  EXPECT_EQ(evaluate(get(ActivationKind::relu), -2.0), 0.0);
  EXPECT_EQ(evaluate(get(ActivationKind::relu), 3.0), 3.0);
  EXPECT_EQ(evaluate(get(ActivationKind::relu2), 3.0), 9.0);
  EXPECT_EQ(evaluate(get(ActivationKind::relu2), -3.0), 0.0);
  EXPECT_EQ(evaluate(get(ActivationKind::identity), -2.5), -2.5);
}

TEST_F(ActivationTest, GateMultipliesUp) {
  EXPECT_EQ(evaluate(get(ActivationKind::relu), 3.0, -2.0), -6.0);
  EXPECT_EQ(evaluate(get(ActivationKind::identity), 3.0, 4.0), 12.0);
}

// The gate is cut from above alone, up from both sides.
TEST_F(ActivationTest, LimitCuts) {
  ActivationAttr limited =
      get(ActivationKind::identity, ActivationStyle::plain, 7.0);
  EXPECT_EQ(evaluate(limited, 9.0), 7.0);
  EXPECT_EQ(evaluate(limited, -9.0), -9.0);
  EXPECT_EQ(evaluate(limited, 9.0, 10.0), 49.0);
  EXPECT_EQ(evaluate(limited, 9.0, -10.0), -49.0);
  EXPECT_EQ(evaluate(limited, -9.0, 1.0), -9.0);
}

TEST_F(ActivationTest, OaiStyle) {
  ActivationAttr oai = get(ActivationKind::silu, ActivationStyle::oai, 7.0);
  auto expected = [](double gate, double up) {
    return gate / (1.0 + std::exp(-1.702 * gate)) * (up + 1.0);
  };
  EXPECT_NEAR(evaluate(oai, 1.0, 0.5), expected(1.0, 0.5), kClose);
  EXPECT_NEAR(evaluate(oai, 100.0, -100.0), expected(7.0, -7.0), kClose);
  EXPECT_NEAR(evaluate(oai, 1.0), expected(1.0, 0.0), kClose);
}

// Far to the left the exponential overflows, and the result is zero still.
TEST_F(ActivationTest, FarLogits) {
  EXPECT_EQ(evaluate(get(ActivationKind::silu), -1000.0), 0.0);
  EXPECT_EQ(evaluate(get(ActivationKind::silu), 1000.0), 1000.0);
  EXPECT_TRUE(std::isnan(evaluate(get(ActivationKind::relu), NAN)));
}

} // namespace
