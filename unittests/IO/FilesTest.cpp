//===- FilesTest.cpp - Tests of files, tensors and element types ----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/IO/Files.h"
#include "TestFiles.h"
#include "moe/IO/Json.h"
#include "moe/IO/Tensor.h"

#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>
#include <sys/resource.h>

using namespace moe::io;
using namespace moe::test;

namespace {

using FilesTest = FolderTest;

TEST_F(FilesTest, WritesHeadAndChunks) {
  ASSERT_TRUE(
      writeFiles({{path("a"), "head ", {"one ", "two"}}, {path("b"), "", {}}}));
  EXPECT_EQ(read(path("a")), "head one two");
  EXPECT_EQ(read(path("b")), "");
  EXPECT_EQ(names().size(), 2u); // No temporary file stays.
}

TEST_F(FilesTest, ReplacesAndKeepsTheMode) {
  write("a", "old");
  ASSERT_EQ(chmod(path("a").c_str(), 0640), 0);
  ASSERT_TRUE(writeFiles({{path("a"), "new", {}}}));
  EXPECT_EQ(read(path("a")), "new");
  struct stat info;
  ASSERT_EQ(stat(path("a").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, mode_t(0640));
}

TEST_F(FilesTest, AMappedFileMayBeReplaced) {
  write("a", "old");
  auto mapped = MappedFile::open(path("a"));
  ASSERT_TRUE(mapped);
  ASSERT_TRUE(writeFiles({{path("a"), "longer than before", {}}}));
  EXPECT_EQ((*mapped)->bytes(), "old");
}

TEST_F(FilesTest, FollowsLinks) {
  write("a", "old");
  ASSERT_EQ(symlink("a", path("link").c_str()), 0);
  ASSERT_TRUE(writeFiles({{path("link"), "new", {}}}));
  EXPECT_EQ(read(path("a")), "new");
  struct stat info;
  ASSERT_EQ(lstat(path("link").c_str(), &info), 0);
  EXPECT_TRUE(S_ISLNK(info.st_mode));
}

TEST_F(FilesTest, WritesAllOrNothing) {
  write("a", "old");
  Status status =
      writeFiles({{path("a"), "new", {}}, {path("none/b"), "new", {}}});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.message(), path("none/b") + ": cannot write to its folder: "
                                               "No such file or directory");
  EXPECT_EQ(read(path("a")), "old");
  EXPECT_EQ(names(), std::vector<std::string>{"a"});
}

TEST_F(FilesTest, WritesNothingOnAFullDisk) {
  // A limit on file sizes stands in for the disk.
  rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  rlimit small = {1000, old.rlim_max};
  auto handler = signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string big(2000, 'x');
  Status status = writeFiles({{path("a"), "new", {}}, {path("b"), "", {big}}});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  signal(SIGXFSZ, handler);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.message(), path("b") + ": cannot write: File too large");
  EXPECT_TRUE(names().empty());
}

TEST_F(FilesTest, RefusesTargets) {
  auto message = [](const std::string &target) {
    Status early = checkWritable(target);
    Status late = writeFiles({{target, "x", {}}});
    EXPECT_FALSE(early);
    EXPECT_FALSE(late);
    EXPECT_EQ(early.message(), late.message());
    return late.message();
  };
  EXPECT_EQ(message(folder), folder + ": cannot write: is a directory");
  EXPECT_EQ(message(folder + "/"),
            "'" + folder + "/' is no name for an output file");
  EXPECT_EQ(message(""), "'' is no name for an output file");
  EXPECT_EQ(message("/dev/null"),
            "/dev/null: cannot write: is not a regular file");
  ASSERT_EQ(symlink("none", path("link").c_str()), 0);
  EXPECT_EQ(message(path("link")),
            path("link") + ": cannot follow the link: No such file or "
                           "directory");
  write("file", "");
  EXPECT_EQ(message(path("file/x")),
            path("file/x") + ": cannot write to its folder: Not a directory");
  if (geteuid() != 0) { // The superuser may write everywhere.
    ASSERT_EQ(chmod(path("file").c_str(), 0400), 0);
    EXPECT_EQ(message(path("file")),
              path("file") + ": cannot write: Permission denied");
  }
  EXPECT_TRUE(checkWritable(path("new")));
}

TEST_F(FilesTest, RefusesToWriteTwice) {
  Status status = writeFiles({{path("a"), "1", {}}, {path("./a"), "2", {}}});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.message(), path("./a") + ": is to be written twice");
  EXPECT_TRUE(names().empty());
}

