//===- lanes.h - Vectors of the peers ----------------------------*- C++
//-*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Sixteen tokens a vector, in the compiler's own vector types: they are made of
// whatever registers the machine has.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_BENCHMARKS_PEERS_LANES_H
#define MOE_BENCHMARKS_PEERS_LANES_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

constexpr int kLanes = 16;
using Lanes = float __attribute__((ext_vector_type(kLanes)));

inline Lanes load(const float *from) {
  Lanes value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
inline void store(Lanes value, float *to) {
  std::memcpy(to, &value, sizeof value);
}

/// Cephes' polynomial, as most vector libraries have it.
inline Lanes expOf(Lanes x) {
  x = __builtin_elementwise_max(__builtin_elementwise_min(x, Lanes(88.0f)),
                                Lanes(-87.0f));
  Lanes n = __builtin_elementwise_roundeven(x * 1.44269504f);
  Lanes r = __builtin_elementwise_fma(n, Lanes(-0.693359375f), x);
  r = __builtin_elementwise_fma(n, Lanes(2.12194440e-4f), r);
  Lanes p = 1.9875691500e-4f;
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                  1.6666665459e-1f, 0.5f})
    p = __builtin_elementwise_fma(p, r, Lanes(c));
  p = __builtin_elementwise_fma(p, r * r, r + 1.0f);
  using Bits = int32_t __attribute__((ext_vector_type(kLanes)));
  Bits exponent = (__builtin_convertvector(n, Bits) + 127) << 23;
  Lanes scale;
  std::memcpy(&scale, &exponent, sizeof scale);
  return p * scale;
}

/// Rows and columns of a square block, by four rounds of interleaving.
inline void transpose(Lanes (&rows)[kLanes]) {
  Lanes other[kLanes];
  auto round = [](Lanes(&from)[kLanes], Lanes(&to)[kLanes]) {
    for (int i = 0; i < kLanes / 2; ++i) {
      to[2 * i] =
          __builtin_shufflevector(from[i], from[i + 8], 0, 16, 1, 17, 2, 18, 3,
                                  19, 4, 20, 5, 21, 6, 22, 7, 23);
      to[2 * i + 1] =
          __builtin_shufflevector(from[i], from[i + 8], 8, 24, 9, 25, 10, 26,
                                  11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
  };
  round(rows, other);
  round(other, rows);
  round(rows, other);
  round(other, rows);
}

inline void readBlock(const float *rows, int64_t width, float *lanes) {
  for (int64_t column = 0; column < width; column += kLanes) {
    Lanes block[kLanes];
    for (int row = 0; row < kLanes; ++row)
      block[row] = load(rows + row * width + column);
    transpose(block);
    for (int row = 0; row < kLanes; ++row)
      store(block[row], lanes + (column + row) * kLanes);
  }
}

inline void writeBlock(const float *lanes, int64_t width, float *rows) {
  for (int64_t column = 0; column < width; column += kLanes) {
    Lanes block[kLanes];
    for (int row = 0; row < kLanes; ++row)
      block[row] = load(lanes + (column + row) * kLanes);
    transpose(block);
    for (int row = 0; row < kLanes; ++row)
      store(block[row], rows + row * width + column);
  }
}

#endif // MOE_BENCHMARKS_PEERS_LANES_H
