//===- Syntax.h - A PTX module as written -----------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_SYNTAX_H
#define MOE_LIB_EMULATOR_SYNTAX_H

#include "Types.h"
#include "moe/Emulator/Report.h"
#include "moe/IO/Expected.h"
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace moe::emulator {

/// An operand before its names are looked up.
struct Operand {
  enum Kind : uint8_t {
    Name,    ///< A register, variable, label, function or special register.
    Integer, ///< In `bits`.
    Single,
    Double,
    Address, ///< `[elements[0] + offset]`; further elements as in tensors.
    Vector,  ///< `{a, b}`
    List,    ///< `(a, b)` of a call.
    Pair     ///< `p|q`
  };
  Kind kind = Name;
  bool negated = false; ///< `!p`
  std::string_view text;
  uint64_t bits = 0;
  int64_t offset = 0; ///< `name + offset`
  std::vector<Operand> elements;
};

/// An instruction as written.
struct Statement {
  std::string_view opcode; ///< With its modifiers.
  std::string_view guard;  ///< Empty: none.
  bool guardNegated = false;
  std::vector<Operand> operands;
  int line = 0;
  int location = -1; ///< Index into Syntax::locations.
  int scope = 0;     ///< Index into FunctionSyntax::scopes.
};

/// A value that a variable starts with at a byte offset.
struct Initialiser {
  size_t offset = 0;
  unsigned bytes = 0;
  uint64_t value = 0;
  std::string symbol; ///< Its address plus `value`, if not empty.
  bool generic = false;
  unsigned shift = 0; ///< `0xFF00(symbol)`: byte of the address, in bits.
};

struct Variable {
  std::string name;
  Space space = Space::Global;
  Type type = Type::B8;
  size_t alignment = 1;
  uint64_t bytes = 0; ///< 0: an array without a size.
  bool isArray = false;
  bool isExtern = false;
  int line = 0;
  std::vector<Initialiser> values;
};

/// `name<count>` or a single register.
struct RegisterRange {
  Type type = Type::None;
  int64_t count = -1; ///< -1: one register of exactly this name.
};

/// What a pair of braces declares.
struct Scope {
  int parent = -1;
  std::unordered_map<std::string_view, RegisterRange> registers;
  std::unordered_map<std::string_view, unsigned> variables; ///< In `locals`.
  std::unordered_map<std::string_view, unsigned> labels; ///< Statement index.
  /// `.branchtargets` and `.calltargets` by their label.
  std::unordered_map<std::string_view, std::vector<std::string_view>> targets;
};

struct FunctionSyntax {
  std::string name;
  bool isEntry = false;
  bool isPrototype = false;
  int line = 0;
  std::vector<Variable> params, results;
  std::vector<Variable> locals;
  std::vector<Scope> scopes;
  std::vector<Statement> body;
  std::optional<Dim3> requiredBlock;
  std::optional<uint64_t> maxThreads;
};

struct SourceLocation {
  unsigned file = 0, line = 0, column = 0;
};

struct Syntax {
  std::string target;   ///< "sm_90a"
  unsigned version = 0; ///< 10 * major + minor.
  std::vector<Variable> variables;
  std::vector<FunctionSyntax> functions;
  std::map<unsigned, std::string> files;
  std::vector<SourceLocation> locations;
};

/// Reads a module; views of the result point into `text`.
io::Expected<Syntax> parsePtx(std::string_view text, const std::string &name);

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_SYNTAX_H
