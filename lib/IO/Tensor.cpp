//===- Tensor.cpp - An owned or mapped compact tensor ---------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/Tensor.h"

#include <cstdlib>
#include <cstring>
#include <unistd.h>

using namespace moe::io;

// Files are little-endian and mapped as they are.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "big-endian machines are not supported");

std::string moe::io::shapeText(const Shape &shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::optional<int64_t> moe::io::countElements(const Shape &shape) {
  int64_t product = 1;
  bool empty = false;
  for (int64_t size : shape) {
    if (size < 0)
      return std::nullopt;
    empty |= size == 0;
    if (size && __builtin_mul_overflow(product, size, &product))
      return std::nullopt;
  }
  return empty ? 0 : product;
}

std::optional<int64_t> moe::io::countBytes(moe_dtype dtype,
                                           const Shape &shape) {
  std::optional<int64_t> elements = countElements(shape);
  int64_t bytes;
  if (!elements ||
      __builtin_mul_overflow(*elements, int64_t(elementBytes(dtype)), &bytes))
    return std::nullopt;
  return bytes;
}

Expected<Tensor> Tensor::allocate(moe_dtype dtype, Shape shape,
                                  const std::string &what) {
  std::optional<int64_t> size = countBytes(dtype, shape);
  if (!size)
    return Error{what + ": the shape " + shapeText(shape) +
                 " is negative or overflows"};
  constexpr uint64_t kAlign = 64;
  uint64_t rounded = (uint64_t(*size) + kAlign) / kAlign * kAlign;
  // The kernel promises more than it has, so ask for the machine's size first.
  uint64_t memory =
      uint64_t(sysconf(_SC_PHYS_PAGES)) * uint64_t(sysconf(_SC_PAGESIZE));
  void *bytes =
      rounded <= memory ? std::aligned_alloc(kAlign, rounded) : nullptr;
  if (!bytes)
    return Error{what + ": out of memory for " + dtypeName(dtype) + " " +
                 shapeText(shape) + " (" + std::to_string(*size) + " bytes)"};
  std::memset(bytes, 0, rounded);
  Tensor tensor = view(dtype, std::move(shape), bytes,
                       std::shared_ptr<void>(bytes, std::free));
  tensor.writable = true;
  return tensor;
}

Tensor Tensor::view(moe_dtype dtype, Shape shape, const void *data,
                    std::shared_ptr<const void> owner) {
  Tensor tensor;
  tensor.type = dtype;
  std::optional<int64_t> elements = countElements(shape);
  assert(elements && "a view of a shape that overflows");
  tensor.elements = elements.value_or(0);
  tensor.sizes = std::move(shape);
  tensor.bytes = data;
  tensor.owner = std::move(owner);
  return tensor;
}

Expected<Tensor> Tensor::fromFile(moe_dtype dtype, Shape shape,
                                  const void *data,
                                  std::shared_ptr<const void> owner,
                                  const std::string &what) {
  std::optional<int64_t> size = countBytes(dtype, shape);
  assert(size && "the reader checks the shape against the data");
  if (sameDType(dtype, kBool))
    for (int64_t i = 0; i < *size; ++i)
      if (unsigned byte = static_cast<const uint8_t *>(data)[i]; byte > 1)
        return Error{what + ": element " + std::to_string(i) +
                     " holds the byte " + std::to_string(byte) +
                     ", which is no bool"};
  if (uintptr_t(data) % elementBytes(dtype) == 0)
    return view(dtype, std::move(shape), data, std::move(owner));
  Expected<Tensor> copy = allocate(dtype, std::move(shape), what);
  if (copy && *size)
    std::memcpy(copy->mutableAs<char>(), data, size_t(*size));
  return copy;
}

Tensor Tensor::reshaped(Shape shape) const {
  assert(countElements(shape) == elements && "another number of elements");
  Tensor tensor = *this;
  tensor.sizes = std::move(shape);
  return tensor;
}

Expected<Tensor> Tensor::clone(const std::string &what) const {
  Expected<Tensor> copy = allocate(type, sizes, what);
  if (copy && numBytes())
    std::memcpy(copy->mutableAs<char>(), bytes, size_t(numBytes()));
  return copy;
}

moe_tensor Tensor::view() {
  moe_tensor result = {};
  result.data = const_cast<void *>(bytes);
  result.device_type = 1;
  result.ndim = int32_t(sizes.size());
  result.dtype = type;
  result.shape = sizes.data();
  return result;
}

Expected<Tensor> moe::io::widenToF32(const Tensor &tensor,
                                     const std::string &what) {
  bool bf16 = sameDType(tensor.dtype(), kBF16);
  assert((bf16 || sameDType(tensor.dtype(), kF16)) && "not a 16-bit float");
  Expected<Tensor> result = Tensor::allocate(kF32, tensor.shape(), what);
  if (!result)
    return result;
  const uint16_t *from = tensor.as<uint16_t>();
  float *to = result->mutableAs<float>();
  for (int64_t i = 0, e = tensor.numElements(); i < e; ++i)
    to[i] = bf16 ? bf16ToF32(from[i]) : f16ToF32(from[i]);
  return result;
}

Expected<Tensor> moe::io::roundFromF32(const Tensor &tensor, moe_dtype dtype,
                                       const std::string &what) {
  bool bf16 = sameDType(dtype, kBF16);
  assert((bf16 || sameDType(dtype, kF16)) && "not a 16-bit float");
  Expected<Tensor> result = Tensor::allocate(dtype, tensor.shape(), what);
  if (!result)
    return result;
  const float *from = tensor.as<float>();
  uint16_t *to = result->mutableAs<uint16_t>();
  for (int64_t i = 0, e = tensor.numElements(); i < e; ++i)
    to[i] = bf16 ? f32ToBF16(from[i]) : f32ToF16(from[i]);
  return result;
}
