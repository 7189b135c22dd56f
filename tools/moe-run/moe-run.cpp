//===- moe-run.cpp - Compile and call a layer -----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Gradients.h"
#include "LayerCost.h"
#include "Statistics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Target/LLVMIR/Dialect/All.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Emulator/GPU.h"
#include "moe/ExecutionEngine/Compiler.h"
#include "moe/ExecutionEngine/JIT.h"
#include "moe/InitAllDialects.h"
#include "moe/Run/Options.h"
#include "moe/Run/Run.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/SourceMgr.h"
#include <iostream>
#ifdef MOE_INCLUDE_TESTS
#include "MoeTestLib.h"
#endif

using namespace mlir;
using namespace mlir::moe;
namespace run = ::moe::run;

static int report(const llvm::Twine &message) {
  llvm::errs() << "moe-run: error: " << message << "\n";
  return 1;
}

/// The entry that is asked for, or the only one.
static FailureOr<func::FuncOp> findEntry(ModuleOp module,
                                         const run::Options &options) {
  SmallVector<func::FuncOp> entries;
  std::string names;
  for (auto function : module.getOps<func::FuncOp>())
    if (function->hasAttr(kEntryAttrName)) {
      entries.push_back(function);
      names += (names.empty() ? "" : ", ") + function.getName().str();
    }
  for (func::FuncOp entry : entries)
    if (entry.getName() == options.entry ||
        (options.entry.empty() && entries.size() == 1))
      return entry;
  if (entries.empty())
    report(options.file + ": no function is marked moe.entry");
  else if (options.entry.empty())
    report(options.file + ": name one by --entry: " + names);
  else
    report(options.file + ": no entry '" + options.entry + "'; it has " +
           names);
  return failure();
}

static int runLibrary(const run::Options &options, moe_context *context) {
  moe_module *module = nullptr;
  moe_entry entry;
  if (options.plan)
    return report(options.file + ": a library has no IR to describe");
  if (options.entry.empty())
    return report(options.file + ": name the entry of a library by --entry");
  if (options.checkGradients)
    return report(options.file + ": a library has no IR to differentiate");
  if (moe_module_load(context, options.file.c_str(), &module) != MOE_OK ||
      moe_module_entry(context, module, options.entry.c_str(), &entry) !=
          MOE_OK) {
    int code = report(moe_context_error(context));
    moe_module_unload(module);
    return code;
  }
  int code = run::runEntry(options, entry, context, {}, std::cout, std::cerr);
  moe_module_unload(module);
  return code;
}

/// `plan` is filled where the options ask for it.
static int runSource(const run::Options &options, moe_context *context,
                     GPUPlan &plan) {
  DialectRegistry registry;
  mlir::moe::registerAllDialects(registry);
#ifdef MOE_INCLUDE_TESTS
  moe_test::registerMoeTestLib(registry);
#endif
  registerAllToLLVMIRTranslations(registry);
  MLIRContext mlirContext(registry);
  llvm::SourceMgr sourceManager;
  SourceMgrDiagnosticHandler handler(sourceManager, &mlirContext);
  OwningOpRef<ModuleOp> module =
      parseSourceFile<ModuleOp>(options.file, sourceManager, &mlirContext);
  if (!module)
    return report(options.file + ": cannot be read as a module");
  auto layer = findEntry(*module, options);
  if (failed(layer))
    return 1;
  if (options.checkGradients)
    return runGradientCheck(options, *module, *layer, context);
  std::string name = layer->getName().str();
  run::CostFn cost = makeCostFunction(*layer);

  CompileOptions compile;
  if (options.target == run::Target::Cuda)
    compile.target = CompileTarget::cuda;
  else if (options.target == run::Target::GpuEmulator)
    compile.target = CompileTarget::gpuEmulator;
  else if (options.target == run::Target::Oracle)
    compile.target = CompileTarget::oracle;
  if (!options.chip.empty())
    compile.gpu.chip = options.chip;
  compile.gpu.tf32 = options.tf32;
  compile.gpu.batchInvariant = options.batchInvariant;
  compile.pipeline.packWeights = options.packWeights;
  if (failed(lowerModule(*module, compile, Stage::llvm,
                         options.plan ? &plan : nullptr)))
    return report(options.file + ": could not be compiled");
  auto object = compileToObject(*module, compile);
  if (!object)
    return report(options.file + ": " + llvm::toString(object.takeError()));
  auto jit = JITModule::create(std::move(*object));
  if (!jit)
    return report(options.file + ": " + llvm::toString(jit.takeError()));
  auto entry = (*jit)->getEntry(name);
  if (!entry)
    return report(options.file + ": " + llvm::toString(entry.takeError()));
  return run::runEntry(options, *entry, context, cost, std::cout, std::cerr);
}

namespace {
struct GPUCloser {
  void operator()(moe_gpu *gpu) const { gpu->destroy(gpu); }
};
using GPUHandle = std::unique_ptr<moe_gpu, GPUCloser>;
} // namespace

/// The GPU of a target, or null; the context then has the message.
static moe_gpu *openGPU(const run::Options &options, moe_context *context) {
  moe_gpu *gpu = nullptr;
  if (options.target == run::Target::Cuda)
    moe_gpu_open_cuda(context, /*device=*/0, &gpu);
  if (options.target == run::Target::GpuEmulator)
    gpu = ::moe::emulator::createGPU(options.schedule);
  return gpu;
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  auto options = run::parseOptions(argc, argv);
  if (!options)
    return report(options.error().message);
  if (options->help) {
    std::cout << run::helpText();
    return 0;
  }
  moe_context *context = nullptr;
  if (int status = moe_context_create(options->threads, &context))
    return report(llvm::Twine("no context: ") + moe_status_name(status));
  GPUHandle gpu(openGPU(*options, context));
  if (run::isGPU(options->target) && !gpu) {
    int code = report(moe_context_error(context));
    moe_context_destroy(context);
    return code;
  }
  moe_context_set_gpu(context, gpu.get());
  GPUPlan plan;
  StringRef file = options->file;
  int code = file.ends_with(".so") ? runLibrary(*options, context)
                                   : runSource(*options, context, plan);
  if (code == 0 && options->plan)
    printExecutedPlan(plan, gpu.get());
  if (code == 0 && options->statistics)
    options->json ? printStatisticsJson(gpu.get()) : printStatistics(gpu.get());
  moe_context_destroy(context);
  return code;
}
