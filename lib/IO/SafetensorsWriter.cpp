//===- SafetensorsWriter.cpp - Writing safetensors files ------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/Json.h"
#include "moe/IO/Safetensors.h"

#include <algorithm>
#include <set>
#include <tuple>

using namespace moe::io;

/// Where the data begins; vector loads of a mapped file like it.
static constexpr size_t kAlign = 64;

static std::string describe(const NamedTensor &item, const DTypeInfo &dtype,
                            uint64_t begin) {
  std::string shape;
  for (int64_t size : item.tensor->shape())
    shape += (shape.empty() ? "" : ",") + std::to_string(size);
  return quoteJson(item.name) + ":{\"dtype\":\"" + dtype.safetensors +
         "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
         std::to_string(begin) + "," +
         std::to_string(begin + uint64_t(item.tensor->numBytes())) + "]}";
}

Expected<OutputFile> moe::io::safetensorsFile(
    const std::string &path, std::vector<NamedTensor> tensors,
    const std::vector<std::pair<std::string, std::string>> &metadata) {
  auto fail = [&](const std::string &name, const std::string &what) {
    return Error{path + ": tensor " + quoteJson(name) + ": " + what};
  };
  // Wide elements first, so that each tensor is aligned to its element.
  std::sort(tensors.begin(), tensors.end(),
            [](const NamedTensor &a, const NamedTensor &b) {
              size_t wideA = elementBytes(a.tensor->dtype());
              size_t wideB = elementBytes(b.tensor->dtype());
              return std::tie(wideB, a.name) < std::tie(wideA, b.name);
            });
  std::set<std::string> names;
  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (size_t i = 0; i < metadata.size(); ++i)
      header += (i ? "," : "") + quoteJson(metadata[i].first) + ":" +
                quoteJson(metadata[i].second);
    header += "}";
  }
  OutputFile file;
  file.path = path;
  uint64_t offset = 0;
  for (const NamedTensor &item : tensors) {
    const DTypeInfo *dtype = findDType(item.tensor->dtype());
    if (!dtype || !dtype->loadable)
      return fail(item.name,
                  "safetensors cannot hold " + dtypeName(item.tensor->dtype()));
    if (item.name.empty() || item.name == "__metadata__" ||
        !isValidUtf8(item.name))
      return fail(item.name, "is no name for a tensor");
    if (!names.insert(item.name).second)
      return fail(item.name, "is given twice");
    header += (header.size() > 1 ? "," : "") + describe(item, *dtype, offset);
    size_t bytes = size_t(item.tensor->numBytes());
    offset += bytes;
    file.chunks.push_back({item.tensor->as<char>(), bytes});
  }
  header += "}";
  header.append((kAlign - (8 + header.size()) % kAlign) % kAlign, ' ');
  for (unsigned i = 0; i < 8; ++i)
    file.head += char(uint64_t(header.size()) >> (8 * i) & 0xff);
  file.head += header;
  return file;
}
