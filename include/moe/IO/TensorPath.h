//===- TensorPath.h - Tensors named on a command line -----------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tensor path is `FILE.npy`, `FILE.safetensors#NAME` or
// `FILE.safetensors.index.json#NAME`.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_IO_TENSORPATH_H
#define MOE_IO_TENSORPATH_H

#include "moe/IO/Expected.h"
#include "moe/IO/Tensor.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moe::io {

struct TensorPath {
  enum class Format { Npy, Safetensors, SafetensorsIndex };
  Format format;
  std::string file;
  std::string name; ///< Empty for `.npy`.
};

Expected<TensorPath> parseTensorPath(std::string_view text);

struct LoadedTensor {
  Tensor tensor;
  /// What the file says about the layout, where it says anything.
  std::optional<std::string> layout;
};

Expected<LoadedTensor> loadTensor(const TensorPath &path);

/// One line of a listing.
struct TensorListing {
  std::string name;  ///< Empty for `.npy`.
  std::string dtype; ///< Such as "bf16".
  Shape shape;
  std::string file; ///< The file that holds the data.
};

/// Lists a `.npy`, a `.safetensors`, or every file of an index.
Expected<std::vector<TensorListing>> listTensors(const std::string &file);

/// The part of a message that helps with a name that does not exist: names
/// that look like it, or (after `intro`) the first few of all.
std::string suggestNames(std::string_view name,
                         const std::vector<std::string> &known,
                         const char *intro = "it holds ");

} // namespace moe::io

#endif // MOE_IO_TENSORPATH_H
