//===- Types.cpp - Types of PTX -------------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Types.h"

using namespace moe;
using namespace moe::emulator;

namespace {

constexpr TypeInfo kTypes[] = {
    {"none", 0, TypeInfo::Nothing},  {"pred", 1, TypeInfo::Bits},
    {"b8", 8, TypeInfo::Bits},       {"b16", 16, TypeInfo::Bits},
    {"b32", 32, TypeInfo::Bits},     {"b64", 64, TypeInfo::Bits},
    {"b128", 128, TypeInfo::Bits},   {"u8", 8, TypeInfo::Unsigned},
    {"u16", 16, TypeInfo::Unsigned}, {"u32", 32, TypeInfo::Unsigned},
    {"u64", 64, TypeInfo::Unsigned}, {"s8", 8, TypeInfo::Signed},
    {"s16", 16, TypeInfo::Signed},   {"s32", 32, TypeInfo::Signed},
    {"s64", 64, TypeInfo::Signed},   {"f16", 16, TypeInfo::Float},
    {"f16x2", 32, TypeInfo::Float},  {"bf16", 16, TypeInfo::Float},
    {"bf16x2", 32, TypeInfo::Float}, {"tf32", 32, TypeInfo::Float},
    {"f32", 32, TypeInfo::Float},    {"f64", 64, TypeInfo::Float},
};

} // namespace

const TypeInfo &emulator::typeInfo(Type type) { return kTypes[unsigned(type)]; }

std::optional<Type> emulator::parseType(std::string_view name) {
  for (unsigned i = 1; i <= unsigned(Type::F64); ++i)
    if (name == kTypes[i].name)
      return Type(i);
  return std::nullopt;
}
