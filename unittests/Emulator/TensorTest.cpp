//===- TensorTest.cpp - Tensor cores and asynchronous copies --------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Compile.h"
#include <cmath>
#include <random>

using namespace moe::emulator;
using namespace moe::emulator::test;

namespace {

/// Small integers as elements of a format, packed into words.
enum class Format { Half, BFloat, TF32, S8, U8 };

uint32_t encode(Format format, int value) {
  float single = float(value);
  uint32_t bits;
  std::memcpy(&bits, &single, sizeof bits);
  switch (format) {
  case Format::Half: {
    if (value == 0)
      return 0;
    int exponent = int(bits >> 23 & 0xff) - 127 + 15;
    return (bits >> 31) << 15 | uint32_t(exponent) << 10 | (bits >> 13 & 0x3ff);
  }
  case Format::BFloat:
    return bits >> 16;
  case Format::TF32:
    // The low bits must not matter.
    return value ? bits | 0x1fff : 0;
  case Format::S8:
  case Format::U8:
    return uint8_t(value);
  }
  return 0;
}
unsigned bitsOf(Format format) {
  return format == Format::TF32                         ? 32
         : format == Format::S8 || format == Format::U8 ? 8
                                                        : 16;
}

std::vector<uint32_t> pack(Format format, const std::vector<int> &values) {
  unsigned each = 32 / bitsOf(format);
  std::vector<uint32_t> words(values.size() / each);
  for (size_t i = 0; i < values.size(); ++i)
    words[i / each] |= encode(format, values[i]) << i % each * bitsOf(format);
  return words;
}

struct Shape {
  const char *kernel;
  Format a, b;
  int depth;
};

class Tensor : public KernelFile {
protected:
  const char *source() const override { return "tensor"; }
};

TEST_P(Tensor, Shapes) {
  const Shape shapes[] = {
      {"mmaHalf16", Format::Half, Format::Half, 16},
      {"mmaHalf8", Format::Half, Format::Half, 8},
      {"mmaBFloat16", Format::BFloat, Format::BFloat, 16},
      {"mmaBFloat8", Format::BFloat, Format::BFloat, 8},
      {"mmaTF8", Format::TF32, Format::TF32, 8},
      {"mmaTF4", Format::TF32, Format::TF32, 4},
      {"mmaS8x32", Format::S8, Format::S8, 32},
      {"mmaU8x32", Format::U8, Format::S8, 32},
      {"mmaS8x16", Format::S8, Format::U8, 16},
  };
  std::mt19937 random(1);
  for (const Shape &shape : shapes) {
    SCOPED_TRACE(shape.kernel);
    const int k = shape.depth;
    auto values = [&](size_t count, Format format) {
      std::vector<int> result(count);
      for (int &value : result)
        value = int(random() % 15) - (format == Format::U8 ? 0 : 7);
      return result;
    };
    std::vector<int> a = values(size_t(16 * k), shape.a),
                     b = values(size_t(8 * k), shape.b),
                     c = values(128, Format::S8);
    bool integers = bitsOf(shape.a) == 8;
    std::vector<uint32_t> cBits(128), expected(128);
    for (int i = 0; i < 128; ++i) {
      int sum = c[i];
      for (int j = 0; j < k; ++j)
        sum += a[i / 8 * k + j] * b[i % 8 * k + j];
      float first = float(c[i]), last = float(sum);
      std::memcpy(&cBits[i], integers ? (void *)&c[i] : (void *)&first, 4);
      std::memcpy(&expected[i], integers ? (void *)&sum : (void *)&last, 4);
    }
    Buffer<uint32_t> inA(device, pack(shape.a, a)),
        inB(device, pack(shape.b, b)), inC(device, cBits), out(device, 128);
    LaunchResult result = run(shape.kernel, {1}, {32},
                              Arguments()
                                  .add(inA.address)
                                  .add(inB.address)
                                  .add(inC.address)
                                  .add(out.address));
    EXPECT_EQ(out.read(), expected);
    ASSERT_EQ(result.statistics.matrix.size(), 1u);
    EXPECT_EQ(result.statistics.matrix.begin()->second, 1u);
  }
}

TEST_P(Tensor, HalfSums) {
  std::vector<int> a(16 * 16), b(8 * 16), c(128), expected(128);
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = int(i * 7 % 5) - 2;
  for (size_t i = 0; i < b.size(); ++i)
    b[i] = int(i * 5 % 7) - 3;
  for (int i = 0; i < 128; ++i) {
    expected[i] = c[i] = i % 9 - 4;
    for (int j = 0; j < 16; ++j)
      expected[i] += a[i / 8 * 16 + j] * b[i % 8 * 16 + j];
  }
  Buffer<uint32_t> inA(device, pack(Format::Half, a)),
      inB(device, pack(Format::Half, b)), inC(device, pack(Format::Half, c)),
      out(device, 64);
  run("mmaHalfSums", {1}, {32},
      Arguments()
          .add(inA.address)
          .add(inB.address)
          .add(inC.address)
          .add(out.address));
  EXPECT_EQ(out.read(), pack(Format::Half, expected));
}

//===----------------------------------------------------------------------===//
// A product with three stages
//===----------------------------------------------------------------------===//

struct Gemm {
  Gemm(Device &device, int m, int n, int k)
      : m(m), n(n), k(k), a(device, halves(m * k, 5), "a"),
        b(device, halves(k * n, 7), "b"), c(device, size_t(m) * n, "c") {}

