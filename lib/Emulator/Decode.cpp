//===- Decode.cpp - Operands and modifiers of a statement -----------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Decoder.h"

#include <cstring>

using namespace moe;
using namespace moe::emulator;

Decode::Decode(Decoder &decoder, FunctionState &function,
               const Statement &statement)
    : statement(statement), decoder(decoder), function(function) {
  std::string_view rest = statement.opcode;
  size_t dot = rest.find('.');
  first = rest.substr(0, dot);
  while (dot != std::string_view::npos) {
    rest.remove_prefix(dot + 1);
    dot = rest.find('.');
    modifiers.push_back(rest.substr(0, dot));
  }
  inst.line = statement.line;
  inst.location = statement.location;
  inst.name = decoder.nameIndex(statement.opcode);
}

void Decode::fail(const std::string &message) {
  if (error.empty())
    error = "'" + std::string(statement.opcode) + "' " + message;
}

void Decode::failOperand(size_t index, const std::string &message) {
  fail("has operand " + std::to_string(index + 1) + " " + message);
}

//===----------------------------------------------------------------------===//
// Modifiers
//===----------------------------------------------------------------------===//

bool Decode::take(std::string_view modifier) {
  for (std::string_view &word : modifiers)
    if (word == modifier) {
      word = {};
      return true;
    }
  return false;
}

int Decode::takeOneOf(std::initializer_list<std::string_view> words) {
  int index = 0;
  for (std::string_view word : words) {
    if (take(word))
      return index;
    ++index;
  }
  return -1;
}

std::string_view Decode::takePrefix(std::string_view prefix) {
  for (std::string_view &word : modifiers)
    if (!word.empty() && word.substr(0, prefix.size()) == prefix) {
      std::string_view found = word;
      word = {};
      return found;
    }
  return {};
}

Type Decode::takeType() {
  for (std::string_view &word : modifiers)
    if (!word.empty())
      if (std::optional<Type> type = parseType(word)) {
        word = {};
        return *type;
      }
  return Type::None;
}

Type Decode::needType() {
  Type type = takeType();
  if (type == Type::None)
    fail("names no type");
  return type;
}

void Decode::failType(Type type) {
  fail(std::string("is not known for type '.") + typeInfo(type).name + "'");
}

void Decode::checkAllTaken() {
  for (std::string_view word : modifiers)
    if (!word.empty())
      return fail("has the unsupported modifier '." + std::string(word) + "'");
}

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

bool Decode::expectOperands(size_t least, size_t most) {
  if (numOperands() >= least && numOperands() <= most)
    return true;
  fail("has " + std::to_string(numOperands()) + " operands instead of " +
       std::to_string(least) +
       (most == least ? "" : " to " + std::to_string(most)));
  return false;
}

static std::string quote(const Operand &operand) {
  return "'" + std::string(operand.text) + "'";
}

std::optional<Decode::Register> Decode::lookUp(const Operand &operand) {
  if (operand.kind != Operand::Name)
    return std::nullopt;
  std::string_view name = operand.text;
  size_t digits = name.find_last_not_of("0123456789") + 1;
  const auto &scopes = function.syntax->scopes;
  for (int scope = statement.scope; scope >= 0; scope = scopes[scope].parent) {
    const auto &registers = scopes[scope].registers;
    Type type = Type::None;
    auto found = registers.find(name);
    if (found != registers.end() && found->second.count < 0)
      type = found->second.type;
    else if (digits < name.size() && name.size() - digits < 10) {
      found = registers.find(name.substr(0, digits));
      if (found != registers.end() &&
          std::stoll(std::string(name.substr(digits))) < found->second.count)
        type = found->second.type;
    }
    if (type == Type::None)
      continue;
    if (typeBits(type) > 64) {
      fail("uses " + quote(operand) +
           "; registers of 128 bits are not supported");
      return Register{special::Scratch, Type::B64};
    }
    auto [at, isNew] = function.registers.try_emplace(
        {scope, std::string(name)}, std::make_pair(0u, type));
    if (isNew) {
      unsigned bytes = type == Type::Pred     ? 4
                       : typeBits(type) <= 32 ? 4 * kLanes
                                              : 8 * kLanes;
      at->second.first = decoder.allocateRegister(function, bytes);
    }
    return Register{at->second.first, type};
  }
  return std::nullopt;
}

