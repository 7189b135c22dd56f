//===- Trial.h - Running a kernel with a fault in it ------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_FAULTS_TRIAL_H
#define MOE_TEST_FAULTS_TRIAL_H

#include "Mutations.h"
#include "Recorder.h"

namespace moe::faults {

enum class Outcome : uint8_t {
  NotExecuted, ///< The launches do not come to it.
  Reported,    ///< The emulator said so.
  Wrong,       ///< Other bytes where the kernel writes.
  Stray,       ///< Bytes where nobody writes.
  Hang,        ///< Twenty times the instructions were not enough.
  NoEffect,    ///< What was changed has the same value every time.
  Survived,
};

/// Such as "reported".
const char *outcomeName(Outcome outcome);

struct Verdict {
  Outcome outcome = Outcome::NotExecuted;
  std::string detail; ///< What was reported, or why there is no effect.
};

/// All launches of one kernel in a call, to be run again with faults.
class Trial {
public:
  Trial(Recorder &recorder, const Image &image, const KernelLines &kernel,
        std::vector<const RecordedLaunch *> launches);

  /// Runs the kernel as it is.
  io::Status start();
  bool reaches(const Fault &fault) const;
  /// Fails where the text with the fault is not PTX any more.
  io::Expected<Verdict> judge(const Fault &fault);

private:
  struct Clean {
    emulator::Snapshot after;
    uint64_t instructions = 0;
  };
  using Loaded = io::Expected<std::unique_ptr<emulator::Module>>;

  Loaded load(const Fault *fault, const std::string &line) const;
  io::Expected<emulator::LaunchResult> run(const emulator::Module &module,
                                           size_t launch, uint64_t seed);
  io::Expected<Verdict> judgeOnce(const emulator::Module &module,
                                  uint64_t seed);
  io::Expected<Verdict> explain(const Fault &fault);

  Recorder &recorder;
  const Image &image;
  const KernelLines &kernel;
  std::vector<const RecordedLaunch *> launches;
  std::vector<Clean> clean;
  std::map<int, emulator::LineCount> counts; ///< By line from 1, of all.
};

} // namespace moe::faults

#endif // MOE_TEST_FAULTS_TRIAL_H
