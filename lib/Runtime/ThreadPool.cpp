//===- ThreadPool.cpp - The runtime's own threads -------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ThreadPool.h"

#include <algorithm>
#include <csignal>
#include <sched.h>
#include <unistd.h>

using namespace moe::rt;

int moe::rt::availableThreads() {
#ifdef __linux__
  // The kernel refuses a set that is smaller than its own.
  for (size_t cpus = 1024; cpus <= size_t(1) << 20; cpus *= 2) {
    cpu_set_t *set = CPU_ALLOC(cpus);
    if (!set)
      break;
    size_t bytes = CPU_ALLOC_SIZE(cpus);
    CPU_ZERO_S(bytes, set);
    bool known = sched_getaffinity(0, bytes, set) == 0;
    int count = known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (known)
      return std::clamp(count, 1, kMaxThreads);
  }
#endif
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return static_cast<int>(std::clamp<long>(online, 1, kMaxThreads));
}

bool ThreadPool::start(int threads) {
  owner = getpid();
  if (threads <= 1)
    return true;
  workers = static_cast<pthread_t *>(
      std::calloc(static_cast<size_t>(threads - 1), sizeof(pthread_t)));
  if (!workers)
    return false;

  // Signals are the host's business and reach its own threads. Those that a
  // fault raises stay open, so that the host's crash handler still sees them.
  sigset_t blocked, before;
  sigfillset(&blocked);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT})
    sigdelset(&blocked, fault);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  while (numWorkers < threads - 1 &&
         pthread_create(&workers[numWorkers], nullptr, workerMain, this) == 0)
    ++numWorkers;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);

  if (numWorkers == threads - 1)
    return true;
  stop();
  return false;
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  if (owner == getpid()) {
    {
      Lock lock(mutex);
      stopping = true;
    }
    wake.wakeAll();
    for (int i = 0; i < numWorkers; ++i)
      pthread_join(workers[i], nullptr);
  }
  numWorkers = 0;
  std::free(workers);
  workers = nullptr;
}

void *ThreadPool::workerMain(void *pool) {
  static_cast<ThreadPool *>(pool)->serve();
  return nullptr;
}

void ThreadPool::serve() {
  while (true) {
    {
      Lock lock(mutex);
      while (helpersWanted == 0 && !stopping)
        wake.wait(mutex);
      if (stopping)
        return;
      --helpersWanted;
      ++helpersActive;
    }
    // Rounding and flush-to-zero are the caller's, or a result would depend on
    // which thread computed it.
    std::fesetenv(&floatEnvironment);
    runChunks();
    Lock lock(mutex);
    if (--helpersActive == 0)
      done.wakeOne();
  }
}

void ThreadPool::runChunks() {
  // Chunks shrink as the loop nears its end: long streams first, then pieces
  // small enough that no thread waits long for a slow one.
  int64_t shares = 4 * static_cast<int64_t>(threads());
  int64_t begin = next.load(std::memory_order_relaxed);
  while (begin < size) {
    int64_t left = size - begin;
    int64_t chunk = std::min(left, std::max(smallestChunk, left / shares));
    if (!next.compare_exchange_weak(begin, begin + chunk,
                                    std::memory_order_relaxed))
      continue;
    task(taskData, begin, begin + chunk);
    begin = next.load(std::memory_order_relaxed);
  }
}

void ThreadPool::run(int64_t n, Task fn, void *data) {
  if (n <= 0)
    return;
  int64_t helpers = std::min<int64_t>(n, threads()) - 1;
  if (helpers == 0 || getpid() != owner ||
      busy.exchange(true, std::memory_order_acquire)) {
    fn(data, 0, n);
    return;
  }

  {
    Lock lock(mutex);
    task = fn;
    taskData = data;
    size = n;
    smallestChunk = std::max<int64_t>(1, n / (64 * int64_t(threads())));
    std::fegetenv(&floatEnvironment);
    next.store(0, std::memory_order_relaxed);
    helpersWanted = helpers;
  }
  if (helpers == numWorkers)
    wake.wakeAll();
  else
    for (int64_t i = 0; i < helpers; ++i)
      wake.wakeOne();

  runChunks();

  {
    // A helper that has not come by now is not waited for: nothing is left.
    Lock lock(mutex);
    helpersWanted = 0;
    while (helpersActive > 0)
      done.wait(mutex);
  }
  busy.store(false, std::memory_order_release);
}
