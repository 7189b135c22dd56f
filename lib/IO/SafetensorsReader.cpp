//===- SafetensorsReader.cpp - Reading safetensors files ------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/Json.h"
#include "moe/IO/Safetensors.h"
#include "moe/IO/TensorPath.h"

#include <algorithm>
#include <cstring>
#include <tuple>

using namespace moe::io;

namespace {

using Entry = SafetensorsFile::Entry;
using Kind = JsonValue::Kind;

constexpr uint64_t kMaxHeader = 100000000;
constexpr uint64_t kLengthBytes = 8;

/// The JSON text of the header, after the checks of its length.
Expected<std::string_view> headerText(std::string_view bytes) {
  if (bytes.size() < kLengthBytes)
    return Error{"truncated: " + std::to_string(bytes.size()) +
                 " bytes are too few for a safetensors file"};
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i)
    length |= uint64_t(uint8_t(bytes[i])) << (8 * i);
  if (length > kMaxHeader)
    return Error{"header length " + std::to_string(length) +
                 " is over the limit of 100000000 bytes"};
  if (length > bytes.size() - kLengthBytes)
    return Error{"truncated: the header of " + std::to_string(length) +
                 " bytes ends past the file"};
  std::string_view text = bytes.substr(kLengthBytes, length);
  if (text.empty() || text[0] != '{')
    return Error{"header does not begin with '{'"};
  return text;
}

Status readShape(const JsonValue &value, Shape &shape) {
  if (!value.is(Kind::Array))
    return Error{"'shape' is not a list"};
  for (const JsonValue &size : value.elements) {
    if (!size.is(Kind::Unsigned) || size.number > uint64_t(INT64_MAX))
      return Error{"'shape' holds something other than sizes"};
    shape.push_back(int64_t(size.number));
  }
  return Success();
}

/// One tensor of the header, all of it checked but its neighbours.
Expected<Entry> readEntry(const std::string &name, const JsonValue &value,
                          uint64_t dataBytes) {
  if (!value.is(Kind::Object))
    return Error{"is not described by an object"};
  const JsonValue *dtype = value.find("dtype"), *shape = value.find("shape"),
                  *offsets = value.find("data_offsets");
  if (!dtype || !shape || !offsets)
    return Error{std::string("lacks '") +
                 (!dtype   ? "dtype"
                  : !shape ? "shape"
                           : "data_offsets") +
                 "'"};
  Entry entry;
  entry.name = name;
  if (!dtype->is(Kind::String))
    return Error{"'dtype' is not a string"};
  entry.dtype = findSafetensorsDType(dtype->string);
  if (!entry.dtype)
    return Error{"has the unknown dtype " + quoteJson(dtype->string)};
  if (Status status = readShape(*shape, entry.shape); !status)
    return status.error();
  if (!offsets->is(Kind::Array) || offsets->elements.size() != 2 ||
      !offsets->elements[0].is(Kind::Unsigned) ||
      !offsets->elements[1].is(Kind::Unsigned))
    return Error{"'data_offsets' is not a pair of offsets"};
  entry.begin = offsets->elements[0].number;
  entry.end = offsets->elements[1].number;
  std::string range = "data_offsets [" + std::to_string(entry.begin) + ", " +
                      std::to_string(entry.end) + "]";
  if (entry.begin > entry.end)
    return Error{range + " end before they begin"};
  if (entry.end > dataBytes)
    return Error{"truncated: " + range + " end past the " +
                 std::to_string(dataBytes) + " bytes of data"};

  std::optional<int64_t> elements = countElements(entry.shape);
  int64_t bits;
  if (!elements || __builtin_mul_overflow(
                       *elements, int64_t(entry.dtype->dtype.bits), &bits))
    return Error{"the shape " + shapeText(entry.shape) + " overflows"};
  std::string type =
      std::string(entry.dtype->name) + " " + shapeText(entry.shape);
  if (bits % 8 != 0)
    return Error{type + " does not fill whole bytes"};
  if (uint64_t(bits / 8) != entry.end - entry.begin)
    return Error{type + " needs " + std::to_string(bits / 8) + " bytes, but " +
                 range + " hold " + std::to_string(entry.end - entry.begin)};
  return entry;
}

/// The tensors must cover the data exactly; sorts them by their data.
Status checkCover(std::vector<Entry> &tensors, uint64_t dataBytes) {
  std::sort(tensors.begin(), tensors.end(), [](const Entry &a, const Entry &b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  uint64_t covered = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Entry &entry = tensors[i];
    if (entry.begin < covered)
      return Error{"tensor " + quoteJson(entry.name) + " overlaps tensor " +
                   quoteJson(tensors[i - 1].name)};
    if (entry.begin > covered)
      return Error{"tensor " + quoteJson(entry.name) + " begins at byte " +
                   std::to_string(entry.begin) + ", which leaves a hole of " +
                   std::to_string(entry.begin - covered) + " bytes"};
    covered = entry.end;
  }
  if (covered != dataBytes)
    return Error{"the last " + std::to_string(dataBytes - covered) +
                 " bytes belong to no tensor"};
  return Success();
}

} // namespace

