//===- LayoutTest.cpp - Shapes of weights by their layout -----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class LayoutTest : public IRTest {
protected:
  LayoutAttr get(Orientation orientation, Orientation down, Pairing pairing,
                 ExpertAxis axis) {
    return LayoutAttr::get(&context, orientation, down, pairing,
                           PairOrder::gate_up, axis, /*shards=*/1);
  }
};

TEST_F(LayoutTest, ShapesByHand) {
  using Shape = SmallVector<int64_t>;
  LayoutAttr plain = get(Orientation::out_in, Orientation::in_out, Pairing::cat,
                         ExpertAxis::lead);
  EXPECT_EQ(plain.getShape(Projection::up, 2, 6, 4), (Shape{2, 6, 4}));
  EXPECT_EQ(plain.getShape(Projection::down, 2, 4, 3), (Shape{2, 3, 4}));
  EXPECT_EQ(plain.getShape(Projection::up_bias, 2, 6, 0), (Shape{2, 6}));
  LayoutAttr folded = get(Orientation::in_out, Orientation::out_in,
                          Pairing::cat, ExpertAxis::folded);
  EXPECT_EQ(folded.getShape(Projection::up, 2, 6, 4), (Shape{8, 6}));
  EXPECT_EQ(folded.getShape(Projection::down, 2, 4, 3), (Shape{8, 3}));
  EXPECT_EQ(folded.getShape(Projection::up_bias, 2, 6, 0), (Shape{2, 6}));
}

TEST_F(LayoutTest, FeaturesAreTheInverse) {
  for (Orientation up : {Orientation::out_in, Orientation::in_out})
    for (Orientation down : {Orientation::out_in, Orientation::in_out})
      for (Pairing pairing :
           {Pairing::cat, Pairing::interleaved, Pairing::separate})
        for (ExpertAxis axis : {ExpertAxis::lead, ExpertAxis::folded})
          for (Projection projection :
               {Projection::up, Projection::down, Projection::up_bias}) {
            LayoutAttr layout = get(up, down, pairing, axis);
            int64_t in = projection == Projection::up_bias ? 0 : 4;
            auto features = layout.getFeatures(
                projection, 2, layout.getShape(projection, 2, 6, in));
            ASSERT_TRUE(succeeded(features));
            EXPECT_EQ(*features, std::make_pair(int64_t(6), in));
          }
}

TEST_F(LayoutTest, OtherShapesHaveNoFeatures) {
  LayoutAttr lead = get(Orientation::out_in, Orientation::out_in, Pairing::cat,
                        ExpertAxis::lead);
  LayoutAttr folded = get(Orientation::out_in, Orientation::out_in,
                          Pairing::cat, ExpertAxis::folded);
  constexpr int64_t kAny = ShapedType::kDynamic;
  auto fails = [](LayoutAttr layout, Projection projection, int64_t experts,
                  ArrayRef<int64_t> shape) {
    return failed(layout.getFeatures(projection, experts, shape));
  };
  EXPECT_TRUE(fails(lead, Projection::up, 2, {3, 6, 4}));
  EXPECT_TRUE(fails(lead, Projection::up, 2, {12, 4}));
  EXPECT_TRUE(fails(lead, Projection::up, 2, {2, kAny, 4}));
  EXPECT_TRUE(fails(lead, Projection::up_bias, 2, {3, 6}));
  EXPECT_TRUE(fails(lead, Projection::up_bias, 2, {2, 6, 1}));
  EXPECT_TRUE(fails(folded, Projection::up, 2, {13, 4}));
  EXPECT_TRUE(fails(folded, Projection::up, 2, {2, 6, 4}));
  for (int64_t experts : {int64_t(0), int64_t(-1), kAny})
    EXPECT_TRUE(fails(folded, Projection::up, experts, {12, 4}));
}

} // namespace
