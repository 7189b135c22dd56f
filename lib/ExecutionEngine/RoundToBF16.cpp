//===- RoundToBF16.cpp - f32 to bf16 without a library --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RoundToBF16.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/Target/TargetMachine.h"

using namespace llvm;

static bool roundsToBF16(const TargetMachine &machine) {
  if (!machine.getTargetTriple().isX86())
    return true;
  const MCSubtargetInfo &processor = *machine.getMCSubtargetInfo();
  return processor.checkFeatures("+avx512bf16") ||
         processor.checkFeatures("+avxneconvert");
}

/// The f32 next to an f64, and with a last bit of one where it is not the same
/// number: rounding it again then gives what rounding once would have.
static Value *roundToOdd(IRBuilder<> &b, Value *value, Type *f32, Type *i32) {
  Value *nearest = b.CreateFPTrunc(value, f32);
  Value *back = b.CreateFPExt(nearest, value->getType());
  Value *bits = b.CreateBitCast(nearest, i32);
  Value *one = ConstantInt::get(i32, 1);
  Value *isEven =
      b.CreateICmpEQ(b.CreateAnd(bits, one), ConstantInt::get(i32, 0));
  Value *size = b.CreateUnaryIntrinsic(Intrinsic::fabs, value);
  Value *sizeBack = b.CreateUnaryIntrinsic(Intrinsic::fabs, back);
  // Ordered comparisons: a NaN stays as it is.
  Value *up = b.CreateSelect(b.CreateFCmpOLT(sizeBack, size),
                             b.CreateAdd(bits, one), bits);
  Value *odd = b.CreateSelect(b.CreateFCmpOGT(sizeBack, size),
                              b.CreateSub(bits, one), up);
  return b.CreateBitCast(b.CreateSelect(isEven, odd, bits), f32);
}

/// Rounds to nearest, ties to even; NaNs stay NaNs and become quiet. Where
/// `fromF32` the processor rounds an f32 itself.
static Value *round(IRBuilder<> &b, Value *value, Type *bf16, bool fromF32) {
  auto typeLike = [&](Type *scalar) -> Type * {
    if (auto *vector = dyn_cast<VectorType>(bf16))
      return VectorType::get(scalar, vector->getElementCount());
    return scalar;
  };
  Type *f32 = typeLike(b.getFloatTy()), *i32 = typeLike(b.getInt32Ty());
  auto constant = [&](uint64_t bits) { return ConstantInt::get(i32, bits); };
  if (value->getType()->getScalarType()->isDoubleTy())
    value = roundToOdd(b, value, f32, i32);
  if (fromF32)
    return b.CreateFPTrunc(value, bf16);
  Value *bits = b.CreateBitCast(value, i32);
  Value *last = b.CreateAnd(b.CreateLShr(bits, constant(16)), constant(1));
  Value *rounded = b.CreateAdd(b.CreateAdd(bits, constant(0x7fff)), last);
  Value *quiet = b.CreateOr(bits, constant(0x400000));
  Value *chosen = b.CreateSelect(b.CreateFCmpUNO(value, value), quiet, rounded);
  Value *upper = b.CreateTrunc(b.CreateLShr(chosen, constant(16)),
                               typeLike(b.getInt16Ty()));
  return b.CreateBitCast(upper, bf16);
}

void mlir::moe::expandRoundingToBF16(Module &module,
                                     const TargetMachine &machine) {
  // No processor rounds f64 to bf16.
  bool fromF32 = roundsToBF16(machine);
  SmallVector<FPTruncInst *> roundings;
  for (Function &function : module)
    for (Instruction &instruction : instructions(function))
      if (auto *trunc = dyn_cast<FPTruncInst>(&instruction))
        if (trunc->getDestTy()->getScalarType()->isBFloatTy() &&
            (!fromF32 || trunc->getSrcTy()->getScalarType()->isDoubleTy()))
          roundings.push_back(trunc);
  for (FPTruncInst *trunc : roundings) {
    IRBuilder<> b(trunc);
    trunc->replaceAllUsesWith(
        round(b, trunc->getOperand(0), trunc->getDestTy(), fromF32));
    trunc->eraseFromParent();
  }
}
