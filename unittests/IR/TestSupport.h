//===- TestSupport.h - A context with the dialect ---------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_UNITTESTS_IR_TESTSUPPORT_H
#define MOE_UNITTESTS_IR_TESTSUPPORT_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "gtest/gtest.h"

namespace mlir::moe {

class IRTest : public ::testing::Test {
protected:
  IRTest() : builder(&context), location(builder.getUnknownLoc()) {
    context.loadDialect<MoeDialect, func::FuncDialect>();
  }

  /// Calls `run` and returns the diagnostics that came of it.
  template <typename Fn> std::string diagnosticsOf(Fn run) {
    std::string text;
    ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
      text += diagnostic.str() + "\n";
      return success();
    });
    run();
    return text;
  }

  MLIRContext context;
  OpBuilder builder;
  Location location;
};

} // namespace mlir::moe

#endif // MOE_UNITTESTS_IR_TESTSUPPORT_H
