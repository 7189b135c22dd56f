//===- RuntimeABI.h - moe_rt.h as seen by compiled code ---------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_CONVERSION_MOETORUNTIME_RUNTIMEABI_H
#define MOE_LIB_CONVERSION_MOETORUNTIME_RUNTIMEABI_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::moe {

/// The name of the function that computes the workspace of an entry.
std::string getWorkspaceFunctionName(StringRef entry);

/// The entries of a module, in order.
SmallVector<func::FuncOp> getEntries(ModuleOp module);

/// Emits accesses to the structs of moe_rt.h and calls through a context.
class RuntimeABI {
public:
  explicit RuntimeABI(ImplicitLocOpBuilder &b) : b(b) {}

  Type pointer() { return LLVM::LLVMPointerType::get(b.getContext()); }
  Value constant(Type type, int64_t value);
  Value byteOffset(Value base, int64_t offset);
  Value loadAt(Type type, Value base, int64_t offset);
  /// Calls the function whose pointer lies in the context at `offset`.
  Value callThrough(Value context, int64_t offset, Type result,
                    ValueRange arguments);
  Value fail(Value context, int64_t status, StringRef message);
  Value parallelFor(Value context, Value count, Value function, Value data);

  /// A private constant string with its end, and its address.
  Value stringConstant(StringRef text);

private:
  ImplicitLocOpBuilder &b;
};

} // namespace mlir::moe

#endif // MOE_LIB_CONVERSION_MOETORUNTIME_RUNTIMEABI_H
