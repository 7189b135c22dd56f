//===- Recorder.h - A GPU that remembers its launches -----------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_FAULTS_RECORDER_H
#define MOE_TEST_FAULTS_RECORDER_H

#include "moe/Emulator/Emulator.h"
#include "moe/Runtime/moe_rt.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace moe::faults {

/// A launch, and the memory that it found.
struct RecordedLaunch {
  const void *image = nullptr;
  std::string kernel;
  emulator::LaunchOptions options;
  std::vector<uint8_t> arguments;
  emulator::Snapshot before;
};

/// Runs kernels by the emulator, and keeps all that is needed to run one again.
/// Memory stays until the end.
struct Recorder : moe_gpu {
  Recorder();

  emulator::Device device;
  std::map<const void *, std::string> images;
  std::vector<RecordedLaunch> launches;

private:
  int refuse(std::string text);
  int run(const moe_launch &launch);

  std::map<const void *, std::unique_ptr<emulator::Module>> modules;
  std::string message;
};

} // namespace moe::faults

#endif // MOE_TEST_FAULTS_RECORDER_H
