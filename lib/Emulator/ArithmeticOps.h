//===- ArithmeticOps.h - Operations with float and half forms ---*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_ARITHMETICOPS_H
#define MOE_LIB_EMULATOR_ARITHMETICOPS_H

#include "Decoder.h"
#include "Numbers.h"

namespace moe::emulator {

enum class FloatOp : uint8_t {
  // With two operands, but for Fma.
  Add,
  Sub,
  Mul,
  Fma,
  Div,
  Min,
  Max,
  // With one.
  Abs,
  Neg,
  Rcp,
  Sqrt,
  Rsqrt,
  Sin,
  Cos,
  Ex2,
  Lg2,
  Tanh,
};

/// Decodes the form of an operation on f32, f64, f16, bf16 or pairs; false
/// where the type is none of these, and nothing is decoded.
bool decodeFloat(Decode &decode, Type type, FloatOp op);
bool decodeHalf(Decode &decode, Type type, FloatOp op);

/// .rn, .rz, .rm, .rp, or nothing.
std::optional<Round> takeRound(Decode &decode);

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_ARITHMETICOPS_H
