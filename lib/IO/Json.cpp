//===- Json.cpp - Strict JSON for headers ---------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/Json.h"

#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>

using namespace moe::io;

const JsonValue *JsonValue::find(std::string_view key) const {
  for (const auto &[name, value] : members)
    if (name == key)
      return &value;
  return nullptr;
}

namespace {

/// Builds values from parser events. The parser itself is a loop with an
/// explicit stack and throws only where its own value type is built, which is
/// not the case here; the depth is bounded for the sake of JsonValue's
/// recursive destructor.
class Builder {
public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  bool null() { return add(JsonValue()); }
  bool boolean(bool value) {
    JsonValue v = make(JsonValue::Kind::Bool);
    v.boolean = value;
    return add(std::move(v));
  }
  bool number_integer(number_integer_t) {
    return add(make(JsonValue::Kind::Other));
  }
  bool number_unsigned(number_unsigned_t value) {
    JsonValue v = make(JsonValue::Kind::Unsigned);
    v.number = value;
    return add(std::move(v));
  }
  bool number_float(number_float_t, const string_t &) {
    return add(make(JsonValue::Kind::Other));
  }
  bool string(string_t &value) {
    JsonValue v = make(JsonValue::Kind::String);
    v.string = std::move(value);
    return add(std::move(v));
  }
  bool binary(binary_t &) { return false; }
  bool start_object(size_t) { return open(JsonValue::Kind::Object); }
  bool start_array(size_t) { return open(JsonValue::Kind::Array); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(string_t &name) {
    if (!stack.back().keys.insert(name).second) {
      error = "duplicate key " + quoteJson(name);
      return false;
    }
    stack.back().key = std::move(name);
    return true;
  }
  bool parse_error(size_t position, const std::string &,
                   const nlohmann::json::exception &) {
    error = "invalid JSON at byte " + std::to_string(position);
    return false;
  }

  JsonValue root;
  std::string error;

private:
  static constexpr size_t kMaxDepth = 32;
  /// Bounds the memory at some 500 MB; checkpoints stay below a million.
  static constexpr size_t kMaxValues = size_t(1) << 22;

  struct Frame {
    JsonValue value;
    std::string key; ///< Of the member being read.
    std::unordered_set<std::string> keys;
  };
  std::vector<Frame> stack;
  size_t values = 0;

  static JsonValue make(JsonValue::Kind kind) {
    JsonValue value;
    value.kind = kind;
    return value;
  }
  bool open(JsonValue::Kind kind) {
    if (stack.size() == kMaxDepth) {
      error = "JSON nested more than " + std::to_string(kMaxDepth) + " deep";
      return false;
    }
    stack.emplace_back();
    stack.back().value.kind = kind;
    return true;
  }
  bool close() {
    JsonValue value = std::move(stack.back().value);
    stack.pop_back();
    return add(std::move(value));
  }
  bool add(JsonValue value) {
    if (++values > kMaxValues) {
      error = "JSON holds more than " + std::to_string(kMaxValues) + " values";
      return false;
    }
    if (stack.empty()) {
      root = std::move(value);
    } else if (Frame &top = stack.back();
               top.value.is(JsonValue::Kind::Object)) {
      top.value.members.emplace_back(std::move(top.key), std::move(value));
    } else {
      top.value.elements.push_back(std::move(value));
    }
    return true;
  }
};

/// The length of the UTF-8 sequence at the start of `text`, 0 if it is none.
size_t sequenceLength(std::string_view text) {
  auto byte = [&](size_t i) -> unsigned {
    return i < text.size() ? uint8_t(text[i]) : 0;
  };
  auto tail = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  unsigned first = byte(0), second = byte(1);
  if (first < 0x80)
    return 1;
  if (first >= 0xc2 && first <= 0xdf)
    return tail(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) { // No overlong form, no surrogate.
    bool legal = tail(1) && !(first == 0xe0 && second < 0xa0) &&
                 !(first == 0xed && second > 0x9f);
    return legal && tail(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    bool legal = tail(1) && !(first == 0xf0 && second < 0x90) &&
                 !(first == 0xf4 && second > 0x8f);
    return legal && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

} // namespace

Expected<JsonValue> moe::io::parseJson(std::string_view text) {
  // The parser would take a NUL byte for the end of the text.
  size_t nul = text.find('\0');
  if (nul != std::string_view::npos)
    return Error{"invalid JSON at byte " + std::to_string(nul)};
  Builder builder;
  if (!nlohmann::json::sax_parse(text.data(), text.data() + text.size(),
                                 &builder))
    return Error{builder.error};
  return std::move(builder.root);
}

bool moe::io::isValidUtf8(std::string_view text) {
  while (!text.empty()) {
    size_t length = sequenceLength(text);
    if (!length)
      return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string moe::io::quoteJson(std::string_view text) {
  std::string result = "\"";
  while (!text.empty()) {
    size_t length = sequenceLength(text);
    unsigned char c = text[0];
    if (!length) {
      result += "\xef\xbf\xbd";
    } else if (c == '"' || c == '\\') {
      result += {'\\', char(c)};
    } else if (c < 0x20 || c == 0x7f) {
      const char *digits = "0123456789abcdef";
      result += {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
    } else {
      result += text.substr(0, length);
    }
    text.remove_prefix(length ? length : 1);
  }
  return result + '"';
}
