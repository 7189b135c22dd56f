//===- TensorPath.cpp - Tensors named on a command line -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/TensorPath.h"
#include "moe/IO/Json.h"
#include "moe/IO/Npy.h"
#include "moe/IO/Safetensors.h"

#include <algorithm>
#include <map>

using namespace moe::io;

static bool endsWith(std::string_view text, std::string_view tail) {
  return text.size() >= tail.size() &&
         text.substr(text.size() - tail.size()) == tail;
}

Expected<TensorPath> moe::io::parseTensorPath(std::string_view text) {
  TensorPath path;
  // Folders and tensors may have '#' in their names, hence the ending as well.
  for (std::string_view ending : {".safetensors#", ".json#"}) {
    size_t at = text.find(ending);
    if (at == std::string_view::npos)
      continue;
    size_t split = at + ending.size() - 1;
    path.format = ending == ".json#" ? TensorPath::Format::SafetensorsIndex
                                     : TensorPath::Format::Safetensors;
    path.file = text.substr(0, split);
    path.name = text.substr(split + 1);
    if (path.name.empty())
      return Error{"'" + std::string(text) + "': no tensor name after '#'"};
    return path;
  }
  if (endsWith(text, ".npy")) {
    path.format = TensorPath::Format::Npy;
    path.file = text;
    return path;
  }
  if (endsWith(text, ".safetensors") || endsWith(text, ".json"))
    return Error{"'" + std::string(text) +
                 "': name the tensor, as in FILE.safetensors#NAME"};
  return Error{"'" + std::string(text) +
               "' is neither FILE.npy nor FILE.safetensors#NAME nor "
               "FILE.safetensors.index.json#NAME"};
}

Expected<LoadedTensor> moe::io::loadTensor(const TensorPath &path) {
  if (path.format == TensorPath::Format::Npy) {
    Expected<Tensor> tensor = readNpy(path.file);
    if (!tensor)
      return tensor.error();
    return LoadedTensor{std::move(*tensor), std::nullopt};
  }
  std::string from = path.file;
  if (path.format == TensorPath::Format::SafetensorsIndex) {
    Expected<SafetensorsIndex> index = SafetensorsIndex::open(path.file);
    if (!index)
      return index.error();
    Expected<std::string> shard = index->fileOf(path.name);
    if (!shard)
      return shard.error();
    from = *shard;
  }
  Expected<SafetensorsFile> file = SafetensorsFile::open(from);
  Expected<Tensor> tensor =
      file ? file->load(path.name) : Expected<Tensor>(file.error());
  if (!tensor)
    return from == path.file ? tensor.error()
                             : Error{path.file + ": " + tensor.message()};
  return LoadedTensor{std::move(*tensor), file->metadata(layoutKey(path.name))};
}

static TensorListing listingOf(const SafetensorsFile::Entry &entry,
                               const std::string &file) {
  return {entry.name, entry.dtype->name, entry.shape, file};
}

static Expected<std::vector<TensorListing>> listIndex(const std::string &path) {
  Expected<SafetensorsIndex> index = SafetensorsIndex::open(path);
  if (!index)
    return index.error();
  std::map<std::string, std::map<std::string, TensorListing>> shards;
  std::vector<TensorListing> result;
  for (const auto &[name, shard] : index->entries()) {
    auto [at, isNew] = shards.try_emplace(shard);
    if (isNew) {
      Expected<SafetensorsFile> file = SafetensorsFile::open(shard);
      if (!file)
        return Error{path + ": " + file.message()};
      for (const SafetensorsFile::Entry &entry : file->entries())
        at->second.emplace(entry.name, listingOf(entry, shard));
    }
    auto found = at->second.find(name);
    if (found == at->second.end())
      return Error{path + ": " + shard + ": no tensor " + quoteJson(name)};
    result.push_back(found->second);
  }
  return result;
}

Expected<std::vector<TensorListing>>
moe::io::listTensors(const std::string &file) {
  std::vector<TensorListing> result;
  if (endsWith(file, ".npy")) {
    Expected<Tensor> tensor = readNpy(file);
    if (!tensor)
      return tensor.error();
    result.push_back({"", dtypeName(tensor->dtype()), tensor->shape(), file});
    return result;
  }
  if (endsWith(file, ".json"))
    return listIndex(file);
  if (!endsWith(file, ".safetensors"))
    return Error{file + ": is neither .npy nor .safetensors nor "
                        ".safetensors.index.json"};
  Expected<SafetensorsFile> opened = SafetensorsFile::open(file);
  if (!opened)
    return opened.error();
  for (const SafetensorsFile::Entry &entry : opened->entries())
    result.push_back(listingOf(entry, file));
  return result;
}

//===----------------------------------------------------------------------===//
// Suggestions
//===----------------------------------------------------------------------===//

/// The edit distance of two names.
static size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::string moe::io::suggestNames(std::string_view name,
                                  const std::vector<std::string> &known,
                                  const char *intro) {
  constexpr size_t kMost = 3, kMostListed = 8, kLongest = 256;
  if (known.empty())
    return std::string("; ") + intro + "none";
  std::vector<std::pair<size_t, std::string_view>> near;
  // The comparison takes time by the square of the length.
  for (const std::string &candidate : known)
    if (name.size() <= kLongest && candidate.size() <= kLongest)
      if (size_t d = distance(name, candidate);
          d <= std::max(name.size(), candidate.size()) / 3)
        near.emplace_back(d, candidate);
  std::sort(near.begin(), near.end());
  std::string text =
      std::string("; ") + (near.empty() ? intro : "did you mean ");
  size_t count = near.empty() ? std::min(known.size(), kMostListed)
                              : std::min(near.size(), kMost);
  for (size_t i = 0; i < count; ++i)
    text +=
        (i ? ", " : "") +
        quoteJson(near.empty() ? std::string_view(known[i]) : near[i].second);
  if (near.empty() && known.size() > kMostListed)
    text += " and " + std::to_string(known.size() - kMostListed) + " more";
  return text + (near.empty() ? "" : "?");
}
