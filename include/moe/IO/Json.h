//===- Json.h - Strict JSON for headers -------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Just enough JSON for file headers and reports. Parsing refuses what lenient
// parsers let through: duplicate keys, deep nesting, NUL bytes.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_IO_JSON_H
#define MOE_IO_JSON_H

#include "moe/IO/Expected.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moe::io {

struct JsonValue {
  enum class Kind {
    Null,
    Bool,
    Unsigned, ///< An integer in [0, 2^64), in `number`.
    Other,    ///< Any other number; no header needs its value.
    String,
    Array,
    Object
  };
  Kind kind = Kind::Null;
  bool boolean = false;
  uint64_t number = 0;
  std::string string;
  std::vector<JsonValue> elements;
  /// In the order of the text.
  std::vector<std::pair<std::string, JsonValue>> members;

  bool is(Kind k) const { return kind == k; }
  /// The member of an object, or null.
  const JsonValue *find(std::string_view key) const;
};

/// Parses one value. The message names the byte and what is wrong there.
Expected<JsonValue> parseJson(std::string_view text);

bool isValidUtf8(std::string_view text);

/// `text` as a JSON string with its quotes; bytes that are not UTF-8 become
/// U+FFFD.
std::string quoteJson(std::string_view text);

} // namespace moe::io

#endif // MOE_IO_JSON_H
