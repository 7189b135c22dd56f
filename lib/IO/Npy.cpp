//===- Npy.cpp - NumPy array files ----------------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/Npy.h"

#include <charconv>
#include <cstring>

using namespace moe::io;

namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr size_t kAlign = 64;

/// Reads the header: a Python dictionary of exactly three known keys.
class HeaderParser {
public:
  explicit HeaderParser(std::string_view text) : rest(text) {}

  Status parse() {
    if (!take('{'))
      return Error{"header is not a dictionary"};
    while (!take('}')) {
      std::string_view key;
      if (!string(key) || !take(':'))
        return Error{"header is not a valid dictionary"};
      if (Status status = value(key); !status)
        return status;
      if (!take(',') && !peek('}'))
        return Error{"header is not a valid dictionary"};
    }
    skipSpace();
    if (!rest.empty())
      return Error{"header has text after its dictionary"};
    if (!haveDescr || !haveOrder || !haveShape)
      return Error{std::string("header lacks '") +
                   (!haveDescr   ? "descr"
                    : !haveOrder ? "fortran_order"
                                 : "shape") +
                   "'"};
    return Success();
  }

  std::string_view descr;
  bool fortranOrder = false;
  Shape shape;

private:
  std::string_view rest;
  bool haveDescr = false, haveOrder = false, haveShape = false;

  void skipSpace() {
    size_t n = rest.find_first_not_of(" \t\n\r");
    rest.remove_prefix(std::min(n, rest.size()));
  }
  bool peek(char c) {
    skipSpace();
    return !rest.empty() && rest[0] == c;
  }
  bool take(char c) {
    bool found = peek(c);
    rest.remove_prefix(found);
    return found;
  }
  bool word(std::string_view w) {
    skipSpace();
    bool found = rest.substr(0, w.size()) == w;
    rest.remove_prefix(found ? w.size() : 0);
    return found;
  }
  bool string(std::string_view &value) {
    skipSpace();
    if (rest.empty() || (rest[0] != '\'' && rest[0] != '"'))
      return false;
    size_t end = rest.find(rest[0], 1);
    if (end == std::string_view::npos)
      return false;
    value = rest.substr(1, end - 1);
    rest.remove_prefix(end + 1);
    return true;
  }

  static bool once(bool &have) { return !std::exchange(have, true); }

  Status value(std::string_view key) {
    if (key == "descr") {
      if (!once(haveDescr))
        return Error{"header gives 'descr' twice"};
      if (peek('['))
        return Error{"a structured dtype is not supported"};
      if (!string(descr))
        return Error{"'descr' is not a string"};
      return Success();
    }
    if (key == "fortran_order") {
      if (!once(haveOrder))
        return Error{"header gives 'fortran_order' twice"};
      fortranOrder = word("True");
      if (!fortranOrder && !word("False"))
        return Error{"'fortran_order' is neither True nor False"};
      return Success();
    }
    if (key == "shape") {
      if (!once(haveShape))
        return Error{"header gives 'shape' twice"};
      return tuple();
    }
    return Error{"header has the unknown key '" + std::string(key) + "'"};
  }

  Status tuple() {
    if (!take('('))
      return Error{"'shape' is not a tuple"};
    while (!take(')')) {
      skipSpace();
      int64_t size = 0;
      auto [end, code] =
          std::from_chars(rest.data(), rest.data() + rest.size(), size);
      if (code == std::errc::result_out_of_range)
        return Error{"a size in 'shape' does not fit in 64 bits"};
      if (code != std::errc())
        return Error{"'shape' is not a tuple of integers"};
      if (size < 0)
        return Error{"'shape' has the negative size " + std::to_string(size)};
      rest.remove_prefix(size_t(end - rest.data()));
      shape.push_back(size);
      if (!take(',') && (!peek(')') || shape.size() == 1))
        return Error{"'shape' is not a tuple of integers"};
    }
    return Success();
  }
};

