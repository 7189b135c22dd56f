//===- MoeTestDialect.cpp - What the test attributes declare --------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MoeTestDialect.h"
#include "MoeTestLib.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe_test;

#include "MoeTestDialect.cpp.inc"

/// A double in the syntax of attribute parameters.
template <> struct mlir::FieldParser<llvm::APFloat> {
  static FailureOr<llvm::APFloat> parse(AsmParser &parser) {
    double value;
    if (parser.parseFloat(value))
      return failure();
    return llvm::APFloat(value);
  }
};

static AsmPrinter &operator<<(AsmPrinter &printer, const APFloat &value) {
  printer.printFloat(value);
  return printer;
}

#define GET_ATTRDEF_CLASSES
#include "MoeTestAttrs.cpp.inc"

using EmitError = llvm::function_ref<InFlightDiagnostic()>;

void MoeTestDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "MoeTestAttrs.cpp.inc"
      >();
}

moe::Locality ThresholdAttr::getLocality() const {
  return moe::Locality::token;
}

std::optional<int64_t> ThresholdAttr::getNumSlots() const { return getK(); }

LogicalResult
ThresholdAttr::verifyRoute(EmitError emitError, int64_t width,
                           const moe::RouteOperandSet &operands) const {
  if (operands.indices || operands.expertScale)
    return emitError() << "a threshold takes no operand but a bias";
  if (getK() > width)
    return emitError() << "a threshold chooses " << getK() << " of " << width;
  return success();
}

moe::Locality NoBodyAttr::getLocality() const {
  return getMixed() ? moe::Locality::mixed : moe::Locality::token;
}

std::optional<int64_t> NoBodyAttr::getNumSlots() const { return getK(); }

LogicalResult NoBodyAttr::verifyRoute(EmitError, int64_t,
                                      const moe::RouteOperandSet &) const {
  return success();
}

moe::Locality RuleBreakerAttr::getLocality() const {
  return moe::Locality::token;
}

std::optional<int64_t> RuleBreakerAttr::getNumSlots() const { return 1; }

LogicalResult RuleBreakerAttr::verifyRoute(EmitError, int64_t,
                                           const moe::RouteOperandSet &) const {
  return success();
}

LogicalResult RuleBreakerAttr::verify(EmitError emitError, StringRef rule) {
  if (!llvm::is_contained(
          {"read", "write", "shared", "bound", "branch", "memory"}, rule))
    return emitError() << "no rule '" << rule << "' can be broken";
  return success();
}

void moe_test::registerMoeTestLib(DialectRegistry &registry) {
  registerTestLaunchToLoopsPass();
  registry.insert<MoeTestDialect>();
  registry.addExtension(
      +[](MLIRContext *context, MoeTestDialect *) { attachModels(*context); });
}
