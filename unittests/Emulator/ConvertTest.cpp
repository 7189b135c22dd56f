//===- ConvertTest.cpp - Conversions and 16-bit floats --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Evaluate.h"
#include <algorithm>
#include <cmath>
#include <random>

using namespace moe::emulator::test;

namespace {

/// All values of a 16-bit format in order, written down from its definition;
/// rounding is then a search.
class Format {
public:
  Format(int exponentBits, int fractionBits) : fraction(fractionBits) {
    int bias = (1 << (exponentBits - 1)) - 1;
    infinity = uint16_t(((1 << exponentBits) - 1) << fractionBits);
    for (uint32_t bits = 0; bits < infinity; ++bits) {
      int exponent = int(bits >> fractionBits);
      double part =
          std::ldexp(bits & ((1u << fractionBits) - 1), -fractionBits);
      values.push_back(exponent ? std::ldexp(1 + part, exponent - bias)
                                : std::ldexp(part, 1 - bias));
    }
    // What the next one would be, where infinity stands.
    values.push_back(2 * values[values.size() - (size_t(1) << fractionBits)]);
  }

  double decode(uint16_t bits) const {
    double sign = bits & 0x8000 ? -1 : 1;
    bits &= 0x7fff;
    if (bits > infinity)
      return NAN;
    return sign * (bits == infinity ? INFINITY : values[bits]);
  }

  /// mode: n, z, m or p.
  uint16_t encode(long double value, char mode) const {
    if (std::isnan(value))
      return 0x7fff;
    uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    long double magnitude = std::fabs(value);
    if (std::isinf(magnitude))
      return sign | infinity;
    size_t above =
        size_t(std::lower_bound(values.begin(), values.end(), magnitude) -
               values.begin());
    if (above == values.size())
      return finish(values.size(), sign, mode);
    if (values[above] == magnitude)
      return finish(above, sign, mode);
    size_t below = above - 1;
    bool up = false;
    switch (mode) {
    case 'n': {
      long double middle =
          ((long double)values[below] + (long double)values[above]) / 2;
      up = magnitude > middle || (magnitude == middle && below % 2);
      break;
    }
    case 'm':
      up = sign;
      break;
    case 'p':
      up = !sign;
      break;
    default:
      break;
    }
    return finish(up ? above : below, sign, mode);
  }

  std::vector<double> values;
  uint16_t infinity;
  int fraction;

private:
  uint16_t finish(size_t index, uint16_t sign, char mode) const {
    if (index < infinity)
      return uint16_t(sign | index);
    bool toInfinity =
        mode == 'n' || (mode == 'p' && !sign) || (mode == 'm' && sign);
    return uint16_t(sign | (infinity - !toInfinity));
  }
};

const Format kHalf(5, 10), kBFloat(8, 7);

Values all16() {
  Values values;
  for (uint32_t bits = 0; bits < 65536; ++bits)
    values.push_back(bits);
  return values;
}

TEST(Convert, EveryHalfToSingle) {
  for (const char *type : {"f16", "bf16"}) {
    const Format &format = type[0] == 'f' ? kHalf : kBFloat;
    Values out = evaluate(std::string("cvt.f32.") + type + " d, a;", 32, {16},
                          {all16()});
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      double expected = format.decode(uint16_t(bits));
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(toFloat(out[bits])));
      } else {
        ASSERT_EQ(out[bits], bitsOf(float(expected))) << bits;
      }
    }
  }
}

TEST(Convert, SingleToHalfAtEveryBorder) {
  for (const char *type : {"f16", "bf16"}) {
    const Format &format = type[0] == 'f' ? kHalf : kBFloat;
    // Each value, the middle to the next, and what lies beside both.
    Values in;
    for (size_t i = 0; i + 1 < format.values.size(); ++i) {
      float here = float(format.values[i]);
      float middle = float((format.values[i] + format.values[i + 1]) / 2);
      for (float v : {here, middle})
        for (float w :
             {v, std::nextafter(v, 0.0f), std::nextafter(v, INFINITY)}) {
          in.push_back(bitsOf(w));
          in.push_back(bitsOf(-w));
        }
    }
    in.push_back(bitsOf(INFINITY));
    in.push_back(0x7fc00000);
    for (char mode : {'n', 'z', 'm', 'p'}) {
      if (type[0] == 'b' && (mode == 'm' || mode == 'p'))
        continue;
      Values out =
          evaluate(std::string("cvt.r") + mode + "." + type + ".f32 d, a;", 16,
                   {32}, {in});
      for (size_t i = 0; i < in.size(); ++i)
        ASSERT_EQ(out[i], format.encode(toFloat(in[i]), mode))
            << type << " " << mode << " " << toFloat(in[i]);
    }
  }
}

