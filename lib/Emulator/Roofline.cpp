//===- Roofline.cpp - What counts allow a device at best ------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Emulator/Roofline.h"

#include <cassert>
#include <cstdio>

using namespace moe::emulator;

namespace {

// Dense operations at the boost clock. A100: NVIDIA's data sheet of the SXM4
// card with 80 GB, and "NVIDIA A100 Tensor Core GPU Architecture", table 4.
// H100: "NVIDIA H100 Tensor Core GPU Architecture", tables of the SXM5 card,
// whose tensor cores are stated at 1.83 GHz and all else at 1.98 GHz.
constexpr std::array<DevicePeaks, 2> kDevices{{
    {"A100-SXM 80GB", 108, 1.41e9, 2039e9, 624e12, 312e12, 156e12},
    {"H100-SXM 80GB", 132, 1.98e9, 3352e9, 1978.9e12, 989.4e12, 494.7e12},
}};

constexpr double kSectorBytes = 32;
/// A scheduler issues one instruction a clock.
constexpr double kSchedulers = 4;
constexpr double kMicro = 1e6;

/// Operations and bits of an element of such as
/// "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32".
struct MatrixShape {
  double operations = 0;
  unsigned bits = 16;
};

MatrixShape parseShape(const std::string &name) {
  MatrixShape shape;
  size_t at = name.find(".m16n8k");
  assert(at != std::string::npos && "all products have such a shape");
  unsigned m = 0, n = 0, k = 0;
  std::sscanf(name.c_str() + at, ".m%un%uk%u", &m, &n, &k);
  shape.operations = 2.0 * m * n * k;
  if (name.find(".tf32") != std::string::npos)
    shape.bits = 32;
  else if (name.find(".s8") != std::string::npos ||
           name.find(".u8") != std::string::npos)
    shape.bits = 8;
  return shape;
}

double matrixSeconds(const Statistics &statistics, const DevicePeaks &device) {
  double seconds = 0;
  for (const auto &[name, count] : statistics.matrix) {
    MatrixShape shape = parseShape(name);
    double peak = shape.bits == 8    ? device.matrix8
                  : shape.bits == 32 ? device.matrix32
                                     : device.matrix16;
    seconds += double(count) * shape.operations / peak;
  }
  return seconds;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

} // namespace

const std::array<DevicePeaks, 2> &moe::emulator::knownDevices() {
  return kDevices;
}

const char *moe::emulator::limitName(Limit limit) {
  switch (limit) {
  case Limit::Memory:
    return "memory";
  case Limit::TensorCores:
    return "tensor cores";
  case Limit::SharedMemory:
    return "shared memory";
  case Limit::IssueSlots:
    return "issue slots";
  }
  return "unknown";
}

Roofline moe::emulator::computeRoofline(const Statistics &statistics,
                                        const DevicePeaks &device) {
  double sectors =
      double(statistics.loadSectors) + double(statistics.storeSectors);
  // A multiprocessor makes one pass over its banks a clock.
  double clocks = device.multiprocessors * device.clock;
  Roofline roofline;
  auto set = [&](Limit limit, double seconds) {
    roofline.microseconds[unsigned(limit)] = seconds * kMicro;
    if (roofline.microseconds[unsigned(limit)] > roofline.bound())
      roofline.limit = limit;
  };
  set(Limit::Memory, sectors * kSectorBytes / device.memoryBytes);
  set(Limit::TensorCores, matrixSeconds(statistics, device));
  set(Limit::SharedMemory, double(statistics.sharedPasses) / clocks);
  set(Limit::IssueSlots,
      double(statistics.warpInstructions) / (kSchedulers * clocks));
  return roofline;
}

std::string moe::emulator::toRooflineJson(const Statistics &statistics) {
  std::string text = "{";
  for (const DevicePeaks &device : kDevices) {
    Roofline roofline = computeRoofline(statistics, device);
    text += (text.size() > 1 ? ", \"" : "\"") + std::string(device.name) +
            "\": {\"microseconds\": " + number(roofline.bound()) +
            ", \"limit\": \"" + limitName(roofline.limit) + "\", \"units\": {";
    for (unsigned i = 0; i < kNumLimits; ++i)
      text += std::string(i ? ", \"" : "\"") + limitName(Limit(i)) +
              "\": " + number(roofline.microseconds[i]);
    text += "}}";
  }
  return text + "}";
}
