//===- MoeTestLib.h - What only tests register ------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_LIB_MOETESTLIB_H
#define MOE_TEST_LIB_MOETESTLIB_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace mlir::moe_test {

/// Registers the dialect moe_test, the models that it attaches from outside,
/// and the passes of tests.
void registerMoeTestLib(DialectRegistry &registry);

void registerTestLaunchToLoopsPass();

} // namespace mlir::moe_test

#endif // MOE_TEST_LIB_MOETESTLIB_H
