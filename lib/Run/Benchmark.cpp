//===- Benchmark.cpp - Repeated timed calls -------------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Run/Benchmark.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <fstream>
#include <set>
#include <unistd.h>

using namespace moe::run;
namespace io = moe::io;
using moe::io::Error;
using moe::io::Expected;
using moe::io::Status;
using moe::io::Success;
using moe::io::Tensor;

//===----------------------------------------------------------------------===//
// The last-level cache
//===----------------------------------------------------------------------===//

/// Reads "32768K" and the like from a file of sysfs; 0 where it cannot.
static int64_t readSize(const std::string &path) {
  std::ifstream file(path);
  int64_t size = 0;
  char unit = 0;
  if (!(file >> size) || size < 0)
    return 0;
  file >> unit;
  return unit == 'K' ? size << 10 : unit == 'M' ? size << 20 : size;
}

int64_t moe::run::lastLevelCacheBytes() {
  // Every cache of the highest level counts once: threads may use them all.
  int64_t level = 0, total = 0;
  std::set<std::string> seen;
  for (long cpu = 0, e = sysconf(_SC_NPROCESSORS_CONF); cpu < e; ++cpu) {
    for (int index = 0; index < 8; ++index) {
      std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                           "/cache/index" + std::to_string(index) + "/";
      int64_t thisLevel = readSize(folder + "level");
      std::string sharers;
      std::ifstream(folder + "shared_cpu_list") >> sharers;
      if (thisLevel == 0 || thisLevel < level)
        continue;
      if (thisLevel > level) {
        level = thisLevel;
        total = 0;
        seen.clear();
      }
      if (seen.insert(sharers).second)
        total += readSize(folder + "size");
    }
  }
  if (total > 0)
    return total;
#ifdef _SC_LEVEL3_CACHE_SIZE
  for (int name : {_SC_LEVEL3_CACHE_SIZE, _SC_LEVEL2_CACHE_SIZE})
    if (long size = sysconf(name); size > 0)
      return size;
#endif
  return 0;
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

Rotation moe::run::planRotation(int64_t activationBytes, int64_t weightBytes,
                                double touchedWeightBytes, int64_t cacheBytes,
                                int64_t memoryBytes) {
  constexpr int64_t kAssumedCache = int64_t(64) << 20;
  constexpr double kMostCopies = 1024;
  Rotation plan;
  plan.cacheBytes = cacheBytes;
  plan.activationBytes = activationBytes;
  plan.weightBytes = weightBytes;
  double goal = 8.0 * double(cacheBytes > 0 ? cacheBytes : kAssumedCache);
  // A cost that is no number counts as nothing.
  double touched = touchedWeightBytes > 0
                       ? std::min(touchedWeightBytes, double(weightBytes))
                       : 0;
  double perCall = double(activationBytes) + touched;
  if (perCall > 0) {
    bool flushes = touched > goal; // The weights alone drive x out.
    double wanted = flushes ? 2 : std::floor(goal / perCall) + 1;
    double oneCopy =
        double(activationBytes) + (flushes ? 0 : double(weightBytes));
    if (oneCopy > 0)
      wanted = std::min(wanted, std::floor(double(memoryBytes) / oneCopy));
    int64_t copies = int64_t(std::clamp(wanted, 1.0, kMostCopies));
    plan.activationCopies = activationBytes > 0 ? copies : 1;
    plan.weightCopies = flushes || weightBytes == 0 ? 1 : copies;
  }
  plan.touchedBytes = double(plan.activationCopies) * double(activationBytes) +
                      double(plan.weightCopies) * touched;
  plan.enough = plan.touchedBytes > goal;
  return plan;
}

std::string Rotation::text() const {
  auto mebibytes = [](double bytes) {
    char digits[64];
    auto end = std::to_chars(digits, digits + sizeof(digits),
                             bytes / double(1 << 20), std::chars_format::fixed,
                             /*precision=*/2);
    return std::string(digits, end.ptr) + " MiB";
  };
  std::string cache =
      cacheBytes > 0
          ? "the last-level cache of " + mebibytes(double(cacheBytes))
          : std::string("an assumed last-level cache of 64 MiB");
  return "inputs rotate over " + std::to_string(activationCopies) +
         " copies of " + mebibytes(double(activationBytes)) +
         " of activations and " + std::to_string(weightCopies) + " copies of " +
         mebibytes(double(weightBytes)) + " of weights; a turn touches " +
         mebibytes(touchedBytes) + ", " + (enough ? "over" : "NOT over") +
         " 8 times " + cache;
}

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

namespace {

/// The arguments of one call as the runtime takes them.
struct Views {
  std::vector<moe_tensor> in, out;

  Views(std::vector<Tensor> &inputs, std::vector<Tensor> &outputs) {
    for (Tensor &tensor : inputs)
      in.push_back(tensor.view());
    for (Tensor &tensor : outputs)
      out.push_back(tensor.view());
  }
};

Status callViews(moe_context *context, const moe_entry &entry, Views &views) {
  int status = moe_entry_call(context, &entry, views.in.data(),
                              uint32_t(views.in.size()), views.out.data(),
                              uint32_t(views.out.size()));
  if (status == MOE_OK)
    return Success();
  std::string message = moe_context_error(context);
  if (message.empty())
    message = std::string("the call failed: ") + moe_status_name(status);
  return Error{message};
}

bool isActivation(const moe_arg_info &arg) {
  return std::any_of(arg.shape, arg.shape + arg.rank,
                     [](int64_t size) { return size < 0; });
}

} // namespace

Status moe::run::callEntry(moe_context *context, const moe_entry &entry,
                           std::vector<Tensor> &inputs,
                           std::vector<Tensor> &outputs) {
  Views views(inputs, outputs);
  return callViews(context, entry, views);
}

/// The inputs of each copy; copy 0 is the original.
static Expected<std::vector<std::vector<Tensor>>>
copyInputs(const moe_entry_info &info, const std::vector<Tensor> &inputs,
           const Rotation &plan) {
  int64_t copies = std::max(plan.activationCopies, plan.weightCopies);
  std::vector<std::vector<Tensor>> sets(size_t(copies), inputs);
  for (size_t c = 1; c < sets.size(); ++c) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      int64_t own = isActivation(info.args[i]) ? plan.activationCopies
                                               : plan.weightCopies;
      if (int64_t(c) >= own)
        continue;
      Expected<Tensor> copy = inputs[i].clone("copy for the measurement");
      if (!copy)
        return copy.error();
      sets[c][i] = std::move(*copy);
    }
  }
  return sets;
}

