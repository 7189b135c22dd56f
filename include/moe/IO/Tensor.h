//===- Tensor.h - An owned or mapped compact tensor -------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_IO_TENSOR_H
#define MOE_IO_TENSOR_H

#include "moe/IO/DType.h"
#include "moe/IO/Expected.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace moe::io {

using Shape = std::vector<int64_t>;

/// "[2, 3]".
std::string shapeText(const Shape &shape);

/// The product of the sizes; nothing where a size is negative or the product
/// of the non-zero sizes overflows (so that any partial product is safe).
std::optional<int64_t> countElements(const Shape &shape);

/// The same in bytes.
std::optional<int64_t> countBytes(moe_dtype dtype, const Shape &shape);

/// A compact row-major tensor that keeps its storage alive: memory of its own
/// or a mapped file. Copies share the storage.
class Tensor {
public:
  Tensor() = default;

  /// Zeroed memory aligned to 64 bytes. Fails, rather than being killed later,
  /// where the machine's memory cannot hold it; `what` begins the message.
  static Expected<Tensor> allocate(moe_dtype dtype, Shape shape,
                                   const std::string &what);

  /// A view of read-only bytes that `owner` keeps alive. The bytes must be
  /// there and aligned to the element.
  static Tensor view(moe_dtype dtype, Shape shape, const void *data,
                     std::shared_ptr<const void> owner);

  moe_dtype dtype() const { return type; }
  const Shape &shape() const { return sizes; }
  int64_t numElements() const { return elements; }
  int64_t numBytes() const { return elements * int64_t(elementBytes(type)); }
  const void *data() const { return bytes; }
  template <typename T> const T *as() const {
    return static_cast<const T *>(bytes);
  }

  /// Only on what `allocate` returned.
  template <typename T> T *mutableAs() {
    assert(writable && "a mapped tensor is read-only");
    return static_cast<T *>(const_cast<void *>(bytes));
  }

  /// A tensor of bytes that lie in a file: a view, or a copy where they are not
  /// aligned to the element. Refuses bool bytes other than 0 and 1, which
  /// compiled code may not see.
  static Expected<Tensor> fromFile(moe_dtype dtype, Shape shape,
                                   const void *data,
                                   std::shared_ptr<const void> owner,
                                   const std::string &what);

  /// The same elements under another shape of equal size.
  Tensor reshaped(Shape shape) const;

  /// A copy in memory of its own.
  Expected<Tensor> clone(const std::string &what) const;

  /// A view for the runtime; it lives as long as this object.
  moe_tensor view();

private:
  moe_dtype type = kF32;
  bool writable = false;
  int64_t elements = 0;
  Shape sizes;
  const void *bytes = nullptr;
  std::shared_ptr<const void> owner;
};

/// f32 values of a bf16 or f16 tensor, exact.
Expected<Tensor> widenToF32(const Tensor &tensor, const std::string &what);

/// f32 values rounded to bf16 or f16, to nearest and ties to even.
Expected<Tensor> roundFromF32(const Tensor &tensor, moe_dtype dtype,
                              const std::string &what);

} // namespace moe::io

#endif // MOE_IO_TENSOR_H