TEST(Convert, Pairs) {
  std::vector<Values> in(2);
  std::mt19937_64 random(3);
  for (int i = 0; i < 2000; ++i)
    for (Values &values : in)
      values.push_back(bitsOf(std::ldexp(float(int32_t(random())), -20)));
  Values half = evaluate("cvt.rn.f16x2.f32 d, a, b;", 32, {32, 32}, in),
         relu = evaluate("cvt.rn.relu.bf16x2.f32 d, a, b;", 32, {32, 32}, in),
         finite =
             evaluate("cvt.rn.satfinite.f16x2.f32 d, a, b;", 32, {32, 32}, in);
  for (size_t i = 0; i < half.size(); ++i) {
    float a = toFloat(in[0][i]), b = toFloat(in[1][i]);
    ASSERT_EQ(half[i],
              uint32_t(kHalf.encode(a, 'n')) << 16 | kHalf.encode(b, 'n'));
    auto clamp = [](float v) { return v > 0 ? v : 0.0f; };
    ASSERT_EQ(relu[i], uint32_t(kBFloat.encode(clamp(a), 'n')) << 16 |
                           kBFloat.encode(clamp(b), 'n'));
    auto limit = [](float v) {
      return std::min(std::max(v, -65504.0f), 65504.0f);
    };
    ASSERT_EQ(finite[i], uint32_t(kHalf.encode(limit(a), 'n')) << 16 |
                             kHalf.encode(limit(b), 'n'));
  }
}

TEST(Convert, EveryHalfToInteger) {
  const std::pair<const char *, double (*)(double)> modes[] = {
      {"rni", [](double v) { return std::nearbyint(v); }},
      {"rzi", [](double v) { return std::trunc(v); }},
      {"rmi", [](double v) { return std::floor(v); }},
      {"rpi", [](double v) { return std::ceil(v); }}};
  for (const auto &[mode, round] : modes) {
    Values s16 = evaluate(std::string("cvt.") + mode + ".s16.f16 d, a;", 16,
                          {16}, {all16()}),
           u32 = evaluate(std::string("cvt.") + mode + ".u32.f16 d, a;", 32,
                          {16}, {all16()});
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      double value = round(kHalf.decode(uint16_t(bits)));
      double low = std::isnan(value) ? 0 : value;
      ASSERT_EQ(s16[bits],
                uint16_t(int16_t(std::min(std::max(low, -32768.0), 32767.0))));
      ASSERT_EQ(u32[bits],
                uint32_t(std::min(std::max(low, 0.0), 4294967295.0)));
    }
  }
}

TEST(Convert, IntegersToFloats) {
  Values in = all16();
  Values half = evaluate("cvt.rn.f16.s16 d, a;", 16, {16}, {in}),
         up = evaluate("cvt.rp.f16.u16 d, a;", 16, {16}, {in});
  for (uint32_t i = 0; i < 65536; ++i) {
    ASSERT_EQ(half[i], kHalf.encode(int16_t(i), 'n'));
    ASSERT_EQ(up[i], kHalf.encode(i, 'p'));
  }
  Values wide;
  std::mt19937_64 random(4);
  for (int i = 0; i < 5000; ++i)
    wide.push_back(random() >> random() % 64);
  Values s = evaluate("cvt.rn.f32.s64 d, a;", 32, {64}, {wide}),
         u = evaluate("cvt.rn.f64.u64 d, a;", 64, {64}, {wide}),
         narrow = evaluate("cvt.rn.f32.f64 d, a;", 32, {64}, {wide});
  for (size_t i = 0; i < wide.size(); ++i) {
    ASSERT_EQ(s[i], bitsOf(float(int64_t(wide[i]))));
    ASSERT_EQ(u[i], bitsOf(double(wide[i])));
    double value = toDouble(wide[i]);
    if (!std::isnan(value)) {
      ASSERT_EQ(narrow[i], bitsOf(float(value)));
    }
  }
}

