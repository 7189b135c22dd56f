//===- Mutations.cpp - Faults that can be put into a kernel ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Mutations.h"

#include <algorithm>
#include <cstdlib>
#include <set>

using namespace moe::faults;

const char *moe::faults::faultKindName(FaultKind kind) {
  switch (kind) {
  case FaultKind::Barrier:
    return "barrier";
  case FaultKind::Wait:
    return "wait";
  case FaultKind::Branch:
    return "branch";
  case FaultKind::Bound:
    return "bound";
  case FaultKind::Predicate:
    return "predicate";
  case FaultKind::CopySize:
    return "copy size";
  case FaultKind::Alignment:
    return "alignment";
  case FaultKind::Address:
    return "address";
  }
  return "unknown";
}

namespace {

bool isNumber(const std::string &text) {
  return !text.empty() &&
         text.find_first_not_of("0123456789", text[0] == '-') == text.npos;
}

/// A number of an operand, changed by some.
std::string plus(const std::string &number, long long by) {
  return std::to_string(std::atoll(number.c_str()) + by);
}

/// "[%rd1+4]", "[%rd1+-4]" or "[%rd1]" further by some bytes.
std::string shifted(const std::string &address, long long bytes) {
  std::string inside = address.substr(1, address.size() - 2);
  if (size_t plus = inside.find('+'); plus != inside.npos) {
    bytes += std::atoll(inside.c_str() + plus + 1);
    inside.resize(plus);
  }
  return "[" + inside + "+" + std::to_string(bytes) + "]";
}

constexpr const char *kSameValue = "the same value every time";

bool isZero(const std::string &operand) { return operand == "0"; }

class Finder {
public:
  Finder(const Image &image, const KernelLines &kernel)
      : image(image), kernel(kernel) {
    for (size_t i = kernel.body; i < kernel.end; ++i)
      code.push_back(parseInstruction(image.lines[i]));
    findGuards();
  }

  std::vector<Fault> run();

private:
  void findGuards();
  bool spread(const Instruction &inst);
  Fault &add(FaultKind kind, size_t at, std::string what, std::string text);
  /// That a probe in front of the line does not trap.
  void excuse(Fault &fault, const std::string &probe, const char *reason,
              bool changesNothing);
  void addWait(size_t at, const Instruction &inst);
  void addGuard(size_t at, const Instruction &inst);
  void addBound(size_t at, const Instruction &inst);
  void addCopySize(size_t at, const Instruction &inst);
  void addAlignment(size_t at);
  void addAddress(size_t at, const Instruction &inst);
  std::string probeOf(const Instruction &before, const Instruction &after);

