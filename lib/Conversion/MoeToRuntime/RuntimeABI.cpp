//===- RuntimeABI.cpp - moe_rt.h as seen by compiled code -----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RuntimeABI.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Runtime/moe_rt.h"

using namespace mlir;
using namespace mlir::moe;

std::string moe::getWorkspaceFunctionName(StringRef entry) {
  return (entry + ".workspace").str();
}

SmallVector<func::FuncOp> moe::getEntries(ModuleOp module) {
  SmallVector<func::FuncOp> entries;
  for (auto function : module.getOps<func::FuncOp>())
    if (function->hasAttr(kEntryAttrName))
      entries.push_back(function);
  return entries;
}

Value RuntimeABI::constant(Type type, int64_t value) {
  return LLVM::ConstantOp::create(b, type, b.getIntegerAttr(type, value));
}

Value RuntimeABI::byteOffset(Value base, int64_t offset) {
  if (offset == 0)
    return base;
  return LLVM::GEPOp::create(
      b, pointer(), b.getI8Type(), base,
      ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(offset)});
}

Value RuntimeABI::loadAt(Type type, Value base, int64_t offset) {
  return LLVM::LoadOp::create(b, type, byteOffset(base, offset));
}

Value RuntimeABI::callThrough(Value context, int64_t offset, Type result,
                              ValueRange arguments) {
  Value callee = loadAt(pointer(), context, offset);
  SmallVector<Value> operands = {callee};
  llvm::append_range(operands, arguments);
  Type returned = result ? result : LLVM::LLVMVoidType::get(b.getContext());
  auto type = LLVM::LLVMFunctionType::get(
      returned, llvm::to_vector(arguments.getTypes()));
  auto call = LLVM::CallOp::create(b, type, operands);
  return result ? call.getResult() : Value();
}

Value RuntimeABI::stringConstant(StringRef text) {
  Operation *scope = b.getInsertionBlock()->getParentOp();
  ModuleOp module = isa<ModuleOp>(scope) ? cast<ModuleOp>(scope)
                                         : scope->getParentOfType<ModuleOp>();
  std::string bytes = text.str();
  bytes.push_back('\0');
  SymbolTable symbols(module);
  OpBuilder top = OpBuilder::atBlockBegin(module.getBody());
  auto global = LLVM::GlobalOp::create(
      top, b.getLoc(), LLVM::LLVMArrayType::get(b.getI8Type(), bytes.size()),
      /*isConstant=*/true, LLVM::Linkage::Private, "moe_text",
      b.getStringAttr(bytes));
  symbols.insert(global);
  return LLVM::AddressOfOp::create(b, global);
}

Value RuntimeABI::fail(Value context, int64_t status, StringRef message) {
  Type i32 = b.getI32Type();
  return callThrough(context, offsetof(moe_context, fail), i32,
                     {context, constant(i32, status), stringConstant(message)});
}

Value RuntimeABI::parallelFor(Value context, Value count, Value function,
                              Value data) {
  return callThrough(context, offsetof(moe_context, parallel_for), Type(),
                     {context, count, function, data});
}
