//===- Decoder.cpp - A whole module: variables, functions, calls ----------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Decoder.h"
#include "Lexer.h"

#include <algorithm>
#include <cstring>
#include <new>

using namespace moe;
using namespace moe::emulator;

/// Between variables, so that running past one is seen.
static constexpr uint64_t kHole = 16;

/// The next address after a hole that has exactly this alignment and no more: a
/// wider access than the variable allows for then shows.
static uint64_t placeExactly(uint64_t end, uint64_t alignment) {
  uint64_t address = (end + kHole + alignment - 1) / alignment * alignment;
  return address / alignment % 2 ? address : address + alignment;
}

Decoder::Decoder(Program &program, const Syntax &syntax,
                 std::vector<KernelInfo> &kernels)
    : program(program), syntax(syntax), kernels(kernels) {
  addIntegerOps(table);
  addBitOps(table);
  addFloatOps(table);
  addCompareOps(table);
  addConvertOps(table);
  addMoveOps(table);
  addMemoryOps(table);
  addAtomicOps(table);
  addControlOps(table);
  addWarpOps(table);
  addMatrixOps(table);
  addAsyncOps(table);
}

bool Decoder::fail(int line, const std::string &message) {
  if (error.empty())
    error = errorAt(program.name, line, message).message;
  return false;
}

//===----------------------------------------------------------------------===//
// Pools
//===----------------------------------------------------------------------===//

uint32_t Decoder::constant(uint64_t value, unsigned bits) {
  unsigned bytes = bits > 32 ? 8 : 4;
  auto [at, isNew] = constantOf.try_emplace({value, bytes}, 0);
  if (isNew) {
    size_t offset = (program.constants.size() + 7) / 8 * 8;
    program.constants.resize(offset + size_t(bytes) * kLanes);
    for (unsigned lane = 0; lane < kLanes; ++lane)
      std::memcpy(&program.constants[offset + lane * bytes], &value, bytes);
    at->second = uint32_t(offset) | kConstant;
  }
  return at->second;
}

uint32_t Decoder::allocateRegister(FunctionState &function, unsigned bytes) {
  uint32_t &used = function.syntax->isEntry
                       ? program.functions[function.code].registerBytes
                       : functionRegisters;
  uint32_t offset = (used + 7) / 8 * 8;
  used = offset + bytes;
  return offset;
}

uint32_t Decoder::nameIndex(std::string_view opcode) {
  auto [at, isNew] =
      nameOf.try_emplace(std::string(opcode), uint32_t(program.names.size()));
  if (isNew)
    program.names.emplace_back(opcode);
  return at->second;
}

const VariablePlace *Decoder::findVariable(std::string_view name) const {
  auto found = variables.find(std::string(name));
  return found == variables.end() ? nullptr : &found->second;
}

const FunctionSyntax *Decoder::findFunction(std::string_view name) const {
  for (const FunctionSyntax &function : syntax.functions)
    if (function.name == name)
      return &function;
  return nullptr;
}

std::optional<uint32_t> Decoder::findCode(std::string_view name) const {
  auto found = codeOf.find(std::string(name));
  if (found == codeOf.end())
    return std::nullopt;
  return found->second;
}

//===----------------------------------------------------------------------===//
// Variables
//===----------------------------------------------------------------------===//

uint32_t Decoder::placeShared(uint64_t bytes, uint64_t alignment) {
  uint64_t address = placeExactly(program.sharedEnd - kHole, alignment);
  program.sharedRanges.push_back(
      {uint32_t(address), uint32_t(address + bytes)});
  program.sharedEnd = uint32_t(address + bytes + kHole);
  return uint32_t(address);
}

VariablePlace Decoder::placeLocal(const Variable &variable) {
  uint64_t end = std::max<uint64_t>(program.localBytes, kLocalBase);
  uint64_t address = placeExactly(end, variable.alignment);
  program.localBytes = uint32_t(address + variable.bytes);
  return {Space::Local, address, variable.bytes};
}

