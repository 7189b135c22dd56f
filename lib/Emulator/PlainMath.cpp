//===- PlainMath.cpp - Arithmetic in the mode of the thread ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// Compiled with -frounding-math. One function a file border: a call is what
// keeps an operation between two changes of the mode.

#include "Numbers.h"

#include <cfenv>

using namespace moe;
using namespace moe::emulator;

float emulator::plainAdd(float a, float b) { return a + b; }
float emulator::plainMul(float a, float b) { return a * b; }
float emulator::plainFma(float a, float b, float c) {
  return std::fma(a, b, c);
}
float emulator::plainDiv(float a, float b) { return a / b; }
float emulator::plainSqrt(float a) { return std::sqrt(a); }
double emulator::plainAdd(double a, double b) { return a + b; }
double emulator::plainMul(double a, double b) { return a * b; }
double emulator::plainFma(double a, double b, double c) {
  return std::fma(a, b, c);
}
double emulator::plainDiv(double a, double b) { return a / b; }
double emulator::plainSqrt(double a) { return std::sqrt(a); }

RoundingScope::RoundingScope(Round round) : before(std::fegetround()) {
  std::fesetround(round == Round::Zero   ? FE_TOWARDZERO
                  : round == Round::Down ? FE_DOWNWARD
                  : round == Round::Up   ? FE_UPWARD
                                         : FE_TONEAREST);
}

RoundingScope::~RoundingScope() { std::fesetround(before); }
