//===- Emulator.h - Checked execution of PTX --------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Runs the PTX text that an assembler or driver would get, on any host, and
// reports what hardware would let pass: races, accesses out of bounds, reads of
// memory that nobody wrote, missing waits. See docs/Emulator.md.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_EMULATOR_EMULATOR_H
#define MOE_EMULATOR_EMULATOR_H

#include "moe/Emulator/Report.h"
#include "moe/Emulator/Statistics.h"
#include "moe/IO/Expected.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moe::emulator {

struct Program;
class GlobalMemory;

struct KernelParam {
  std::string type; ///< As in the text: "u64", "f32", "b8".
  size_t size = 0;  ///< In bytes.
  size_t alignment = 1;
  size_t offset = 0; ///< In the buffer of arguments.
  bool isArray = false;
};

struct KernelInfo {
  std::string name;
  std::vector<KernelParam> params;
  size_t paramBytes = 0;
  size_t sharedBytes = 0; ///< Of static variables of the whole module.
  std::optional<Dim3> requiredBlock;
  std::optional<uint64_t> maxThreads;
};

/// PTX text, parsed and decoded, with the memory of its global variables.
class Module {
public:
  /// Fails with "NAME:LINE: message" on the first thing that is not PTX or that
  /// this emulator cannot execute.
  static io::Expected<std::unique_ptr<Module>> load(std::string_view text,
                                                    const std::string &name);
  ~Module();

  std::vector<KernelInfo> kernels() const;
  /// Null where there is none of that name.
  const KernelInfo *findKernel(std::string_view name) const;
  /// The address of a `.global` or `.const` variable.
  std::optional<uint64_t> findVariable(std::string_view name) const;

  const Program &getProgram() const { return *program; }

private:
  Module();
  std::unique_ptr<Program> program;
  std::vector<KernelInfo> infos;
};

struct LaunchOptions {
  Dim3 grid, block;
  size_t dynamicShared = 0;
  /// 0: warps in turn; otherwise a seed for random turns.
  uint64_t seed = 0;
  uint64_t maxWarpInstructions = 1000000000;
  /// Blocks that are under way together.
  unsigned residentBlocks = 8;
  bool checkRaces = true;
  bool checkGlobalRaces = true;
  bool checkWritten = true;
  bool countLines = false; ///< Fills LaunchResult::lines.
  bool stopAtReport = false;
};

/// How often an instruction came up, in threads.
struct LineCount {
  uint64_t reached = 0;  ///< Whatever its predicate.
  uint64_t executed = 0; ///< With a predicate that holds, or without one.
};

struct LaunchResult {
  std::vector<Report> reports;
  Statistics statistics;
  std::map<int, LineCount> lines; ///< By line of the PTX text.
  /// True when all threads came to their end.
  bool completed = false;
};

/// What all memory of a device holds at one time.
struct Snapshot {
  struct Piece {
    uint64_t address = 0;
    std::vector<uint8_t> bytes;
    std::vector<uint8_t> written; ///< One flag a byte.
    bool operator==(const Piece &other) const {
      return address == other.address && bytes == other.bytes &&
             written == other.written;
    }
  };
  std::vector<Piece> pieces; ///< By address.
};

/// Memory that kernels see, and launches on it. Addresses are the host's own.
class Device {
public:
  Device();
  ~Device();

  /// Memory of its own with nothing written yet; `name` is for reports.
  io::Expected<uint64_t> allocate(size_t bytes, const std::string &name);
  /// Makes the caller's memory visible; it must stay until `release`. `written`
  /// says that its bytes hold values.
  io::Status addHostMemory(void *data, size_t bytes, const std::string &name,
                           bool written);
  /// False where no allocation begins at `address`.
  bool release(uint64_t address);

  /// Copies to and from device memory; a copy to it counts as written.
  io::Status write(uint64_t address, const void *data, size_t bytes);
  io::Status fill(uint64_t address, uint8_t value, size_t bytes);
  io::Status read(void *data, uint64_t address, size_t bytes) const;
  /// How many of the bytes have never been written.
  io::Expected<size_t> countUnwritten(uint64_t address, size_t bytes) const;

  Snapshot save() const;
  /// Goes back to what `save` found; fails where memory was allocated or
  /// released since.
  io::Status restore(const Snapshot &snapshot);

  /// Fails where the launch itself is wrong: no such kernel, sizes, arguments.
  /// `arguments` is laid out as KernelInfo::params says.
  io::Expected<LaunchResult> launch(const Module &module,
                                    std::string_view kernel,
                                    const LaunchOptions &options,
                                    const std::vector<uint8_t> &arguments);

private:
  std::unique_ptr<GlobalMemory> memory;
  uint32_t blocksSoFar = 1;
};

} // namespace moe::emulator

#endif // MOE_EMULATOR_EMULATOR_H
