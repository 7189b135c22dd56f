//===- Expected.h - A value or one message ----------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// How the plain C++ libraries report errors: by value, one message each, no
// exceptions.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_IO_EXPECTED_H
#define MOE_IO_EXPECTED_H

#include <cassert>
#include <string>
#include <utility>
#include <variant>

namespace moe::io {

/// What went wrong and where, in one message without a final newline.
struct Error {
  std::string message;
};

/// A value, or the error that kept it from existing.
template <typename T> class [[nodiscard]] Expected {
public:
  Expected(T value) : state(std::move(value)) {}
  Expected(Error error) : state(std::move(error)) {}

  explicit operator bool() const { return std::holds_alternative<T>(state); }

  T &operator*() {
    assert(*this && "no value");
    return *std::get_if<T>(&state);
  }
  const T &operator*() const {
    assert(*this && "no value");
    return *std::get_if<T>(&state);
  }
  T *operator->() { return &**this; }
  const T *operator->() const { return &**this; }

  /// The error; only where there is no value.
  const Error &error() const {
    assert(!*this && "no error");
    return *std::get_if<Error>(&state);
  }
  const std::string &message() const { return error().message; }

private:
  std::variant<T, Error> state;
};

struct Success {};

/// The result of a function that yields nothing but may fail.
using Status = Expected<Success>;

} // namespace moe::io

#endif // MOE_IO_EXPECTED_H