bool Decode::isRegister(const Operand &operand) const {
  return const_cast<Decode *>(this)->lookUp(operand).has_value();
}

bool Decode::isPredicate(const Operand &operand) {
  std::optional<Register> found = lookUp(operand);
  return found && found->type == Type::Pred;
}

bool Decode::narrowRegister(const Operand &operand) {
  std::optional<Register> found = lookUp(operand);
  return found && typeBits(found->type) <= 16;
}

uint32_t Decode::destination(const Operand &operand, unsigned bits) {
  if (operand.kind == Operand::Name && operand.text == "_")
    return special::Scratch;
  std::optional<Register> found = lookUp(operand);
  if (!found) {
    fail("writes " + quote(operand) + ", which is no register");
    return special::Scratch;
  }
  if (found->type == Type::Pred || typeBits(found->type) != bits)
    fail("writes " + quote(operand) + " of type ." +
         typeInfo(found->type).name + " where " + std::to_string(bits) +
         " bits are needed");
  return found->offset;
}

uint32_t Decode::constant(uint64_t value, unsigned bits) {
  return decoder.constant(value, bits);
}

uint32_t Decode::immediate(const Operand &operand, Type type) {
  uint64_t bits = operand.bits;
  if (operand.kind == Operand::Single) {
    if (type == Type::F64 || typeBits(type) < 32)
      fail("has the f32 constant " + quote(operand) + " for type '." +
           typeInfo(type).name + "'");
  } else if (operand.kind == Operand::Double && typeBits(type) == 32) {
    double wide = 0;
    std::memcpy(&wide, &bits, sizeof wide);
    float narrow = float(wide);
    uint32_t low = 0;
    std::memcpy(&low, &narrow, sizeof low);
    bits = low;
  } else if (operand.kind == Operand::Double && typeBits(type) < 32) {
    fail("has the f64 constant " + quote(operand) + " for type '." +
         typeInfo(type).name + "'");
  }
  if (typeBits(type) < 64)
    bits &= (uint64_t(1) << typeBits(type)) - 1;
  return constant(bits, typeBits(type));
}

uint32_t Decode::source(const Operand &operand, Type type) {
  unsigned slotBytes = 0;
  uint32_t offset = wideSource(operand, type, slotBytes);
  if (std::optional<Register> found = lookUp(operand))
    if (typeBits(found->type) != typeBits(type))
      fail("reads " + quote(operand) + " of type ." +
           typeInfo(found->type).name + " where " +
           std::to_string(typeBits(type)) + " bits are needed");
  return offset;
}

uint32_t Decode::wideSource(const Operand &operand, Type type,
                            unsigned &slotBytes) {
  slotBytes = typeBits(type) > 32 ? 8 : 4;
  switch (operand.kind) {
  case Operand::Integer:
  case Operand::Single:
  case Operand::Double:
    return immediate(operand, type);
  case Operand::Name:
    break;
  default:
    fail("has " + quote(operand) + " where a register or number is needed");
    return special::Scratch;
  }
  if (operand.negated)
    fail("has '!' before " + quote(operand));
  if (std::optional<Register> found = lookUp(operand)) {
    if (found->type == Type::Pred || typeBits(found->type) < typeBits(type))
      fail("reads " + quote(operand) + " of type ." +
           typeInfo(found->type).name + " as '." + typeInfo(type).name + "'");
    slotBytes = typeBits(found->type) > 32 ? 8 : 4;
    return found->offset;
  }
  if (operand.text == "WARP_SZ")
    return constant(kLanes, typeBits(type));
  if (auto special = findSpecialRegister(operand.text)) {
    slotBytes = special->second / 8;
    // The low half of a wide slot is not where a narrow one looks.
    if (special->second == 64 && typeBits(type) <= 32)
      fail("reads " + quote(operand) + " as '." + typeInfo(type).name + "'");
    if (special->second == 32 && typeBits(type) == 64)
      fail("reads the 32 bits of " + quote(operand) + " as 64");
    return special->first;
  }
  if (std::optional<VariablePlace> place = variable(operand))
    return constant(place->address + uint64_t(operand.offset),
                    typeBits(type) > 32 ? 64 : 32);
  fail("uses " + quote(operand) + ", which is not declared");
  return special::Scratch;
}

