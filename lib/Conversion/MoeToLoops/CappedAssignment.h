//===- CappedAssignment.h - Expert choice with a cap, as loops --*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLOOPS_CAPPEDASSIGNMENT_H
#define MOE_LIB_CONVERSION_MOETOLOOPS_CAPPEDASSIGNMENT_H

#include "LoopBuilder.h"

namespace mlir::moe::loops {

/// The assignment of one group of tokens after the other, by Dykstra's
/// projections. The builder computes in f64.
class CappedAssignment {
public:
  /// `scores` is a buffer [T, E]; `mask` [T], or null.
  CappedAssignment(LoopBuilder &b, ExpertChoiceAttr rule, Value scores,
                   Value mask);

  /// Computes the assignment of the tokens low .. high - 1, of which an expert
  /// takes `limit`, or as many as there are.
  void compute(Value low, Value high, Value limit);
  /// log A of a token that is not masked.
  Value getLog(Value token, Value expert) {
    return b.load(logs, {token, expert});
  }

private:
  void loopLive(Value low, Value high, LoopBuilder::Body body);
  Value logSum(Value low, Value high, llvm::function_ref<Value(Value)> isMember,
               llvm::function_ref<Value(Value)> read);
  void scaleRow(Value expert, Value low, Value high, Value logTaken);
  void scaleColumn(Value token);
  void clampEntries(Value token);

  LoopBuilder &b;
  ExpertChoiceAttr rule;
  Value scores, mask;
  Value numExperts;
  Value logs;     ///< [T, E]
  Value byColumn; ///< [T] what columns corrected last, and
  Value byEntry;  ///< [T, E] entries.
};

} // namespace mlir::moe::loops

#endif // MOE_LIB_CONVERSION_MOETOLOOPS_CAPPEDASSIGNMENT_H
