//===- RooflineTest.cpp - Bounds modelled from counts ---------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Emulator/Roofline.h"

#include "gtest/gtest.h"

using namespace moe::emulator;

namespace {

const char *const kBF16 = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32";

/// A device of round numbers.
constexpr DevicePeaks kDevice{"device", 10, 1e9, 1e12, 4e12, 2e12, 1e12};

double timeOf(const Statistics &statistics, Limit limit) {
  return computeRoofline(statistics, kDevice).microseconds[unsigned(limit)];
}

TEST(Roofline, Memory) {
  Statistics statistics;
  statistics.loadSectors = 20000;
  statistics.storeSectors = 11250;
  Roofline roofline = computeRoofline(statistics, kDevice);
  // 1,000,000 bytes of 10^12 a second.
  EXPECT_DOUBLE_EQ(roofline.bound(), 1);
  EXPECT_EQ(roofline.limit, Limit::Memory);
}

TEST(Roofline, TensorCores) {
  Statistics statistics;
  // 4096 operations each.
  statistics.matrix[kBF16] = 1000;
  Roofline roofline = computeRoofline(statistics, kDevice);
  EXPECT_DOUBLE_EQ(roofline.bound(), 2.048);
  EXPECT_EQ(roofline.limit, Limit::TensorCores);
  // Half as many by tf32, of half the peak; twice as many of twice the peak.
  statistics.matrix.clear();
  statistics.matrix["mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"] =
      1000;
  EXPECT_DOUBLE_EQ(timeOf(statistics, Limit::TensorCores), 2.048);
  statistics.matrix["mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32"] = 1000;
  EXPECT_DOUBLE_EQ(timeOf(statistics, Limit::TensorCores), 4.096);
}

TEST(Roofline, SharedMemoryAndIssueSlots) {
  Statistics statistics;
  statistics.sharedPasses = 10000;
  statistics.warpInstructions = 20000;
  Roofline roofline = computeRoofline(statistics, kDevice);
  EXPECT_DOUBLE_EQ(roofline.bound(), 1);
  EXPECT_EQ(roofline.limit, Limit::SharedMemory);
  EXPECT_DOUBLE_EQ(timeOf(statistics, Limit::IssueSlots), 0.5);
  statistics.warpInstructions = 60000;
  roofline = computeRoofline(statistics, kDevice);
  EXPECT_DOUBLE_EQ(roofline.bound(), 1.5);
  EXPECT_EQ(roofline.limit, Limit::IssueSlots);
}

/// What is published fits together: a tensor core's peak is that of its clock.
TEST(Roofline, KnownDevices) {
  for (const DevicePeaks &device : knownDevices()) {
    EXPECT_EQ(device.matrix16, 2 * device.matrix32) << device.name;
    EXPECT_NEAR(device.matrix8 / device.matrix16, 2, 1e-3) << device.name;
    double perClock = device.matrix16 / (device.multiprocessors * device.clock);
    double most = device.multiprocessors == 108 ? 2048 : 4096;
    EXPECT_LE(perClock, 1.001 * most) << device.name;
    EXPECT_GE(perClock, 0.9 * most) << device.name;
  }
}

TEST(Roofline, Json) {
  Statistics statistics;
  statistics.loadSectors = 2039000;
  statistics.matrix[kBF16] = 1;
  EXPECT_EQ(toRooflineJson(statistics),
            "{\"A100-SXM 80GB\": {\"microseconds\": 32, \"limit\": "
            "\"memory\", \"units\": {\"memory\": 32, \"tensor cores\": "
            "1.31282e-05, \"shared memory\": 0, \"issue slots\": 0}}, "
            "\"H100-SXM 80GB\": {\"microseconds\": 19.4654, \"limit\": "
            "\"memory\", \"units\": {\"memory\": 19.4654, \"tensor cores\": "
            "4.13988e-06, \"shared memory\": 0, \"issue slots\": 0}}}");
}

} // namespace
