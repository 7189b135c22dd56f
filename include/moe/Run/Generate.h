//===- Generate.h - Generated arguments -------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Arguments made up instead of read: `zeros`, `ones`, `iota` and
// `random:SEED[:SCALE]`.
//
// The normal numbers are the same on every machine and do not depend on
// anything but seed, scale and the element's index. Element i is made so:
//  1. w = word i % 4 of Philox4x32-10 with key = (seed low, seed high) and
//     counter = (i / 4 low, i / 4 high, 0, 0).
//  2. p = (w + 0.5) / 2^32, in f64.
//  3. z = the standard normal quantile of p by Wichura's rational
//     approximation AS 241 (PPND7, relative error about 1e-7), in f64 by
//     + - * / and square root alone, without fused multiply-add. Its
//     logarithm is the sum given at naturalLog in Generate.cpp.
//  4. The element is z * scale; unless it is f64, it is rounded to f32 and
//     from there to the element type.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_GENERATE_H
#define MOE_RUN_GENERATE_H

#include "moe/IO/Tensor.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moe::run {

struct Generator {
  enum class Kind { Zeros, Ones, Iota, Random };
  Kind kind;
  uint64_t seed = 0;
  double scale = 1.0;
};

/// Nothing where `text` is not of a generator's form (then it is a file), an
/// error where it is one but wrong.
io::Expected<std::optional<Generator>> parseGenerator(std::string_view text);

/// `what` begins messages. Refuses values that the type cannot hold.
io::Expected<io::Tensor> generate(const Generator &generator, moe_dtype dtype,
                                  const io::Shape &shape,
                                  const std::string &what);

/// One block of Philox4x32-10.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter,
                               std::array<uint32_t, 2> key);

/// The standard normal number of element `index`, step 3 above.
double normalNumber(uint64_t seed, uint64_t index);

} // namespace moe::run

#endif // MOE_RUN_GENERATE_H
