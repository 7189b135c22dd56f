//===- Weights.h - Expert weights of any layout as matrices -----*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_WEIGHTS_H
#define MOE_LIB_CONVERSION_MOETOLINALG_WEIGHTS_H

#include "Emit.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe::tolinalg {

/// How one tensor of a projection lies: [E, rows, cols] with the output axis
/// (rows, or cols where in_out; the one axis of a bias) split in three,
/// [before, 2, after], where it holds gate and up. A folded expert axis is
/// unfolded. Every layout is such a reshape, so a side is a view: a slice of
/// the middle axis.
class WeightForm {
public:
  WeightForm(LayoutAttr layout, Projection projection, int64_t numExperts,
             bool isPaired, RankedTensorType type);

  /// Whether a matrix is [in, out].
  bool isInOut() const { return inOut; }
  /// The type of one side of all experts, [E, rows, cols] with the width of
  /// one side as its output axis.
  RankedTensorType getSideType() const;

  /// A weight reshaped to this form, and back to its own type.
  Value emitUnfold(ImplicitLocOpBuilder &b, Value weight) const;
  Value emitFold(ImplicitLocOpBuilder &b, Value unfolded) const;
  /// One side of one expert, [rows, cols], or of all experts.
  Value emitExpertSide(ImplicitLocOpBuilder &b, Value unfolded, Value expert,
                       int64_t side) const;
  Value emitSide(ImplicitLocOpBuilder &b, Value unfolded, int64_t side) const;
  /// Writes one side of all experts.
  Value emitInsertSide(ImplicitLocOpBuilder &b, Value values, Value unfolded,
                       int64_t side) const;

private:
  struct Slice;
  Value emitSlice(ImplicitLocOpBuilder &b, Value unfolded, OpFoldResult expert,
                  int64_t side) const;
  RankedTensorType getUnfoldedType() const;
  SmallVector<ReassociationIndices> getFolding() const;

  RankedTensorType type;
  int64_t numExperts;
  SmallVector<int64_t> matrix; ///< Rows and cols, or the length of a bias.
  unsigned outAxis;            ///< The output axis among those of `matrix`.
  bool inOut, paired, folded;
  int64_t before = 1, after = 1; ///< Around the middle axis of a pair.
};

/// The place of gate in the middle axis; up has the other one.
inline int64_t getGateSide(LayoutAttr layout) {
  return layout.getOrder() == PairOrder::gate_up ? 0 : 1;
}

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_WEIGHTS_H
