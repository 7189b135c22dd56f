//===- IndexFuzzer.cpp - Random bytes as a safetensors index --------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/Safetensors.h"

#include <cstdlib>

using namespace moe::io;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view text(reinterpret_cast<const char *>(data), size);
  Expected<SafetensorsIndex> index = SafetensorsIndex::parse(text, "dir/index");
  if (!index)
    return 0;
  for (const auto &[name, file] : index->entries()) {
    Expected<std::string> found = index->fileOf(name);
    if (!found || found->compare(0, 4, "dir/") != 0)
      std::abort();
    std::string inside = "/" + *found + "/";
    if (inside.find("/../") != inside.npos)
      std::abort();
  }
  return 0;
}
