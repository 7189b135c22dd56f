//===- KernelTest.cpp - Kernels compiled by nvcc --------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// The PTX beside each .cu is what nvcc made of it; where nvcc is found, it is
// made anew and run as well.

#include "Compile.h"
#include "Harness.h"
#include <cmath>
#include <numeric>

using namespace moe::emulator;
using namespace moe::emulator::test;

namespace {

class Basics : public KernelFile {
protected:
  const char *source() const override { return "basics"; }
};

TEST_P(Basics, Histogram) {
  const int n = 10000;
  std::vector<int> x(n), expected(32);
  for (int i = 0; i < n; ++i)
    ++expected[(x[i] = i * 7919 % 1013) & 31];
  Buffer<int> in(device, x), bins(device, std::vector<int>(32));
  for (uint64_t seed : {0, 1, 2}) {
    ASSERT_TRUE(bool(device.fill(bins.address, 0, 128)));
    run("histogram", {8}, {128},
        Arguments().add(in.address).add(n).add(bins.address), seed);
    EXPECT_EQ(bins.read(), expected);
  }
}

TEST_P(Basics, RowNorm) {
  const int rows = 5, columns = 333;
  std::vector<float> x(rows * columns);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = float(int(i * 37 % 101) - 50) / 16;
  Buffer<float> in(device, x), out(device, x.size());
  for (uint64_t seed : {0, 3, 4}) {
    run("rowNorm", {rows}, {128},
        Arguments().add(in.address).add(out.address).add(columns).add(1e-5f),
        seed);
    std::vector<float> y = out.read();
    for (int r = 0; r < rows; ++r) {
      double sum = 0;
      for (int c = 0; c < columns; ++c)
        sum += double(x[r * columns + c]) * x[r * columns + c];
      double scale = 1 / std::sqrt(sum / columns + 1e-5);
      for (int c = 0; c < columns; ++c)
        ASSERT_NEAR(y[r * columns + c], x[r * columns + c] * scale, 1e-5);
    }
  }
}

TEST_P(Basics, Scan) {
  std::vector<int> x(256), expected(256);
  for (int i = 0; i < 256; ++i)
    x[i] = i * i % 17 - 8;
  std::partial_sum(x.begin(), x.end(), expected.begin());
  Buffer<int> in(device, x), out(device, x.size());
  run("scan", {1}, {256}, Arguments().add(in.address).add(out.address));
  EXPECT_EQ(out.read(), expected);
}

TEST_P(Basics, Collatz) {
  const int n = 300;
  std::vector<unsigned> x(n), expected(n);
  for (int i = 0; i < n; ++i) {
    unsigned value = x[i] = unsigned(i) + 1;
    for (; value != 1; ++expected[i])
      value = value % 2 ? 3 * value + 1 : value / 2;
  }
  Buffer<unsigned> in(device, x), out(device, x.size());
  LaunchResult result =
      run("collatz", {3}, {128},
          Arguments().add(in.address).add(out.address).add(n));
  EXPECT_EQ(out.read(), expected);
  EXPECT_GT(result.statistics.divergentInstructions, 0u);
}

TEST_P(Basics, LocalArray) {
  std::vector<int> index(16), expected;
  for (int i = 0; i < 16; ++i)
    index[i] = i * 5 % 16;
  for (int t = 0; t < 40; ++t) {
    std::vector<int> values(16);
    for (int i = 0; i < 16; ++i)
      values[index[i]] = t * 100 + i;
    for (int i = 0; i < 16; ++i)
      expected.push_back(values[(i + t) % 16]);
  }
  Buffer<int> in(device, index), out(device, expected.size());
  run("permute", {1}, {40}, Arguments().add(in.address).add(out.address));
  EXPECT_EQ(out.read(), expected);
}

TEST_P(Basics, LocalArrayOutOfBounds) {
  std::vector<int> index(16);
  index[3] = 1000;
  Buffer<int> in(device, index), out(device, 40 * 16);
  LaunchResult result = runUnchecked(
      "permute", {1}, {40}, Arguments().add(in.address).add(out.address));
  EXPECT_TRUE(hasReport(result, ReportKind::OutOfBounds));
}

TEST_P(Basics, Calls) {
  std::vector<int> x(64);
  std::vector<long long> expected(64);
  for (int i = 0; i < 64; ++i) {
    x[i] = i * 13 - 200;
    long long first = x[i] + 3, second = 3ll * i;
    if (x[i] & 1) {
      first += 5;
      second *= 5;
    }
    expected[i] = first + second;
  }
  Buffer<int> in(device, x);
  Buffer<long long> out(device, x.size());
  run("calls", {1}, {64}, Arguments().add(in.address).add(out.address));
  EXPECT_EQ(out.read(), expected);
}

TEST_P(Basics, AxpyHalf) {
  // 2 * x + y in values that f16 holds exactly.
  std::vector<uint16_t> x = {0x3c00, 0x4000, 0xc200, 0x3800},
                        y = {0x3c00, 0xbc00, 0x0000, 0x4400},
                        expected = {0x4200, 0x4200, 0xc600, 0x4500};
  Buffer<uint16_t> in(device, x), out(device, y);
  run("axpyHalf", {1}, {32},
      Arguments().add(0x40004000u).add(in.address).add(out.address).add(2));
  EXPECT_EQ(out.read(), expected);
}

TEST_P(Basics, AxpyBFloat) {
  std::vector<uint16_t> x = {0x3f80, 0x4000, 0xc040},
                        y = {0x3f80, 0xbf80, 0x0000},
                        expected = {0x4040, 0x4040, 0xc0c0};
  Buffer<uint16_t> in(device, x), out(device, y);
  run("axpyBFloat", {1}, {32},
      Arguments()
          .add(uint16_t(0x4000))
          .add(in.address)
          .add(out.address)
          .add(3));
  EXPECT_EQ(out.read(), expected);
}

TEST_P(Basics, SumOfBlocks) {
  std::vector<float> x(50 * 32);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = float(i % 13);
  float expected = std::accumulate(x.begin(), x.end(), 0.0f);
  Buffer<float> in(device, x), partial(device, 50), out(device, 1);
  for (uint64_t seed : {0, 5, 6}) {
    run("sumOfBlocks", {50}, {32},
        Arguments().add(in.address).add(partial.address).add(out.address),
        seed);
    EXPECT_EQ(out.read()[0], expected);
  }
}

TEST_P(Basics, DynamicSharedAndDivision) {
  std::vector<long long> x(96), expected(96);
  for (int i = 0; i < 96; ++i)
    x[i] = (i - 40) * 123456789ll;
  for (int i = 0; i < 96; ++i)
    expected[i] = x[95 - i] / -1000 + x[i] % -1000;
  Buffer<long long> in(device, x), out(device, x.size());
  Arguments arguments;
  arguments.add(in.address).add(out.address).add(-1000ll);
  run("reverse", {1}, {96}, arguments, 0, 96 * 8);
  EXPECT_EQ(out.read(), expected);
  LaunchResult result =
      runUnchecked("reverse", {1}, {96}, arguments, 0, 95 * 8);
  EXPECT_TRUE(hasReport(result, ReportKind::OutOfBounds));
}

TEST_P(Basics, Votes) {
  const int table[8] = {3, 1, 4, 1, 5, 9, 2, 6};
  std::vector<int> x(32);
  std::vector<unsigned> expected(32);
  for (int i = 0; i < 32; ++i)
    x[i] = i * i % 8 + (i % 3 == 0);
  unsigned large = 0, any = 0, all = 1;
  for (int value : x) {
    large += value > 4;
    any |= value == 7;
    all &= value < 8;
  }
  for (int i = 0; i < 32; ++i) {
    unsigned same = 0;
    for (int value : x)
      same += value == x[i];
    unsigned result = large * 1000 + same;
    switch (x[i]) {
    case 0:
      result += 1 << 16;
      break;
    case 1:
      result ^= 0x55 << 16;
      break;
    case 2:
      result += 4u << 20;
      break;
    case 3:
      result = ~result;
      break;
    case 4:
      result *= 3;
      break;
    case 5:
      result -= 77;
      break;
    default:
      result += unsigned(table[x[i] & 7]);
    }
    expected[i] = result + any * 10 + all * 20;
  }
  Buffer<int> in(device, x);
  Buffer<unsigned> out(device, 32);
  run("votes", {1}, {32}, Arguments().add(in.address).add(out.address));
  EXPECT_EQ(out.read(), expected);
}

INSTANTIATE_TEST_SUITE_P(Ptx, Basics, ::testing::Values(false, true),
                         originName);

} // namespace
