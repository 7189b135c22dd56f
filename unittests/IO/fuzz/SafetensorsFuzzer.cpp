//===- SafetensorsFuzzer.cpp - Random bytes as safetensors ----------------===//
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
  auto owner = std::make_shared<const std::string>(
      reinterpret_cast<const char *>(data), size);
  Expected<SafetensorsFile> file =
      SafetensorsFile::parse(*owner, "fuzz.safetensors", owner);
  if (!file)
    return file.message().find("fuzz.safetensors: ") == 0 ? 0
                                                          : (std::abort(), 0);
  // Every byte of every tensor must be readable.
  for (const SafetensorsFile::Entry &entry : file->entries()) {
    Expected<Tensor> tensor = file->load(entry.name);
    if (tensor && !tensor->clone("copy"))
      std::abort();
  }
  return 0;
}
