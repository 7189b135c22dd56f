//===- PartsTest.cpp - Tests of options, generators, copies ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "IO/TestFiles.h"
#include "moe/Run/Benchmark.h"
#include "moe/Run/Generate.h"
#include "moe/Run/Options.h"

#include <cmath>

using namespace moe::run;
using namespace moe::test;
namespace io = moe::io;

namespace {

//===----------------------------------------------------------------------===//
// Options
//===----------------------------------------------------------------------===//

io::Expected<Options> parse(std::vector<const char *> words) {
  words.insert(words.begin(), "moe-run");
  return parseOptions(int(words.size()), words.data());
}

std::string messageOf(std::vector<const char *> words) {
  io::Expected<Options> options = parse(std::move(words));
  return options ? "no error" : options.message();
}

TEST(Options, ParsesAll) {
  io::Expected<Options> options =
      parse({"--entry=e", "--arg=x=a=b.npy", "--arg=w=zeros", "--out=y=y.npy",
             "f.so", "--dim=T=0", "--layout=w=out_in", "--target=oracle",
             "--threads=3", "--repeat=10", "--json"});
  ASSERT_TRUE(options) << options.message();
  EXPECT_EQ(options->file, "f.so");
  EXPECT_EQ(options->entry, "e");
  EXPECT_EQ(options->args,
            (std::vector<Setting>{{"x", "a=b.npy"}, {"w", "zeros"}}));
  EXPECT_EQ(options->outs, (std::vector<Setting>{{"y", "y.npy"}}));
  EXPECT_EQ(options->layouts, (std::vector<Setting>{{"w", "out_in"}}));
  ASSERT_EQ(options->dims.size(), 1u);
  EXPECT_EQ(options->dims[0].second, 0);
  EXPECT_EQ(options->target, Target::Oracle);
  EXPECT_EQ(options->threads, 3);
  EXPECT_EQ(options->repeat, 10);
  EXPECT_TRUE(options->json);
  EXPECT_FALSE(options->help);
}

TEST(Options, HelpNeedsNoFileAndNamesEveryOption) {
  for (const char *word : {"--help", "-h"}) {
    io::Expected<Options> options = parse({word});
    ASSERT_TRUE(options) << options.message();
    EXPECT_TRUE(options->help);
  }
  for (const char *option :
       {"--entry=", "--arg=", "--dim=", "--layout=", "--out=", "--target=",
        "--threads=", "--repeat=", "--json", "--help"})
    EXPECT_NE(helpText().find(option), std::string::npos) << option;
}

TEST(Options, Refuses) {
  EXPECT_EQ(messageOf({}), "no FILE given; see --help");
  EXPECT_EQ(messageOf({"a", "b"}), "FILE is given twice: 'a' and 'b'");
  EXPECT_EQ(messageOf({""}), "FILE is empty");
  EXPECT_EQ(messageOf({"--entry=a", "--entry=b"}),
            "--entry is given twice: 'a' and 'b'");
  EXPECT_EQ(messageOf({"--thread=2"}),
            "unknown option '--thread'; did you mean \"--threads\"?");
  EXPECT_EQ(messageOf({"-x"}).substr(0, 40),
            "unknown option '-x'; the options are \"--");
  EXPECT_EQ(messageOf({"--json=yes"}), "option '--json' takes no value");
  EXPECT_EQ(messageOf({"--help="}), "option '--help' takes no value");
  EXPECT_EQ(messageOf({"--arg"}), "option '--arg' needs a value: --arg=...");
  EXPECT_EQ(messageOf({"--entry="}),
            "option '--entry' needs a value: --entry=...");
  for (const char *bad : {"--arg=x", "--arg==x", "--arg=x="})
    EXPECT_EQ(messageOf({bad}), "--arg: '" + std::string(bad + 6) +
                                    "' is not of the form NAME=VALUE");
  EXPECT_EQ(messageOf({"--target=gpu"}),
            "--target: 'gpu' is none of cpu, oracle, cuda and gpu-emulator");
  for (const char *bad : {"-1", "x", "1x", "2147483648", "1.5", " 1"})
    EXPECT_EQ(messageOf({("--threads=" + std::string(bad)).c_str()}),
              "--threads: '" + std::string(bad) +
                  "' is not an integer from 0 to 2147483647");
  EXPECT_EQ(messageOf({"--repeat=0"}),
            "--repeat: '0' is not an integer from 1 to 2147483647");
  EXPECT_EQ(messageOf({"--dim=T=-1"}), "--dim=T: '-1' is not an integer from 0 "
                                       "to 9223372036854775807");
}

//===----------------------------------------------------------------------===//
// Generators
//===----------------------------------------------------------------------===//

using Words = std::array<uint32_t, 4>;

// The known answers that the authors of Philox publish.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  uint32_t f = 0xffffffff;
  EXPECT_EQ(philox({f, f, f, f}, {f, f}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                   {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(NormalNumber, InvertsTheDistribution) {
  // Phi(z), computed another way, gives back the uniform of step 2. A relative
  // error d of z is one of at most d (z^2 + 1) of a tail, since the hazard rate
  // is below z + 1/z; 1.2e-7 is what AS 241 reaches.
  for (uint64_t index = 0; index < 20000; ++index) {
    uint32_t word = philox({uint32_t(index / 4), 0, 0, 0}, {7, 1})[index % 4];
    double p = (word + 0.5) / 4294967296.0;
    double z = normalNumber((uint64_t(1) << 32) + 7, index);
    double found = 0.5 * std::erfc((z > 0 ? z : -z) / std::sqrt(2.0));
    double expected = z > 0 ? 1 - p : p;
    ASSERT_NEAR(found / expected, 1.0, 1.2e-7 * (z * z + 1)) << index;
    ASSERT_EQ(z > 0, p > 0.5);
  }
}

TEST(NormalNumber, IsNormal) {
  double sum = 0, square = 0, fourth = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    double z = normalNumber(1, uint64_t(i));
    sum += z;
    square += z * z;
    fourth += z * z * z * z;
  }
  // Within five standard errors.
  EXPECT_NEAR(sum / kCount, 0, 5 * std::sqrt(1.0 / kCount));
  EXPECT_NEAR(square / kCount, 1, 5 * std::sqrt(2.0 / kCount));
  EXPECT_NEAR(fourth / kCount, 3, 5 * std::sqrt(96.0 / kCount));
}

io::Expected<io::Tensor> generateText(const char *text, moe_dtype dtype,
                                      const io::Shape &shape) {
  io::Expected<std::optional<Generator>> generator = parseGenerator(text);
  EXPECT_TRUE(generator && *generator) << text;
  return generate(**generator, dtype, shape, "a");
}

TEST(Generate, RandomDependsOnSeedScaleAndIndexAlone) {
  auto a = generateText("random:5", io::kF32, {3, 4});
  auto b = generateText("random:5:0.5", io::kF64, {7});
  auto c = generateText("random:6", io::kF32, {12});
  auto half = generateText("random:5", io::kBF16, {7});
  ASSERT_TRUE(a && b && c && half);
  int differ = 0;
  for (size_t i = 0; i < 7; ++i) {
    double z = normalNumber(5, i);
    EXPECT_EQ(a->as<float>()[i], float(z));
    EXPECT_EQ(b->as<double>()[i], z * 0.5);
    EXPECT_EQ(half->as<uint16_t>()[i], io::f32ToBF16(float(z)));
    differ += a->as<float>()[i] != c->as<float>()[i];
  }
  EXPECT_EQ(differ, 7);
}

// Guards the promise that the numbers are the same everywhere: bit patterns
// computed by a separate program from the text in Generate.h.
TEST(Generate, RandomBitsNeverChange) {
  auto a = generateText("random:42:0.02", io::kF32, {8});
  ASSERT_TRUE(a);
  EXPECT_EQ(
      values(a->as<uint32_t>(), 8),
      (std::vector<uint32_t>{0x3bbc1da3, 0xbacea189, 0xbcedeb0c, 0xbc0662c4,
                             0x3d382c6b, 0xbc12d009, 0x3a36ca7b, 0xbb166cd3}));
}

TEST(Generate, FillsEveryDType) {
  for (moe_dtype dtype :
       {io::kI8, io::kI16, io::kI32, io::kI64, io::kU8, io::kU16, io::kU32,
        io::kU64, io::kBool, io::kF16, io::kF32, io::kF64, io::kBF16}) {
    auto zeros = generateText("zeros", dtype, {3});
    auto ones = generateText("ones", dtype, {3});
    ASSERT_TRUE(zeros && ones);
    size_t width = io::elementBytes(dtype);
    EXPECT_EQ(std::string(zeros->as<char>(), 3 * width),
              std::string(3 * width, 0));
    std::string one = littleEndian(1, unsigned(width));
    if (dtype.code == 4)
      one = littleEndian(0x3f80, 2);
    else if (dtype.code == 2)
      one = littleEndian(width == 2   ? 0x3c00
                         : width == 4 ? 0x3f800000
                                      : 0x3ff0000000000000,
                         unsigned(width));
    EXPECT_EQ(std::string(ones->as<char>(), 3 * width), one + one + one)
        << io::dtypeName(dtype);
  }
}

TEST(Generate, IotaCountsAsFarAsTheTypeCan) {
  auto floats = generateText("iota", io::kF32, {2, 2});
  ASSERT_TRUE(floats);
  EXPECT_EQ(values(floats->as<float>(), 4), (std::vector<float>{0, 1, 2, 3}));
  auto bytes = generateText("iota", io::kI8, {128});
  ASSERT_TRUE(bytes) << bytes.message();
  EXPECT_EQ(bytes->as<int8_t>()[127], 127);
  EXPECT_EQ(generateText("iota", io::kI8, {129}).message(),
            "a: i8 cannot hold iota over 129 elements");
  EXPECT_TRUE(generateText("iota", io::kU8, {256}));
  EXPECT_FALSE(generateText("iota", io::kU8, {257}));
  EXPECT_TRUE(generateText("iota", io::kBF16, {257}));
  EXPECT_FALSE(generateText("iota", io::kBF16, {258}));
  EXPECT_TRUE(generateText("iota", io::kF16, {2049}));
  EXPECT_FALSE(generateText("iota", io::kF16, {2050}));
  EXPECT_FALSE(generateText("iota", io::kBool, {2}));
  EXPECT_TRUE(generateText("iota", io::kI64, {0}));
}

TEST(Generate, Parses) {
  auto random = parseGenerator("random:18446744073709551615:1e-3");
  ASSERT_TRUE(random && *random);
  EXPECT_EQ((*random)->seed, UINT64_MAX);
  EXPECT_EQ((*random)->scale, 1e-3);
  for (const char *file : {"random.npy", "zeros.npy", "one", "random"}) {
    auto generator = parseGenerator(file);
    ASSERT_TRUE(generator);
    EXPECT_FALSE(*generator) << file;
  }
  for (const char *bad :
       {"random:", "random:x", "random:1:", "random:1:x", "random:1:nan",
        "random:1:inf", "random:1:2:3", "random:18446744073709551616"})
    EXPECT_EQ(parseGenerator(bad).message(),
              "'" + std::string(bad) +
                  "' is not random:SEED[:SCALE] (SEED from 0 to 2^64-1)");
  EXPECT_EQ(generateText("random:1", io::kBool, {1}).message(),
            "a: random makes floating-point numbers, not bool");
  EXPECT_EQ(generateText("zeros", {10, 8, 1}, {1}).message(),
            "a: cannot generate f8e4m3");
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

constexpr int64_t kMiB = int64_t(1) << 20;

TEST(Rotation, SmallWeightsRotateUntilTheCacheIsFlushed) {
  Rotation r =
      planRotation(kMiB, 3 * kMiB, double(3 * kMiB), 32 * kMiB, 4096 * kMiB);
  EXPECT_EQ(r.weightCopies, 65);
  EXPECT_EQ(r.activationCopies, 65);
  EXPECT_GT(r.touchedBytes, 8.0 * 32 * kMiB);
  EXPECT_TRUE(r.enough);
}

TEST(Rotation, LargeWeightsFlushTheCacheThemselves) {
  Rotation r = planRotation(kMiB, 1024 * kMiB, 1e12, 32 * kMiB, 4096 * kMiB);
  EXPECT_EQ(r.weightCopies, 1);
  EXPECT_EQ(r.activationCopies, 2);
  EXPECT_TRUE(r.enough);
}

// A call on few tokens reads few of the experts: these would stay cached.
TEST(Rotation, CountsWhatACallTouches) {
  Rotation r =
      planRotation(0, 1024 * kMiB, double(64 * kMiB), 32 * kMiB, 65536 * kMiB);
  EXPECT_EQ(r.weightCopies, 5);
  EXPECT_EQ(r.activationCopies, 1);
  EXPECT_TRUE(r.enough);
}

TEST(Rotation, SaysWhereMemoryOrCopiesDoNotSuffice) {
  Rotation r =
      planRotation(0, 1024 * kMiB, double(64 * kMiB), 32 * kMiB, 3000 * kMiB);
  EXPECT_EQ(r.weightCopies, 2);
  EXPECT_FALSE(r.enough);
  EXPECT_NE(r.text().find("NOT over 8 times the last-level cache of 32.00 MiB"),
            std::string::npos)
      << r.text();
  r = planRotation(16, 16, 16, 32 * kMiB, 4096 * kMiB);
  EXPECT_EQ(r.weightCopies, 1024);
  EXPECT_FALSE(r.enough);
  r = planRotation(0, 1024 * kMiB, double(64 * kMiB), 32 * kMiB, 10);
  EXPECT_EQ(r.weightCopies, 1);
}

TEST(Rotation, HandlesNothingAndAnUnknownCache) {
  Rotation r = planRotation(0, 0, 0, 32 * kMiB, 4096 * kMiB);
  EXPECT_EQ(r.activationCopies, 1);
  EXPECT_EQ(r.weightCopies, 1);
  r = planRotation(kMiB, kMiB, std::nan(""), 32 * kMiB, 4096 * kMiB);
  EXPECT_EQ(r.weightCopies, 257);
  r = planRotation(0, 100 * kMiB, double(100 * kMiB), 0, 4096 * kMiB);
  EXPECT_EQ(r.weightCopies, 6);
  EXPECT_NE(r.text().find("an assumed last-level cache of 64 MiB"),
            std::string::npos);
}

TEST(Rotation, TheCacheIsPlausible) {
  int64_t bytes = lastLevelCacheBytes();
  EXPECT_TRUE(bytes == 0 || (bytes >= 64 << 10 && bytes <= int64_t(1) << 36))
      << bytes;
}

} // namespace
