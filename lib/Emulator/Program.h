//===- Program.h - A decoded PTX module -------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_PROGRAM_H
#define MOE_LIB_EMULATOR_PROGRAM_H

#include "Types.h"
#include "moe/Emulator/Emulator.h"
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace moe::emulator {

struct Warp;
struct Inst;

/// Executes one instruction for the lanes of `mask`.
using ExecFn = void (*)(Warp &warp, const Inst &inst, uint32_t mask);

inline constexpr unsigned kLanes = 32;
inline constexpr uint32_t kAllLanes = ~0u;
inline constexpr uint32_t kNone = ~0u;
/// Set in the offsets of operands that lie in Program::constants.
inline constexpr uint32_t kConstant = 1u << 31;

/// Generic addresses: above all of the host's, one window a space.
inline constexpr unsigned kWindowShift = 56;
inline constexpr uint64_t kSharedWindow = uint64_t(1) << kWindowShift;
inline constexpr uint64_t kLocalWindow = uint64_t(2) << kWindowShift;
inline constexpr uint64_t kParamWindow = uint64_t(3) << kWindowShift;

/// Nothing lies below: address 0 is out of bounds in every space.
inline constexpr uint32_t kSharedBase = 0x400;
inline constexpr uint32_t kLocalBase = 0x40;

enum class Flow : uint8_t {
  Plain,
  Branch,
  BranchTable,
  Call,
  Return,
  Exit,
  Collective, ///< Waits for the lanes of `members`, then runs.
  Barrier,    ///< A barrier of the block.
};

/// One instruction. Operands are byte offsets in the registers of a warp:
/// 32 lanes of 4 or 8 bytes; a predicate is 4 bytes, one bit a lane.
struct Inst {
  ExecFn run = nullptr;
  uint32_t d = kNone, d2 = kNone;
  uint32_t a = kNone, b = kNone, c = kNone, e = kNone;
  uint32_t guard = kNone;
  uint32_t members = kNone; ///< Of a collective; none: the whole warp.
  uint32_t target = 0;      ///< Of a branch or call; index of a table.
  uint32_t list = 0;        ///< First of `listSize` offsets in Program::lists.
  uint16_t listSize = 0;
  bool guardNegated = false;
  Flow flow = Flow::Plain;
  InstClass kind = InstClass::Other;
  Space space = Space::Generic;
  uint8_t bytes = 0; ///< Of one element in memory.
  uint8_t count = 1; ///< Elements of a vector in memory.
  uint8_t option = 0;
  uint8_t option2 = 0;
  bool flag = false, flag2 = false;
  int64_t imm = 0;
  int32_t line = 0;
  int32_t location = -1;
  uint32_t name = 0; ///< Index into Program::names: the opcode.
};

/// Bytes copied between parameters in local memory at a call or its return.
struct ParamCopy {
  uint32_t from, to, bytes;
};

struct CallInfo {
  uint32_t entry = 0;
  std::vector<ParamCopy> arguments, results;
};

struct FunctionCode {
  std::string name;
  bool isEntry = false;
  uint32_t begin = 0, end = 0; ///< In Program::code.
  uint32_t registerBytes = 0;  ///< What a warp needs to run it.
  size_t info = 0;             ///< Of an entry: index of its KernelInfo.
};

/// Memory of one variable of the module.
struct ModuleVariable {
  std::string name;
  uint8_t *data = nullptr;
  size_t bytes = 0;
  bool isConst = false;
};

/// A hole between variables, where nothing may be accessed.
struct SharedRange {
  uint32_t begin, end;
};

struct SourceName {
  unsigned file, line, column;
};

struct Program {
  std::string text;
  std::string name;
  std::vector<Inst> code;
  std::vector<uint32_t> lists;
  std::vector<std::vector<uint32_t>> branchTables;
  std::vector<CallInfo> calls;
  std::vector<FunctionCode> functions;
  std::vector<uint8_t> constants; ///< Broadcast to 32 lanes each.
  std::vector<std::string> names;
  std::vector<std::string> sources; ///< "file:line:column"
  std::vector<ModuleVariable> variables;
  std::vector<std::unique_ptr<uint8_t[]>> storage;
  std::vector<SharedRange> sharedRanges; ///< Of static variables.
  uint32_t sharedEnd = kSharedBase;
  uint32_t dynamicShared = 0; ///< Where `.extern .shared` begins; 0: none.
  uint32_t localBytes = 0;    ///< Of one thread.
  uint32_t maxCallDepth = 0;
};

/// Registers of a warp that are set before it starts, as byte offsets.
namespace special {
inline constexpr uint32_t kVector = 32 * 4;
enum : uint32_t {
  Scratch = 0, ///< Where `_` writes: 8 bytes a lane.
  TidX = 2 * kVector,
  TidY = TidX + kVector,
  TidZ = TidY + kVector,
  NtidX = TidZ + kVector,
  NtidY = NtidX + kVector,
  NtidZ = NtidY + kVector,
  CtaidX = NtidZ + kVector,
  CtaidY = CtaidX + kVector,
  CtaidZ = CtaidY + kVector,
  NctaidX = CtaidZ + kVector,
  NctaidY = NctaidX + kVector,
  NctaidZ = NctaidY + kVector,
  LaneId = NctaidZ + kVector,
  WarpId = LaneId + kVector,
  NwarpId = WarpId + kVector,
  LaneMaskEq = NwarpId + kVector,
  LaneMaskLe = LaneMaskEq + kVector,
  LaneMaskLt = LaneMaskLe + kVector,
  LaneMaskGe = LaneMaskLt + kVector,
  LaneMaskGt = LaneMaskGe + kVector,
  DynamicShared = LaneMaskGt + kVector,
  TotalShared = DynamicShared + kVector,
  GridId = TotalShared + kVector, ///< 64 bits.
  End = GridId + 2 * kVector
};
} // namespace special

/// The program of a text, ready to run.
io::Expected<std::unique_ptr<Program>>
decodeProgram(std::string_view text, const std::string &name,
              std::vector<KernelInfo> &kernels);

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_PROGRAM_H
