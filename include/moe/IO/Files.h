//===- Files.h - Mapped reading, all-or-nothing writing ---------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_IO_FILES_H
#define MOE_IO_FILES_H

#include "moe/IO/Expected.h"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moe::io {

/// A regular file mapped read-only. The size is that at the time of opening; a
/// file must not be truncated by somebody else while it is mapped (writing by
/// rename, as writeFiles does, is safe).
class MappedFile {
public:
  /// Refuses what is empty or not a regular file; never blocks on a pipe.
  static Expected<std::shared_ptr<const MappedFile>>
  open(const std::string &path);
  ~MappedFile();
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;

  std::string_view bytes() const { return {base, length}; }

private:
  MappedFile(const char *base, size_t length) : base(base), length(length) {}
  const char *base;
  size_t length;
};

/// A file to write: `head`, then the chunks, which somebody else keeps alive.
struct OutputFile {
  std::string path;
  std::string head;
  std::vector<std::string_view> chunks;
};

/// Finds out early, without touching the file, why `path` cannot be written.
Status checkWritable(const std::string &path);

/// Writes each file whole under a temporary name in its folder, then renames
/// them all. Until every file is complete, no target has changed.
Status writeFiles(const std::vector<OutputFile> &files);

} // namespace moe::io

#endif // MOE_IO_FILES_H
