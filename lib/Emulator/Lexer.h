//===- Lexer.h - Tokens of PTX ----------------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_LEXER_H
#define MOE_LIB_EMULATOR_LEXER_H

#include "moe/IO/Expected.h"
#include <cstdint>
#include <string_view>
#include <vector>

namespace moe::emulator {

struct Token {
  enum Kind : uint8_t {
    Word,      ///< `ld.global.u32`, `%r1`, `$L__BB0_1`, with its dots.
    Directive, ///< `.reg`, one dot and one word.
    Integer,
    Single, ///< `0f` and eight digits.
    Double, ///< `0d` and sixteen digits, or a decimal fraction.
    String,
    Punctuation,
    End
  };
  Kind kind = End;
  std::string_view text;
  uint64_t bits = 0; ///< The value of a number.
  int line = 0;

  bool is(char c) const { return kind == Punctuation && text[0] == c; }
  bool isDirective(std::string_view name) const {
    return kind == Directive && text == name;
  }
};

/// All tokens of a text, the last of kind End. Views point into `text`.
io::Expected<std::vector<Token>> tokenize(std::string_view text,
                                          const std::string &name);

/// "NAME:LINE: MESSAGE".
io::Error errorAt(const std::string &name, int line,
                  const std::string &message);

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_LEXER_H
