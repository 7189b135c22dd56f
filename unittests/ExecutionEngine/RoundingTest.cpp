//===- RoundingTest.cpp - bf16 on processors with and without it ----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"
#include "mlir/Parser/Parser.h"
#include "llvm/TargetParser/Host.h"
#include <cmath>

using namespace mlir;
using namespace mlir::moe;

namespace {

constexpr const char *kRound = R"mlir(
#id = affine_map<(d0) -> (d0)>
func.func @round(%x: tensor<?xTYPE> {moe.name = "x", moe.dims = ["T"]})
    -> (tensor<?xbf16> {moe.name = "y", moe.dims = ["T"]})
    attributes {moe.entry} {
  %c0 = arith.constant 0 : index
  %size = tensor.dim %x, %c0 : tensor<?xTYPE>
  %init = tensor.empty(%size) : tensor<?xbf16>
  %y = linalg.generic {indexing_maps = [#id, #id],
                       iterator_types = ["parallel"]}
      ins(%x : tensor<?xTYPE>) outs(%init : tensor<?xbf16>) {
  ^bb0(%in: TYPE, %out: bf16):
    %0 = arith.truncf %in : TYPE to bf16
    linalg.yield %0 : bf16
  } -> tensor<?xbf16>
  return %y : tensor<?xbf16>
}
)mlir";

/// The bits of the values rounded by code for a processor; x86-64-v3 has AVX2
/// and no instruction of bf16.
template <typename T>
std::vector<uint16_t> roundAll(StringRef type, std::vector<T> values,
                               StringRef cpu = "x86-64-v3") {
  std::string text = kRound;
  for (size_t at; (at = text.find("TYPE")) != std::string::npos;)
    text.replace(at, 4, type.str());
  Compiler compiler;
  CompileOptions options;
  options.cpu = cpu.str();
  auto source = parseSourceString<ModuleOp>(text, &compiler.context);
  if (!source || failed(lowerModule(*source, options)))
    return {};
  auto object = compileToObject(*source, options);
  EXPECT_TRUE(bool(object)) << llvm::toString(object.takeError());
  auto module = object ? load(std::move(*object)) : nullptr;
  auto entry = module ? module->getEntry("round")
                      : llvm::Expected<moe_entry>(moe_entry{});
  EXPECT_TRUE(bool(entry)) << llvm::toString(entry.takeError());
  if (!entry || !entry->run)
    return {};
  Arguments arguments(entry->info, values.size());
  std::memcpy(arguments.tensors[0].data, values.data(),
              values.size() * sizeof(T));
  ContextPtr context = makeContext();
  EXPECT_EQ(arguments.call(context.get(), *entry), MOE_OK);
  std::vector<uint16_t> bits(values.size());
  std::memcpy(bits.data(), arguments.out()->data, bits.size() * 2);
  return bits;
}

class RoundingTest : public ::testing::Test {
protected:
  void SetUp() override {
    auto features = llvm::sys::getHostCPUFeatures();
    for (const char *needed : {"avx2", "fma", "f16c", "bmi2"})
      if (!features.lookup(needed))
        GTEST_SKIP() << "this machine cannot run code for x86-64-v3";
  }
};

float fromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

TEST_F(RoundingTest, fromF32) {
  std::vector<std::pair<uint32_t, uint16_t>> cases = {
      {0x00000000, 0x0000}, {0x80000000, 0x8000}, {0x3f800000, 0x3f80},
      {0xbf800000, 0xbf80}, {0x3f808000, 0x3f80}, // A tie, down to even.
      {0x3f818000, 0x3f82},                       // A tie, up to even.
      {0x3f808001, 0x3f81}, {0x3f807fff, 0x3f80}, // Next to a tie.
      {0x7f7fffff, 0x7f80},                       // The largest is infinite.
      {0x7f7f7fff, 0x7f7f}, {0xff800000, 0xff80}, {0x7f800001, 0x7fc0},
      {0xffffffff, 0xffff},                       // NaNs.
      {0x00010000, 0x0001}, {0x00018000, 0x0002}, // Below the normal ones.
  };
  std::vector<float> values;
  for (auto [bits, expected] : cases)
    values.push_back(fromBits(bits));
  std::vector<uint16_t> found = roundAll("f32", values);
  ASSERT_EQ(found.size(), cases.size());
  for (auto [wanted, bits] : llvm::zip(cases, found))
    EXPECT_EQ(bits, wanted.second) << std::hex << wanted.first;
}

TEST_F(RoundingTest, fromF64RoundsOnce) {
  double tie = 1 + 0x1p-8, little = 0x1p-45;
  std::vector<double> values = {1,
                                tie,
                                tie + little,
                                tie - little,
                                -(tie + little),
                                0x1p127 * 1.998046875,
                                1e300,
                                std::nan(""),
                                1e-320};
  // This machine may round an f32 to bf16 by itself; none rounds an f64.
  for (StringRef cpu : {"x86-64-v3", "native"}) {
    SCOPED_TRACE(cpu.str());
    std::vector<uint16_t> found = roundAll("f64", values, cpu);
    ASSERT_EQ(found.size(), values.size());
    EXPECT_EQ(found[0], 0x3f80);
    EXPECT_EQ(found[1], 0x3f80);
    EXPECT_EQ(found[2], 0x3f81);
    EXPECT_EQ(found[3], 0x3f80);
    EXPECT_EQ(found[4], 0xbf81);
    EXPECT_EQ(found[5], 0x7f80);
    EXPECT_EQ(found[6], 0x7f80);
    EXPECT_EQ(found[7] & 0x7fc0, 0x7fc0);
    EXPECT_EQ(found[8], 0x0000);
  }
}

} // namespace
