//===- State.cpp - What the driver of the tests keeps ---------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "State.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <unistd.h>

using namespace moe_test::driver;

thread_local int moe_test::driver::numPushed = 0;

State &moe_test::driver::state() {
  static State *only = [] {
    auto *made = new State;
    if (const char *text = std::getenv("MOE_TEST_DRIVER"))
      made->configure(text);
    return made;
  }();
  return *only;
}

Call::Call(const char *function, bool needsContext) : lock(state().mutex) {
  State &own = state();
  int count = ++own.calls[function];
  if (own.sticky)
    result = own.sticky;
  else if (own.options.failing == function && own.options.failAt == count)
    result = own.options.failWith;
  else if (needsContext && numPushed == 0)
    result = kInvalidContext;
}

/// "version=12020,devices=0,capability=80,memory=4096,fail=FUNCTION:CALL:CODE".
void State::configure(const std::string &text) {
  options = Options();
  sticky = kSuccess;
  calls.clear();
  std::stringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) {
    size_t equals = item.find('=');
    std::string key = item.substr(0, equals), value = item.substr(equals + 1);
    if (key == "version")
      options.version = std::atoi(value.c_str());
    else if (key == "devices")
      options.devices = std::atoi(value.c_str());
    else if (key == "capability")
      options.capability = std::atoi(value.c_str());
    else if (key == "memory")
      options.memory = std::strtoull(value.c_str(), nullptr, 10);
    else if (size_t colon = value.find(':');
             key == "fail" && colon != std::string::npos) {
      options.failing = value.substr(0, colon);
      char *end = nullptr;
      options.failAt = int(std::strtol(value.c_str() + colon + 1, &end, 10));
      options.failWith = *end == ':' ? std::atoi(end + 1) : kLaunchFailed;
    } else {
      addProblem("MOE_TEST_DRIVER says '" + item + "'");
    }
  }
}

void State::addProblem(const std::string &text) {
  problems += "test driver: " + text + "\n";
}

std::string State::report() {
  auto left = [&](size_t count, const std::string &what) {
    if (count)
      addProblem("there are still " + std::to_string(count) + " " + what);
  };
  size_t work = defaultStream.pending.size();
  for (const auto &[handle, stream] : streams)
    work += stream->pending.size();
  left(work, "things to do that nobody waited for");
  left(allocations.size(), "allocations");
  left(modules.size(), "modules");
  left(streams.size(), "streams");
  left(events.size(), "events");
  left(size_t(retained), "uses of the primary context");
  left(size_t(numPushed), "contexts on the stack");
  return std::move(problems);
}

uint64_t State::allocatedBytes() const {
  uint64_t sum = 0;
  for (const auto &[address, bytes] : allocations)
    sum += bytes;
  return sum;
}

//===----------------------------------------------------------------------===//
// Streams
//===----------------------------------------------------------------------===//

Stream *State::find(void *stream) {
  if (!stream)
    return &defaultStream;
  auto found = streams.find(stream);
  if (found != streams.end())
    return found->second.get();
  addProblem("use of a stream that is not there");
  return nullptr;
}

void State::waitFor(Stream &stream, Stream &other, uint64_t count) {
  if (other.done >= count)
    return;
  ++stream.enqueued;
  stream.pending.push_back(
      [this, &other, count] { return drain(other, count); });
}

void State::enqueue(Stream &stream, std::function<Result()> work) {
  if (&stream == &defaultStream) {
    for (const auto &[handle, other] : streams)
      if (other->isBlocking)
        waitFor(stream, *other, other->enqueued);
  } else if (stream.isBlocking) {
    waitFor(stream, defaultStream, defaultStream.enqueued);
  }
  ++stream.enqueued;
  stream.pending.push_back(std::move(work));
}

Result State::drain(Stream &stream, uint64_t count) {
  while (stream.done < count && !stream.pending.empty()) {
    std::function<Result()> work = std::move(stream.pending.front());
    stream.pending.pop_front();
    Result result = sticky ? sticky : work();
    ++stream.done;
    if (result && !sticky)
      sticky = result;
  }
  return sticky;
}

Result State::drainAll() {
  for (const auto &[handle, stream] : streams)
    drain(*stream, stream->enqueued);
  return drain(defaultStream, defaultStream.enqueued);
}

//===----------------------------------------------------------------------===//
// Control and the end
//===----------------------------------------------------------------------===//

extern "C" {

/// Starts anew with options; what is still there stays.
__attribute__((visibility("default"))) void
moe_test_driver_configure(const char *text) {
  std::lock_guard<std::mutex> lock(state().mutex);
  state().configure(text);
}

/// How often a function was called since the last configure.
__attribute__((visibility("default"))) int
moe_test_driver_calls(const char *function) {
  std::lock_guard<std::mutex> lock(state().mutex);
  return state().calls[function];
}

/// What went wrong and what was left, as lines; "" where nothing was. It lives
/// until the next call.
__attribute__((visibility("default"))) const char *moe_test_driver_report() {
  static std::string *text = new std::string;
  std::lock_guard<std::mutex> lock(state().mutex);
  *text = state().report();
  return text->c_str();
}
}

/// A program that leaves something behind, or did what it must not, ends with
/// an exit code of its own.
__attribute__((destructor)) static void finish() {
  std::string text = state().report();
  if (text.empty())
    return;
  std::fflush(nullptr);
  std::fputs(text.c_str(), stderr);
  _exit(97);
}
