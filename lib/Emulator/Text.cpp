//===- Text.cpp - Reports and statistics as text --------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Emulator/Report.h"
#include "moe/Emulator/Statistics.h"

#include <cstdio>

using namespace moe;
using namespace moe::emulator;

const char *emulator::reportKindName(ReportKind kind) {
  switch (kind) {
  case ReportKind::OutOfBounds:
    return "out of bounds";
  case ReportKind::Misaligned:
    return "misaligned";
  case ReportKind::NeverWritten:
    return "never written";
  case ReportKind::ReadOnly:
    return "read only";
  case ReportKind::InFlight:
    return "in flight";
  case ReportKind::Race:
    return "race";
  case ReportKind::Collective:
    return "collective";
  case ReportKind::DivergentBarrier:
    return "divergent barrier";
  case ReportKind::Deadlock:
    return "deadlock";
  case ReportKind::InstructionLimit:
    return "instruction limit";
  case ReportKind::Trap:
    return "trap";
  case ReportKind::Assertion:
    return "assertion";
  case ReportKind::InvalidOperand:
    return "invalid operand";
  }
  return "unknown";
}

static std::string dimText(const Dim3 &dim) {
  return "(" + std::to_string(dim.x) + "," + std::to_string(dim.y) + "," +
         std::to_string(dim.z) + ")";
}

std::string emulator::toString(const Report &report) {
  std::string text = "line " + std::to_string(report.line) + ": " +
                     reportKindName(report.kind) + ": " + report.message +
                     "; kernel '" + report.kernel + "', block " +
                     dimText(report.where.block) + ", thread " +
                     dimText(report.where.thread);
  if (!report.source.empty())
    text += ", " + report.source;
  if (report.count > 1)
    text += " [" + std::to_string(report.count) + " times]";
  return text;
}

const char *emulator::instClassName(InstClass kind) {
  switch (kind) {
  case InstClass::Integer:
    return "integer";
  case InstClass::Float:
    return "float";
  case InstClass::Convert:
    return "convert";
  case InstClass::Move:
    return "move";
  case InstClass::Predicate:
    return "predicate";
  case InstClass::Control:
    return "control";
  case InstClass::Barrier:
    return "barrier";
  case InstClass::Shuffle:
    return "shuffle";
  case InstClass::LoadGlobal:
    return "load global";
  case InstClass::StoreGlobal:
    return "store global";
  case InstClass::LoadShared:
    return "load shared";
  case InstClass::StoreShared:
    return "store shared";
  case InstClass::LoadLocal:
    return "load local";
  case InstClass::StoreLocal:
    return "store local";
  case InstClass::LoadParam:
    return "load param";
  case InstClass::Atomic:
    return "atomic";
  case InstClass::AsyncCopy:
    return "async copy";
  case InstClass::Matrix:
    return "matrix";
  case InstClass::LoadMatrix:
    return "load matrix";
  case InstClass::Other:
    return "other";
  }
  return "unknown";
}

void Statistics::add(const Statistics &other) {
  warpInstructions += other.warpInstructions;
  threadInstructions += other.threadInstructions;
  for (unsigned i = 0; i < kNumInstClasses; ++i)
    byClass[i] += other.byClass[i];
  divergentInstructions += other.divergentInstructions;
  branches += other.branches;
  divergentBranches += other.divergentBranches;
  for (const auto &[name, count] : other.matrix)
    matrix[name] += count;
  loadSectors += other.loadSectors;
  loadSectorsIdeal += other.loadSectorsIdeal;
  loadBytes += other.loadBytes;
  storeSectors += other.storeSectors;
  storeSectorsIdeal += other.storeSectorsIdeal;
  storeBytes += other.storeBytes;
  sharedPasses += other.sharedPasses;
  sharedPassesIdeal += other.sharedPassesIdeal;
  barriers += other.barriers;
  asyncCopyBytes += other.asyncCopyBytes;
  atomics += other.atomics;
  blocks += other.blocks;
  warps += other.warps;
}

namespace {

struct Entry {
  const char *name;
  const char *key;
  uint64_t Statistics::*value;
};

constexpr Entry kEntries[] = {
    {"blocks", "blocks", &Statistics::blocks},
    {"warps", "warps", &Statistics::warps},
    {"warp instructions", "warp_instructions", &Statistics::warpInstructions},
    {"thread instructions", "thread_instructions",
     &Statistics::threadInstructions},
    {"divergent instructions", "divergent_instructions",
     &Statistics::divergentInstructions},
    {"branches", "branches", &Statistics::branches},
    {"divergent branches", "divergent_branches",
     &Statistics::divergentBranches},
    {"load sectors", "load_sectors", &Statistics::loadSectors},
    {"load sectors at least", "load_sectors_ideal",
     &Statistics::loadSectorsIdeal},
    {"load bytes", "load_bytes", &Statistics::loadBytes},
    {"store sectors", "store_sectors", &Statistics::storeSectors},
    {"store sectors at least", "store_sectors_ideal",
     &Statistics::storeSectorsIdeal},
    {"store bytes", "store_bytes", &Statistics::storeBytes},
    {"shared passes", "shared_passes", &Statistics::sharedPasses},
    {"shared passes at least", "shared_passes_ideal",
     &Statistics::sharedPassesIdeal},
    {"barriers", "barriers", &Statistics::barriers},
    {"async copy bytes", "async_copy_bytes", &Statistics::asyncCopyBytes},
    {"atomics", "atomics", &Statistics::atomics},
};

} // namespace

std::string emulator::toText(const Statistics &statistics) {
  std::string text;
  auto add = [&](const std::string &name, uint64_t value) {
    if (!value)
      return;
    char line[128];
    std::snprintf(line, sizeof line, "  %-40s %12llu\n", name.c_str(),
                  static_cast<unsigned long long>(value));
    text += line;
  };
  for (const Entry &entry : kEntries)
    add(entry.name, statistics.*entry.value);
  for (unsigned i = 0; i < kNumInstClasses; ++i)
    add(std::string("class ") + instClassName(InstClass(i)),
        statistics.byClass[i]);
  for (const auto &[name, count] : statistics.matrix)
    add(name, count);
  return text;
}

std::string emulator::toJson(const Statistics &statistics) {
  std::string text = "{";
  for (const Entry &entry : kEntries)
    text += std::string("\"") + entry.key +
            "\": " + std::to_string(statistics.*entry.value) + ", ";
  text += "\"classes\": {";
  bool first = true;
  for (unsigned i = 0; i < kNumInstClasses; ++i) {
    if (!statistics.byClass[i])
      continue;
    text += std::string(first ? "" : ", ") + "\"" +
            instClassName(InstClass(i)) +
            "\": " + std::to_string(statistics.byClass[i]);
    first = false;
  }
  text += "}, \"matrix\": {";
  first = true;
  for (const auto &[name, count] : statistics.matrix) {
    text += std::string(first ? "" : ", ") + "\"" + name +
            "\": " + std::to_string(count);
    first = false;
  }
  return text + "}}";
}
