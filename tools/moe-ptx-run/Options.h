//===- Options.h - The command line of moe-ptx-run --------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TOOLS_MOE_PTX_RUN_OPTIONS_H
#define MOE_TOOLS_MOE_PTX_RUN_OPTIONS_H

#include "moe/Emulator/Emulator.h"
#include "moe/IO/Tensor.h"

namespace moe::ptxrun {

/// What a kernel gets for one parameter, in the order of the command line.
struct ArgumentSpec {
  std::string text; ///< As given, for messages.
  // A value, or the name of a buffer whose address it is.
  std::vector<uint8_t> bytes;
  std::string reference;
  // A buffer, where it has a name.
  std::string name;
  std::string path; ///< Of a .npy file; empty: elements made by `fill`.
  moe_dtype dtype = io::kF32;
  io::Shape shape;
  /// The kernel gets the words of a memref, not the address alone.
  bool memref = false;
  enum Fill : uint8_t { None, Zeros, Ones, Iota, Random } fill = None;
  uint64_t seed = 0;
};

/// NAME and where its values go.
struct OutputSpec {
  std::string name;
  std::string path;
  int64_t count = 0; ///< For --print: of that many.
};

struct Options {
  std::string file;
  std::string kernel; ///< Empty: the only one.
  emulator::LaunchOptions launch;
  bool haveGrid = false, haveBlock = false;
  std::vector<ArgumentSpec> arguments;
  std::vector<OutputSpec> outputs, prints;
  uint64_t schedules = 1;
  bool statistics = false, json = false, list = false, help = false;
};

io::Expected<Options> parseOptions(int argc, const char *const *argv);
std::string helpText();

} // namespace moe::ptxrun

#endif // MOE_TOOLS_MOE_PTX_RUN_OPTIONS_H