  static int value(int i, int seed) { return (i * seed + i / 17) % 9 - 4; }
  static std::vector<uint16_t> halves(int count, int seed) {
    std::vector<uint16_t> result;
    for (int i = 0; i < count; ++i)
      result.push_back(uint16_t(encode(Format::Half, value(i, seed))));
    return result;
  }
  Arguments arguments() const {
    return Arguments()
        .add(a.address)
        .add(b.address)
        .add(c.address)
        .add(m)
        .add(n)
        .add(k);
  }
  Dim3 grid() const { return {unsigned(n) / 64, unsigned(m + 63) / 64}; }

  int countWrong() const {
    std::vector<float> found = c.read();
    int wrong = 0;
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j) {
        int sum = 0;
        for (int p = 0; p < k; ++p)
          sum += value(i * k + p, 5) * value(p * n + j, 7);
        wrong += found[size_t(i) * n + j] != float(sum);
      }
    return wrong;
  }

  int m, n, k;
  Buffer<uint16_t> a, b;
  Buffer<float> c;
};

TEST_P(Tensor, Gemm) {
  for (uint64_t seed : {0, 1, 2}) {
    Gemm gemm(device, 100, 128, 160);
    LaunchResult result =
        run("gemm", gemm.grid(), {128}, gemm.arguments(), seed);
    EXPECT_EQ(gemm.countWrong(), 0);
    const Statistics &stats = result.statistics;
    // Whole tiles are multiplied, rows past the end are not read.
    EXPECT_EQ(stats.matrix.begin()->second, 128u / 16 * 128 / 8 * 160 / 16);
    EXPECT_EQ(stats.asyncCopyBytes, 2u * (100 * 160 * 2 + 160 * 128 * 2));
    EXPECT_EQ(stats.barriers, 4u * 5);
    EXPECT_EQ(stats.storeSectors, stats.storeSectorsIdeal);
  }
}

