//===- Compiler.cpp - From a module to an object ---*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/ExecutionEngine/Compiler.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/ExecutionEngine/OptUtils.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/SubtargetFeature.h"

using namespace mlir;
using namespace mlir::moe;

static llvm::Error makeError(const llvm::Twine &message) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), message);
}

LogicalResult moe::lowerModule(ModuleOp module, const CompileOptions &options,
                               Stage last) {
  PassManager pm(module.getContext());
  if (options.target == CompileTarget::oracle)
    buildOraclePipeline(pm, last);
  else
    buildCPUPipeline(pm, options.pipeline, last);
  return pm.run(module);
}

static llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
createTargetMachine(const CompileOptions &options) {
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  llvm::InitializeNativeTargetAsmParser();
  llvm::Triple triple(llvm::sys::getProcessTriple());
  std::string message;
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(triple, message);
  if (!target)
    return makeError(message);
  std::string cpu = options.cpu, features;
  if (cpu == "native") {
    cpu = llvm::sys::getHostCPUName().str();
    llvm::SubtargetFeatures host;
    for (const auto &feature : llvm::sys::getHostCPUFeatures())
      host.AddFeature(feature.first(), feature.second);
    features = host.getString();
  } else {
    auto probe = std::unique_ptr<llvm::MCSubtargetInfo>(
        target->createMCSubtargetInfo(triple, "", ""));
    if (probe && !probe->isCPUStringValid(cpu))
      return makeError("unknown processor '" + cpu + "' for " + triple.str());
  }
  std::unique_ptr<llvm::TargetMachine> machine(target->createTargetMachine(
      triple, cpu, features, llvm::TargetOptions(), llvm::Reloc::PIC_,
      /*CodeModel=*/std::nullopt,
      static_cast<llvm::CodeGenOptLevel>(options.optLevel)));
  if (!machine)
    return makeError("no code generator for " + triple.str());
  return machine;
}

static llvm::Expected<std::unique_ptr<llvm::Module>>
translate(ModuleOp module, llvm::LLVMContext &context,
          llvm::TargetMachine &machine, const CompileOptions &options) {
  std::unique_ptr<llvm::Module> translated =
      translateModuleToLLVMIR(module, context, "moe");
  if (!translated)
    return makeError("the module could not be translated to LLVM IR");
  translated->setTargetTriple(machine.getTargetTriple());
  translated->setDataLayout(machine.createDataLayout());
  // Code of vectors as wide as the registers is what the passes asked for.
  for (llvm::Function &function : *translated)
    if (!function.isDeclaration())
      function.addFnAttr("prefer-vector-width", "512");
  auto optimize =
      makeOptimizingTransformer(options.optLevel, /*sizeLevel=*/0, &machine);
  if (llvm::Error error = optimize(translated.get()))
    return std::move(error);
  return translated;
}

llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>>
moe::compileToObject(ModuleOp module, const CompileOptions &options) {
  auto machine = createTargetMachine(options);
  if (!machine)
    return machine.takeError();
  llvm::LLVMContext context;
  auto translated = translate(module, context, **machine, options);
  if (!translated)
    return translated.takeError();
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager passes;
  if ((*machine)->addPassesToEmitFile(passes, stream, nullptr,
                                      llvm::CodeGenFileType::ObjectFile))
    return makeError("this target emits no objects");
  passes.run(**translated);
  return std::make_unique<llvm::SmallVectorMemoryBuffer>(
      std::move(bytes), "moe-layer.o", /*RequiresNullTerminator=*/false);
}

llvm::Expected<std::string>
moe::compileToLLVMText(ModuleOp module, const CompileOptions &options) {
  auto machine = createTargetMachine(options);
  if (!machine)
    return machine.takeError();
  llvm::LLVMContext context;
  auto translated = translate(module, context, **machine, options);
  if (!translated)
    return translated.takeError();
  std::string text;
  llvm::raw_string_ostream stream(text);
  (*translated)->print(stream, nullptr);
  return text;
}

std::vector<EntryDescription> moe::getEntryDescriptions(ModuleOp module) {
  std::vector<EntryDescription> entries;
  for (auto global : module.getOps<LLVM::GlobalOp>()) {
    StringRef symbol = global.getName();
    if (!symbol.consume_front("moe_") || !symbol.consume_back("_info"))
      continue;
    auto function = "moe_" + symbol.str();
    if (!module.lookupSymbol<LLVM::LLVMFuncOp>(function + "_workspace"))
      continue;
    StringRef bytes = cast<StringAttr>(global.getValueOrNull()).getValue();
    entries.push_back({symbol.str(), {bytes.begin(), bytes.end()}});
  }
  return entries;
}
