//===- ExpertChoice.h - What both forms of expert choice have ---*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETOLINALG_EXPERTCHOICE_H
#define MOE_LIB_CONVERSION_MOETOLINALG_EXPERTCHOICE_H

#include "Emit.h"
#include "moe/Dialect/Moe/IR/Moe.h"

namespace mlir::moe::tolinalg {

/// The slots that an expert has for a group of `count` tokens.
Value emitChoiceCapacity(ImplicitLocOpBuilder &b, RouteExpertsOp op,
                         Value count);

/// Asserts that a C that is not the capacity rule's own bound is enough. In
/// front of all groups, as an entry cannot leave a loop with an error. Group
/// offsets are asserted to ascend unless another assertion has seen them.
void emitRoomCheck(ImplicitLocOpBuilder &b, RouteExpertsOp op,
                   bool areGroupsChecked = false);

/// Whether an id of the choice names a token: empty slots have -1.
Value emitIsToken(ImplicitLocOpBuilder &b, Value id);

} // namespace mlir::moe::tolinalg

#endif // MOE_LIB_CONVERSION_MOETOLINALG_EXPERTCHOICE_H
