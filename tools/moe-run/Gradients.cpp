//===- Gradients.cpp - Compiling what a gradient check needs --------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Gradients.h"
#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/AttrTypeSubElements.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "moe/Dialect/Moe/Transforms/Passes.h"
#include "moe/ExecutionEngine/Compiler.h"
#include "moe/ExecutionEngine/JIT.h"
#include "moe/Run/CheckGradients.h"
#include <iostream>

using namespace mlir;
using namespace mlir::moe;
namespace run = ::moe::run;

namespace {

APFloat widen(APFloat value) {
  bool losesInfo;
  value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven,
                &losesInfo);
  return value;
}

/// Makes every floating-point type f64: differences of less say little.
void widenModule(ModuleOp module) {
  Type wide = Float64Type::get(module.getContext());
  AttrTypeReplacer replacer;
  replacer.addReplacement([&](FloatType) -> Type { return wide; });
  replacer.addReplacement([&](FloatAttr attr) -> Attribute {
    return FloatAttr::get(wide, widen(attr.getValue()));
  });
  replacer.addReplacement(
      [&](DenseFPElementsAttr attr)
          -> std::optional<std::pair<Attribute, WalkResult>> {
        DenseElementsAttr made = attr.mapValues(wide, [](const APFloat &value) {
          return widen(value).bitcastToAPInt();
        });
        return std::make_pair(Attribute(made), WalkResult::skip());
      });
  replacer.recursivelyReplaceElementsIn(module, /*replaceAttrs=*/true,
                                        /*replaceLocs=*/false,
                                        /*replaceTypes=*/true);
  module.walk([](Operation *op) {
    if (isa<arith::ExtFOp, arith::TruncFOp>(op)) {
      op->getResult(0).replaceAllUsesWith(op->getOperand(0));
      op->erase();
    }
  });
}

/// The arguments that reach the logits of a router whose gradient is no
/// derivative.
std::set<std::string> findSurrogates(func::FuncOp layer) {
  std::set<std::string> names;
  layer.walk([&](RouteOp route) {
    auto vjp = dyn_cast<TokenVJPAttrInterface>(route.getRouter());
    if (!vjp || vjp.isDerivative(route.isTraining()))
      return;
    llvm::SetVector<Operation *> slice;
    BackwardSliceOptions options;
    options.inclusive = true;
    if (failed(getBackwardSlice(route.getOperation(), &slice, options)))
      return;
    for (Operation *op : slice)
      for (Value operand : op->getOperands())
        if (auto argument = dyn_cast<BlockArgument>(operand)) {
          unsigned place = argument.getArgNumber();
          auto name = layer.getArgAttrOfType<StringAttr>(place, kNameAttrName);
          names.insert(name ? name.str() : "arg" + std::to_string(place));
        }
  });
  return names;
}

int report(const llvm::Twine &message) {
  llvm::errs() << "moe-run: error: " << message << "\n";
  return 1;
}

/// A compiled module and the entries that are wanted of it.
struct Code {
  std::unique_ptr<JITModule> jit;

  llvm::Expected<moe_entry> getEntry(StringRef name) {
    return jit->getEntry(name);
  }
};

llvm::Expected<Code> compile(ModuleOp module, CompileTarget target) {
  CompileOptions options;
  options.target = target;
  if (failed(lowerModule(module, options)))
    return llvm::createStringError("could not be compiled");
  auto object = compileToObject(module, options);
  if (!object)
    return object.takeError();
  auto jit = JITModule::create(std::move(*object));
  if (!jit)
    return jit.takeError();
  return Code{std::move(*jit)};
}

} // namespace

int mlir::moe::runGradientCheck(const run::Options &options, ModuleOp module,
                                func::FuncOp layer, moe_context *context) {
  std::string name = layer.getName().str();
  run::GradientEntries entries;
  entries.surrogates = findSurrogates(layer);
  // The layer as it is written says what its arguments are.
  OwningOpRef<ModuleOp> wide = module.clone(), naive = module.clone();
  widenModule(*wide);
  widenModule(*naive);
  PassManager pm(module.getContext());
  MoeGenerateVJPPassOptions vjp;
  vjp.function = name;
  pm.addPass(createInlinerPass());
  pm.addPass(createMoeGenerateVJPPass(vjp));
  if (failed(pm.run(*wide)))
    return report(options.file + ": could not be differentiated");
  CompileTarget target = options.target == run::Target::Oracle
                             ? CompileTarget::oracle
                             : CompileTarget::cpu;
  auto given = compile(module, CompileTarget::oracle);
  auto oracle = compile(*naive, CompileTarget::oracle);
  auto optimised = compile(*wide, target);
  for (auto *code : {&given, &oracle, &optimised})
    if (!*code)
      return report(options.file + ": " + llvm::toString(code->takeError()));
  auto own = given->getEntry(name);
  auto forwardOnly = oracle->getEntry(name);
  auto forward = optimised->getEntry(name + "_fwd");
  auto backward = optimised->getEntry(name + "_bwd");
  for (auto *entry : {&own, &forwardOnly, &forward, &backward})
    if (!*entry)
      return report(options.file + ": " + llvm::toString(entry->takeError()));
  entries.layer = *forwardOnly;
  entries.forward = *forward;
  entries.backward = *backward;
  return run::checkGradients(options, *own->info, entries, context, std::cout,
                             std::cerr);
}
