//===- TritonTest.cpp - A kernel as Triton writes it ----------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Rows of pairs of token and slot, sorted by expert and padded to blocks of 16,
// times their expert's weight and their own: Inputs/triton.ptx.
//
//===----------------------------------------------------------------------===//

#include "Harness.h"

using namespace moe::emulator;
using namespace moe::emulator::test;

namespace {

constexpr int kPairs = 37, kOutputs = 64, kInputs = 128, kExperts = 3;
constexpr int kBlockRows = 16, kSharedBytes = 6144;

/// Numbers so small that all sums are exact in bf16.
int rowValue(int token, int k) { return (token * 5 + k * 3) % 7 % 3 - 1; }
int weightValue(int expert, int output, int k) {
  return (expert + output * 3 + k * 5) % 11 % 3 - 1;
}
int expertOf(int pair) { return pair % 4 ? 0 : 2; } // None of expert 1.
float pairWeight(int pair) { return pair % 3 ? 0.5f : 2.0f; }

uint16_t toBF16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return uint16_t(bits >> 16);
}

class Triton : public ::testing::Test {
protected:
  Triton()
      : lines(splitLines(
            readFile(std::string(MOE_TEST_INPUTS) + "/triton.ptx"))) {
    for (int token = 0; token < (kPairs + 1) / 2; ++token)
      for (int k = 0; k < kInputs; ++k)
        rows.push_back(toBF16(float(rowValue(token, k))));
    for (int expert = 0; expert < kExperts; ++expert)
      for (int output = 0; output < kOutputs; ++output)
        for (int k = 0; k < kInputs; ++k)
          weights.push_back(toBF16(float(weightValue(expert, output, k))));
    for (int pair = 0; pair < kPairs; ++pair)
      scales.push_back(pairWeight(pair));
    for (int expert = 0; expert < kExperts; ++expert) {
      for (int pair = 0; pair < kPairs; ++pair)
        if (expertOf(pair) == expert)
          sorted.push_back(pair);
      while (sorted.size() % kBlockRows)
        sorted.push_back(kPairs);
      experts.resize(sorted.size() / kBlockRows, expert);
    }
  }

  /// Runs the kernel that `text` is and counts the numbers that are wrong.
  LaunchResult run(const std::vector<std::string> &text, int &wrong,
                   uint64_t seed = 0) {
    auto module = load(joinLines(text));
    Device device;
    Buffer<uint16_t> a(device, rows, "a"), b(device, weights, "b"),
        c(device, size_t(kPairs) * kOutputs, "c");
    Buffer<float> scale(device, scales, "weights");
    Buffer<int> order(device, sorted, "rows"),
        owners(device, experts, "experts"),
        padded(device, std::vector<int>{int(sorted.size())}, "padded");
    Arguments arguments;
    for (uint64_t address : {a.address, b.address, c.address, scale.address,
                             order.address, owners.address, padded.address})
      arguments.add(address);
    arguments.add(kPairs).add(uint64_t(0)).add(uint64_t(0));
    // One block of rows more than there are: it has to leave at once.
    unsigned blocks = unsigned(experts.size() + 1) * 2;
    LaunchOptions options = launchOptions({blocks}, {128}, kSharedBytes);
    options.seed = seed;
    LaunchResult result =
        launch(device, *module, "grouped_product", options, arguments);
    wrong = countWrong(c.read());
    return result;
  }

  static int countWrong(const std::vector<uint16_t> &found) {
    int wrong = 0;
    for (int pair = 0; pair < kPairs; ++pair)
      for (int output = 0; output < kOutputs; ++output) {
        int sum = 0;
        for (int k = 0; k < kInputs; ++k)
          sum += rowValue(pair / 2, k) * weightValue(expertOf(pair), output, k);
        wrong += found[size_t(pair) * kOutputs + output] !=
                 toBF16(float(sum) * pairWeight(pair));
      }
    return wrong;
  }

  std::vector<std::string> lines;
  std::vector<uint16_t> rows, weights;
  std::vector<float> scales;
  std::vector<int> sorted, experts;
};

TEST_F(Triton, Product) {
  for (uint64_t seed : {0, 1, 2}) {
    int wrong = 0;
    LaunchResult result = run(lines, wrong, seed);
    expectClean(result);
    EXPECT_EQ(wrong, 0);
    const Statistics &stats = result.statistics;
    // Three blocks of rows, padding too.
    EXPECT_EQ(stats.matrix.begin()->second, 3u * kOutputs / 8 * kInputs / 16);
    EXPECT_EQ(stats.sharedPasses, stats.sharedPassesIdeal);
  }
}

TEST_F(Triton, EachBarrierDeleted) {
  std::vector<size_t> barriers =
      linesWith(lines, "grouped_product", "bar.sync");
  ASSERT_EQ(barriers.size(), 6u);
  for (size_t i = 0; i < barriers.size(); ++i) {
    std::vector<std::string> changed = lines;
    changed[barriers[i]].clear();
    int wrong = 0;
    LaunchResult result = run(changed, wrong);
    bool reported = hasReport(result, ReportKind::Race) ||
                    hasReport(result, ReportKind::InFlight);
    // The second opens the loop: the one before, or that which closes the
    // loop, has just been passed, and nobody has touched the stages since.
    EXPECT_EQ(reported, i != 1) << "line " << barriers[i] + 1;
  }
}

TEST_F(Triton, WaitsTooWeak) {
  std::vector<size_t> waits =
      linesWith(lines, "grouped_product", "cp.async.wait_group");
  ASSERT_EQ(waits.size(), 5u);
  // Before the loop; the three of the loop, of which any one would do.
  for (auto [first, last] : {std::pair(0, 1), std::pair(1, 4)}) {
    std::vector<std::string> changed = lines;
    for (int i = first; i < last; ++i)
      changed[waits[size_t(i)]] = "cp.async.wait_group 3;";
    int wrong = 0;
    LaunchResult result = run(changed, wrong);
    EXPECT_TRUE(hasReport(result, ReportKind::InFlight)) << reportText(result);
  }
}

TEST_F(Triton, MaskOfPaddingDropped) {
  std::vector<size_t> stores = linesWith(lines, "grouped_product", "st.global");
  ASSERT_FALSE(stores.empty());
  for (size_t at : stores) {
    std::vector<std::string> changed = lines;
    size_t guard = changed[at].find('@');
    ASSERT_NE(guard, std::string::npos) << changed[at];
    changed[at].erase(guard, changed[at].find(' ', guard) - guard);
    int wrong = 0;
    EXPECT_TRUE(hasReport(run(changed, wrong), ReportKind::OutOfBounds));
  }
}

} // namespace
