//===- Statistics.cpp - What emulated kernels executed --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Statistics.h"
#include "moe/Emulator/GPU.h"
#include "moe/Emulator/Roofline.h"
#include "llvm/Support/raw_ostream.h"
#include <cstdio>
#include <iostream>

using namespace mlir;
using namespace mlir::moe;
namespace emulator = ::moe::emulator;

static uint64_t countProducts(const emulator::Statistics &statistics) {
  uint64_t count = 0;
  for (const auto &[shape, own] : statistics.matrix)
    count += own;
  return count;
}

void mlir::moe::printStatisticsJson(moe_gpu *gpu) {
  std::string text;
  for (const auto &own : emulator::getStatistics(gpu))
    text +=
        (text.empty() ? "" : ", ") + ("{\"kernel\": \"" + own.kernel) +
        "\", \"launches\": " + std::to_string(own.launches) +
        ", \"statistics\": " + emulator::toJson(own.statistics) +
        ", \"modelled_bound\": " + emulator::toRooflineJson(own.statistics) +
        "}";
  std::cout << "{\"kernels\": [" << text << "]}\n";
}

/// A line for each kernel: what its counts allow known devices at best.
static void printBounds(moe_gpu *gpu) {
  std::printf("\n%-32s", "modelled bound in us, by limit");
  for (const emulator::DevicePeaks &device : emulator::knownDevices())
    std::printf(" %24s", device.name);
  std::printf("\n");
  for (const auto &own : emulator::getStatistics(gpu)) {
    std::printf("%-32s", own.kernel.c_str());
    for (const emulator::DevicePeaks &device : emulator::knownDevices()) {
      emulator::Roofline roofline = computeRoofline(own.statistics, device);
      std::printf(" %13s %10.3f", limitName(roofline.limit), roofline.bound());
    }
    std::printf("\n");
  }
}

/// A ratio is to the fewest that could do.
void mlir::moe::printStatistics(moe_gpu *gpu) {
  std::printf("%-32s %8s %14s %10s %12s %7s %12s %7s\n", "kernel", "launches",
              "instructions", "mma", "sectors", "ratio", "passes", "ratio");
  auto ratio = [](uint64_t count, uint64_t ideal) {
    return ideal ? double(count) / double(ideal) : 1.0;
  };
  for (const auto &own : emulator::getStatistics(gpu)) {
    const emulator::Statistics &s = own.statistics;
    uint64_t sectors = s.loadSectors + s.storeSectors;
    uint64_t ideal = s.loadSectorsIdeal + s.storeSectorsIdeal;
    std::printf("%-32s %8llu %14llu %10llu %12llu %7.3f %12llu %7.3f\n",
                own.kernel.c_str(), (unsigned long long)own.launches,
                (unsigned long long)s.warpInstructions,
                (unsigned long long)countProducts(s),
                (unsigned long long)sectors, ratio(sectors, ideal),
                (unsigned long long)s.sharedPasses,
                ratio(s.sharedPasses, s.sharedPassesIdeal));
  }
  printBounds(gpu);
}

static std::string threeDigits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

void mlir::moe::printExecutedPlan(const GPUPlan &plan, moe_gpu *gpu) {
  std::vector<PlanColumn> columns(4);
  columns[0].title = "launched";
  columns[1].title = "instructions";
  columns[2].title = "mma";
  columns[3].title = "sectors";
  std::string all;
  const auto statistics = emulator::getStatistics(gpu);
  for (const auto &own : statistics) {
    const emulator::Statistics &s = own.statistics;
    columns[0].cells[own.kernel] = std::to_string(own.launches);
    columns[1].cells[own.kernel] = std::to_string(s.warpInstructions);
    if (uint64_t products = countProducts(s))
      columns[2].cells[own.kernel] = std::to_string(products);
    columns[3].cells[own.kernel] =
        std::to_string(s.loadSectors + s.storeSectors);
  }
  for (const emulator::DevicePeaks &device : emulator::knownDevices()) {
    PlanColumn column{"modelled us, " + std::string(device.name), {}};
    double sum = 0;
    for (const auto &own : statistics) {
      emulator::Roofline roofline = computeRoofline(own.statistics, device);
      column.cells[own.kernel] =
          threeDigits(roofline.bound()) + " " + limitName(roofline.limit);
      sum += roofline.bound();
    }
    columns.push_back(column);
    all +=
        (all.empty() ? "" : ", ") + threeDigits(sum) + " us on " + device.name;
  }
  printPlan(llvm::outs(), plan, columns);
  llvm::outs() << "modelled bound of all launches: " << all << "\n";
  llvm::outs().flush();
}