TEST_P(Tensor, Pipeline) {
  const int rounds = 7;
  std::vector<int> x(rounds * 32), expected(32);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = int(i * i % 91);
  for (int lane = 0; lane < 32; ++lane)
    for (int r = 0; r < rounds; ++r)
      expected[lane] += x[r * 32 + (lane + r) % 32];
  Buffer<int> in(device, x), out(device, 32);
  for (uint64_t seed : {0, 1, 2, 3}) {
    run("pipeline", {1}, {64},
        Arguments().add(in.address).add(out.address).add(rounds), seed);
    EXPECT_EQ(out.read(), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Ptx, Tensor, ::testing::Values(false, true),
                         originName);

//===----------------------------------------------------------------------===//
// Planted faults
//===----------------------------------------------------------------------===//

class Fault : public ::testing::Test {
protected:
  Fault()
      : lines(splitLines(
            readFile(std::string(MOE_TEST_INPUTS) + "/tensor.ptx"))) {}

  LaunchResult runGemm(const std::vector<std::string> &changed, int &wrong) {
    auto module = load(joinLines(changed));
    Device device;
    Gemm gemm(device, 64, 64, 160);
    LaunchResult result =
        launch(device, *module, "gemm", launchOptions(gemm.grid(), {128}),
               gemm.arguments());
    wrong = gemm.countWrong();
    return result;
  }

  std::vector<std::string> lines;
};

TEST_F(Fault, None) {
  int wrong = 0;
  expectClean(runGemm(lines, wrong));
  EXPECT_EQ(wrong, 0);
}

TEST_F(Fault, EachBarrierDeleted) {
  std::vector<size_t> barriers = linesWith(lines, "gemm", "bar.sync");
  ASSERT_FALSE(barriers.empty());
  for (size_t at : barriers) {
    std::vector<std::string> changed = lines;
    changed[at].clear();
    int wrong = 0;
    LaunchResult result = runGemm(changed, wrong);
    EXPECT_TRUE(hasReport(result, ReportKind::Race) ||
                hasReport(result, ReportKind::InFlight))
        << "line " << at + 1 << "\n"
        << reportText(result);
  }
}

TEST_F(Fault, EachWaitDeletedOrTooWeak) {
  std::vector<size_t> waits = linesWith(lines, "gemm", "cp.async.wait_group");
  ASSERT_FALSE(waits.empty());
  for (size_t at : waits)
    for (const char *instead : {"", "cp.async.wait_group 2;"}) {
      std::vector<std::string> changed = lines;
      changed[at] = instead;
      int wrong = 0;
      LaunchResult result = runGemm(changed, wrong);
      EXPECT_TRUE(hasReport(result, ReportKind::InFlight))
          << reportText(result);
    }
}

TEST_F(Fault, EachCommitDeleted) {
  std::vector<size_t> commits = linesWith(lines, "gemm", "commit_group");
  ASSERT_FALSE(commits.empty());
  for (size_t at : commits) {
    std::vector<std::string> changed = lines;
    changed[at].clear();
    int wrong = 0;
    LaunchResult result = runGemm(changed, wrong);
    EXPECT_FALSE(result.reports.empty()) << "line " << at + 1;
  }
}

TEST_F(Fault, AddressShifted) {
  std::vector<size_t> copies = linesWith(lines, "gemm", "cp.async.cg");
  ASSERT_FALSE(copies.empty());
  unsigned found = 0;
  for (size_t at : copies) {
    std::vector<std::string> changed = lines;
    size_t bracket = changed[at].find(']');
    ASSERT_NE(bracket, std::string::npos);
    changed[at].insert(bracket, "+16");
    int wrong = 0;
    LaunchResult result = runGemm(changed, wrong);
    found += !result.reports.empty();
  }
  EXPECT_EQ(found, copies.size());
}

TEST_F(Fault, Misaligned) {
  size_t at = linesWith(lines, "gemm", "ldmatrix").front();
  std::vector<std::string> changed = lines;
  changed[at].insert(changed[at].rfind(']'), "+8");
  int wrong = 0;
  LaunchResult result = runGemm(changed, wrong);
  EXPECT_TRUE(hasReport(result, ReportKind::Misaligned)) << reportText(result);
  EXPECT_EQ(result.reports[0].line, int(at) + 1);
}

TEST_F(Fault, MatrixInstructionOfHalfAWarp) {
  size_t at = linesWith(lines, "gemm", "mma.sync").front();
  std::vector<std::string> changed = lines;
  changed[at] = "{ .reg .pred q; .reg .b32 t; mov.u32 t, %tid.x;\n"
                "and.b32 t, t, 16; setp.eq.u32 q, t, 0;\n@q " +
                changed[at].substr(changed[at].find("mma")) + "}";
  int wrong = 0;
  LaunchResult result = runGemm(changed, wrong);
  EXPECT_FALSE(result.reports.empty());
}

} // namespace
