//===- MoeDialect.cpp - Registration, versions, entry attributes ---*- C++
//-*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Bytecode/BytecodeImplementation.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Transforms/InliningUtils.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

#include "moe/Dialect/Moe/IR/MoeDialect.cpp.inc"

#include "moe/Dialect/Moe/IR/MoeEnums.cpp.inc"

#include "moe/Dialect/Moe/IR/MoeAttrInterfaces.cpp.inc"
#include "moe/Dialect/Moe/IR/MoeOpInterfaces.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "moe/Dialect/Moe/IR/MoeAttrs.cpp.inc"

namespace {
struct Version final : public DialectVersion {
  explicit Version(uint64_t number) : number(number) {}
  uint64_t number;
};

/// Bytecode carries the dialect's version; a newer one is refused by name.
struct MoeBytecodeInterface final : public BytecodeDialectInterface {
  explicit MoeBytecodeInterface(Dialect *dialect)
      : BytecodeDialectInterface(dialect) {}

  void writeVersion(DialectBytecodeWriter &writer) const override {
    writer.writeVarInt(kDialectVersion);
  }

  std::unique_ptr<DialectVersion>
  readVersion(DialectBytecodeReader &reader) const override {
    uint64_t number;
    if (failed(reader.readVarInt(number)))
      return nullptr;
    if (number == 0 || number > kDialectVersion) {
      reader.emitError("bytecode of version ")
          << number << " of dialect 'moe'; this tool reads versions 1 to "
          << kDialectVersion;
      return nullptr;
    }
    return std::make_unique<Version>(number);
  }
};
} // namespace

FailureOr<APFloat> moe::detail::parseDouble(AsmParser &parser) {
  double value;
  if (parser.parseFloat(value))
    return failure();
  return APFloat(value);
}

void moe::detail::printDouble(AsmPrinter &printer, const APFloat &value) {
  printer.printFloat(value);
}

/// An integer of any width that is a size or a number of things.
static std::optional<int64_t> getCount(Attribute attr) {
  auto integer = dyn_cast<IntegerAttr>(attr);
  if (!integer || !integer.getType().isSignlessIntOrIndex() ||
      integer.getValue().isNegative() || !integer.getValue().isSignedIntN(64))
    return std::nullopt;
  return integer.getInt();
}

/// The entry attributes are checked where they stand, so that a mistake in a
/// name or bound is an error in the IR and not in a binary.
LogicalResult MoeDialect::verifyOperationAttribute(Operation *op,
                                                   NamedAttribute attr) {
  if (attr.getName() == kEntryAttrName) {
    if (!isa<FunctionOpInterface>(op))
      return op->emitOpError("'moe.entry' belongs on a function");
    if (!isa<UnitAttr>(attr.getValue()))
      return op->emitOpError("'moe.entry' is a unit attribute");
    return success();
  }
  if (attr.getName() == kBoundsAttrName) {
    auto bounds = dyn_cast<DictionaryAttr>(attr.getValue());
    if (!bounds || !isa<FunctionOpInterface>(op))
      return op->emitOpError("'moe.bounds' is a dictionary on a function");
    for (NamedAttribute bound : bounds) {
      if (!getCount(bound.getValue()))
        return op->emitOpError("'moe.bounds' gives '")
               << bound.getName().getValue() << "' no size";
    }
    return success();
  }
  if (attr.getName() == kNumInputsAttrName) {
    std::optional<int64_t> count = getCount(attr.getValue());
    auto function = dyn_cast<FunctionOpInterface>(op);
    if (!count || !function || *count > function.getNumArguments())
      return op->emitOpError("'moe.num_inputs' counts arguments of a function");
    return success();
  }
  return op->emitOpError("unknown attribute '")
         << attr.getName().getValue() << "'";
}

static LogicalResult verifyArgAttribute(Operation *op, Type type,
                                        NamedAttribute attr) {
  StringRef name = attr.getName().getValue();
  if (name == kNameAttrName) {
    auto text = dyn_cast<StringAttr>(attr.getValue());
    if (!text || text.empty())
      return op->emitOpError("'moe.name' is a name that is not empty");
    return success();
  }
  if (name == kLayoutAttrName) {
    if (!isa<LayoutAttr, PanelsAttr>(attr.getValue()))
      return op->emitOpError("'moe.layout' is a #moe.layout or #moe.panels");
    return success();
  }
  if (name == kDimsAttrName) {
    auto dims = dyn_cast<ArrayAttr>(attr.getValue());
    auto shaped = dyn_cast<ShapedType>(type);
    if (!dims || !shaped || !shaped.hasRank() ||
        static_cast<int64_t>(dims.size()) != shaped.getRank() ||
        !llvm::all_of(dims, llvm::IsaPred<StringAttr>))
      return op->emitOpError("'moe.dims' has a string for every "
                             "dimension, \"\" where it has no name");
    return success();
  }
  return op->emitOpError("unknown argument or result attribute '")
         << name << "'";
}

LogicalResult MoeDialect::verifyRegionArgAttribute(Operation *op, unsigned,
                                                   unsigned argIndex,
                                                   NamedAttribute attr) {
  auto function = dyn_cast<FunctionOpInterface>(op);
  if (!function)
    return op->emitOpError("'moe' argument attributes belong on a function");
  return verifyArgAttribute(op, function.getArgumentTypes()[argIndex], attr);
}

LogicalResult MoeDialect::verifyRegionResultAttribute(Operation *op, unsigned,
                                                      unsigned resultIndex,
                                                      NamedAttribute attr) {
  auto function = dyn_cast<FunctionOpInterface>(op);
  if (!function)
    return op->emitOpError("'moe' result attributes belong on a function");
  return verifyArgAttribute(op, function.getResultTypes()[resultIndex], attr);
}

namespace {
/// A layer may be spread over functions: entries have no calls.
struct MoeInlinerInterface : public DialectInlinerInterface {
  using DialectInlinerInterface::DialectInlinerInterface;

  bool isLegalToInline(Operation *, Region *, bool, IRMapping &) const final {
    return true;
  }
  bool isLegalToInline(Region *, Region *, bool, IRMapping &) const final {
    return true;
  }
};
} // namespace

void MoeDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "moe/Dialect/Moe/IR/MoeAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "moe/Dialect/Moe/IR/MoeOps.cpp.inc"
      >();
  addInterfaces<MoeBytecodeInterface, MoeInlinerInterface>();
}
