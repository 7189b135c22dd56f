//===- MoeTestDialect.h - The dialect moe_test ------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_LIB_MOETESTDIALECT_H
#define MOE_TEST_LIB_MOETESTDIALECT_H

#include "moe/Dialect/Moe/IR/Moe.h"

#include "MoeTestDialect.h.inc"

#define GET_ATTRDEF_CLASSES
#include "MoeTestAttrs.h.inc"

namespace mlir::moe_test {

/// Attaches the token bodies and the activation to the attributes.
void attachModels(MLIRContext &context);

} // namespace mlir::moe_test

#endif // MOE_TEST_LIB_MOETESTDIALECT_H