bool Decoder::placeVariable(const Variable &variable, VariablePlace &place) {
  // What fits into no machine: shared and local addresses have 32 bits.
  if (variable.space == Space::Shared || variable.space == Space::Local ||
      variable.space == Space::Param)
    if (variable.bytes > (1u << 24))
      return fail(variable.line, "'" + variable.name + "' is too large");
  if (variable.alignment > (1u << 20))
    return fail(variable.line,
                "'" + variable.name + "' has too large an alignment");
  place.space = variable.space;
  place.bytes = variable.bytes;
  switch (variable.space) {
  case Space::Local:
  case Space::Param:
    place = placeLocal(variable);
    return true;
  case Space::Shared:
    if (variable.isExtern) {
      // All of these begin where the static ones end, which is not known yet.
      dynamicAlignment =
          std::max<uint64_t>(dynamicAlignment, variable.alignment);
      return true;
    }
    if (!variable.values.empty())
      return fail(variable.line, "shared variables have no first value");
    place.address = placeShared(variable.bytes, variable.alignment);
    return true;
  default:
    break;
  }
  if (variable.isExtern)
    return fail(variable.line,
                "external variable '" + variable.name + "' is not defined");
  size_t total = size_t(variable.bytes) + 3 * variable.alignment + 8192;
  auto *storage = new (std::nothrow) uint8_t[total]();
  if (!storage)
    return fail(variable.line, "no memory for '" + variable.name + "'");
  program.storage.emplace_back(storage);
  place.address = placeExactly(reinterpret_cast<uint64_t>(storage) + 4096,
                               variable.alignment);
  auto *data = reinterpret_cast<uint8_t *>(place.address);
  program.variables.push_back({variable.name, data, size_t(variable.bytes),
                               variable.space == Space::Const});
  withValues.emplace_back(&variable, data);
  return true;
}

void Decoder::placeDynamicShared() {
  if (!dynamicAlignment)
    return;
  program.dynamicShared =
      uint32_t(placeExactly(program.sharedEnd - kHole, dynamicAlignment));
}

bool Decoder::setValues(const Variable &variable, uint8_t *data) {
  for (const Initialiser &value : variable.values) {
    uint64_t bits = value.value;
    if (!value.symbol.empty()) {
      const VariablePlace *place = findVariable(value.symbol);
      if (!place)
        return fail(variable.line, "'" + variable.name + "' begins with '" +
                                       value.symbol +
                                       "', which is no variable");
      bits += place->address;
      if (value.generic && place->space == Space::Shared)
        bits += kSharedWindow;
      bits >>= value.shift;
    }
    std::memcpy(data + value.offset, &bits, std::min(value.bytes, 8u));
  }
  return true;
}

bool Decoder::placeVariables() {
  for (const Variable &variable : syntax.variables) {
    VariablePlace place;
    if (!placeVariable(variable, place))
      return false;
    variables[variable.name] = place;
  }
  return true;
}

bool Decoder::setAllValues() {
  for (auto &[variable, data] : withValues)
    if (!setValues(*variable, data))
      return false;
  return true;
}

//===----------------------------------------------------------------------===//
// Functions
//===----------------------------------------------------------------------===//

void Decoder::describeKernel(FunctionState &state, KernelInfo &info) {
  const FunctionSyntax &function = *state.syntax;
  info.name = function.name;
  info.requiredBlock = function.requiredBlock;
  info.maxThreads = function.maxThreads;
  for (const Variable &param : function.params) {
    KernelParam entry;
    entry.type = typeInfo(param.type).name;
    entry.size = size_t(param.bytes);
    entry.alignment = std::max<size_t>(param.alignment, 1);
    entry.isArray = param.isArray;
    entry.offset = (info.paramBytes + entry.alignment - 1) / entry.alignment *
                   entry.alignment;
    info.paramBytes = entry.offset + entry.size;
    state.params[param.name] = {Space::Param, entry.offset, param.bytes};
    info.params.push_back(std::move(entry));
  }
}

bool Decoder::declareFunctions() {
  uint32_t pc = 0;
  for (const FunctionSyntax &function : syntax.functions) {
    if (function.isPrototype)
      continue;
    FunctionState state;
    state.syntax = &function;
    state.code = uint32_t(states.size());
    FunctionCode code;
    code.name = function.name;
    code.isEntry = function.isEntry;
    code.begin = pc;
    for (size_t i = 0; i <= function.body.size(); ++i)
      state.statementPc.push_back(pc++);
    code.end = pc;
    codeOf[function.name] = state.code;
    program.functions.push_back(std::move(code));
    states.push_back(std::move(state));
  }
  program.code.resize(pc);
  for (FunctionState &state : states)
    if (!placeFunctionVariables(state))
      return false;
  return true;
}