std::string moe::io::layoutKey(std::string_view tensorName) {
  return "moe.layout." + std::string(tensorName);
}

//===----------------------------------------------------------------------===//
// One file
//===----------------------------------------------------------------------===//

Expected<SafetensorsFile>
SafetensorsFile::parse(std::string_view bytes, const std::string &path,
                       std::shared_ptr<const void> owner) {
  auto fail = [&](const std::string &what) {
    return Error{path + ": " + what};
  };
  Expected<std::string_view> text = headerText(bytes);
  if (!text)
    return fail(text.message());
  Expected<JsonValue> root = parseJson(*text);
  if (!root)
    return fail("header: " + root.message());

  SafetensorsFile file;
  file.path = path;
  file.data = bytes.substr(kLengthBytes + text->size());
  file.owner = std::move(owner);
  for (const auto &[name, value] : root->members) {
    if (name == "__metadata__") {
      if (!value.is(Kind::Object))
        return fail("header: __metadata__ is not an object");
      for (const auto &[key, item] : value.members) {
        if (!item.is(Kind::String))
          return fail("header: __metadata__ " + quoteJson(key) +
                      " is not a string");
        file.info.emplace(key, item.string);
      }
      continue;
    }
    Expected<Entry> entry = readEntry(name, value, file.data.size());
    if (!entry)
      return fail("tensor " + quoteJson(name) + ": " + entry.message());
    file.tensors.push_back(std::move(*entry));
  }
  if (Status status = checkCover(file.tensors, file.data.size()); !status)
    return fail(status.message());
  for (size_t i = 0; i < file.tensors.size(); ++i)
    file.byName.emplace(file.tensors[i].name, i);
  return file;
}

Expected<SafetensorsFile> SafetensorsFile::open(const std::string &path) {
  auto file = MappedFile::open(path);
  if (!file)
    return file.error();
  return parse((*file)->bytes(), path, *file);
}

std::optional<std::string>
SafetensorsFile::metadata(const std::string &key) const {
  auto found = info.find(key);
  if (found == info.end())
    return std::nullopt;
  return found->second;
}

Expected<Tensor> SafetensorsFile::load(const std::string &name) const {
  std::string what = path + ": tensor " + quoteJson(name);
  auto found = byName.find(name);
  if (found == byName.end()) {
    std::vector<std::string> known;
    for (const Entry &entry : tensors)
      known.push_back(entry.name);
    return Error{path + ": no tensor " + quoteJson(name) +
                 suggestNames(name, known)};
  }
  const Entry &entry = tensors[found->second];
  if (!entry.dtype->loadable)
    return Error{what + ": dtype " + entry.dtype->safetensors +
                 " is not supported"};
  return Tensor::fromFile(entry.dtype->dtype, entry.shape,
                          data.data() + entry.begin, owner, what);
}

//===----------------------------------------------------------------------===//
// The index of a sharded checkpoint
//===----------------------------------------------------------------------===//

/// A path below the index's folder, by its text alone: a shard may well be a
/// symbolic link of a download cache.
static bool isBelow(std::string_view file) {
  if (file.empty() || file[0] == '/' || file.find('\0') != file.npos)
    return false;
  while (!file.empty()) {
    size_t slash = std::min(file.find('/'), file.size());
    if (file.substr(0, slash) == "..")
      return false;
    file.remove_prefix(std::min(slash + 1, file.size()));
  }
  return true;
}

Expected<SafetensorsIndex> SafetensorsIndex::parse(std::string_view text,
                                                   const std::string &path) {
  auto fail = [&](const std::string &what) {
    return Error{path + ": " + what};
  };
  if (text.size() > kMaxHeader)
    return fail("index is over the limit of 100000000 bytes");
  Expected<JsonValue> root = parseJson(text);
  if (!root)
    return fail(root.message());
  const JsonValue *map = root->find("weight_map");
  if (!map || !map->is(Kind::Object))
    return fail("is not a safetensors index (no object 'weight_map')");
  SafetensorsIndex index;
  index.path = path;
  size_t slash = path.rfind('/');
  std::string folder =
      slash == std::string::npos ? "" : path.substr(0, slash + 1);
  for (const auto &[name, file] : map->members) {
    if (!file.is(Kind::String))
      return fail("weight_map " + quoteJson(name) + " is not a file name");
    if (!isBelow(file.string))
      return fail("weight_map " + quoteJson(name) + " names " +
                  quoteJson(file.string) +
                  ", which is not a path below the index's folder");
    index.files.emplace_back(name, folder + file.string);
  }
  return index;
}

Expected<SafetensorsIndex> SafetensorsIndex::open(const std::string &path) {
  auto file = MappedFile::open(path);
  if (!file)
    return file.error();
  return parse((*file)->bytes(), path);
}

Expected<std::string> SafetensorsIndex::fileOf(const std::string &name) const {
  std::vector<std::string> known;
  for (const auto &[entry, file] : files) {
    if (entry == name)
      return file;
    known.push_back(entry);
  }
  return Error{path + ": no tensor " + quoteJson(name) +
               suggestNames(name, known)};
}
