//===- Numbers.h - Numbers in reports ---------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_RUN_NUMBERS_H
#define MOE_LIB_RUN_NUMBERS_H

#include <charconv>
#include <cmath>
#include <string>

namespace moe::run {

/// `value` with `digits` significant digits, independent of the locale.
inline std::string number(double value, int digits) {
  char text[64];
  auto end = std::to_chars(text, text + sizeof(text), value,
                           std::chars_format::general, digits);
  return std::string(text, end.ptr);
}

/// With all digits; JSON has no infinity and no NaN.
inline std::string jsonNumber(double value) {
  return std::isfinite(value) ? number(value, 17) : "null";
}

} // namespace moe::run

#endif // MOE_LIB_RUN_NUMBERS_H