bool Decoder::placeFunctionVariables(FunctionState &state) {
  const FunctionSyntax &function = *state.syntax;
  for (const Variable &variable : function.locals) {
    state.locals.emplace_back();
    if (!placeVariable(variable, state.locals.back()))
      return false;
  }
  if (function.isEntry) {
    kernels.emplace_back();
    describeKernel(state, kernels.back());
    program.functions[state.code].info = kernels.size() - 1;
    return true;
  }
  for (const Variable &param : function.params) {
    state.arguments.push_back(placeLocal(param));
    state.params[param.name] = state.arguments.back();
  }
  for (const Variable &result : function.results) {
    state.results.push_back(placeLocal(result));
    state.params[result.name] = state.results.back();
  }
  return true;
}

bool Decoder::decodeStatement(FunctionState &state,
                              const Statement &statement) {
  Decode decode(*this, state, statement);
  auto found = table.find(decode.word());
  if (found == table.end())
    return fail(statement.line,
                "unknown instruction '" + std::string(statement.opcode) + "'");
  if (!statement.guard.empty()) {
    Operand guard;
    guard.text = statement.guard;
    decode.inst.guard = decode.predicateSource(guard, nullptr);
    decode.inst.guardNegated = statement.guardNegated;
  }
  found->second(decode);
  if (decode.error.empty())
    decode.checkAllTaken();
  if (!decode.error.empty())
    return fail(statement.line, decode.error);
  size_t index = size_t(&statement - state.syntax->body.data());
  program.code[state.statementPc[index]] = decode.inst;
  return true;
}

bool Decoder::decodeFunction(FunctionState &state) {
  FunctionCode &code = program.functions[state.code];
  if (code.isEntry)
    code.registerBytes = functionRegisters;
  for (const Statement &statement : state.syntax->body)
    if (!decodeStatement(state, statement))
      return false;
  // Falling off the end returns.
  Inst &last = program.code[code.end - 1];
  last.flow = Flow::Return;
  last.kind = InstClass::Control;
  last.line = state.syntax->body.empty() ? state.syntax->line
                                         : state.syntax->body.back().line;
  last.name = nameIndex("ret");
  return true;
}

bool Decoder::checkCalls(uint32_t function, std::vector<uint32_t> &path,
                         uint32_t &depth) {
  if (std::find(path.begin(), path.end(), function) != path.end())
    return fail(states[function].syntax->line,
                "function '" + program.functions[function].name +
                    "' calls itself, which is not supported");
  path.push_back(function);
  depth = std::max(depth, uint32_t(path.size() - 1));
  for (uint32_t callee : states[function].callees)
    if (!checkCalls(callee, path, depth))
      return false;
  path.pop_back();
  return true;
}

bool Decoder::finish() {
  for (uint32_t i = 0; i < states.size(); ++i) {
    std::vector<uint32_t> path;
    if (!checkCalls(i, path, program.maxCallDepth))
      return false;
  }
  for (const SourceLocation &location : syntax.locations) {
    auto file = syntax.files.find(location.file);
    program.sources.push_back((file == syntax.files.end()
                                   ? "file " + std::to_string(location.file)
                                   : file->second) +
                              ":" + std::to_string(location.line) + ":" +
                              std::to_string(location.column));
  }
  for (KernelInfo &info : kernels)
    for (const SharedRange &range : program.sharedRanges)
      info.sharedBytes += range.end - range.begin;
  return true;
}

bool Decoder::run() {
  if (!placeVariables() || !declareFunctions())
    return false;
  // Functions may declare shared variables of their own.
  placeDynamicShared();
  auto setDynamic = [&](const Variable &variable, VariablePlace &place) {
    if (variable.space == Space::Shared && variable.isExtern)
      place.address = program.dynamicShared;
  };
  for (const Variable &variable : syntax.variables)
    setDynamic(variable, variables[variable.name]);
  for (FunctionState &state : states)
    for (size_t i = 0; i < state.locals.size(); ++i)
      setDynamic(state.syntax->locals[i], state.locals[i]);
  if (!setAllValues())
    return false;
  // Kernels get the registers behind those of all functions.
  for (bool entries : {false, true})
    for (FunctionState &state : states)
      if (state.syntax->isEntry == entries && !decodeFunction(state))
        return false;
  return finish();
}

io::Expected<std::unique_ptr<Program>>
emulator::decodeProgram(std::string_view text, const std::string &name,
                        std::vector<KernelInfo> &kernels) {
  auto program = std::make_unique<Program>();
  program->text = text;
  program->name = name;
  auto syntax = parsePtx(program->text, program->name);
  if (!syntax)
    return syntax.error();
  Decoder decoder(*program, *syntax, kernels);
  if (!decoder.run())
    return io::Error{decoder.error};
  return program;
}