//===----------------------------------------------------------------------===//
// Element types
//===----------------------------------------------------------------------===//

TEST(DType, EveryF16IsExact) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    float value = f16ToF32(uint16_t(bits));
    unsigned exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31 && fraction) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_TRUE(std::isnan(f16ToF32(f32ToF16(value))));
      continue;
    }
    double expected = exponent == 31 ? std::numeric_limits<double>::infinity()
                      : exponent
                          ? std::ldexp(1024 + fraction, int(exponent) - 25)
                          : std::ldexp(fraction, -24);
    ASSERT_EQ(value, bits & 0x8000 ? -expected : expected) << bits;
    ASSERT_EQ(f32ToF16(value), bits);
  }
}

TEST(DType, RoundsToNearestEven) {
  // Between neighbours: below, at and above the middle.
  auto check = [](uint16_t (*round)(float), float (*widen)(uint16_t),
                  uint16_t bits) {
    float low = widen(bits), high = widen(uint16_t(bits + 1));
    float middle = float((double(low) + high) / 2);
    EXPECT_EQ(round(std::nextafter(middle, low)), bits) << bits;
    EXPECT_EQ(round(middle), bits % 2 ? bits + 1 : bits) << bits;
    EXPECT_EQ(round(std::nextafter(middle, high)), bits + 1) << bits;
    EXPECT_EQ(round(-middle), (bits % 2 ? bits + 1 : bits) | 0x8000) << bits;
  };
  for (uint16_t bits = 0; bits < 0x7bff; ++bits)
    check(f32ToF16, f16ToF32, bits);
  for (uint16_t bits = 0; bits < 0x7f7f; ++bits)
    check(f32ToBF16, bf16ToF32, bits);
}