Expected<Timing> moe::run::benchmark(moe_context *context,
                                     const moe_entry &entry,
                                     const std::vector<Tensor> &inputs,
                                     std::vector<Tensor> &outputs, int repeat,
                                     const std::optional<Cost> &cost) {
  int64_t activationBytes = 0, weightBytes = 0;
  for (size_t i = 0; i < inputs.size(); ++i)
    (isActivation(entry.info->args[i]) ? activationBytes : weightBytes) +=
        inputs[i].numBytes();
  Timing timing;
  timing.repeat = repeat;
  // A quarter of the machine is a fair share for copies.
  int64_t memory =
      int64_t(sysconf(_SC_PHYS_PAGES)) / 4 * int64_t(sysconf(_SC_PAGESIZE));
  timing.rotation = planRotation(activationBytes, weightBytes,
                                 cost ? cost->weightBytes : double(weightBytes),
                                 lastLevelCacheBytes(), memory);
  auto sets = copyInputs(*entry.info, inputs, timing.rotation);
  if (!sets)
    return sets.error();
  std::vector<Views> views;
  for (std::vector<Tensor> &set : *sets)
    views.emplace_back(set, outputs);
  for (Views &view : views)
    if (Status status = callViews(context, entry, view); !status)
      return status.error();

  std::vector<double> seconds;
  for (int i = 0; i < repeat; ++i) {
    auto begin = std::chrono::steady_clock::now();
    Status status = callViews(context, entry, views[size_t(i) % views.size()]);
    std::chrono::duration<double> time =
        std::chrono::steady_clock::now() - begin;
    if (!status)
      return status.error();
    seconds.push_back(time.count());
  }
  std::sort(seconds.begin(), seconds.end());
  size_t half = seconds.size() / 2;
  timing.min = seconds.front();
  timing.median = seconds.size() % 2 ? seconds[half]
                                     : (seconds[half - 1] + seconds[half]) / 2;
  return timing;
}
