//===- Assignments.h - Rows of a routing in expert order --------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLOOPS_ASSIGNMENTS_H
#define MOE_LIB_CONVERSION_MOETOLOOPS_ASSIGNMENTS_H

#include "LoopBuilder.h"

namespace mlir::moe::loops {

/// Numbers the assignments of a routing as moe.dispatch does: by expert, then
/// by token, then by slot. Ids that are no expert (or, where experts choose, no
/// token) have no assignment.
class Assignments {
public:
  /// `ids` is a buffer, [T, k] or [E, C].
  Assignments(LoopBuilder &b, Value ids, Choice choice, Value numTokens,
              Value numExperts);

  /// Runs `body` on every assignment: its row, its token, its place in ids.
  void visitAll(
      llvm::function_ref<void(Value row, Value token, ValueRange at)> body);
  /// The same for the assignments of one token, in slot order (expert order
  /// where experts chose).
  void visitToken(Value token,
                  llvm::function_ref<void(Value row, ValueRange at)> body);
  /// Stores the first row of every expert, and the number of assignments.
  void storeOffsets(Value offsets);
  Value getNumAssignments();

private:
  LoopBuilder &b;
  Value ids;
  Choice choice;
  Value numExperts;
  Value rows;   ///< As ids: the row of an assignment, or -1.
  Value starts; ///< [E+1]
};

} // namespace mlir::moe::loops

#endif // MOE_LIB_CONVERSION_MOETOLOOPS_ASSIGNMENTS_H
