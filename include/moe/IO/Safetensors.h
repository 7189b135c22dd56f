//===- Safetensors.h - Safetensors files and their index --------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The reader holds a file to the published format: header of at most 100 MB,
// no duplicate names, and tensors that cover the data without holes and
// without overlap. Sub-byte and 8-bit float types are listed but not loaded.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_IO_SAFETENSORS_H
#define MOE_IO_SAFETENSORS_H

#include "moe/IO/Files.h"
#include "moe/IO/Tensor.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace moe::io {

/// The key of `__metadata__` that states the layout of a tensor.
std::string layoutKey(std::string_view tensorName);

class SafetensorsFile {
public:
  struct Entry {
    std::string name;
    const DTypeInfo *dtype;
    Shape shape;
    uint64_t begin, end; ///< Bytes, counted from the end of the header.
  };

  static Expected<SafetensorsFile> open(const std::string &path);

  /// The same on bytes that `owner` keeps alive; `path` is for messages.
  static Expected<SafetensorsFile> parse(std::string_view bytes,
                                         const std::string &path,
                                         std::shared_ptr<const void> owner);

  /// In the order of the data.
  const std::vector<Entry> &entries() const { return tensors; }

  /// The text under `key` of `__metadata__`.
  std::optional<std::string> metadata(const std::string &key) const;

  /// A view of the mapped data. The format does not align it: data that is not
  /// aligned to its element is copied instead of refused, since files written
  /// by others are legal so.
  Expected<Tensor> load(const std::string &name) const;

private:
  std::string path;
  std::string_view data;
  std::shared_ptr<const void> owner;
  std::vector<Entry> tensors;
  std::unordered_map<std::string, size_t> byName;
  std::unordered_map<std::string, std::string> info;
};

/// `model.safetensors.index.json`: which file of its folder holds a tensor.
class SafetensorsIndex {
public:
  static Expected<SafetensorsIndex> open(const std::string &path);
  static Expected<SafetensorsIndex> parse(std::string_view text,
                                          const std::string &path);

  /// Names and file paths, in the order of the index.
  const std::vector<std::pair<std::string, std::string>> &entries() const {
    return files;
  }

  /// The path of the file that holds `name`.
  Expected<std::string> fileOf(const std::string &name) const;

private:
  std::string path;
  std::vector<std::pair<std::string, std::string>> files;
};

/// A tensor to store under a name.
struct NamedTensor {
  std::string name;
  const Tensor *tensor; ///< Must outlive the writing.
};

/// The file that holds `tensors`; each is aligned to its element and the first
/// to 64 bytes.
Expected<OutputFile> safetensorsFile(
    const std::string &path, std::vector<NamedTensor> tensors,
    const std::vector<std::pair<std::string, std::string>> &metadata);

} // namespace moe::io

#endif // MOE_IO_SAFETENSORS_H
