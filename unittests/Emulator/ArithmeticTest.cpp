//===- ArithmeticTest.cpp - Arithmetic against that of the host -----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Evaluate.h"
#include <bitset>
#include <cfenv>
#include <cmath>
#include <functional>
#include <random>

using namespace moe::emulator::test;

namespace {

//===----------------------------------------------------------------------===//
// Integers
//===----------------------------------------------------------------------===//

using Wide = __int128;

/// A value of a type as a number.
Wide number(uint64_t bits, unsigned width, bool isSigned) {
  if (width < 64)
    bits &= (uint64_t(1) << width) - 1;
  if (isSigned && (bits >> (width - 1) & 1))
    return Wide(bits) - (Wide(1) << width);
  return Wide(bits);
}
uint64_t low(Wide value, unsigned width) {
  uint64_t bits = uint64_t(value);
  return width < 64 ? bits & ((uint64_t(1) << width) - 1) : bits;
}

Values integers(unsigned width) {
  std::mt19937_64 random(width);
  Values values = {0, 1, 2, 3, 7, 31, 32, 33};
  for (uint64_t edge : {uint64_t(1) << (width - 1), uint64_t(1) << width / 2})
    for (int64_t d : {-1, 0, 1})
      values.push_back(low(Wide(edge) + d, width));
  values.push_back(low(-1, width));
  values.push_back(low(-2, width));
  for (int i = 0; i < 12; ++i)
    values.push_back(low(Wide(random() >> random() % width), width));
  return values;
}

struct IntegerCase {
  const char *op;
  std::function<Wide(Wide, Wide, unsigned)> expected;
};

TEST(Integers, TwoOperands) {
  const IntegerCase cases[] = {
      {"add", [](Wide a, Wide b, unsigned) { return a + b; }},
      {"sub", [](Wide a, Wide b, unsigned) { return a - b; }},
      {"mul.lo",
       [](Wide a, Wide b, unsigned) {
         return Wide((unsigned __int128)a * (unsigned __int128)b);
       }},
      {"min", [](Wide a, Wide b, unsigned) { return a < b ? a : b; }},
      {"max", [](Wide a, Wide b, unsigned) { return a > b ? a : b; }},
      {"div", [](Wide a, Wide b, unsigned) { return b ? a / b : Wide(-1); }},
      {"rem", [](Wide a, Wide b, unsigned) { return b ? a % b : a; }},
  };
  for (unsigned width : {16u, 32u, 64u})
    for (bool isSigned : {false, true})
      for (const IntegerCase &c : cases) {
        std::string type = (isSigned ? "s" : "u") + std::to_string(width);
        std::string text = std::string(c.op) + "." + type + " d, a, b;";
        SCOPED_TRACE(text);
        std::vector<Values> in = allPairs(integers(width));
        Values out = evaluate(text, width, {width, width}, in);
        for (size_t i = 0; i < out.size(); ++i)
          ASSERT_EQ(out[i],
                    low(c.expected(number(in[0][i], width, isSigned),
                                   number(in[1][i], width, isSigned), width),
                        width))
              << in[0][i] << " " << in[1][i];
      }
}

TEST(Integers, HighAndWideProducts) {
  for (unsigned width : {16u, 32u, 64u})
    for (bool isSigned : {false, true}) {
      std::string type = (isSigned ? "s" : "u") + std::to_string(width);
      std::vector<Values> in = allPairs(integers(width));
      Values high =
          evaluate("mul.hi." + type + " d, a, b;", width, {width, width}, in);
      Values wide = high;
      if (width < 64)
        wide = evaluate("mul.wide." + type + " d, a, b;", 2 * width,
                        {width, width}, in);
      for (size_t i = 0; i < high.size(); ++i) {
        unsigned __int128 a = number(in[0][i], width, isSigned),
                          b = number(in[1][i], width, isSigned);
        Wide product = Wide(a * b);
        if (isSigned || width < 64) {
          ASSERT_EQ(high[i], low(product >> width, width)) << type;
        } else {
          ASSERT_EQ(high[i], uint64_t(a * b >> 64)) << type;
        }
        if (width < 64) {
          ASSERT_EQ(wide[i], low(product, 2 * width)) << type;
        }
      }
    }
}

TEST(Integers, ThreeOperands) {
  std::vector<Values> in = allPairs(integers(32));
  in.push_back(in[0]);
  std::rotate(in[2].begin(), in[2].begin() + 77, in[2].end());
  auto run = [&](const char *text) {
    return evaluate(text, 32, {32, 32, 32}, in);
  };
  Values mad = run("mad.lo.s32 d, a, b, c;"), sad = run("sad.s32 d, a, b, c;"),
         dp4a = run("dp4a.s32.u32 d, a, b, c;"),
         dp2a = run("dp2a.hi.u32.s32 d, a, b, c;"),
         mul24 = run("mul24.lo.s32 d, a, b;"),
         addSat = run("add.sat.s32 d, a, b;");
  for (size_t i = 0; i < mad.size(); ++i) {
    Wide a = number(in[0][i], 32, true), b = number(in[1][i], 32, true),
         c = number(in[2][i], 32, true);
    ASSERT_EQ(mad[i], low(a * b + c, 32));
    ASSERT_EQ(sad[i], low(c + (a < b ? b - a : a - b), 32));
    Wide four = c, two = c;
    for (int k = 0; k < 4; ++k)
      four += number(in[0][i] >> 8 * k, 8, true) *
              number(in[1][i] >> 8 * k, 8, false);
    for (int k = 0; k < 2; ++k)
      two += number(in[0][i] >> 16 * k, 16, false) *
             number(in[1][i] >> (16 + 8 * k), 8, true);
    ASSERT_EQ(dp4a[i], low(four, 32));
    ASSERT_EQ(dp2a[i], low(two, 32));
    ASSERT_EQ(mul24[i],
              low(number(in[0][i], 24, true) * number(in[1][i], 24, true), 32));
    Wide sum = a + b;
    sum = sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : sum;
    ASSERT_EQ(addSat[i], low(sum, 32));
  }
}

TEST(Integers, Comparisons) {
  const std::pair<const char *, std::function<bool(Wide, Wide)>> cases[] = {
      {"eq", [](Wide a, Wide b) { return a == b; }},
      {"ne", [](Wide a, Wide b) { return a != b; }},
      {"lt", [](Wide a, Wide b) { return a < b; }},
      {"le", [](Wide a, Wide b) { return a <= b; }},
      {"gt", [](Wide a, Wide b) { return a > b; }},
      {"ge", [](Wide a, Wide b) { return a >= b; }}};
  for (unsigned width : {16u, 32u, 64u})
    for (bool isSigned : {false, true})
      for (const auto &c : cases) {
        std::string type = (isSigned ? "s" : "u") + std::to_string(width);
        std::vector<Values> in = allPairs(integers(width));
        Values out =
            evaluate("setp." + std::string(c.first) + "." + type + " p, a, b;",
                     1, {width, width}, in);
        for (size_t i = 0; i < out.size(); ++i)
          ASSERT_EQ(out[i], c.second(number(in[0][i], width, isSigned),
                                     number(in[1][i], width, isSigned)))
              << c.first << type;
      }
}

/// `halves` computes h, l from ah, al and bh, bl, of 32 bits each.
std::string onHalves(const std::string &halves) {
  return "{ .reg .b32 al, ah, bl, bh, l, h;\n"
         "mov.b64 {al, ah}, a; mov.b64 {bl, bh}, b;\n" +
         halves + "\nmov.b64 d, {l, h}; }";
}

TEST(Integers, CarriesBetweenWords) {
  std::vector<Values> in = allPairs(integers(64));
  for (const char *type : {"u32", "s32"})
    for (bool subtract : {false, true}) {
      std::string op = subtract ? "sub" : "add";
      std::string text = onHalves(op + ".cc." + type + " l, al, bl; " + op +
                                  "c." + type + " h, ah, bh;");
      SCOPED_TRACE(text);
      Values out = evaluate(text, 64, {64, 64}, in);
      for (size_t i = 0; i < out.size(); ++i)
        ASSERT_EQ(out[i], subtract ? in[0][i] - in[1][i] : in[0][i] + in[1][i])
            << i;
    }
}

TEST(Integers, CarryOutOfThree) {
  // Of c + carry(a + b), and of c - borrow(a - b).
  std::vector<Values> in = allPairs(integers(32));
  for (uint64_t c : {uint64_t(0), uint64_t(1), uint64_t(0xffffffff)})
    for (bool subtract : {false, true}) {
      std::string op = subtract ? "sub" : "add";
      std::string text = "{ .reg .b32 t; " + op + ".cc.u32 t, a, b; " + op +
                         "c.cc.u32 t, " + std::to_string(c) +
                         ", 0; addc.u32 d, 0, 0; }";
      SCOPED_TRACE(text);
      Values out = evaluate(text, 32, {32, 32}, in);
      for (size_t i = 0; i < out.size(); ++i) {
        uint64_t a = in[0][i], b = in[1][i];
        bool first = subtract ? a < b : a + b > 0xffffffff;
        bool second = first && c == (subtract ? 0 : 0xffffffff);
        ASSERT_EQ(out[i], uint64_t(second)) << a << " " << b;
      }
    }
}

TEST(Integers, CarryOfLanesThatRan) {
  std::vector<Values> in = allPairs(integers(32));
  Values out = evaluate("{ .reg .b32 t; .reg .pred odd; and.b32 t, b, 1;\n"
                        "setp.ne.u32 odd, t, 0; add.cc.u32 t, a, a;\n"
                        "@odd add.cc.u32 t, 0, 0; addc.u32 d, 0, 0; }",
                        32, {32, 32}, in);
  for (size_t i = 0; i < out.size(); ++i)
    ASSERT_EQ(out[i], in[1][i] & 1 ? 0 : in[0][i] >> 31);
}

TEST(Integers, CarriesOfProducts) {
  std::vector<Values> in = allPairs(integers(64));
  for (bool isSigned : {false, true}) {
    std::string type = isSigned ? "s64" : "u64";
    std::string text = "{ .reg .b64 t; mad.lo.cc." + type + " t, a, b, b; " +
                       "madc.hi." + type + " d, a, b, 0; }";
    SCOPED_TRACE(text);
    Values out = evaluate(text, 64, {64, 64}, in);
    for (size_t i = 0; i < out.size(); ++i) {
      // The low half of the sum is unsigned.
      Wide product =
          isSigned ? number(in[0][i], 64, true) * number(in[1][i], 64, true)
                   : Wide((unsigned __int128)in[0][i] * in[1][i]);
      unsigned __int128 sum = (unsigned __int128)product + in[1][i];
      ASSERT_EQ(out[i], uint64_t(sum >> 64)) << in[0][i] << " " << in[1][i];
    }
  }
}

//===----------------------------------------------------------------------===//
// Bits
//===----------------------------------------------------------------------===//

TEST(Bits, Shifts) {
  for (unsigned width : {16u, 32u, 64u}) {
    std::vector<Values> in = allPairs(integers(width));
    for (uint64_t &n : in[1])
      n &= 0xffffffff;
    std::string b = std::to_string(width);
    Values left = evaluate("shl.b" + b + " d, a, b;", width, {width, 32}, in),
           right = evaluate("shr.u" + b + " d, a, b;", width, {width, 32}, in),
           arithmetic =
               evaluate("shr.s" + b + " d, a, b;", width, {width, 32}, in);
    for (size_t i = 0; i < left.size(); ++i) {
      uint64_t n = in[1][i], a = in[0][i];
      Wide value = number(a, width, true);
      ASSERT_EQ(left[i], n >= width ? 0 : low(Wide(a) << n, width));
      ASSERT_EQ(right[i], n >= width ? 0 : a >> n);
      ASSERT_EQ(arithmetic[i], low(value >> (n > width ? width : n), width));
    }
  }
}

TEST(Bits, Fields) {
  std::mt19937_64 random(5);
  std::vector<Values> in(4, Values(2000));
  for (size_t i = 0; i < 2000; ++i) {
    in[0][i] = random();
    in[1][i] = random();
    in[2][i] = random() % 72;
    in[3][i] = random() % 72;
  }
  std::vector<Values> extract = {in[0], in[2], in[3]};
  for (unsigned width : {32u, 64u})
    for (bool isSigned : {false, true}) {
      std::string type = (isSigned ? "s" : "u") + std::to_string(width);
      Values out = evaluate("bfe." + type + " d, a, b, c;", width,
                            {width, 32, 32}, extract);
      for (size_t i = 0; i < out.size(); ++i) {
        // Bit by bit, as the manual has it.
        uint64_t a = low(Wide(in[0][i]), width), expected = 0;
        uint64_t pos = in[2][i], len = in[3][i], msb = width - 1;
        bool sign = isSigned && len
                        ? a >> std::min<uint64_t>(pos + len - 1, msb) & 1
                        : false;
        for (uint64_t k = 0; k <= msb; ++k) {
          bool bit = k < len && pos + k <= msb ? a >> (pos + k) & 1 : sign;
          expected |= uint64_t(bit) << k;
        }
        ASSERT_EQ(out[i], expected) << type << " " << pos << " " << len;
      }
    }
  for (unsigned width : {32u, 64u}) {
    Values out = evaluate("bfi.b" + std::to_string(width) + " d, a, b, c, e;",
                          width, {width, width, 32, 32}, in);
    for (size_t i = 0; i < out.size(); ++i) {
      uint64_t expected = low(Wide(in[1][i]), width);
      for (uint64_t k = 0; k < in[3][i] && in[2][i] + k < width; ++k) {
        uint64_t bit = uint64_t(1) << (in[2][i] + k);
        expected = in[0][i] >> k & 1 ? expected | bit : expected & ~bit;
      }
      ASSERT_EQ(out[i], expected);
    }
  }
}

TEST(Bits, Words) {
  std::mt19937_64 random(6);
  std::vector<Values> in(3, Values(500));
  for (Values &values : in)
    for (uint64_t &value : values)
      value = uint32_t(random()) >> random() % 32;
  auto run = [&](const std::string &text) {
    return evaluate(text, 32, {32, 32, 32}, in);
  };
  for (unsigned table : {0x00u, 0x96u, 0xe8u, 0x1bu, 0xffu, 0xcau}) {
    Values out = run("lop3.b32 d, a, b, c, " + std::to_string(table) + ";");
    for (size_t i = 0; i < out.size(); ++i)
      for (unsigned k = 0; k < 32; ++k)
        ASSERT_EQ(out[i] >> k & 1,
                  table >> ((in[0][i] >> k & 1) * 4 + (in[1][i] >> k & 1) * 2 +
                            (in[2][i] >> k & 1)) &
                      1);
  }
  Values prmt = run("prmt.b32 d, a, b, c;"), pop = run("popc.b32 d, a;"),
         clz = run("clz.b32 d, a;"), rev = run("brev.b32 d, a;"),
         find = run("bfind.u32 d, a;"), findS = run("bfind.s32 d, a;"),
         wrapL = run("shf.l.wrap.b32 d, a, b, c;"),
         clampR = run("shf.r.clamp.b32 d, a, b, c;");
  for (size_t i = 0; i < prmt.size(); ++i) {
    uint64_t a = in[0][i], b = in[1][i], c = in[2][i], both = b << 32 | a;
    uint64_t expected = 0;
    for (unsigned k = 0; k < 4; ++k) {
      unsigned select = c >> 4 * k & 15;
      uint64_t byte = both >> 8 * (select & 7) & 0xff;
      if (select & 8)
        byte = byte & 0x80 ? 0xff : 0;
      expected |= byte << 8 * k;
    }
    ASSERT_EQ(prmt[i], expected);
    ASSERT_EQ(pop[i], std::bitset<32>(a).count());
    unsigned zeros = 0;
    while (zeros < 32 && !(a >> (31 - zeros) & 1))
      ++zeros;
    ASSERT_EQ(clz[i], zeros);
    ASSERT_EQ(find[i], zeros == 32 ? 0xffffffff : 31 - zeros);
    uint32_t flipped = int32_t(a) < 0 ? ~uint32_t(a) : uint32_t(a);
    int at = 31;
    while (at >= 0 && !(flipped >> at & 1))
      --at;
    ASSERT_EQ(findS[i], uint32_t(at));
    for (unsigned k = 0; k < 32; ++k)
      ASSERT_EQ(rev[i] >> k & 1, a >> (31 - k) & 1);
    unsigned n = c & 31;
    ASSERT_EQ(wrapL[i], uint32_t(n ? b << n | a >> (32 - n) : b));
    ASSERT_EQ(clampR[i], c >= 32 ? b : uint32_t(both >> c));
  }
}

//===----------------------------------------------------------------------===//
// Floats
//===----------------------------------------------------------------------===//

Values singles() {
  Values values;
  for (float v : {0.0f, 1.0f, 1.5f, 3.0f, 1e-3f, 7.25f, 1e10f, 3.4e38f, 1e-38f,
                  1e-45f, 5.9e-39f, 16777217.0f, 0.1f, INFINITY})
    for (float s : {1.0f, -1.0f})
      values.push_back(bitsOf(s * v));
  values.push_back(0x7fc00000);
  std::mt19937_64 random(8);
  for (int i = 0; i < 20; ++i)
    values.push_back(uint32_t(random()));
  return values;
}
Values doubles() {
  Values values;
  for (double v :
       {0.0, 1.0, 3.0, 0.1, 1e300, 1e-308, 5e-324, 1e16 + 2, double(INFINITY)})
    for (double s : {1.0, -1.0})
      values.push_back(bitsOf(s * v));
  values.push_back(uint64_t(0x7ff8) << 48);
  std::mt19937_64 random(9);
  for (int i = 0; i < 16; ++i)
    values.push_back(random());
  return values;
}

/// The host's own arithmetic in a mode; volatile keeps it where it is.
template <typename T> T hostOp(const std::string &op, int mode, T x, T y, T z) {
  volatile T a = x, b = y, c = z, r = 0;
  std::fesetround(mode);
  if (op == "add")
    r = a + b;
  else if (op == "sub")
    r = a - b;
  else if (op == "mul")
    r = a * b;
  else if (op == "div")
    r = a / b;
  else if (op == "fma")
    r = std::fma(T(a), T(b), T(c));
  else if (op == "sqrt")
    r = std::sqrt(T(a));
  else if (op == "rcp")
    r = T(1) / a;
  std::fesetround(FE_TONEAREST);
  return r;
}

struct Mode {
  const char *name;
  int mode;
};
const Mode kModes[] = {{"rn", FE_TONEAREST},
                       {"rz", FE_TOWARDZERO},
                       {"rm", FE_DOWNWARD},
                       {"rp", FE_UPWARD}};

template <typename T> T fromBits(uint64_t bits) {
  if constexpr (sizeof(T) == 4)
    return toFloat(bits);
  else
    return toDouble(bits);
}

template <typename T> void checkRounding(const Values &values) {
  const unsigned width = 8 * sizeof(T);
  for (const char *op : {"add", "sub", "mul", "div", "fma", "sqrt", "rcp"})
    for (const Mode &mode : kModes) {
      std::string name = op;
      bool unary = name == "sqrt" || name == "rcp", three = name == "fma";
      std::string text = name + "." + mode.name + ".f" + std::to_string(width) +
                         " d, a" + (unary ? "" : ", b") +
                         (three ? ", c;" : ";");
      SCOPED_TRACE(text);
      std::vector<Values> in = allPairs(values);
      in.push_back(in[1]);
      std::rotate(in[2].begin(), in[2].begin() + 3, in[2].end());
      Values out = evaluate(text, width, {width, width, width}, in);
      for (size_t i = 0; i < out.size(); ++i) {
        T expected = hostOp<T>(name, mode.mode, fromBits<T>(in[0][i]),
                               fromBits<T>(in[1][i]), fromBits<T>(in[2][i]));
        if (std::isnan(expected)) {
          ASSERT_TRUE(std::isnan(fromBits<T>(out[i])));
          if (width == 32) {
            ASSERT_EQ(out[i], 0x7fffffffu);
          }
        } else {
          ASSERT_EQ(out[i], bitsOf(expected))
              << fromBits<T>(in[0][i]) << " " << fromBits<T>(in[1][i]);
        }
      }
    }
}

TEST(Floats, RoundingSingle) { checkRounding<float>(singles()); }
TEST(Floats, RoundingDouble) { checkRounding<double>(doubles()); }

TEST(Floats, FlushAndSaturate) {
  auto flush = [](float v) {
    return std::fpclassify(v) == FP_SUBNORMAL ? std::copysign(0.0f, v) : v;
  };
  std::vector<Values> in = allPairs(singles());
  Values ftz = evaluate("mul.rn.ftz.f32 d, a, b;", 32, {32, 32}, in),
         sat = evaluate("add.rn.sat.f32 d, a, b;", 32, {32, 32}, in),
         both = evaluate("add.rz.ftz.sat.f32 d, a, b;", 32, {32, 32}, in);
  for (size_t i = 0; i < ftz.size(); ++i) {
    float a = toFloat(in[0][i]), b = toFloat(in[1][i]);
    float product = flush(flush(a) * flush(b));
    if (!std::isnan(product)) {
      ASSERT_EQ(ftz[i], bitsOf(product)) << a << " " << b;
    }
    float sum = a + b;
    ASSERT_EQ(sat[i], bitsOf(sum > 0 ? std::min(sum, 1.0f) : 0.0f));
    float zero =
        flush(hostOp<float>("add", FE_TOWARDZERO, flush(a), flush(b), 0));
    ASSERT_EQ(both[i], bitsOf(zero > 0 ? std::min(zero, 1.0f) : 0.0f));
  }
}

TEST(Floats, MinimumAndMaximum) {
  std::vector<Values> in = allPairs(singles());
  auto run = [&](const char *text) { return evaluate(text, 32, {32, 32}, in); };
  Values min = run("min.f32 d, a, b;"), max = run("max.f32 d, a, b;"),
         minNaN = run("min.NaN.f32 d, a, b;"),
         maxXor = run("max.xorsign.abs.f32 d, a, b;");
  for (size_t i = 0; i < min.size(); ++i) {
    float a = toFloat(in[0][i]), b = toFloat(in[1][i]);
    bool nanA = std::isnan(a), nanB = std::isnan(b);
    if (nanA || nanB) {
      uint64_t other = nanA && nanB ? 0x7fffffff : nanA ? in[1][i] : in[0][i];
      ASSERT_EQ(min[i], other);
      ASSERT_EQ(max[i], other);
      ASSERT_EQ(minNaN[i], 0x7fffffffu);
      continue;
    }
    // Sign and magnitude as one integer: -0 is below +0.
    auto key = [](uint64_t bits) {
      return int64_t(bits & 0x7fffffff) * (bits >> 31 ? -1 : 1) -
             int64_t(bits >> 31);
    };
    bool aFirst = key(in[0][i]) < key(in[1][i]);
    ASSERT_EQ(min[i], aFirst ? in[0][i] : in[1][i]);
    ASSERT_EQ(max[i], aFirst ? in[1][i] : in[0][i]);
    ASSERT_EQ(minNaN[i], min[i]);
    float big = std::max(std::fabs(a), std::fabs(b));
    ASSERT_EQ(maxXor[i],
              bitsOf(std::signbit(a) != std::signbit(b) ? -big : big));
  }
}

TEST(Floats, ComparisonsWithNaN) {
  const std::pair<const char *, std::function<bool(float, float)>> cases[] = {
      {"eq", [](float a, float b) { return a == b; }},
      {"ne", [](float a, float b) { return a < b || a > b; }},
      {"lt", [](float a, float b) { return a < b; }},
      {"ge", [](float a, float b) { return a >= b; }},
      {"equ", [](float a, float b) { return !(a < b || a > b); }},
      {"neu", [](float a, float b) { return a != b; }},
      {"ltu", [](float a, float b) { return !(a >= b); }},
      {"leu", [](float a, float b) { return !(a > b); }},
      {"gtu", [](float a, float b) { return !(a <= b); }},
      {"geu", [](float a, float b) { return !(a < b); }},
      {"num", [](float a, float b) { return a == a && b == b; }},
      {"nan", [](float a, float b) { return a != a || b != b; }}};
  std::vector<Values> in = allPairs(singles());
  for (const auto &c : cases) {
    Values out = evaluate("setp." + std::string(c.first) + ".f32 p, a, b;", 1,
                          {32, 32}, in);
    for (size_t i = 0; i < out.size(); ++i)
      ASSERT_EQ(out[i], c.second(toFloat(in[0][i]), toFloat(in[1][i])))
          << c.first;
  }
}

TEST(Floats, Approximate) {
  struct Case {
    const char *text;
    std::function<double(double)> expected;
    double relative;
  };
  // Within what the manual allows the device.
  const Case cases[] = {
      {"ex2.approx.f32 d, a;", [](double a) { return std::exp2(a); }, 4e-7},
      {"lg2.approx.f32 d, a;", [](double a) { return std::log2(a); }, 4e-7},
      {"rsqrt.approx.f32 d, a;", [](double a) { return 1 / std::sqrt(a); },
       4e-7},
      {"rcp.approx.ftz.f32 d, a;", [](double a) { return 1 / a; }, 2e-7},
      {"sqrt.approx.f32 d, a;", [](double a) { return std::sqrt(a); }, 4e-7},
      {"sin.approx.f32 d, a;", [](double a) { return std::sin(a); }, 1e-6},
      {"cos.approx.f32 d, a;", [](double a) { return std::cos(a); }, 1e-6},
      {"tanh.approx.f32 d, a;", [](double a) { return std::tanh(a); }, 5e-4},
  };
  Values in;
  for (int i = 1; i < 100; ++i)
    in.push_back(bitsOf(float(i) * 0.031f));
  for (const Case &c : cases) {
    Values out = evaluate(c.text, 32, {32}, {in});
    for (size_t i = 0; i < in.size(); ++i) {
      double expected = c.expected(double(toFloat(in[i])));
      ASSERT_NEAR(toFloat(out[i]), expected,
                  c.relative * std::max(1.0, std::fabs(expected)))
          << c.text;
    }
  }
}

TEST(Floats, SignsAndTests) {
  std::vector<Values> in = allPairs(singles());
  Values neg = evaluate("neg.f32 d, a;", 32, {32, 32}, in),
         abs = evaluate("abs.f32 d, a;", 32, {32, 32}, in),
         copy = evaluate("copysign.f32 d, a, b;", 32, {32, 32}, in),
         subnormal = evaluate("testp.normal.f32 p, a;", 1, {32, 32}, in);
  for (size_t i = 0; i < neg.size(); ++i) {
    if (std::isnan(toFloat(in[0][i])))
      continue;
    ASSERT_EQ(neg[i], in[0][i] ^ 0x80000000);
    ASSERT_EQ(abs[i], in[0][i] & 0x7fffffff);
    ASSERT_EQ(copy[i], (in[1][i] & 0x7fffffff) | (in[0][i] & 0x80000000));
    ASSERT_EQ(subnormal[i], std::isnormal(toFloat(in[0][i])));
  }
}

} // namespace
