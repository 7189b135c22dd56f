//===- Options.h - The command line of moe-run ------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_RUN_OPTIONS_H
#define MOE_RUN_OPTIONS_H

#include "moe/IO/Expected.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace moe::run {

/// The emulator stands for a GPU: what is compiled is the same.
enum class Target { Cpu, Oracle, Cuda, GpuEmulator };

inline bool isGPU(Target target) {
  return target == Target::Cuda || target == Target::GpuEmulator;
}

/// NAME=TEXT, as given.
using Setting = std::pair<std::string, std::string>;

struct Options {
  std::string file;
  std::string entry; ///< Empty: the only entry of the file.
  std::vector<Setting> args;
  std::vector<Setting> outs;
  std::vector<Setting> layouts;
  std::vector<std::pair<std::string, int64_t>> dims;
  Target target = Target::Cpu;
  std::string chip;                          ///< Of a GPU; empty: sm_80.
  bool tf32 = false, batchInvariant = false; ///< Of a GPU.
  bool packWeights = false; ///< Compile an entry that packs its weights.
  bool packed = false;      ///< Weights are given as the entry reads them.
  int threads = 0;          ///< 0: one a core.
  int repeat = 0;           ///< 0: run once, do not measure.
  bool checkGradients = false;
  bool json = false;
  bool statistics = false; ///< Of emulated kernels.
  bool plan = false;       ///< Of emulated kernels, with their statistics.
  /// Seed of the order in which emulated warps and blocks run; 0: in turn.
  uint64_t schedule = 0;
  bool help = false;
};

const char *targetName(Target target);

/// Parses argv[1..argc). With `--help` nothing else is required.
io::Expected<Options> parseOptions(int argc, const char *const *argv);

/// The text of `--help`.
std::string helpText();

} // namespace moe::run

#endif // MOE_RUN_OPTIONS_H
