//===- Generate.cpp - Generated arguments ---------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/Generate.h"

#include <charconv>
#include <cmath>
#include <limits>

// A contracted product would round once where the header says twice; CMake
// passes -ffp-contract=off for compilers that do not know the pragma.
#ifdef __clang__
#pragma clang fp contract(off)
#endif

using namespace moe::run;
namespace io = moe::io;
using moe::io::Error;
using moe::io::Expected;
using moe::io::Shape;
using moe::io::Tensor;

//===----------------------------------------------------------------------===//
// Parsing
//===----------------------------------------------------------------------===//

template <typename T> static bool parseWhole(std::string_view text, T &value) {
  auto [end, code] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size();
}

Expected<std::optional<Generator>>
moe::run::parseGenerator(std::string_view text) {
  using Result = std::optional<Generator>;
  if (text == "zeros")
    return Result(Generator{Generator::Kind::Zeros});
  if (text == "ones")
    return Result(Generator{Generator::Kind::Ones});
  if (text == "iota")
    return Result(Generator{Generator::Kind::Iota});
  constexpr std::string_view kRandom = "random:";
  if (text.substr(0, kRandom.size()) != kRandom)
    return Result();
  Generator generator{Generator::Kind::Random};
  std::string_view rest = text.substr(kRandom.size());
  size_t colon = rest.find(':');
  bool legal = parseWhole(rest.substr(0, colon), generator.seed);
  if (colon != std::string_view::npos)
    legal = legal && parseWhole(rest.substr(colon + 1), generator.scale) &&
            std::isfinite(generator.scale);
  if (!legal)
    return Error{"'" + std::string(text) +
                 "' is not random:SEED[:SCALE] (SEED from 0 to 2^64-1)"};
  return Result(generator);
}

//===----------------------------------------------------------------------===//
// Normal numbers
//===----------------------------------------------------------------------===//

std::array<uint32_t, 4> moe::run::philox(std::array<uint32_t, 4> c,
                                         std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    uint64_t a = uint64_t(0xd2511f53) * c[0];
    uint64_t b = uint64_t(0xcd9e8d57) * c[2];
    c = {uint32_t(b >> 32) ^ c[1] ^ key[0], uint32_t(b),
         uint32_t(a >> 32) ^ c[3] ^ key[1], uint32_t(a)};
    key[0] += 0x9e3779b9;
    key[1] += 0xbb67ae85;
  }
  return c;
}

/// The logarithm of a positive normal number by basic arithmetic, since the
/// last bits of the C library's differ between machines: with x = m * 2^e, m
/// from [sqrt(1/2), sqrt(2)) and s = (m - 1) / (m + 1), it is
/// e * ln(2) + 2 s (1 + s^2/3 + s^4/5 + ... + s^22/23), summed from the end.
static double naturalLog(double x) {
  int exponent;
  double m = std::frexp(x, &exponent);
  if (m < 0.70710678118654757) {
    m = m * 2.0;
    exponent -= 1;
  }
  double s = (m - 1.0) / (m + 1.0), square = s * s, sum = 0.0;
  for (int n = 23; n >= 1; n -= 2)
    sum = sum * square + 1.0 / n;
  return exponent * 0.69314718055994531 + 2.0 * s * sum;
}