TEST(Convert, SinglesToIntegers) {
  Values in;
  for (float v :
       {0.0f, 0.5f, 1.5f, 2.5f, 0.49999997f, 2147483520.0f, 2147483648.0f,
        4294967040.0f, 4294967296.0f, 1e20f, 1e30f, INFINITY})
    for (float s : {1.0f, -1.0f})
      in.push_back(bitsOf(s * v));
  in.push_back(0x7fc00000);
  auto expect = [&](const char *text, unsigned bits, double low, double high) {
    Values out = evaluate(text, bits, {32}, {in});
    for (size_t i = 0; i < in.size(); ++i) {
      double value = std::trunc(double(toFloat(in[i])));
      uint64_t expected = 0;
      if (value >= high)
        expected = low < 0 ? (uint64_t(1) << (bits - 1)) - 1
                           : ~uint64_t(0) >> (64 - bits);
      else if (value <= low)
        expected = low < 0 ? uint64_t(1) << (bits - 1) : 0;
      else if (!std::isnan(value))
        expected = value < 0 ? uint64_t(int64_t(value)) : uint64_t(value);
      EXPECT_EQ(out[i], expected & ~uint64_t(0) >> (64 - bits))
          << text << " " << toFloat(in[i]);
    }
  };
  expect("cvt.rzi.s32.f32 d, a;", 32, -2147483648.0, 2147483648.0);
  expect("cvt.rzi.u32.f32 d, a;", 32, 0, 4294967296.0);
  expect("cvt.rzi.s64.f32 d, a;", 64, -0x1p63, 0x1p63);
  expect("cvt.rzi.u64.f32 d, a;", 64, 0, 0x1p64);
}

TEST(Convert, BetweenIntegers) {
  Values in;
  std::mt19937_64 random(5);
  for (int i = 0; i < 2000; ++i)
    in.push_back(random() >> random() % 64 ^ (random() % 2 ? ~uint64_t(0) : 0));
  Values s8 = evaluate("cvt.s32.s8 d, a;", 32, {32}, {in}),
         u8 = evaluate("cvt.u64.u8 d, a;", 64, {32}, {in}),
         sat = evaluate("cvt.sat.s16.s64 d, a;", 16, {64}, {in}),
         satU = evaluate("cvt.sat.u8.s32 d, a;", 32, {32}, {in}),
         wide = evaluate("cvt.s64.s16 d, a;", 64, {16}, {in}),
         narrow = evaluate("cvt.s8.s32 d, a;", 16, {32}, {in});
  for (size_t i = 0; i < in.size(); ++i) {
    uint64_t a = in[i];
    ASSERT_EQ(s8[i], uint32_t(int32_t(int8_t(a))));
    ASSERT_EQ(u8[i], uint8_t(a));
    int64_t v = int64_t(a);
    ASSERT_EQ(sat[i], uint16_t(v > 32767 ? 32767 : v < -32768 ? -32768 : v));
    int32_t w = int32_t(a);
    ASSERT_EQ(satU[i], uint32_t(w > 255 ? 255 : w < 0 ? 0 : w));
    ASSERT_EQ(wide[i], uint64_t(int64_t(int16_t(a))));
    ASSERT_EQ(narrow[i], uint16_t(int16_t(int8_t(a))));
  }
}

TEST(Convert, TF32) {
  Values in;
  std::mt19937_64 random(6);
  for (int i = 0; i < 3000; ++i)
    in.push_back(uint32_t(random()) & (i % 2 ? 0xffffffff : 0xfffff000));
  Values away = evaluate("cvt.rna.tf32.f32 d, a;", 32, {32}, {in}),
         even = evaluate("cvt.rn.tf32.f32 d, a;", 32, {32}, {in});
  for (size_t i = 0; i < in.size(); ++i) {
    float value = toFloat(in[i]);
    if (!std::isfinite(value))
      continue;
    // Of the two neighbours with 10 bits of fraction, the nearer one.
    float low = toFloat(in[i] & ~uint64_t(0x1fff));
    float high = toFloat((in[i] & ~uint64_t(0x1fff)) + 0x2000);
    double toLow = std::fabs(double(value) - low);
    double toHigh = std::fabs(double(high) - value);
    if (std::isinf(high))
      continue;
    ASSERT_EQ(away[i], bitsOf(toHigh <= toLow ? high : low));
    bool lowIsEven = !(in[i] >> 13 & 1);
    ASSERT_EQ(
        even[i],
        bitsOf(toHigh < toLow || (toHigh == toLow && !lowIsEven) ? high : low));
  }
}

