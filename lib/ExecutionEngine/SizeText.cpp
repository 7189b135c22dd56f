//===- SizeText.cpp - Sizes of the IR as formulas -------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SizeText.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "moe/Dialect/Moe/IR/Moe.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

/// A formula; what binds less than the place it is put into gets parentheses.
struct Text {
  enum Level { sum, product, atom };
  std::string text;
  Level level = atom;

  std::string at(Level least) const {
    return level < least ? "(" + text + ")" : text;
  }
};

Text add(const Text &lhs, const Text &rhs) {
  return {lhs.text + " + " + rhs.text, Text::sum};
}

Text multiply(const Text &lhs, const Text &rhs) {
  return {lhs.at(Text::product) + " * " + rhs.at(Text::product), Text::product};
}

Text call(StringRef function, const Text &lhs, StringRef sign,
          const Text &rhs) {
  return {(function + "(" + lhs.text + sign + rhs.text + ")").str()};
}

Text divide(StringRef rounding, const Text &lhs, const Text &rhs) {
  Text whole{lhs.at(Text::product) + " / " + rhs.at(Text::atom)};
  return {(rounding + "(" + whole.text + ")").str()};
}

Text getText(Value value);

Text getText(AffineExpr expr, unsigned numDims, ArrayRef<Text> operands) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return {std::to_string(constant.getValue())};
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return operands[dim.getPosition()];
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return operands[numDims + symbol.getPosition()];
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Text lhs = getText(binary.getLHS(), numDims, operands);
  Text rhs = getText(binary.getRHS(), numDims, operands);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return add(lhs, rhs);
  case AffineExprKind::Mul:
    return multiply(lhs, rhs);
  case AffineExprKind::FloorDiv:
    return divide("floor", lhs, rhs);
  case AffineExprKind::CeilDiv:
    return divide("ceil", lhs, rhs);
  default:
    return call("mod", lhs, ", ", rhs);
  }
}

/// A quotient that is rounded down; with d - 1 or more added to what d divides,
/// it is one that is rounded up.
Text getQuotient(Value lhs, Value rhs) {
  llvm::APInt divisor, addend;
  if (!matchPattern(rhs, m_ConstantInt(&divisor)))
    return divide("floor", getText(lhs), getText(rhs));
  int64_t rest = 1 - divisor.getSExtValue();
  Value base = lhs;
  for (auto sum = base.getDefiningOp<arith::AddIOp>();
       sum && matchPattern(sum.getRhs(), m_ConstantInt(&addend));
       sum = base.getDefiningOp<arith::AddIOp>()) {
    rest += addend.getSExtValue();
    base = sum.getLhs();
  }
  if (rest < 0)
    return divide("floor", getText(lhs), getText(rhs));
  Text dividend = getText(base);
  if (rest > 0)
    dividend = add(dividend, {std::to_string(rest)});
  return divide("ceil", dividend, getText(rhs));
}

/// A size of an argument: the symbol that stands for it, or argument and
/// dimension.
Text getDim(memref::DimOp op) {
  auto argument = dyn_cast<BlockArgument>(op.getSource());
  std::optional<int64_t> index = op.getConstantIndex();
  auto function = op->getParentOfType<FunctionOpInterface>();
  if (!argument || !index || !function ||
      argument.getOwner() != &function.getFunctionBody().front())
    return {"?"};
  unsigned number = argument.getArgNumber();
  if (auto names = function.getArgAttrOfType<ArrayAttr>(number, kDimsAttrName))
    if (auto name = dyn_cast<StringAttr>(names[*index]); name && !name.empty())
      return {name.str()};
  auto name = function.getArgAttrOfType<StringAttr>(number, kNameAttrName);
  return {(name ? name.str() : "argument " + std::to_string(number)) + "[" +
          std::to_string(*index) + "]"};
}

Text getSelect(arith::SelectOp op) {
  auto compare = op.getCondition().getDefiningOp<arith::CmpIOp>();
  if (!compare)
    return {"?"};
  auto lhs = getText(compare.getLhs()).text;
  auto rhs = getText(compare.getRhs()).text;
  StringRef predicate = arith::stringifyCmpIPredicate(compare.getPredicate());
  // Sizes have no sign.
  predicate.consume_front("u") || predicate.consume_front("s");
  StringRef sign = predicate == "lt"   ? " < "
                   : predicate == "le" ? " <= "
                   : predicate == "gt" ? " > "
                   : predicate == "ge" ? " >= "
                   : predicate == "eq" ? " = "
                                       : " != ";
  return {"(" + lhs + sign.str() + rhs + " ? " +
          getText(op.getTrueValue()).text + " : " +
          getText(op.getFalseValue()).text + ")"};
}

Text getText(Value value) {
  llvm::APInt constant;
  if (matchPattern(value, m_ConstantInt(&constant)))
    return {std::to_string(constant.getSExtValue())};
  if (auto argument = dyn_cast<BlockArgument>(value))
    if (isa<scf::ForOp>(argument.getOwner()->getParentOp()) &&
        argument.getArgNumber() == 0)
      return {"i"};
  if (!value.getDefiningOp())
    return {"?"};
  auto both = [](auto op, StringRef function) {
    return call(function, getText(op.getLhs()), ", ", getText(op.getRhs()));
  };
  auto quotient = [](auto op) { return getQuotient(op.getLhs(), op.getRhs()); };
  auto ceil = [](auto op) {
    return divide("ceil", getText(op.getLhs()), getText(op.getRhs()));
  };
  return llvm::TypeSwitch<Operation *, Text>(value.getDefiningOp())
      .Case([](memref::DimOp op) { return getDim(op); })
      .Case([](arith::SelectOp op) { return getSelect(op); })
      .Case([](arith::IndexCastOp op) { return getText(op.getIn()); })
      .Case([](arith::IndexCastUIOp op) { return getText(op.getIn()); })
      .Case([](arith::AddIOp op) {
        return add(getText(op.getLhs()), getText(op.getRhs()));
      })
      .Case([](arith::SubIOp op) {
        return Text{getText(op.getLhs()).text + " - " +
                        getText(op.getRhs()).at(Text::product),
                    Text::sum};
      })
      .Case([](arith::MulIOp op) {
        return multiply(getText(op.getLhs()), getText(op.getRhs()));
      })
      .Case<arith::DivUIOp, arith::DivSIOp>(quotient)
      .Case<arith::CeilDivUIOp, arith::CeilDivSIOp>(ceil)
      .Case<arith::MinUIOp, arith::MinSIOp>(
          [&](auto op) { return both(op, "min"); })
      .Case<arith::MaxUIOp, arith::MaxSIOp>(
          [&](auto op) { return both(op, "max"); })
      .Case<arith::RemUIOp, arith::RemSIOp>(
          [&](auto op) { return both(op, "mod"); })
      .Case([](affine::AffineApplyOp op) {
        AffineMap map = op.getAffineMap();
        SmallVector<Text> operands;
        for (Value operand : op.getMapOperands())
          operands.push_back(getText(operand));
        return getText(map.getResult(0), map.getNumDims(), operands);
      })
      .Default([](Operation *) { return Text{"?"}; });
}

} // namespace

std::string moe::getSizeText(Value value) { return getText(value).text; }
