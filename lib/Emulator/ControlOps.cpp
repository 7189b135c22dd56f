//===- ControlOps.cpp - Branches, calls, barriers -------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Decoder.h"
#include "Lanes.h"

using namespace moe;
using namespace moe::emulator;

namespace {

void runNothing(Warp &, const Inst &, uint32_t) {}

void decodeBranch(Decode &d) {
  d.take("uni");
  if (!d.expectOperands(1))
    return;
  d.inst.kind = InstClass::Control;
  d.inst.flow = Flow::Branch;
  d.inst.run = runNothing;
  d.inst.target = d.branchTarget(d.operand(0));
}

void decodeBranchTable(Decode &d) {
  d.take("uni");
  if (!d.take("idx"))
    return d.fail("needs .idx");
  if (!d.expectOperands(2))
    return;
  const auto *names = d.branchTargets(d.operand(1));
  if (!names)
    return;
  std::vector<uint32_t> table;
  for (std::string_view name : *names) {
    Operand label;
    label.text = name;
    table.push_back(d.branchTarget(label));
  }
  d.inst.kind = InstClass::Control;
  d.inst.flow = Flow::BranchTable;
  d.inst.run = runNothing;
  d.inst.a = d.source(size_t(0), Type::B32);
  d.inst.target = uint32_t(d.decoder.program.branchTables.size());
  d.decoder.program.branchTables.push_back(std::move(table));
}

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

/// Text that a generic address leads to, as far as it can be read.
std::string readText(Warp &warp, uint64_t address) {
  std::string text;
  while (text.size() < 256) {
    Allocation *allocation =
        warp.block->launch->memory->find(address + text.size(), 1);
    if (!allocation)
      break;
    char c = char(*reinterpret_cast<uint8_t *>(address + text.size()));
    if (!c)
      break;
    text += c;
  }
  return text;
}

uint64_t readArgument(Warp &warp, const Inst &inst, unsigned lane,
                      unsigned index, unsigned bytes) {
  if (index >= inst.listSize)
    return 0;
  size_t base = size_t(warp.index * kLanes + lane) * warp.program->localBytes;
  uint64_t value = 0;
  std::memcpy(&value,
              &warp.block->local[base + warp.program->lists[inst.list + index]],
              bytes);
  return value;
}

/// __assertfail(message, file, line, function, size of a character)
void runAssertFail(Warp &warp, const Inst &inst, uint32_t mask) {
  forLanes(mask, [&](unsigned lane) {
    std::string text = readText(warp, readArgument(warp, inst, lane, 0, 8));
    std::string file = readText(warp, readArgument(warp, inst, lane, 1, 8));
    uint64_t line = readArgument(warp, inst, lane, 2, 4);
    addReport(warp, inst, ReportKind::Assertion, lane,
              "assertion '" + text + "' failed at " + file + ":" +
                  std::to_string(line));
  });
  warp.block->launch->stop = true;
}

/// vprintf prints nothing; its result is not read by compiled code.
void runPrint(Warp &warp, const Inst &inst, uint32_t mask) {
  if (inst.imm < 0)
    return;
  size_t size = warp.program->localBytes;
  forLanes(mask, [&](unsigned lane) {
    size_t at = size_t(warp.index * kLanes + lane) * size + size_t(inst.imm);
    std::memset(&warp.block->local[at], 0, 4);
    std::memset(&warp.block->localWritten[at], 1, 4);
  });
}

struct CallSyntax {
  std::vector<Operand> results, arguments;
  std::string_view callee;
};

/// call (results), name, (arguments), prototype; each part but the name may be
/// missing.
bool readCall(Decode &d, CallSyntax &call) {
  size_t at = 0;
  if (at < d.numOperands() && d.operand(at).kind == Operand::List)
    call.results = d.operand(at++).elements;
  if (at == d.numOperands() || d.operand(at).kind != Operand::Name) {
    d.fail("names no function");
    return false;
  }
  call.callee = d.operand(at).text;
  if (d.isRegister(d.operand(at++))) {
    d.fail("through a register is not supported");
    return false;
  }
  if (at < d.numOperands() && d.operand(at).kind == Operand::List)
    call.arguments = d.operand(at++).elements;
  return true;
}

bool copyParams(Decode &d, const std::vector<Operand> &operands,
                const std::vector<VariablePlace> &formals, bool toFormals,
                std::vector<ParamCopy> &copies) {
  if (operands.size() != formals.size()) {
    d.fail("passes " + std::to_string(operands.size()) + " values for " +
           std::to_string(formals.size()));
    return false;
  }
  for (size_t i = 0; i < operands.size(); ++i) {
    std::optional<VariablePlace> place = d.variable(operands[i]);
    if (!place || place->space != Space::Local) {
      d.fail("passes '" + std::string(operands[i].text) +
             "', which is no .param variable");
      return false;
    }
    if (place->bytes != formals[i].bytes) {
      d.fail("passes " + std::to_string(place->bytes) + " bytes in '" +
             std::string(operands[i].text) + "' for " +
             std::to_string(formals[i].bytes));
      return false;
    }
    uint32_t here = uint32_t(place->address);
    uint32_t there = uint32_t(formals[i].address);
    copies.push_back({toFormals ? here : there, toFormals ? there : here,
                      uint32_t(place->bytes)});
  }
  return true;
}

void decodeBuiltin(Decode &d, const CallSyntax &call) {
  std::vector<uint32_t> list;
  for (const Operand &argument : call.arguments) {
    std::optional<VariablePlace> place = d.variable(argument);
    if (!place || place->space != Space::Local)
      return d.fail("passes '" + std::string(argument.text) +
                    "', which is no .param variable");
    list.push_back(uint32_t(place->address));
  }
  d.setList(list);
  d.inst.imm = -1;
  if (!call.results.empty())
    if (auto place = d.variable(call.results[0]))
      d.inst.imm = int64_t(place->address);
  if (call.callee == "__assertfail")
    d.inst.run = runAssertFail;
  else if (call.callee == "vprintf")
    d.inst.run = runPrint;
  else
    d.fail("calls '" + std::string(call.callee) + "', which has no body");
}

void decodeCall(Decode &d) {
  d.take("uni");
  CallSyntax call;
  if (!readCall(d, call))
    return;
  d.inst.kind = InstClass::Control;
  std::optional<uint32_t> code = d.decoder.findCode(call.callee);
  if (!code)
    return decodeBuiltin(d, call);
  FunctionState &callee = d.decoder.state(*code);
  if (callee.syntax->isEntry)
    return d.fail("calls a kernel");
  CallInfo info;
  info.entry = d.decoder.program.functions[*code].begin;
  if (!copyParams(d, call.arguments, callee.arguments, true, info.arguments) ||
      !copyParams(d, call.results, callee.results, false, info.results))
    return;
  d.function.callees.insert(*code);
  d.inst.flow = Flow::Call;
  d.inst.run = runNothing;
  d.inst.target = uint32_t(d.decoder.program.calls.size());
  d.decoder.program.calls.push_back(std::move(info));
}

void decodeReturn(Decode &d) {
  d.take("uni");
  d.expectOperands(0);
  d.inst.kind = InstClass::Control;
  d.inst.flow = d.word() == "exit" ? Flow::Exit : Flow::Return;
  d.inst.run = runNothing;
}

void runTrap(Warp &warp, const Inst &inst, uint32_t mask) {
  addReport(warp, inst, ReportKind::Trap, unsigned(__builtin_ctz(mask)),
            "the kernel ends itself");
  warp.block->launch->stop = true;
}

void decodeTrap(Decode &d) {
  d.expectOperands(0);
  d.inst.kind = InstClass::Control;
  d.inst.run = runTrap;
}

//===----------------------------------------------------------------------===//
// Barriers
//===----------------------------------------------------------------------===//

void runWarpBarrier(Warp &warp, const Inst &, uint32_t) { warp.tick(); }

/// inst.flag2: lanes may come to it at several places.
void decodeWarpBarrier(Decode &d) {
  if (!d.take("sync"))
    return d.fail("needs .sync");
  if (!d.expectOperands(1))
    return;
  d.inst.kind = InstClass::Barrier;
  d.inst.flow = Flow::Collective;
  d.inst.run = runWarpBarrier;
  d.inst.flag2 = true;
  d.inst.members = d.source(size_t(0), Type::B32);
}

/// bar and barrier: a is the barrier, b the count, c a predicate; flag says
/// that whole warps come to it.
void decodeBarrier(Decode &d) {
  if (d.take("warp"))
    return decodeWarpBarrier(d);
  if (d.word() == "barrier" && d.take("cluster"))
    return d.fail("is not supported: clusters have one block");
  d.take("cta");
  d.inst.kind = InstClass::Barrier;
  d.inst.flow = Flow::Barrier;
  d.inst.run = runNothing;
  d.inst.flag = d.word() == "bar" || d.take("aligned");
  switch (d.takeOneOf({"sync", "arrive", "red"})) {
  case 0:
    d.inst.option = 0;
    if (!d.expectOperands(1, 2))
      return;
    break;
  case 1:
    d.inst.option = 1;
    if (!d.expectOperands(2))
      return;
    break;
  case 2: {
    int op = d.takeOneOf({"and", "or", "popc"});
    Type type = d.needType();
    if (op < 0)
      return d.fail("names no operation");
    if (!d.expectOperands(3, 4))
      return;
    d.inst.option = uint8_t(2 + op);
    if ((op == 2) != (type == Type::U32))
      return d.failType(type);
    d.inst.d = op == 2 ? d.destination(size_t(0), 32)
                       : d.predicateDestination(d.operand(0));
    d.inst.a = d.source(1, Type::B32);
    if (d.numOperands() == 4)
      d.inst.b = d.source(2, Type::B32);
    bool negated = false;
    d.inst.c = d.predicateSource(d.operand(d.numOperands() - 1), &negated);
    d.inst.flag2 = negated;
    return;
  }
  default:
    return d.fail("needs .sync, .arrive or .red");
  }
  d.inst.a = d.source(size_t(0), Type::B32);
  if (d.numOperands() == 2)
    d.inst.b = d.source(1, Type::B32);
}

void runYield(Warp &warp, const Inst &, uint32_t) { warp.yield = true; }

void decodeSleep(Decode &d) {
  d.needType();
  d.expectOperands(1);
  d.inst.run = runYield;
}

/// What changes nothing that can be seen here.
void decodeHint(Decode &d) {
  if (d.word() == "griddepcontrol")
    d.takeOneOf({"launch_dependents", "wait"});
  else if (d.word() == "setmaxnreg") {
    d.takeOneOf({"inc", "dec"});
    d.take("sync");
    d.take("aligned");
    d.takeType();
  }
  d.expectOperands(0, 1);
  d.inst.run = runNothing;
}

} // namespace

void emulator::addControlOps(DecodeTable &table) {
  table["bra"] = decodeBranch;
  table["brx"] = decodeBranchTable;
  table["call"] = decodeCall;
  table["ret"] = table["exit"] = decodeReturn;
  table["trap"] = decodeTrap;
  table["bar"] = table["barrier"] = decodeBarrier;
  table["nanosleep"] = decodeSleep;
  table["griddepcontrol"] = table["setmaxnreg"] = table["pmevent"] =
      table["brkpt"] = decodeHint;
}
