//===- JIT.cpp - Compiled entries in this process -------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/ExecutionEngine/JIT.h"
#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/TargetSelect.h"

using namespace mlir;
using namespace mlir::moe;

JITModule::JITModule(std::unique_ptr<llvm::orc::LLJIT> jit)
    : jit(std::move(jit)) {}

JITModule::~JITModule() = default;

llvm::Expected<std::unique_ptr<JITModule>>
JITModule::create(std::unique_ptr<llvm::MemoryBuffer> object) {
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  auto jit = llvm::orc::LLJITBuilder().create();
  if (!jit)
    return jit.takeError();
  // The math library and memcpy are this process's.
  auto process = llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
      (*jit)->getDataLayout().getGlobalPrefix());
  if (!process)
    return process.takeError();
  (*jit)->getMainJITDylib().addGenerator(std::move(*process));
  if (llvm::Error error = (*jit)->addObjectFile(std::move(object)))
    return std::move(error);
  return std::unique_ptr<JITModule>(new JITModule(std::move(*jit)));
}

llvm::Expected<moe_entry> JITModule::getEntry(StringRef name) {
  auto find = [&](StringRef suffix) {
    return jit->lookup(("moe_" + name + suffix).str());
  };
  auto run = find(""), workspace = find("_workspace"), pack = find("_pack"),
       info = find("_info"), packInfo = find("_pack_info");
  // The first failure says it all: the others follow from it.
  std::string message;
  for (auto *symbol : {&run, &workspace, &pack, &info, &packInfo}) {
    if (*symbol)
      continue;
    std::string failure = llvm::toString(symbol->takeError());
    if (message.empty())
      message = std::move(failure);
  }
  if (!message.empty())
    return llvm::createStringError("entry '" + name +
                                   "' cannot be used: " + message);
  return moe_entry{
      info->toPtr<const moe_entry_info *>(), run->toPtr<moe_entry_fn>(),
      workspace->toPtr<moe_workspace_fn>(), pack->toPtr<moe_pack_fn>(),
      packInfo->toPtr<const moe_entry_info *>()};
}
