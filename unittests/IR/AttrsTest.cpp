//===- AttrsTest.cpp - Attributes from C++ --------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"
#include "mlir/IR/Diagnostics.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;

namespace {

using AttrsTest = IRTest;

TopKAttr getTopK(MLIRContext *context, int64_t k, double scale) {
  return TopKAttr::get(context, k, ScoreKind::softmax, ScoreDomain::all,
                       APFloat(0.0), 1, 1, GroupScore::max, GroupFill::neg_inf,
                       Normalize::none, APFloat(1.0), APFloat(0.0),
                       EpsMode::add, APFloat(scale), FloatType());
}

TEST_F(AttrsTest, AreUniquedByEveryBitOfTheirDoubles) {
  EXPECT_EQ(getTopK(&context, 2, 0.1), getTopK(&context, 2, 0.1));
  EXPECT_NE(getTopK(&context, 2, 0.1),
            getTopK(&context, 2, std::nextafter(0.1, 1.0)));
  EXPECT_NE(getTopK(&context, 2, 0.0), getTopK(&context, 2, -0.0));
  EXPECT_NE(getTopK(&context, 2, 1.0), getTopK(&context, 3, 1.0));
}

TEST_F(AttrsTest, AreCheckedWhereTheyAreMade) {
  auto emit = [&] { return emitError(location); };
  llvm::function_ref<InFlightDiagnostic()> emitHere = emit;
  int64_t below = -1, one = 1;
  EXPECT_EQ(diagnosticsOf([&] {
              EXPECT_FALSE(CapacityAttr::getChecked(
                  emitHere, &context, below, APFloat(1.0), Rounding::floor,
                  CapacityPer::tokens, one, one));
            }),
            "fixed capacity -1 is not within 0 to 2147483647\n");
}

TEST_F(AttrsTest, RoutersDeclareWhatTheyAre) {
  RouterAttrInterface topK = getTopK(&context, 2, 1.0);
  EXPECT_EQ(topK.getLocality(), Locality::token);
  EXPECT_EQ(topK.getNumSlots(), 2);
  EXPECT_FALSE(topK.isSampled());

  auto capacity = CapacityAttr::get(&context, 0, APFloat(1.0), Rounding::floor,
                                    CapacityPer::tokens, 1, 1);
  RouterAttrInterface choice = ExpertChoiceAttr::get(
      &context, capacity, ChoiceAxis::experts, Normalize::none);
  EXPECT_EQ(choice.getLocality(), Locality::global);
  EXPECT_EQ(choice.getNumSlots(), std::nullopt);
  EXPECT_FALSE(choice.isSampled());
}

// Other ops than functions may keep argument attributes of their own.
TEST_F(AttrsTest, ArgumentAttributesBelongOnFunctions) {
  OwningOpRef<ModuleOp> module = ModuleOp::create(location);
  auto *dialect = context.getLoadedDialect<MoeDialect>();
  NamedAttribute name =
      builder.getNamedAttr(kNameAttrName, builder.getStringAttr("x"));
  EXPECT_EQ(diagnosticsOf([&] {
              EXPECT_TRUE(failed(
                  dialect->verifyRegionArgAttribute(*module, 0, 0, name)));
            }),
            "'builtin.module' op 'moe' argument attributes belong on a "
            "function\n");
  EXPECT_EQ(diagnosticsOf([&] {
              EXPECT_TRUE(failed(
                  dialect->verifyRegionResultAttribute(*module, 0, 0, name)));
            }),
            "'builtin.module' op 'moe' result attributes belong on a "
            "function\n");
}

} // namespace