uint32_t Decode::wideDestination(const Operand &operand, unsigned bits,
                                 unsigned &slotBytes) {
  slotBytes = bits > 32 ? 8 : 4;
  if (operand.kind == Operand::Name && operand.text == "_")
    return special::Scratch;
  std::optional<Register> found = lookUp(operand);
  if (!found) {
    fail("writes " + quote(operand) + ", which is no register");
    return special::Scratch;
  }
  if (found->type == Type::Pred || typeBits(found->type) < bits)
    fail("writes " + std::to_string(bits) + " bits to " + quote(operand) +
         " of type ." + typeInfo(found->type).name);
  slotBytes = typeBits(found->type) > 32 ? 8 : 4;
  return found->offset;
}

uint32_t Decode::predicateDestination(const Operand &operand) {
  if (operand.kind == Operand::Name && operand.text == "_")
    return kNone;
  std::optional<Register> found = lookUp(operand);
  if (!found || found->type != Type::Pred) {
    fail("has " + quote(operand) + " where a predicate is needed");
    return special::Scratch;
  }
  return found->offset;
}

uint32_t Decode::predicateSource(const Operand &operand, bool *negated) {
  if (operand.kind == Operand::Integer)
    return constant(operand.bits ? ~uint32_t(0) : 0, 32);
  if (operand.negated && !negated)
    fail("has '!' before " + quote(operand));
  if (negated)
    *negated = operand.negated;
  std::optional<Register> found = lookUp(operand);
  if (!found || found->type != Type::Pred) {
    fail("has " + quote(operand) + " where a predicate is needed");
    return special::Scratch;
  }
  return found->offset;
}

uint64_t Decode::integer(size_t index) {
  if (operand(index).kind != Operand::Integer)
    failOperand(index, quote(operand(index)) + " instead of an integer");
  return operand(index).bits;
}

//===----------------------------------------------------------------------===//
// Addresses
//===----------------------------------------------------------------------===//

std::optional<VariablePlace> Decode::variable(const Operand &operand) {
  const auto &scopes = function.syntax->scopes;
  for (int scope = statement.scope; scope >= 0; scope = scopes[scope].parent) {
    auto found = scopes[scope].variables.find(operand.text);
    if (found != scopes[scope].variables.end())
      return function.locals[found->second];
  }
  auto param = function.params.find(std::string(operand.text));
  if (param != function.params.end())
    return param->second;
  if (const VariablePlace *place = decoder.findVariable(operand.text))
    return *place;
  return std::nullopt;
}

uint32_t Decode::addressBase(const Operand &operand, Space &space, bool &wide,
                             int64_t &offset) {
  wide = true;
  offset = operand.offset;
  if (operand.kind != Operand::Address || operand.elements.size() != 1) {
    fail("has " + quote(operand) + " where an address is needed");
    return special::Scratch;
  }
  const Operand &base = operand.elements[0];
  if (base.kind == Operand::Integer)
    return constant(base.bits, 64);
  if (std::optional<Register> found = lookUp(base)) {
    if (typeBits(found->type) < 32)
      fail("has an address in " + quote(base) + " of type ." +
           typeInfo(found->type).name);
    wide = typeBits(found->type) == 64;
    return found->offset;
  }
  std::optional<VariablePlace> place = variable(base);
  if (!place) {
    fail("uses " + quote(base) + ", which is not declared");
    return special::Scratch;
  }
  bool fits = space == place->space || space == Space::Generic ||
              (space == Space::Param && place->space == Space::Local) ||
              (space == Space::Global && place->space == Space::Const);
  if (!fits)
    fail("names " + quote(base) + ", which is in another space");
  space = place->space;
  return constant(place->address, 64);
}

