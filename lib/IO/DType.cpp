//===- DType.cpp - Element types of files and tensors ---------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/DType.h"

#include <cstring>

using namespace moe::io;

namespace {

// The codes of the 8-bit floats are DLPack's; the others have none that the
// runtime knows, so only their size matters here.
constexpr DTypeInfo kTypes[] = {
    {"bool", "BOOL", "|b1", kBool, true},
    {"i8", "I8", "|i1", kI8, true},
    {"i16", "I16", "<i2", kI16, true},
    {"i32", "I32", "<i4", kI32, true},
    {"i64", "I64", "<i8", kI64, true},
    {"ui8", "U8", "|u1", kU8, true},
    {"ui16", "U16", "<u2", kU16, true},
    {"ui32", "U32", "<u4", kU32, true},
    {"ui64", "U64", "<u8", kU64, true},
    {"f16", "F16", "<f2", kF16, true},
    {"bf16", "BF16", nullptr, kBF16, true},
    {"f32", "F32", "<f4", kF32, true},
    {"f64", "F64", "<f8", kF64, true},
    {"f4", "F4", nullptr, {17, 4, 1}, false},
    {"f6e2m3", "F6_E2M3", nullptr, {15, 6, 1}, false},
    {"f6e3m2", "F6_E3M2", nullptr, {16, 6, 1}, false},
    {"f8e5m2", "F8_E5M2", nullptr, {12, 8, 1}, false},
    {"f8e4m3", "F8_E4M3", nullptr, {10, 8, 1}, false},
    {"f8e8m0", "F8_E8M0", nullptr, {14, 8, 1}, false},
    {"f8e4m3fnuz", "F8_E4M3FNUZ", nullptr, {11, 8, 1}, false},
    {"f8e5m2fnuz", "F8_E5M2FNUZ", nullptr, {13, 8, 1}, false},
    {"c64", "C64", nullptr, {5, 64, 1}, false},
};

template <typename Pred> const DTypeInfo *findIf(Pred pred) {
  for (const DTypeInfo &info : kTypes)
    if (pred(info))
      return &info;
  return nullptr;
}

uint32_t bitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

float floatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

/// `value` without its `shift` low bits, rounded to nearest, ties to even.
uint32_t shiftRounding(uint32_t value, unsigned shift) {
  uint32_t half = uint32_t(1) << (shift - 1);
  uint32_t odd = (value >> shift) & 1;
  return (value + half - 1 + odd) >> shift;
}

} // namespace

const DTypeInfo *moe::io::findDType(moe_dtype dtype) {
  return findIf([&](const DTypeInfo &i) { return sameDType(i.dtype, dtype); });
}

const DTypeInfo *moe::io::findSafetensorsDType(std::string_view name) {
  return findIf([&](const DTypeInfo &i) { return name == i.safetensors; });
}

const DTypeInfo *moe::io::findNpyDType(std::string_view descr) {
  return findIf([&](const DTypeInfo &i) { return i.npy && descr == i.npy; });
}

std::string moe::io::dtypeName(moe_dtype dtype) {
  if (const DTypeInfo *info = findDType(dtype))
    return info->name;
  return "dtype(code " + std::to_string(dtype.code) + ", " +
         std::to_string(dtype.bits) + " bits, " + std::to_string(dtype.lanes) +
         " lanes)";
}

float moe::io::bf16ToF32(uint16_t bits) {
  return floatOf(uint32_t(bits) << 16);
}

float moe::io::f16ToF32(uint16_t bits) {
  uint32_t sign = uint32_t(bits & 0x8000) << 16;
  uint32_t exponent = (bits >> 10) & 0x1f;
  uint32_t fraction = bits & 0x3ff;
  if (exponent == 0x1f) // Infinity or NaN.
    return floatOf(sign | 0x7f800000 | fraction << 13);
  if (exponent == 0) // A multiple of 2^-24, exact in f32.
    return floatOf(sign | bitsOf(float(fraction) * 0x1p-24f));
  return floatOf(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t moe::io::f32ToBF16(float value) {
  uint32_t bits = bitsOf(value);
  if ((bits & 0x7fffffff) > 0x7f800000) // Rounding could turn it infinite.
    return uint16_t(bits >> 16 | 0x40);
  return uint16_t(shiftRounding(bits, 16));
}

uint16_t moe::io::f32ToF16(float value) {
  uint32_t bits = bitsOf(value);
  uint16_t sign = uint16_t(bits >> 16 & 0x8000);
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return uint16_t(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x477ff000) // 65520, halfway to the first overflow.
    return sign | 0x7c00;
  if (magnitude >= 0x38800000) // 2^-14, the smallest normal number.
    return uint16_t(sign | shiftRounding(magnitude - (112u << 23), 13));
  if (magnitude < 0x33000000) // Below 2^-25, half the smallest subnormal.
    return sign;
  uint32_t significand = (magnitude & 0x7fffff) | 0x800000;
  return uint16_t(sign | shiftRounding(significand, 126 - (magnitude >> 23)));
}