TEST(DType, RoundsAtTheEnds) {
  float infinity = std::numeric_limits<float>::infinity();
  float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(f32ToF16(65504), 0x7bff);
  EXPECT_EQ(f32ToF16(std::nextafter(65520.f, 0.f)), 0x7bff);
  EXPECT_EQ(f32ToF16(65520), 0x7c00);
  EXPECT_EQ(f32ToF16(-infinity), 0xfc00);
  EXPECT_EQ(f32ToF16(0x1p-25f), 0);
  EXPECT_EQ(f32ToF16(std::nextafter(0x1p-25f, 1.f)), 1);
  EXPECT_EQ(f32ToF16(-0.0f), 0x8000);
  EXPECT_TRUE(std::isnan(f16ToF32(f32ToF16(nan))));
  EXPECT_EQ(f32ToBF16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(f32ToBF16(infinity), 0x7f80);
  EXPECT_EQ(f32ToBF16(-0.0f), 0x8000);
  uint32_t bits = 0x7f800001; // A NaN whose kept bits are all zero.
  std::memcpy(&nan, &bits, 4);
  EXPECT_TRUE(std::isnan(bf16ToF32(f32ToBF16(nan))));
}

TEST(DType, Names) {
  EXPECT_EQ(dtypeName(kBF16), "bf16");
  EXPECT_EQ(dtypeName({1, 8, 1}), "ui8");
  EXPECT_EQ(dtypeName({0, 32, 4}), "dtype(code 0, 32 bits, 4 lanes)");
  EXPECT_EQ(findDType({0, 32, 4}), nullptr);
  EXPECT_EQ(findNpyDType("<f3"), nullptr);
  EXPECT_EQ(findSafetensorsDType("f32"), nullptr);
}

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

TEST(Tensor, CountsWithoutOverflow) {
  EXPECT_EQ(countElements({}), 1);
  EXPECT_EQ(countElements({2, 3}), 6);
  EXPECT_EQ(countElements({2, 0}), 0);
  EXPECT_EQ(countElements({2, -1}), std::nullopt);
  EXPECT_EQ(countElements({int64_t(1) << 32, int64_t(1) << 31}), std::nullopt);
  EXPECT_EQ(countElements({int64_t(1) << 32, int64_t(1) << 31, 0}),
            std::nullopt);
  EXPECT_EQ(countBytes(kF64, {int64_t(1) << 60}), std::nullopt);
  EXPECT_EQ(countBytes(kF64, {3}), 24);
}

TEST(Tensor, AllocatesZeroedAndAligned) {
  for (int64_t size : {0, 1, 16, 17}) {
    Expected<Tensor> tensor = Tensor::allocate(kF32, {size}, "t");
    ASSERT_TRUE(tensor);
    EXPECT_EQ(uintptr_t(tensor->data()) % 64, 0u);
    EXPECT_EQ(values(tensor->as<float>(), size),
              std::vector<float>(size_t(size)));
  }
}

TEST(Tensor, RefusesWhatDoesNotFit) {
  EXPECT_EQ(Tensor::allocate(kF32, {int64_t(1) << 50}, "t").message(),
            "t: out of memory for f32 [1125899906842624] (4503599627370496 "
            "bytes)");
  EXPECT_EQ(Tensor::allocate(kF32, {-1}, "t").message(),
            "t: the shape [-1] is negative or overflows");
}

TEST(Tensor, ViewsForTheRuntime) {
  Expected<Tensor> tensor = Tensor::allocate(kI32, {2, 3}, "t");
  ASSERT_TRUE(tensor);
  Tensor flat = tensor->reshaped({6});
  moe_tensor view = flat.view();
  EXPECT_EQ(view.data, tensor->data());
  EXPECT_EQ(view.ndim, 1);
  EXPECT_EQ(view.shape[0], 6);
  EXPECT_EQ(view.strides, nullptr);
  EXPECT_EQ(view.byte_offset, 0u);
  EXPECT_EQ(view.device_type, 1);
  EXPECT_TRUE(sameDType(view.dtype, kI32));
  Expected<Tensor> copy = tensor->clone("t");
  ASSERT_TRUE(copy);
  EXPECT_NE(copy->data(), tensor->data());
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

TEST(Json, ParsesEveryKind) {
  Expected<JsonValue> value =
      parseJson("{\"a\":[1,-1,1.5,true,null],\"b\":\"x\\u00e4\",\"c\":{}}");
  ASSERT_TRUE(value) << value.message();
  const JsonValue *a = value->find("a");
  ASSERT_NE(a, nullptr);
  ASSERT_EQ(a->elements.size(), 5u);
  EXPECT_EQ(a->elements[0].number, 1u);
  EXPECT_TRUE(a->elements[1].is(JsonValue::Kind::Other));
  EXPECT_TRUE(a->elements[2].is(JsonValue::Kind::Other));
  EXPECT_TRUE(a->elements[3].boolean);
  EXPECT_TRUE(a->elements[4].is(JsonValue::Kind::Null));
  EXPECT_EQ(value->find("b")->string, "x\xc3\xa4");
  EXPECT_TRUE(value->find("c")->is(JsonValue::Kind::Object));
  EXPECT_EQ(value->find("d"), nullptr);
  EXPECT_EQ(parseJson("18446744073709551615")->number, UINT64_MAX);
  EXPECT_TRUE(parseJson("18446744073709551616")->is(JsonValue::Kind::Other));
}

TEST(Json, BoundsTheDepth) {
  auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_TRUE(parseJson(nested(32)));
  EXPECT_EQ(parseJson(nested(33)).message(), "JSON nested more than 32 deep");
}

TEST(Json, Refuses) {
  for (const char *text :
       {"", " ", "[1", "[1]]", "{\"a\"}", "'a'", "nul", "01", "\"\\x\"",
        "\"\n\"", "[1,]", "\"\xed\xa0\x80\"", "\"\\ud800\""})
    EXPECT_FALSE(parseJson(text)) << text;
  // The same key in two objects is no duplicate.
  EXPECT_TRUE(parseJson("[{\"a\":1},{\"a\":{\"a\":2}}]"));
  EXPECT_EQ(parseJson("{\"a\":1,\"\\u0061\":2}").message(),
            "duplicate key \"a\"");
}

TEST(Json, QuotesAnything) {
  std::string all;
  for (int c = 0; c < 128; ++c)
    all += char(c);
  all += "\xc3\xa4\xe2\x82\xac\xf0\x9f\x99\x82";
  Expected<JsonValue> value = parseJson(quoteJson(all));
  ASSERT_TRUE(value) << value.message();
  EXPECT_EQ(value->string, all);
  // Overlong, surrogate, past the end, cut: none is UTF-8.
  for (const char *bad :
       {"\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
        "\xf4\x90\x80\x80", "\xff", "\xe2\x82", "\x80"}) {
    EXPECT_FALSE(isValidUtf8(bad));
    EXPECT_TRUE(parseJson(quoteJson(bad)));
  }
  EXPECT_TRUE(isValidUtf8(all));
  EXPECT_EQ(quoteJson("a\xff"), "\"a\xef\xbf\xbd\"");
}

} // namespace
