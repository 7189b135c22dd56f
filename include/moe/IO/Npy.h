//===- Npy.h - NumPy array files --------------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// `.npy` versions 1 to 3 in C order. Dtypes: f64 f32 f16 i64 i32 i16 i8 u64
// u32 u16 u8 bool, little-endian. bf16 has no code in this format.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_IO_NPY_H
#define MOE_IO_NPY_H

#include "moe/IO/Files.h"
#include "moe/IO/Tensor.h"

#include <memory>
#include <string>
#include <string_view>

namespace moe::io {

/// Maps a file; the data is copied only where it is not aligned to its element
/// (NumPy aligns to 16 or 64 bytes, so in practice never).
Expected<Tensor> readNpy(const std::string &path);

/// The same on bytes that `owner` keeps alive; `path` is for messages.
Expected<Tensor> parseNpy(std::string_view bytes, const std::string &path,
                          std::shared_ptr<const void> owner);

/// The file that holds `tensor`, which must outlive the writing.
Expected<OutputFile> npyFile(const std::string &path, const Tensor &tensor);

} // namespace moe::io

#endif // MOE_IO_NPY_H