Error unknownDType(std::string_view descr) {
  std::string text = "dtype '" + std::string(descr) + "' is not supported";
  if (!descr.empty() && descr[0] == '>')
    text += " (big-endian)";
  // What NumPy writes for the bfloat16 of an extension.
  if (descr == "|V2" || descr == "<V2")
    text += " (if it is bf16, store it as safetensors)";
  return Error{text};
}

} // namespace

Expected<Tensor> moe::io::parseNpy(std::string_view bytes,
                                   const std::string &path,
                                   std::shared_ptr<const void> owner) {
  auto fail = [&](const std::string &what) {
    return Error{path + ": " + what};
  };
  if (bytes.substr(0, kMagic.size()) != kMagic)
    return fail("is not a .npy file (no NumPy magic)");
  if (bytes.size() < 8)
    return fail("truncated: ends inside the .npy preamble");
  unsigned major = uint8_t(bytes[6]), minor = uint8_t(bytes[7]);
  if (major < 1 || major > 3 || minor != 0)
    return fail("has the unknown .npy version " + std::to_string(major) + "." +
                std::to_string(minor));
  size_t lengthBytes = major == 1 ? 2 : 4;
  if (bytes.size() < 8 + lengthBytes)
    return fail("truncated: ends inside the .npy preamble");
  uint64_t length = 0;
  for (size_t i = 0; i < lengthBytes; ++i)
    length |= uint64_t(uint8_t(bytes[8 + i])) << (8 * i);
  std::string_view rest = bytes.substr(8 + lengthBytes);
  if (length > rest.size())
    return fail("truncated: the header of " + std::to_string(length) +
                " bytes ends past the file");

  HeaderParser header(rest.substr(0, length));
  if (Status status = header.parse(); !status)
    return fail(status.message());
  const DTypeInfo *dtype = findNpyDType(header.descr);
  if (!dtype)
    return fail(unknownDType(header.descr).message);
  if (header.fortranOrder)
    return fail("is in Fortran order; save it with "
                "numpy.save(file, numpy.ascontiguousarray(array))");
  std::optional<int64_t> size = countBytes(dtype->dtype, header.shape);
  if (!size)
    return fail("the shape " + shapeText(header.shape) + " overflows");
  std::string_view data = rest.substr(length);
  if (uint64_t(*size) != data.size())
    return fail((data.size() < uint64_t(*size) ? "truncated: " : "") +
                std::string(dtype->name) + " " + shapeText(header.shape) +
                " needs " + std::to_string(*size) + " bytes of data, found " +
                std::to_string(data.size()));
  return Tensor::fromFile(dtype->dtype, std::move(header.shape), data.data(),
                          std::move(owner), path);
}

Expected<Tensor> moe::io::readNpy(const std::string &path) {
  auto file = MappedFile::open(path);
  if (!file)
    return file.error();
  return parseNpy((*file)->bytes(), path, *file);
}

Expected<OutputFile> moe::io::npyFile(const std::string &path,
                                      const Tensor &tensor) {
  const DTypeInfo *info = findDType(tensor.dtype());
  if (!info || !info->npy)
    return Error{path + ": .npy cannot hold " + dtypeName(tensor.dtype())};
  std::string shape = "(";
  for (int64_t size : tensor.shape())
    shape += std::to_string(size) + ",";
  std::string header = std::string("{'descr': '") + info->npy +
                       "', 'fortran_order': False, 'shape': " + shape + "), }";
  size_t unpadded = kMagic.size() + 4 + header.size() + 1;
  header.append((kAlign - unpadded % kAlign) % kAlign, ' ');
  header += '\n';
  assert(header.size() <= 0xffff && "more dimensions than a header holds");
  OutputFile file;
  file.path = path;
  file.head = std::string(kMagic) + '\1' + '\0' + char(header.size() & 0xff) +
              char(header.size() >> 8) + header;
  file.chunks = {{tensor.as<char>(), size_t(tensor.numBytes())}};
  return file;
}
