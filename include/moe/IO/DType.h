//===- DType.h - Element types of files and tensors -------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The names and sizes of element types, and the 16-bit float conversions.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_IO_DTYPE_H
#define MOE_IO_DTYPE_H

#include "moe/Runtime/moe_rt.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moe::io {

inline constexpr moe_dtype kI8{0, 8, 1};
inline constexpr moe_dtype kI16{0, 16, 1};
inline constexpr moe_dtype kI32{0, 32, 1};
inline constexpr moe_dtype kI64{0, 64, 1};
inline constexpr moe_dtype kU8{1, 8, 1};
inline constexpr moe_dtype kU16{1, 16, 1};
inline constexpr moe_dtype kU32{1, 32, 1};
inline constexpr moe_dtype kU64{1, 64, 1};
inline constexpr moe_dtype kF16{2, 16, 1};
inline constexpr moe_dtype kF32{2, 32, 1};
inline constexpr moe_dtype kF64{2, 64, 1};
inline constexpr moe_dtype kBF16{4, 16, 1};
inline constexpr moe_dtype kBool{6, 8, 1};

/// One element type as the project and each file format names it.
struct DTypeInfo {
  const char *name;        ///< As in IR, such as "bf16".
  const char *safetensors; ///< Such as "BF16".
  const char *npy;         ///< Such as "<f4"; null where NumPy has none.
  moe_dtype dtype;         ///< bits is the size of an element in a file.
  bool loadable; ///< False: sizes are known and listed, data is not read.
};

/// Null where the type is unknown.
const DTypeInfo *findDType(moe_dtype dtype);
const DTypeInfo *findSafetensorsDType(std::string_view name);
const DTypeInfo *findNpyDType(std::string_view descr);

inline bool sameDType(moe_dtype a, moe_dtype b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

/// Bytes of one element in memory.
inline size_t elementBytes(moe_dtype dtype) {
  return (size_t(dtype.bits) * dtype.lanes + 7) / 8;
}

/// "f32", or the codes where the type has no name here.
std::string dtypeName(moe_dtype dtype);

/// Exact.
float bf16ToF32(uint16_t bits);
float f16ToF32(uint16_t bits);

/// Round to nearest, ties to even; overflow is infinity; NaN stays a (quiet)
/// NaN.
uint16_t f32ToBF16(float value);
uint16_t f32ToF16(float value);

} // namespace moe::io

#endif // MOE_IO_DTYPE_H
