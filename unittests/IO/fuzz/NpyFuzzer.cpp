//===- NpyFuzzer.cpp - Random bytes as a .npy file ------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/Npy.h"

#include <cstdlib>

using namespace moe::io;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  auto owner = std::make_shared<const std::string>(
      reinterpret_cast<const char *>(data), size);
  Expected<Tensor> tensor = parseNpy(*owner, "fuzz.npy", owner);
  if (!tensor)
    return tensor.message().find("fuzz.npy: ") == 0 ? 0 : (std::abort(), 0);
  // Every byte must be readable, and what is written must read the same.
  Expected<Tensor> copy = tensor->clone("copy");
  Expected<OutputFile> file = npyFile("copy.npy", *tensor);
  if (!copy || !file)
    std::abort();
  std::string bytes = file->head + std::string(file->chunks[0]);
  Expected<Tensor> again = parseNpy(bytes, "copy.npy", nullptr);
  if (!again || again->shape() != tensor->shape())
    std::abort();
  return 0;
}
