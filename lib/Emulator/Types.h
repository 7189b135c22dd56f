//===- Types.h - Types of PTX -----------------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_TYPES_H
#define MOE_LIB_EMULATOR_TYPES_H

#include <cstdint>
#include <optional>
#include <string_view>

namespace moe::emulator {

enum class Type : uint8_t {
  None,
  Pred,
  B8,
  B16,
  B32,
  B64,
  B128,
  U8,
  U16,
  U32,
  U64,
  S8,
  S16,
  S32,
  S64,
  F16,
  F16x2,
  BF16,
  BF16x2,
  TF32,
  F32,
  F64,
};

struct TypeInfo {
  const char *name;
  unsigned bits;
  enum Kind : uint8_t { Nothing, Bits, Unsigned, Signed, Float } kind;
};

const TypeInfo &typeInfo(Type type);
inline unsigned typeBits(Type type) { return typeInfo(type).bits; }
inline unsigned typeBytes(Type type) { return (typeBits(type) + 7) / 8; }
inline bool isSigned(Type type) {
  return typeInfo(type).kind == TypeInfo::Signed;
}
inline bool isFloat(Type type) {
  return typeInfo(type).kind == TypeInfo::Float;
}
/// Of "u32", without the dot.
std::optional<Type> parseType(std::string_view name);

enum class Space : uint8_t {
  Generic,
  Global,
  Const,
  Shared,
  Local,
  Param, ///< Of a kernel; those of functions are local.
};

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_TYPES_H
