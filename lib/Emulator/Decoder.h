//===- Decoder.h - From statements to instructions --------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_DECODER_H
#define MOE_LIB_EMULATOR_DECODER_H

#include "Program.h"
#include "Syntax.h"
#include <map>
#include <set>
#include <string>
#include <unordered_map>

namespace moe::emulator {

class Decoder;

/// Where a name of a variable leads.
struct VariablePlace {
  Space space = Space::Global;
  uint64_t address = 0;
  uint64_t bytes = 0;
};

/// A function while it is decoded.
struct FunctionState {
  const FunctionSyntax *syntax = nullptr;
  uint32_t code = 0; ///< Index in Program::functions.
  std::map<std::pair<int, std::string>, std::pair<uint32_t, Type>> registers;
  std::vector<VariablePlace> locals; ///< Of FunctionSyntax::locals.
  std::unordered_map<std::string, VariablePlace> params;
  std::vector<VariablePlace> arguments, results;
  std::vector<uint32_t> statementPc;
  std::set<uint32_t> callees;
};

/// One statement while it is decoded. The first error is kept; functions go on
/// with harmless values after it.
class Decode {
public:
  Decode(Decoder &decoder, FunctionState &function, const Statement &statement);

  Inst inst;
  const Statement &statement;
  std::string error;

  void fail(const std::string &message);
  void failOperand(size_t index, const std::string &message);

  // Modifiers, in any order; what nobody takes is an error.
  bool take(std::string_view modifier);
  /// One of several: its index, or -1.
  int takeOneOf(std::initializer_list<std::string_view> modifiers);
  /// The first type among the modifiers.
  Type takeType();
  /// takeType, or an error.
  Type needType();
  /// Tells why a type does not fit this instruction.
  void failType(Type type);
  /// Any modifier beginning with `prefix`; empty: none.
  std::string_view takePrefix(std::string_view prefix);
  void checkAllTaken();
  std::string_view word() const { return first; }

  // Operands.
  size_t numOperands() const { return statement.operands.size(); }
  bool expectOperands(size_t least, size_t most);
  bool expectOperands(size_t count) { return expectOperands(count, count); }
  const Operand &operand(size_t index) const {
    return statement.operands[index];
  }
  /// A register to write; `_` writes nowhere.
  uint32_t destination(const Operand &operand, unsigned bits);
  uint32_t destination(size_t index, unsigned bits) {
    return destination(operand(index), bits);
  }
  /// A register, constant, variable's address or special register to read.
  uint32_t source(const Operand &operand, Type type);
  uint32_t source(size_t index, Type type) {
    return source(operand(index), type);
  }
  /// The same in a register at least as wide: cvt, ld and st take that.
  uint32_t wideDestination(const Operand &operand, unsigned bits,
                           unsigned &slotBytes);
  uint32_t wideSource(const Operand &operand, Type type, unsigned &slotBytes);
  uint32_t predicateDestination(const Operand &operand);
  /// `negated` takes `!p`; without it that is an error.
  uint32_t predicateSource(const Operand &operand, bool *negated);
  /// `[a]`, `[a+8]`, `[name]`: into inst.a, inst.imm, inst.flag and inst.space.
  void address(size_t index, Space space);
  void address(const Operand &operand, Space space);
  /// The same into another base: a slot of 8 bytes or, if narrow, of 4.
  uint32_t addressBase(const Operand &operand, Space &space, bool &wide,
                       int64_t &offset);
  uint64_t integer(size_t index);
  bool isRegister(const Operand &operand) const;
  bool isPredicate(const Operand &operand);
  /// A register of at most 16 bits.
  bool narrowRegister(const Operand &operand);

  uint32_t constant(uint64_t value, unsigned bits);
  /// A list of offsets for the instruction.
  void setList(const std::vector<uint32_t> &offsets);

  // What the control instructions need.
  uint32_t branchTarget(const Operand &operand);
  const std::vector<std::string_view> *branchTargets(const Operand &operand);
  std::optional<VariablePlace> variable(const Operand &operand);

  Decoder &decoder;
  FunctionState &function;

private:
  struct Register {
    uint32_t offset;
    Type type;
  };
  std::optional<Register> lookUp(const Operand &operand);
  uint32_t immediate(const Operand &operand, Type type);

  std::string_view first;
  std::vector<std::string_view> modifiers;
};

using DecodeFn = void (*)(Decode &);
using DecodeTable = std::unordered_map<std::string_view, DecodeFn>;

// One a family of instructions.
void addIntegerOps(DecodeTable &table);
void addBitOps(DecodeTable &table);
void addFloatOps(DecodeTable &table);
void addCompareOps(DecodeTable &table);
void addConvertOps(DecodeTable &table);
void addMoveOps(DecodeTable &table);
void addMemoryOps(DecodeTable &table);
void addAtomicOps(DecodeTable &table);
void addControlOps(DecodeTable &table);
void addWarpOps(DecodeTable &table);
void addMatrixOps(DecodeTable &table);
void addAsyncOps(DecodeTable &table);

/// A special register of 32 or 64 bits that is set when a warp starts.
std::optional<std::pair<uint32_t, unsigned>>
findSpecialRegister(std::string_view name);

/// A whole module.
class Decoder {
public:
  Decoder(Program &program, const Syntax &syntax,
          std::vector<KernelInfo> &kernels);

  bool run();
  std::string error;

  Program &program;
  const Syntax &syntax;

  uint32_t constant(uint64_t value, unsigned bits);
  uint32_t allocateRegister(FunctionState &function, unsigned bytes);
  const VariablePlace *findVariable(std::string_view name) const;
  const FunctionSyntax *findFunction(std::string_view name) const;
  /// Of a function with a body: its place in Program::functions, which is also
  /// that of its FunctionState.
  std::optional<uint32_t> findCode(std::string_view name) const;
  FunctionState &state(uint32_t code) { return states[code]; }
  uint32_t nameIndex(std::string_view opcode);

private:
  bool fail(int line, const std::string &message);
  bool placeVariable(const Variable &variable, VariablePlace &place);
  bool placeVariables();
  bool setValues(const Variable &variable, uint8_t *data);
  bool setAllValues();
  uint32_t placeShared(uint64_t bytes, uint64_t alignment);
  void placeDynamicShared();
  VariablePlace placeLocal(const Variable &variable);
  bool declareFunctions();
  bool placeFunctionVariables(FunctionState &state);
  void describeKernel(FunctionState &state, KernelInfo &info);
  bool decodeFunction(FunctionState &state);
  bool decodeStatement(FunctionState &state, const Statement &statement);
  bool checkCalls(uint32_t function, std::vector<uint32_t> &path,
                  uint32_t &depth);
  bool finish();

  std::vector<KernelInfo> &kernels;
  DecodeTable table;
  std::unordered_map<std::string, VariablePlace> variables;
  std::vector<std::pair<const Variable *, uint8_t *>> withValues;
  std::vector<FunctionState> states;
  std::unordered_map<std::string, uint32_t> codeOf;
  std::map<std::pair<uint64_t, unsigned>, uint32_t> constantOf;
  std::unordered_map<std::string, uint32_t> nameOf;
  uint32_t functionRegisters = special::End;
  uint64_t dynamicAlignment = 0;
};

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_DECODER_H
