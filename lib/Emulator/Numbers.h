//===- Numbers.h - Rounding and 16-bit floats -------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_NUMBERS_H
#define MOE_LIB_EMULATOR_NUMBERS_H

#include <cmath>
#include <cstdint>
#include <cstring>

namespace moe::emulator {

enum class Round : uint8_t {
  Nearest,     ///< Ties to even.
  Zero,        ///< .rz
  Down,        ///< .rm
  Up,          ///< .rp
  NearestAway, ///< .rna
};

template <typename To, typename From> inline To bitCast(From from) {
  static_assert(sizeof(To) == sizeof(From), "sizes differ");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

/// A binary format: bits of the stored fraction, smallest normal exponent.
struct FloatFormat {
  int fraction;
  int minExponent;
  int bits;
  uint64_t nan;
  int bias() const { return 1 - minExponent; }
  uint64_t infinity() const {
    return ((uint64_t(1) << (bits - 1 - fraction)) - 1) << fraction;
  }
};
inline constexpr FloatFormat kHalf{10, -14, 16, 0x7fff};
inline constexpr FloatFormat kBFloat{7, -126, 16, 0x7fff};
inline constexpr FloatFormat kSingle{23, -126, 32, 0x7fffffff};
inline constexpr FloatFormat kDouble{52, -1022, 64, 0x7ff8000000000000};

/// (-1)^negative * mantissa * 2^exponent, rounded once.
uint64_t encodeFloat(const FloatFormat &format, bool negative,
                     uint64_t mantissa, int exponent, Round round);
/// The same of a double.
uint64_t encodeFloat(const FloatFormat &format, double value, Round round);

inline uint16_t toHalf(double value, Round round = Round::Nearest) {
  return uint16_t(encodeFloat(kHalf, value, round));
}
inline uint16_t toBFloat(double value, Round round = Round::Nearest) {
  return uint16_t(encodeFloat(kBFloat, value, round));
}
inline float toSingle(double value, Round round) {
  return bitCast<float>(uint32_t(encodeFloat(kSingle, value, round)));
}
float fromHalf(uint16_t bits);
inline float fromBFloat(uint16_t bits) {
  return bitCast<float>(uint32_t(bits) << 16);
}

/// a * b + c, rounded to double with its last bit set where inexact: rounded
/// again to 24 bits or fewer, this is correct. a * b must be exact.
double fmaToOdd(double a, double b, double c);

/// f32 with 13 low bits dropped, as mma takes tf32.
uint32_t toTF32(float value, Round round);

/// To an integral value, as .rni, .rzi, .rmi and .rpi do.
inline double roundIntegral(double value, Round round) {
  switch (round) {
  case Round::Zero:
    return std::trunc(value);
  case Round::Down:
    return std::floor(value);
  case Round::Up:
    return std::ceil(value);
  default:
    return std::nearbyint(value);
  }
}

inline float flushed(float value) {
  uint32_t bits = bitCast<uint32_t>(value);
  return bits & 0x7f800000 ? value : bitCast<float>(bits & 0x80000000);
}
/// One NaN for all, as the device has it.
inline float canonical(float value) {
  return value == value ? value : bitCast<float>(0x7fffffffu);
}
inline double canonical(double value) {
  return value == value ? value : bitCast<double>(uint64_t(0x7ff8) << 48);
}

// In the rounding mode of the thread; compiled so that the compiler does not
// assume one.
float plainAdd(float a, float b);
float plainMul(float a, float b);
float plainFma(float a, float b, float c);
float plainDiv(float a, float b);
float plainSqrt(float a);
double plainAdd(double a, double b);
double plainMul(double a, double b);
double plainFma(double a, double b, double c);
double plainDiv(double a, double b);
double plainSqrt(double a);

/// Sets the rounding mode while it lives.
class RoundingScope {
public:
  explicit RoundingScope(Round round);
  ~RoundingScope();

private:
  int before;
};

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_NUMBERS_H