void Decode::address(const Operand &operand, Space space) {
  bool wide = true;
  inst.a = addressBase(operand, space, wide, inst.imm);
  inst.flag = wide;
  inst.space = space;
}

void Decode::address(size_t index, Space space) {
  address(operand(index), space);
}

void Decode::setList(const std::vector<uint32_t> &offsets) {
  inst.list = uint32_t(decoder.program.lists.size());
  inst.listSize = uint16_t(offsets.size());
  decoder.program.lists.insert(decoder.program.lists.end(), offsets.begin(),
                               offsets.end());
}

//===----------------------------------------------------------------------===//
// Labels
//===----------------------------------------------------------------------===//

uint32_t Decode::branchTarget(const Operand &operand) {
  const auto &scopes = function.syntax->scopes;
  for (int scope = statement.scope; scope >= 0; scope = scopes[scope].parent) {
    auto found = scopes[scope].labels.find(operand.text);
    if (found != scopes[scope].labels.end())
      return function.statementPc[found->second];
  }
  fail("goes to " + quote(operand) + ", which is no label");
  return 0;
}

const std::vector<std::string_view> *
Decode::branchTargets(const Operand &operand) {
  const auto &scopes = function.syntax->scopes;
  for (int scope = statement.scope; scope >= 0; scope = scopes[scope].parent) {
    auto found = scopes[scope].targets.find(operand.text);
    if (found != scopes[scope].targets.end())
      return &found->second;
  }
  fail("names " + quote(operand) + ", which is no list of targets");
  return nullptr;
}

//===----------------------------------------------------------------------===//
// Special registers
//===----------------------------------------------------------------------===//

std::optional<std::pair<uint32_t, unsigned>>
emulator::findSpecialRegister(std::string_view name) {
  static const std::unordered_map<std::string_view, uint32_t> known = {
      {"%tid.x", special::TidX},
      {"%tid.y", special::TidY},
      {"%tid.z", special::TidZ},
      {"%ntid.x", special::NtidX},
      {"%ntid.y", special::NtidY},
      {"%ntid.z", special::NtidZ},
      {"%ctaid.x", special::CtaidX},
      {"%ctaid.y", special::CtaidY},
      {"%ctaid.z", special::CtaidZ},
      {"%nctaid.x", special::NctaidX},
      {"%nctaid.y", special::NctaidY},
      {"%nctaid.z", special::NctaidZ},
      // Clusters of one block each.
      {"%clusterid.x", special::CtaidX},
      {"%clusterid.y", special::CtaidY},
      {"%clusterid.z", special::CtaidZ},
      {"%nclusterid.x", special::NctaidX},
      {"%nclusterid.y", special::NctaidY},
      {"%nclusterid.z", special::NctaidZ},
      {"%laneid", special::LaneId},
      {"%warpid", special::WarpId},
      {"%nwarpid", special::NwarpId},
      {"%lanemask_eq", special::LaneMaskEq},
      {"%lanemask_le", special::LaneMaskLe},
      {"%lanemask_lt", special::LaneMaskLt},
      {"%lanemask_ge", special::LaneMaskGe},
      {"%lanemask_gt", special::LaneMaskGt},
      {"%dynamic_smem_size", special::DynamicShared},
      {"%total_smem_size", special::TotalShared},
  };
  auto found = known.find(name);
  if (found != known.end())
    return std::make_pair(found->second, 32u);
  if (name == "%gridid")
    return std::make_pair(uint32_t(special::GridId), 64u);
  return std::nullopt;
}
