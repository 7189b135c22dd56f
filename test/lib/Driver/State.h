//===- State.h - What the driver of the tests keeps -------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_LIB_DRIVER_STATE_H
#define MOE_TEST_LIB_DRIVER_STATE_H

#include "moe/Emulator/Emulator.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace moe_test::driver {

namespace emulator = moe::emulator;

using Result = int;

/// The driver's own numbers.
enum : Result {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidImage = 200,
  kInvalidContext = 201,
  kInvalidPTX = 218,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kMisalignedAddress = 716,
  kLaunchFailed = 719,
};

/// What is asked of the driver, as text: see configure.
struct Options {
  int version = 13000;
  int devices = 1;
  int capability = 120;
  uint64_t memory = UINT64_MAX;
  std::string failing; ///< A function that fails,
  int failAt = 1;      ///< at which of its calls,
  Result failWith = 0; ///< and how.
};

/// Work in the order it was asked for. It is done when somebody waits for it
/// and no sooner, so that whoever forgets to wait sees the memory of before.
struct Stream {
  bool isBlocking = true; ///< Waits for the default stream, and it for this.
  uint64_t enqueued = 0, done = 0;
  std::deque<std::function<Result()>> pending;
};

struct Module {
  std::unique_ptr<emulator::Module> code;
  std::set<std::string> names; ///< Functions that were asked for; handles.
  unsigned pending = 0;        ///< Launches that are to come.
};

struct Function {
  Module *module;
  std::string name;
};

/// A place in a stream.
struct Event {
  Stream *stream = nullptr;
  uint64_t count = 0;
  /// When it was come to, in milliseconds, or -1; null where nobody asks.
  std::shared_ptr<double> time;
};

class State {
public:
  std::mutex mutex;
  Options options;
  Result sticky = kSuccess; ///< After a fault, the answer to everything.
  int retained = 0;
  std::map<std::string, int> calls;
  emulator::Device device;
  std::map<uint64_t, size_t> allocations;
  std::map<void *, std::unique_ptr<Module>> modules;
  std::map<void *, std::unique_ptr<Function>> functions;
  std::map<void *, std::unique_ptr<Stream>> streams;
  std::map<void *, std::unique_ptr<Event>> events;
  Stream defaultStream;

  void configure(const std::string &text);
  void addProblem(const std::string &text);
  /// The problems so far and all that is still there; forgets the problems.
  std::string report();

  uint64_t allocatedBytes() const;
  Stream *find(void *stream);
  void enqueue(Stream &stream, std::function<Result()> work);
  void waitFor(Stream &stream, Stream &other, uint64_t count);
  Result drain(Stream &stream, uint64_t count);
  Result drainAll();

private:
  std::string problems;
};

/// The only one; it is never destroyed.
State &state();

/// The contexts that the thread has pushed.
constexpr int kMaxPushed = 8;
extern thread_local int numPushed;

/// A call of the driver: holds the lock, counts, and fails where it shall.
class Call {
public:
  explicit Call(const char *function, bool needsContext = true);
  Result result = kSuccess;

private:
  std::unique_lock<std::mutex> lock;
};

} // namespace moe_test::driver

#endif // MOE_TEST_LIB_DRIVER_STATE_H