//===----------------------------------------------------------------------===//
// Arithmetic of 16 bits
//===----------------------------------------------------------------------===//

/// a + b, moved a little towards what the addition has lost: ties among values
/// of 16 bits are then ties only where the sum is exact.
long double sumOffTies(long double a, long double b) {
  volatile long double sum = a + b, back = sum - a;
  volatile long double error = (a - (sum - back)) + (b - back);
  if (!(error != 0) || std::isinf((long double)sum))
    return sum;
  return std::nextafter((long double)sum,
                        error > 0 ? (long double)INFINITY : -INFINITY);
}

TEST(HalfArithmetic, AgainstExactSums) {
  for (const char *type : {"f16", "bf16"}) {
    const Format &format = type[0] == 'f' ? kHalf : kBFloat;
    std::mt19937_64 random(7);
    std::vector<Values> in(3);
    for (int i = 0; i < 60000; ++i)
      for (Values &values : in)
        values.push_back(uint16_t(random()));
    auto run = [&](const std::string &op, const char *operands) {
      return evaluate(op + "." + type + operands, 16, {16, 16, 16}, in);
    };
    Values add = run("add.rn", " d, a, b;"), mul = run("mul.rn", " d, a, b;"),
           fma = run("fma.rn", " d, a, b, c;"),
           relu = run("fma.rn.relu", " d, a, b, c;"),
           min = run("min", " d, a, b;"), neg = run("neg", " d, a;");
    for (size_t i = 0; i < add.size(); ++i) {
      double a = format.decode(uint16_t(in[0][i])),
             b = format.decode(uint16_t(in[1][i])),
             c = format.decode(uint16_t(in[2][i]));
      ASSERT_EQ(add[i], format.encode((long double)a + b, 'n'));
      ASSERT_EQ(mul[i], format.encode((long double)a * b, 'n'));
      uint16_t expected = format.encode(sumOffTies((long double)a * b, c), 'n');
      ASSERT_EQ(fma[i], expected) << a << " " << b << " " << c;
      ASSERT_EQ(relu[i], expected & 0x8000 ? 0 : expected);
      ASSERT_EQ(neg[i], in[0][i] ^ 0x8000);
      if (!std::isnan(a) && !std::isnan(b) && a != b) {
        ASSERT_EQ(min[i], a < b ? in[0][i] : in[1][i]);
      }
    }
  }
}

TEST(HalfArithmetic, FmaRoundsOnce) {
  // 1 + 2^-11 + 2^-24 * something: twice rounded, the tie would go to even.
  std::vector<Values> in = {
      {0x3c01, 0x3c01}, {0x3c01, 0x3c01}, {0x0001, 0x8001}};
  Values out = evaluate("fma.rn.f16 d, a, b, c;", 16, {16, 16, 16}, in);
  for (size_t i = 0; i < 2; ++i)
    EXPECT_EQ(out[i], kHalf.encode((long double)kHalf.decode(0x3c01) *
                                           kHalf.decode(0x3c01) +
                                       kHalf.decode(uint16_t(in[2][i])),
                                   'n'));
}

TEST(HalfArithmetic, PairsWorkOnBothHalves) {
  std::vector<Values> in = {{0x3c004000}, {0x40003c00}, {0x00003c00}};
  EXPECT_EQ(evaluate("fma.rn.f16x2 d, a, b, c;", 32, {32, 32, 32}, in)[0],
            0x40004200u);
  EXPECT_EQ(evaluate("max.f16x2 d, a, b;", 32, {32, 32, 32}, in)[0],
            0x40004000u);
  EXPECT_EQ(evaluate("add.sat.f16x2 d, a, b;", 32, {32, 32, 32}, in)[0],
            0x3c003c00u);
  EXPECT_EQ(evaluate("setp.gt.f16x2 p|q, a, b;", 1, {32, 32, 32}, in)[0], 1u);
  EXPECT_EQ(evaluate("setp.gt.f16x2 q|p, a, b;", 1, {32, 32, 32}, in)[0], 0u);
}

} // namespace
