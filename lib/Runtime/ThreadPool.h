//===- ThreadPool.h - The runtime's own threads -----------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_RUNTIME_THREADPOOL_H
#define MOE_LIB_RUNTIME_THREADPOOL_H

#include "Support.h"

#include <atomic>
#include <cfenv>
#include <cstdint>
#include <sys/types.h>

namespace moe::rt {

/// The most threads that one pool may have.
constexpr int kMaxThreads = 4096;

/// The number of cores that this process may run on, at least 1.
int availableThreads();

/// Threads that sleep between parallel loops and never spin. One loop has the
/// workers at a time: a loop started inside a task, or by a second thread while
/// the workers are taken, runs in its caller. That needs no queue and cannot
/// deadlock.
class ThreadPool {
public:
  using Task = void (*)(void *data, int64_t begin, int64_t end);

  ThreadPool() = default;
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;
  ~ThreadPool();

  /// Starts the workers of a pool of `threads`, the caller of `run` among them.
  /// Returns false, with no worker left, when the system has no more to give.
  bool start(int threads);

  /// Calls `task` on disjoint ranges that cover [0, n); returns when all of
  /// them are done.
  void run(int64_t n, Task task, void *data);

  int threads() const { return numWorkers + 1; }

private:
  static void *workerMain(void *pool);
  void serve();
  void runChunks();
  void stop();

  int numWorkers = 0;
  pthread_t *workers = nullptr;
  /// The process that has the workers; a forked child does not.
  pid_t owner = 0;
  /// Set while a loop has the workers.
  std::atomic<bool> busy{false};

  Mutex mutex;
  Condition wake; ///< helpersWanted > 0 or stopping.
  Condition done; ///< helpersActive == 0.
  int64_t helpersWanted = 0;
  int64_t helpersActive = 0;
  bool stopping = false;

  /// The loop at hand. Written under the mutex while no helper is active.
  Task task = nullptr;
  void *taskData = nullptr;
  int64_t size = 0;
  int64_t smallestChunk = 1;
  std::fenv_t floatEnvironment;
  /// The first index that nobody has taken, on a cache line of its own.
  alignas(kAlignment) std::atomic<int64_t> next{0};
};

} // namespace moe::rt

#endif // MOE_LIB_RUNTIME_THREADPOOL_H
