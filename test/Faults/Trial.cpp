//===- Trial.cpp - Running a kernel with a fault in it --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Trial.h"

using namespace moe;
using namespace moe::faults;

/// Faults of order are looked for in so many random schedules as well.
static constexpr uint64_t kSchedules = 3;

const char *moe::faults::outcomeName(Outcome outcome) {
  switch (outcome) {
  case Outcome::NotExecuted:
    return "not executed";
  case Outcome::Reported:
    return "reported";
  case Outcome::Wrong:
    return "wrong numbers";
  case Outcome::Stray:
    return "stray store";
  case Outcome::Hang:
    return "hang";
  case Outcome::NoEffect:
    return "no effect";
  case Outcome::Survived:
    return "survived";
  }
  return "unknown";
}

/// Where memory differs from what it should be: bytes that should have a value
/// say Wrong, all others Stray; Survived where it does not differ.
static Outcome compare(const emulator::Snapshot &found,
                       const emulator::Snapshot &wanted) {
  Outcome outcome = Outcome::Survived;
  for (size_t i = 0; i < wanted.pieces.size(); ++i) {
    const auto &a = found.pieces[i], &b = wanted.pieces[i];
    if (a == b)
      continue;
    outcome = Outcome::Stray;
    for (size_t k = 0; k < b.bytes.size(); ++k)
      if (b.written[k] && (a.bytes[k] != b.bytes[k] || !a.written[k]))
        return Outcome::Wrong;
  }
  return outcome;
}

Trial::Trial(Recorder &recorder, const Image &image, const KernelLines &kernel,
             std::vector<const RecordedLaunch *> launches)
    : recorder(recorder), image(image), kernel(kernel),
      launches(std::move(launches)) {}

Trial::Loaded Trial::load(const Fault *fault, const std::string &line) const {
  std::vector<std::string> lines(
      image.lines.begin() + std::ptrdiff_t(kernel.begin),
      image.lines.begin() + std::ptrdiff_t(kernel.end));
  if (fault)
    lines[fault->line - kernel.begin] = line;
  return emulator::Module::load(image.only(kernel, lines), kernel.name);
}

io::Expected<emulator::LaunchResult> Trial::run(const emulator::Module &module,
                                                size_t launch, uint64_t seed) {
  const RecordedLaunch &record = *launches[launch];
  if (io::Status status = recorder.device.restore(record.before); !status)
    return status.error();
  emulator::LaunchOptions options = record.options;
  options.seed = seed;
  options.stopAtReport = true;
  options.countLines = launch >= clean.size();
  if (!options.countLines)
    options.maxWarpInstructions = 20 * clean[launch].instructions + 10000;
  return recorder.device.launch(module, record.kernel, options,
                                record.arguments);
}

io::Status Trial::start() {
  Loaded module = load(nullptr, "");
  if (!module)
    return module.error();
  for (size_t i = 0; i < launches.size(); ++i) {
    auto result = run(**module, i, /*seed=*/0);
    if (!result)
      return result.error();
    if (!result->reports.empty())
      return io::Error{toString(result->reports.front())};
    for (const auto &[line, count] : result->lines) {
      counts[line].reached += count.reached;
      counts[line].executed += count.executed;
    }
    clean.push_back(
        {recorder.device.save(), result->statistics.warpInstructions});
  }
  return io::Success();
}

bool Trial::reaches(const Fault &fault) const {
  if (fault.kind == FaultKind::Alignment)
    return true;
  auto found = counts.find(int(fault.line) + 1);
  if (found == counts.end())
    return false;
  bool isGuard =
      fault.kind == FaultKind::Branch || fault.kind == FaultKind::Predicate;
  return isGuard ? found->second.reached : found->second.executed;
}

io::Expected<Verdict> Trial::judgeOnce(const emulator::Module &module,
                                       uint64_t seed) {
  for (size_t i = 0; i < launches.size(); ++i) {
    auto result = run(module, i, seed);
    if (!result)
      return result.error();
    if (!result->reports.empty()) {
      emulator::ReportKind kind = result->reports.front().kind;
      bool endless = kind == emulator::ReportKind::InstructionLimit;
      return Verdict{endless ? Outcome::Hang : Outcome::Reported,
                     reportKindName(kind)};
    }
    Outcome outcome = compare(recorder.device.save(), clean[i].after);
    if (outcome != Outcome::Survived)
      return Verdict{outcome, ""};
  }
  return Verdict{Outcome::Survived, ""};
}

/// A change that changed nothing, such as of branches that went one way only;
/// or why it need not be noticed.
io::Expected<Verdict> Trial::explain(const Fault &fault) {
  Verdict survived{Outcome::Survived, ""};
  auto count = counts.find(int(fault.line) + 1);
  if (fault.kind == FaultKind::Branch || fault.kind == FaultKind::Predicate) {
    bool always = fault.what == "always";
    const emulator::LineCount &own = count->second;
    if (own.executed != (always ? own.reached : 0))
      return survived;
    return Verdict{Outcome::NoEffect, always ? "its predicate always holds"
                                             : "its predicate never holds"};
  }
  for (const Excuse &excuse : fault.excuses) {
    Loaded module = load(&fault, excuse.text);
    if (!module)
      return module.error();
    auto verdict = judgeOnce(**module, /*seed=*/0);
    if (!verdict)
      return verdict;
    if (verdict->outcome == Outcome::Survived)
      return Verdict{excuse.changesNothing ? Outcome::NoEffect
                                           : Outcome::Survived,
                     excuse.reason};
  }
  return survived;
}

io::Expected<Verdict> Trial::judge(const Fault &fault) {
  if (!reaches(fault))
    return Verdict{};
  Loaded module = load(&fault, fault.text);
  if (!module)
    return module.error();
  bool isOrder =
      fault.kind == FaultKind::Barrier || fault.kind == FaultKind::Wait;
  for (uint64_t seed = 0; seed <= (isOrder ? kSchedules : 0); ++seed) {
    auto verdict = judgeOnce(**module, seed);
    if (!verdict || verdict->outcome != Outcome::Survived)
      return verdict;
  }
  return explain(fault);
}
