//===- Harness.h - Running PTX in tests -------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_UNITTESTS_EMULATOR_HARNESS_H
#define MOE_UNITTESTS_EMULATOR_HARNESS_H

#include "moe/Emulator/Emulator.h"
#include "gtest/gtest.h"
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace moe::emulator::test {

/// Arguments of a kernel, each at its own alignment.
class Arguments {
public:
  template <typename T> Arguments &add(T value) {
    bytes.resize((bytes.size() + sizeof(T) - 1) / sizeof(T) * sizeof(T));
    size_t at = bytes.size();
    bytes.resize(at + sizeof(T));
    std::memcpy(&bytes[at], &value, sizeof(T));
    return *this;
  }
  std::vector<uint8_t> bytes;
};

/// Device memory with the values of a vector, or with none yet.
template <typename T> class Buffer {
public:
  Buffer(Device &device, const std::vector<T> &values, const char *name = "in")
      : device(device), count(values.size()) {
    auto memory = device.allocate(count * sizeof(T), name);
    EXPECT_TRUE(bool(memory));
    address = *memory;
    EXPECT_TRUE(bool(device.write(address, values.data(), count * sizeof(T))));
  }
  Buffer(Device &device, size_t count, const char *name = "out")
      : device(device), count(count) {
    auto memory = device.allocate(count * sizeof(T), name);
    EXPECT_TRUE(bool(memory));
    address = *memory;
  }
  std::vector<T> read() const {
    std::vector<T> values(count);
    EXPECT_TRUE(bool(device.read(values.data(), address, count * sizeof(T))));
    return values;
  }
  Device &device;
  size_t count;
  uint64_t address = 0;
};

inline std::string readFile(const std::string &path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::unique_ptr<Module> load(const std::string &text) {
  auto module = Module::load(text, "test.ptx");
  if (!module) {
    ADD_FAILURE() << module.message();
    return nullptr;
  }
  return std::move(*module);
}

inline LaunchOptions launchOptions(Dim3 grid, Dim3 block, size_t shared = 0) {
  LaunchOptions options;
  options.grid = grid;
  options.block = block;
  options.dynamicShared = shared;
  return options;
}

/// The launch's result; a launch that is refused fails the test.
inline LaunchResult launch(Device &device, const Module &module,
                           const std::string &kernel,
                           const LaunchOptions &options,
                           const Arguments &arguments) {
  auto result = device.launch(module, kernel, options, arguments.bytes);
  if (!result) {
    ADD_FAILURE() << result.message();
    return LaunchResult();
  }
  return std::move(*result);
}

inline std::string reportText(const LaunchResult &result) {
  std::string text;
  for (const Report &report : result.reports)
    text += toString(report) + "\n";
  return text;
}

inline void expectClean(const LaunchResult &result) {
  EXPECT_TRUE(result.completed);
  EXPECT_TRUE(result.reports.empty()) << reportText(result);
}

inline bool hasReport(const LaunchResult &result, ReportKind kind) {
  for (const Report &report : result.reports)
    if (report.kind == kind)
      return true;
  return false;
}

/// For changing single lines of a text.
inline std::vector<std::string> splitLines(const std::string &text) {
  std::vector<std::string> lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    lines.push_back(line);
  return lines;
}

inline std::string joinLines(const std::vector<std::string> &lines) {
  std::string text;
  for (const std::string &line : lines)
    text += line + "\n";
  return text;
}

/// The lines of a kernel that hold `what`.
inline std::vector<size_t> linesWith(const std::vector<std::string> &lines,
                                     const std::string &kernel,
                                     const std::string &what) {
  std::vector<size_t> found;
  bool inside = false;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].find(".entry") != std::string::npos)
      inside = lines[i].find(" " + kernel + "(") != std::string::npos;
    if (inside && lines[i].find(what) != std::string::npos)
      found.push_back(i);
  }
  return found;
}

/// A module around one kernel `k` with its parameters and body.
inline std::string kernelText(const std::string &params,
                              const std::string &body,
                              const std::string &before = "") {
  return ".version 8.0\n.target sm_90\n.address_size 64\n" + before +
         "\n.visible .entry k(" + params + ")\n{\n" + body + "\n}\n";
}

} // namespace moe::emulator::test

#endif // MOE_UNITTESTS_EMULATOR_HARNESS_H