/// AS 241, PPND7. Its last branch is for p below 1e-11, which 32 bits do not
/// reach.
static double normalQuantile(double p) {
  double q = p - 0.5;
  if (std::fabs(q) <= 0.425) {
    double r = 0.180625 - q * q;
    return q *
           (((59.109374720 * r + 159.29113202) * r + 50.434271938) * r +
            3.3871327179) /
           (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0);
  }
  double r = std::sqrt(-naturalLog(q < 0.0 ? p : 1.0 - p)) - 1.6;
  double z = (((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r +
              1.4234372777) /
             ((0.12021132975 * r + 0.73700164250) * r + 1.0);
  return q < 0.0 ? -z : z;
}

static double normalOfWord(uint32_t word) {
  return normalQuantile((double(word) + 0.5) * 0x1p-32);
}

static std::array<uint32_t, 4> normalBlock(uint64_t seed, uint64_t block) {
  return philox({uint32_t(block), uint32_t(block >> 32), 0, 0},
                {uint32_t(seed), uint32_t(seed >> 32)});
}

double moe::run::normalNumber(uint64_t seed, uint64_t index) {
  return normalOfWord(normalBlock(seed, index / 4)[index % 4]);
}

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

namespace {

bool isFloat(moe_dtype dtype) { return dtype.code == 2 || dtype.code == 4; }

/// The largest index that `iota` may store: every integer up to it is exact.
int64_t largestExact(moe_dtype dtype) {
  if (io::sameDType(dtype, io::kBF16))
    return int64_t(1) << 8;
  if (isFloat(dtype))
    return int64_t(1) << (dtype.bits == 16 ? 11 : dtype.bits == 32 ? 24 : 53);
  unsigned valueBits = dtype.bits - (dtype.code == 0 ? 1 : 0);
  return valueBits >= 63 ? std::numeric_limits<int64_t>::max()
                         : (int64_t(1) << valueBits) - 1;
}

template <typename T, typename Fn> void fill(Tensor &tensor, Fn valueAt) {
  T *to = tensor.mutableAs<T>();
  for (int64_t i = 0, e = tensor.numElements(); i < e; ++i)
    to[i] = valueAt(i);
}

/// Stores `valueAt(i)`, a double, in a floating-point tensor.
template <typename Fn> void fillFloat(Tensor &tensor, Fn valueAt) {
  moe_dtype dtype = tensor.dtype();
  if (io::sameDType(dtype, io::kF64))
    fill<double>(tensor, valueAt);
  else if (io::sameDType(dtype, io::kF32))
    fill<float>(tensor, [&](int64_t i) { return float(valueAt(i)); });
  else if (io::sameDType(dtype, io::kF16))
    fill<uint16_t>(tensor,
                   [&](int64_t i) { return io::f32ToF16(float(valueAt(i))); });
  else
    fill<uint16_t>(tensor,
                   [&](int64_t i) { return io::f32ToBF16(float(valueAt(i))); });
}

/// Stores `valueAt(i)`, which fits, in an integer or bool tensor.
template <typename Fn> void fillInteger(Tensor &tensor, Fn valueAt) {
  switch (tensor.dtype().bits) {
  case 8:
    return fill<uint8_t>(tensor, valueAt);
  case 16:
    return fill<uint16_t>(tensor, valueAt);
  case 32:
    return fill<uint32_t>(tensor, valueAt);
  default:
    return fill<uint64_t>(tensor, valueAt);
  }
}

} // namespace

Expected<Tensor> moe::run::generate(const Generator &generator, moe_dtype dtype,
                                    const Shape &shape,
                                    const std::string &what) {
  const io::DTypeInfo *info = io::findDType(dtype);
  if (!info || !info->loadable)
    return Error{what + ": cannot generate " + io::dtypeName(dtype)};
  using Kind = Generator::Kind;
  if (generator.kind == Kind::Random && !isFloat(dtype))
    return Error{what + ": random makes floating-point numbers, not " +
                 info->name};
  Expected<Tensor> tensor = Tensor::allocate(dtype, shape, what);
  if (!tensor || generator.kind == Kind::Zeros)
    return tensor;
  if (generator.kind == Kind::Random) {
    std::array<uint32_t, 4> block = {};
    fillFloat(*tensor, [&](int64_t i) {
      if (i % 4 == 0)
        block = normalBlock(generator.seed, uint64_t(i) / 4);
      return normalOfWord(block[size_t(i % 4)]) * generator.scale;
    });
    return tensor;
  }
  bool iota = generator.kind == Kind::Iota;
  if (iota &&
      (dtype.code == 6 || tensor->numElements() - 1 > largestExact(dtype)))
    return Error{what + ": " + info->name + " cannot hold iota over " +
                 std::to_string(tensor->numElements()) + " elements"};
  if (isFloat(dtype))
    fillFloat(*tensor, [&](int64_t i) { return iota ? double(i) : 1.0; });
  else
    fillInteger(*tensor, [&](int64_t i) { return iota ? i : 1; });
  return tensor;
}
