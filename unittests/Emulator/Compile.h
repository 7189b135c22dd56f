//===- Compile.h - PTX of committed files and of nvcc -----------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_UNITTESTS_EMULATOR_COMPILE_H
#define MOE_UNITTESTS_EMULATOR_COMPILE_H

#include "Harness.h"
#include <cstdlib>

namespace moe::emulator::test {

/// Tests on the kernels of one .cu: with the committed PTX, and with what nvcc
/// makes of it now.
class KernelFile : public ::testing::TestWithParam<bool> {
protected:
  virtual const char *source() const = 0;
  virtual const char *architecture() const { return "sm_80"; }

  void SetUp() override {
    std::string base = std::string(MOE_TEST_INPUTS) + "/" + source();
    std::string path = base + ".ptx";
    if (GetParam()) {
      if (std::string(MOE_NVCC).empty())
        GTEST_SKIP() << "nvcc is not installed";
      path = ::testing::TempDir() + "moe-" + source() + ".ptx";
      if (!std::ifstream(path).good() || !compiled()) {
        std::string command =
            std::string("\"") + MOE_NVCC +
            "\" -ptx -std=c++17 -lineinfo -arch=" + architecture() + " \"" +
            base + ".cu\" -o \"" + path + "\"";
        ASSERT_EQ(std::system(command.c_str()), 0) << command;
        compiled() = true;
      }
    }
    module = load(readFile(path));
    ASSERT_TRUE(module);
  }

  /// Once a program is enough.
  bool &compiled() const {
    static std::map<std::string, bool> done;
    return done[source()];
  }

  LaunchResult runUnchecked(const std::string &kernel, Dim3 grid, Dim3 block,
                            const Arguments &arguments, uint64_t seed = 0,
                            size_t shared = 0) {
    LaunchOptions options = launchOptions(grid, block, shared);
    options.seed = seed;
    return launch(device, *module, kernel, options, arguments);
  }

  LaunchResult run(const std::string &kernel, Dim3 grid, Dim3 block,
                   const Arguments &arguments, uint64_t seed = 0,
                   size_t shared = 0) {
    LaunchResult result =
        runUnchecked(kernel, grid, block, arguments, seed, shared);
    expectClean(result);
    return result;
  }

  Device device;
  std::unique_ptr<Module> module;
};

inline std::string originName(const ::testing::TestParamInfo<bool> &info) {
  return info.param ? "Nvcc" : "Committed";
}

} // namespace moe::emulator::test

#endif // MOE_UNITTESTS_EMULATOR_COMPILE_H