  const Image &image;
  const KernelLines &kernel;
  std::vector<Instruction> code; ///< From the brace on.
  /// Registers that decide whether something is done, and the sizes of copies.
  std::set<std::string> guards, sizes;
  std::vector<Fault> faults;
};

/// What a guard is made of guards as well; true where something was new.
bool Finder::spread(const Instruction &inst) {
  if (!inst || inst.operands.empty())
    return false;
  const std::string &result = inst.operands[0];
  bool isGuard = guards.count(result), isSize = sizes.count(result);
  size_t before = guards.size() + sizes.size();
  bool isLogic = inst.is("and") || inst.is("or") || inst.is("xor") ||
                 inst.is("not") || inst.is("selp");
  // A predicate that went through a register: selp 1, 0, then != 0.
  bool isTest = inst.is("setp") && (inst.has("ne") || inst.has("eq"));
  if (isGuard && (isLogic || isTest))
    for (size_t i = 1; i < inst.operands.size(); ++i)
      if (inst.operands[i][0] == '%')
        guards.insert(inst.operands[i]);
  if (isSize && inst.is("selp")) {
    guards.insert(inst.operands[3]);
    for (size_t i : {1, 2})
      if (inst.operands[i][0] == '%')
        sizes.insert(inst.operands[i]);
  }
  return guards.size() + sizes.size() > before;
}

void Finder::findGuards() {
  for (const Instruction &inst : code) {
    if (!inst.guard.empty())
      guards.insert(inst.guard);
    if (inst.is("cp") && inst.operands.size() == 4 &&
        inst.operands[3][0] == '%')
      sizes.insert(inst.operands[3]);
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (const Instruction &inst : code)
      changed |= spread(inst);
  }
}

Fault &Finder::add(FaultKind kind, size_t at, std::string what,
                   std::string text) {
  faults.push_back(
      {kind, std::move(what), kernel.body + at, std::move(text), {}});
  return faults.back();
}

void Finder::excuse(Fault &fault, const std::string &probe, const char *reason,
                    bool changesNothing) {
  fault.excuses.push_back(
      {probe + image.lines[fault.line], reason, changesNothing});
}

/// The registers that a load sets.
std::vector<std::string> resultsOf(const Instruction &inst) {
  const std::string &result = inst.operands[0];
  if (result[0] != '{')
    return {result};
  return splitOperands(result.substr(1, result.size() - 2));
}

/// As LLVM names registers: %rd has 64 bits, %rs 16, all others 32.
std::string bitsOf(const std::string &name) {
  return name.rfind("%rd", 0) == 0   ? "b64"
         : name.rfind("%rs", 0) == 0 ? "b16"
                                     : "b32";
}

/// Traps where two loads of the same registers differ.
std::string probeOfLoads(const Instruction &before, const Instruction &after) {
  std::string declared, lists[2], tests;
  std::vector<std::string> results = resultsOf(before);
  for (size_t i = 0; i < results.size(); ++i) {
    std::string bits = bitsOf(results[i]);
    std::string names[2] = {"%moe_a" + std::to_string(i),
                            "%moe_b" + std::to_string(i)};
    declared += ".reg ." + bits + " " + names[0] + ", " + names[1] + "; ";
    for (int k : {0, 1})
      lists[k] += (i ? "," : "") + names[k];
    tests += "setp.ne." + bits + " %moe_p, " + names[0] + ", " + names[1] +
             "; @%moe_p trap; ";
  }
  Instruction loads[2] = {before, after};
  for (int k : {0, 1})
    loads[k].operands[0] =
        before.operands[0][0] == '{' ? "{" + lists[k] + "}" : lists[k];
  return "{ .reg .pred %moe_p; " + declared + loads[0].text() + " " +
         loads[1].text() + " " + tests + "} ";
}

/// Not-a-numbers, and large integers, for what is loaded.
std::string loadNothing(const Instruction &inst) {
  std::string text;
  for (const std::string &result : resultsOf(inst)) {
    std::string bits = bitsOf(result);
    text += "mov." + bits + " " + result + ", " +
            (bits == "b64"   ? "0x7fff7fff7fff7fff"
             : bits == "b32" ? "0x7fff7fff"
                             : "0x7fff") +
            "; ";
  }
  return text;
}

/// Traps where two ways to set the same register differ.
std::string Finder::probeOf(const Instruction &before,
                            const Instruction &after) {
  Instruction first = before, second = after;
  first.operands[0] = "%moe_a";
  second.operands[0] = "%moe_b";
  bool isPredicate = before.is("setp");
  std::string type = isPredicate ? "pred" : before.opcode.back();
  std::string differ = isPredicate ? "xor.pred %moe_p, %moe_a, %moe_b;"
                                   : "setp.ne." + ("b" + type.substr(1)) +
                                         " %moe_p, %moe_a, %moe_b;";
  return "{ .reg ." + type + " %moe_a, %moe_b; .reg .pred %moe_p; " +
         first.text() + " " + second.text() + " " + differ +
         " @%moe_p trap; } ";
}

void Finder::addWait(size_t at, const Instruction &inst) {
  add(FaultKind::Wait, at, "deleted", "");
  if (!inst.has("wait_group") || inst.operands.empty())
    return;
  Instruction weak = inst;
  weak.operands[0] = plus(inst.operands[0], 1);
  add(FaultKind::Wait, at, "waits for one group less", weak.text());
}

void Finder::addGuard(size_t at, const Instruction &inst) {
  Instruction always = inst;
  always.guard.clear();
  if (!inst.is("bra"))
    return void(add(FaultKind::Predicate, at, "always", always.text()));
  add(FaultKind::Branch, at, "never", "");
  add(FaultKind::Branch, at, "always", always.text());
}

void Finder::addBound(size_t at, const Instruction &inst) {
  static constexpr const char *kOther[][2] = {
      {"lt", "le"}, {"le", "lt"}, {"gt", "ge"}, {"ge", "gt"},
      {"lo", "ls"}, {"ls", "lo"}, {"hi", "hs"}, {"hs", "hi"}};
  Instruction weak = inst;
  std::string what;
  if (inst.is("setp") && guards.count(inst.operands[0]) &&
      inst.opcode.back()[0] != 'f') {
    for (const auto &[from, to] : kOther)
      if (inst.opcode[1] == from) {
        weak.opcode[1] = to;
        what = std::string(from) + " for " + to;
        break;
      }
  } else if (inst.is("min") && isNumber(inst.operands[2])) {
    weak.operands[2] = plus(inst.operands[2], 1);
    what = "one more";
  }
  if (!what.empty())
    excuse(add(FaultKind::Bound, at, what, weak.text()), probeOf(inst, weak),
           kSameValue, /*changesNothing=*/true);
}

void Finder::addCopySize(size_t at, const Instruction &inst) {
  if (!sizes.count(inst.operands[0]))
    return;
  bool first = isZero(inst.operands[2]);
  if (!first && !isZero(inst.operands[1]))
    return;
  Instruction all = inst;
  all.opcode = {"mov", inst.opcode.back()};
  all.operands = {inst.operands[0], inst.operands[first ? 1 : 2]};
  excuse(add(FaultKind::CopySize, at, "all bytes", all.text()),
         probeOf(inst, all), kSameValue, /*changesNothing=*/true);
}

/// Variables stand at the head of a kernel: ".shared .align 16 .b8 x[64];".
void Finder::addAlignment(size_t at) {
  const std::string &line = image.lines[kernel.body + at];
  size_t word = line.find(".align ");
  for (std::string space : {".shared", ".local"}) {
    if (line.find(space) == line.npos || word == line.npos)
      continue;
    int alignment = std::atoi(line.c_str() + word + 7);
    for (int less : {2, 4}) {
      if (less >= alignment)
        continue;
      std::string bytes = std::to_string(less);
      std::string text = line;
      text.replace(word + 7, std::to_string(alignment).size(), bytes);
      // What stands in front makes the lesser alignment felt.
      add(FaultKind::Alignment, at, "align " + bytes,
          "\t" + space + " .align " + bytes + " .b8 moe_shift[" + bytes + "];" +
              text);
    }
  }
}

void Finder::addAddress(size_t at, const Instruction &inst) {
  bool isMemory = inst.is("ld") || inst.is("st") || inst.is("ldmatrix") ||
                  inst.is("stmatrix") || inst.is("atom") || inst.is("red") ||
                  inst.is("cp");
  if (!isMemory || inst.has("param"))
    return;
  for (size_t i = 0; i < inst.operands.size(); ++i) {
    if (inst.operands[i][0] != '[')
      continue;
    std::string which = !inst.is("cp") ? "" : i == 0 ? "to " : "from ";
    for (int bytes : {2, 16}) {
      Instruction moved = inst;
      moved.operands[i] = shifted(inst.operands[i], bytes);
      Fault &fault =
          add(FaultKind::Address, at,
              which + "+" + std::to_string(bytes) + " bytes", moved.text());
      if (inst.is("cp") && i == 1 && inst.operands.size() == 4)
        excuse(fault,
               "{ .reg .pred %moe_p; setp.ne.b32 %moe_p, " + inst.operands[3] +
                   ", 0; @%moe_p trap; } ",
               "it reads nothing", /*changesNothing=*/true);
      if (inst.is("ld") || inst.is("ldmatrix")) {
        excuse(fault, probeOfLoads(inst, moved),
               "what lies there has the same value every time",
               /*changesNothing=*/false);
        fault.excuses.push_back(
            {loadNothing(inst), "any value does as well", false});
      }
      if (inst.is("st"))
        fault.excuses.push_back(
            {"", "the store is dead: nothing changes without it", false});
    }
  }
}

std::vector<Fault> Finder::run() {
  for (size_t at = 0; at < code.size(); ++at) {
    const Instruction &inst = code[at];
    if (!inst) {
      addAlignment(at);
      continue;
    }
    if (inst.is("bar") || inst.is("barrier"))
      add(FaultKind::Barrier, at, "deleted", "");
    else if (inst.is("cp") && (inst.has("wait_group") || inst.has("wait_all") ||
                               inst.has("commit_group")))
      addWait(at, inst);
    else if (!inst.guard.empty())
      addGuard(at, inst);
    else if (inst.is("setp") || inst.is("min"))
      addBound(at, inst);
    else if (inst.is("selp"))
      addCopySize(at, inst);
    addAddress(at, inst);
  }
  return std::move(faults);
}

} // namespace

std::vector<Fault> moe::faults::findFaults(const Image &image,
                                           const KernelLines &kernel) {
  return Finder(image, kernel).run();
}
