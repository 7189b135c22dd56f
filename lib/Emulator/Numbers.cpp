//===- Numbers.cpp - Rounding and 16-bit floats ---------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Numbers.h"

using namespace moe;
using namespace moe::emulator;

uint64_t emulator::encodeFloat(const FloatFormat &format, bool negative,
                               uint64_t mantissa, int exponent, Round round) {
  uint64_t sign = uint64_t(negative) << (format.bits - 1);
  if (mantissa == 0)
    return sign;
  int leading = 63 - __builtin_clzll(mantissa);
  // The exponent of the last bit that is kept.
  int top = exponent + leading;
  if (top < format.minExponent)
    top = format.minExponent;
  int last = top - format.fraction;
  int drop = last - exponent;
  uint64_t kept = 0;
  // What is dropped, against half of the last bit: less, equal, more.
  int compared = -1;
  bool exact = false;
  if (drop <= 0) {
    kept = mantissa << -drop;
    exact = true;
  } else if (drop > 64) {
    // Less than half of it.
  } else {
    kept = drop == 64 ? 0 : mantissa >> drop;
    uint64_t rest =
        drop == 64 ? mantissa : mantissa & ((uint64_t(1) << drop) - 1);
    uint64_t half = uint64_t(1) << (drop - 1);
    exact = rest == 0;
    compared = rest < half ? -1 : rest > half;
  }
  if (!exact) {
    bool up = false;
    switch (round) {
    case Round::Nearest:
      up = compared > 0 || (compared == 0 && (kept & 1));
      break;
    case Round::NearestAway:
      up = compared >= 0;
      break;
    case Round::Zero:
      break;
    case Round::Down:
      up = negative;
      break;
    case Round::Up:
      up = !negative;
      break;
    }
    kept += up;
  }
  // A carry runs into the exponent, where it belongs.
  uint64_t bits =
      (uint64_t(top - format.minExponent) << format.fraction) + kept;
  if (bits >= format.infinity()) {
    bool toInfinity = round == Round::Nearest || round == Round::NearestAway ||
                      (round == Round::Up && !negative) ||
                      (round == Round::Down && negative);
    bits = format.infinity() - !toInfinity;
  }
  return sign | bits;
}

uint64_t emulator::encodeFloat(const FloatFormat &format, double value,
                               Round round) {
  uint64_t bits = bitCast<uint64_t>(value);
  bool negative = bits >> 63;
  int exponent = int(bits >> 52 & 0x7ff);
  uint64_t fraction = bits & ((uint64_t(1) << 52) - 1);
  if (exponent == 0x7ff)
    return fraction
               ? format.nan
               : format.infinity() | uint64_t(negative) << (format.bits - 1);
  if (exponent == 0)
    exponent = 1;
  else
    fraction |= uint64_t(1) << 52;
  return encodeFloat(format, negative, fraction, exponent - 1075, round);
}

float emulator::fromHalf(uint16_t bits) {
  uint32_t sign = uint32_t(bits & 0x8000) << 16;
  uint32_t rest = bits & 0x7fff;
  if (rest >= 0x7c00)
    return bitCast<float>(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // 2^112 moves the exponent, and subnormals become what they are.
  float value = bitCast<float>(rest << 13) * 0x1p112f;
  return bitCast<float>(bitCast<uint32_t>(value) | sign);
}

double emulator::fmaToOdd(double a, double b, double c) {
  double product = a * b;
  double sum = product + c;
  if (!(std::fabs(sum) <= 1.7976931348623157e308))
    return sum;
  double back = sum - product;
  double error = (product - (sum - back)) + (c - back);
  uint64_t bits = bitCast<uint64_t>(sum);
  if (error != 0 && !(bits & 1))
    bits += (error > 0) == (sum > 0) ? 1 : -1;
  return bitCast<double>(bits);
}

uint32_t emulator::toTF32(float value, Round round) {
  uint32_t bits = bitCast<uint32_t>(value);
  if (value != value)
    return 0x7fffffff;
  if ((bits & 0x7f800000) == 0x7f800000)
    return bits;
  switch (round) {
  case Round::NearestAway:
    bits += 0x1000;
    break;
  case Round::Nearest:
    bits += 0xfff + (bits >> 13 & 1);
    break;
  default:
    break;
  }
  return bits & ~0x1fffu;
}
