//===- ThreadPoolTest.cpp - Tests of parallel_for -------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <mutex>
#include <set>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <time.h>
#include <unistd.h>

using namespace moe::test;

namespace {

/// parallel_for with a callable.
template <typename Body>
void parallelFor(moe_context *context, int64_t n, Body body) {
  context->parallel_for(
      context, n,
      [](void *data, int64_t begin, int64_t end) {
        (*static_cast<Body *>(data))(begin, end);
      },
      &body);
}

/// The ranges of one loop, in order.
std::vector<std::pair<int64_t, int64_t>> collectRanges(moe_context *context,
                                                       int64_t n) {
  std::mutex mutex;
  std::vector<std::pair<int64_t, int64_t>> ranges;
  parallelFor(context, n, [&](int64_t begin, int64_t end) {
    std::lock_guard<std::mutex> lock(mutex);
    ranges.emplace_back(begin, end);
  });
  std::sort(ranges.begin(), ranges.end());
  return ranges;
}

/// Whether the ranges are not empty, disjoint, and cover [0, n).
bool covers(const std::vector<std::pair<int64_t, int64_t>> &ranges, int64_t n) {
  int64_t next = 0;
  for (auto [begin, end] : ranges) {
    if (begin != next || end <= begin)
      return false;
    next = end;
  }
  return next == n;
}

TEST(ThreadPoolTest, EachIndexOnce) {
  for (int threads : {1, 2, 3, 8}) {
    ContextPtr context = makeContext(threads);
    for (int64_t n : {1, 2, 3, 7, 8, 9, 64, 100, 1000, 12345}) {
      // Plain ints: the loop's end must publish what tasks wrote.
      std::vector<int> counts(static_cast<size_t>(n));
      parallelFor(context.get(), n, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          ++counts[static_cast<size_t>(i)];
      });
      EXPECT_EQ(std::count(counts.begin(), counts.end(), 1), n);
    }
  }
}

TEST(ThreadPoolTest, NothingToDo) {
  ContextPtr context = makeContext(2);
  for (int64_t n : {int64_t(0), int64_t(-1), INT64_MIN})
    parallelFor(context.get(), n, [](int64_t, int64_t) { FAIL(); });
}

TEST(ThreadPoolTest, LargeLoopsComeInFewRanges) {
  for (int threads : {1, 2, 5}) {
    ContextPtr context = makeContext(threads);
    for (int64_t n : {int64_t(1) << 33, INT64_MAX - 1, INT64_MAX}) {
      auto ranges = collectRanges(context.get(), n);
      EXPECT_TRUE(covers(ranges, n));
      EXPECT_LE(ranges.size(), size_t(64 * threads));
    }
  }
}

TEST(ThreadPoolTest, OneThreadTakesOneRange) {
  ContextPtr context = makeContext(1);
  EXPECT_EQ(collectRanges(context.get(), 1000).size(), 1u);
}

TEST(ThreadPoolTest, ManyShortLoops) {
  ContextPtr context = makeContext(4);
  for (int64_t i = 0; i < 3000; ++i) {
    std::atomic<int64_t> sum{0};
    parallelFor(context.get(), i % 17, [&](int64_t begin, int64_t end) {
      sum.fetch_add(end - begin, std::memory_order_relaxed);
    });
    ASSERT_EQ(sum.load(), i % 17);
  }
}

TEST(ThreadPoolTest, FewerTasksThanThreads) {
  ContextPtr context = makeContext(8);
  for (int64_t n = 1; n < 8; ++n) {
    std::mutex mutex;
    std::set<std::thread::id> ids;
    parallelFor(context.get(), n, [&](int64_t, int64_t) {
      std::lock_guard<std::mutex> lock(mutex);
      ids.insert(std::this_thread::get_id());
    });
    EXPECT_LE(ids.size(), size_t(n));
  }
}

#ifdef __linux__
/// How often the other threads of this process have gone to sleep.
long countSleeps() {
  long sum = 0;
  std::string self = std::to_string(syscall(SYS_gettid));
  for (const auto &task :
       std::filesystem::directory_iterator("/proc/self/task")) {
    if (task.path().filename() == self)
      continue;
    std::ifstream status(task.path() / "status");
    const std::string key = "voluntary_ctxt_switches:";
    for (std::string line; std::getline(status, line);)
      if (line.compare(0, key.size(), key) == 0)
        sum += std::stol(line.substr(key.size()));
  }
  return sum;
}

TEST(ThreadPoolTest, ShortLoopsWakeFewThreads) {
  ContextPtr context = makeContext(16);
  collectRanges(context.get(), 1000);
  long before = countSleeps();
  constexpr int rounds = 200;
  for (int round = 0; round < rounds; ++round) {
    std::atomic<int> arrived{0};
    parallelFor(context.get(), 2, [&](int64_t, int64_t) {
      ++arrived;
      while (arrived.load() < 2)
        std::this_thread::yield();
    });
  }
  // One helper a round, which may also sleep for a lock, of 15 workers.
  EXPECT_LT(countSleeps() - before, 5 * rounds);
}
#endif

TEST(ThreadPoolTest, AllThreadsTakePart) {
  // Every task waits for the others, which only as many threads can do.
  ContextPtr context = makeContext(3);
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> arrived{0};
    parallelFor(context.get(), 3, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(end - begin, 1);
      ++arrived;
      while (arrived.load() < 3)
        std::this_thread::yield();
    });
    EXPECT_EQ(arrived.load(), 3);
  }
}

TEST(ThreadPoolTest, ASlowThreadDoesNotHoldTheRest) {
  // The task with the first index lasts until all others are done.
  ContextPtr context = makeContext(2);
  constexpr int64_t n = 1000;
  std::atomic<int64_t> others{0};
  parallelFor(context.get(), n, [&](int64_t begin, int64_t end) {
    if (begin != 0) {
      others += end - begin;
      return;
    }
    EXPECT_LE(end, n / 8);
    while (others.load() < n - end)
      std::this_thread::yield();
  });
  SUCCEED();
}

TEST(ThreadPoolTest, NestedLoops) {
  ContextPtr context = makeContext(4);
  std::atomic<int64_t> sum{0};
  parallelFor(context.get(), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::thread::id self = std::this_thread::get_id();
      parallelFor(context.get(), 100, [&](int64_t b, int64_t e) {
        EXPECT_EQ(std::this_thread::get_id(), self);
        parallelFor(context.get(), 3, [&](int64_t b2, int64_t e2) {
          sum += (e - b) * (e2 - b2);
        });
      });
    }
  });
  EXPECT_EQ(sum.load(), 16 * 300);
}

TEST(ThreadPoolTest, NestedAcrossContexts) {
  ContextPtr a = makeContext(3), b = makeContext(3);
  std::atomic<int64_t> sum{0};
  parallelFor(a.get(), 8, [&](int64_t begin, int64_t end) {
    parallelFor(b.get(), 10 * (end - begin), [&](int64_t b0, int64_t e0) {
      parallelFor(a.get(), e0 - b0,
                  [&](int64_t b1, int64_t e1) { sum += e1 - b1; });
    });
  });
  EXPECT_EQ(sum.load(), 80);
}

TEST(ThreadPoolTest, SeveralCallersOfOneContext) {
  ContextPtr context = makeContext(3);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i)
        parallelFor(context.get(), 50,
                    [&](int64_t begin, int64_t end) { sum += end - begin; });
    });
  for (std::thread &caller : callers)
    caller.join();
  EXPECT_EQ(sum.load(), 4 * 200 * 50);
}

TEST(ThreadPoolTest, ManyContexts) {
  std::vector<ContextPtr> contexts;
  for (int i = 0; i < 16; ++i)
    contexts.push_back(makeContext(1 + i % 4));
  std::vector<std::thread> callers;
  std::atomic<int64_t> sum{0};
  for (ContextPtr &context : contexts)
    callers.emplace_back([&sum, context = context.get()] {
      for (int i = 0; i < 20; ++i)
        parallelFor(context, 10,
                    [&](int64_t begin, int64_t end) { sum += end - begin; });
    });
  for (std::thread &caller : callers)
    caller.join();
  EXPECT_EQ(sum.load(), 16 * 20 * 10);
}

TEST(ThreadPoolTest, CreateAndDestroy) {
  for (int i = 0; i < 200; ++i) {
    ContextPtr context = makeContext(1 + i % 5);
    ASSERT_TRUE(context);
    if (i % 2)
      EXPECT_TRUE(covers(collectRanges(context.get(), 33), 33));
  }
}

TEST(ThreadPoolTest, HostPool) {
  ContextPtr context = makeContext(2);
  struct Host {
    int calls = 0;
    int64_t n = 0;
  } host;
  moe_context_set_parallel_for(
      context.get(),
      [](void *data, int64_t n, moe_task_fn fn, void *taskData) {
        auto *host = static_cast<Host *>(data);
        ++host->calls;
        host->n = n;
        for (int64_t i = n - 1; i >= 0; --i)
          fn(taskData, i, i + 1);
      },
      &host);
  EXPECT_EQ(collectRanges(context.get(), 10).size(), 10u);
  EXPECT_EQ(host.calls, 1);
  EXPECT_EQ(host.n, 10);
  // An empty loop never reaches the host.
  EXPECT_EQ(collectRanges(context.get(), 0).size(), 0u);
  EXPECT_EQ(host.calls, 1);

  moe_context_set_parallel_for(context.get(), nullptr, nullptr);
  EXPECT_TRUE(covers(collectRanges(context.get(), 10), 10));
  EXPECT_EQ(host.calls, 1);
}

/// The thread CPU time of this process.
double cpuSeconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

TEST(ThreadPoolTest, IdleThreadsSleep) {
  ContextPtr context = makeContext(4);
  collectRanges(context.get(), 100);
  double before = cpuSeconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(cpuSeconds() - before, 0.1);
}

TEST(ThreadPoolTest, CallerSleepsWhileItWaits) {
  // The caller runs out of work while a worker still sleeps in its task.
  ContextPtr context = makeContext(2);
  std::thread::id self = std::this_thread::get_id();
  double before = cpuSeconds();
  std::atomic<bool> helped{false};
  parallelFor(context.get(), 2, [&](int64_t, int64_t) {
    if (std::this_thread::get_id() == self) {
      while (!helped.load())
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return;
    }
    helped = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  });
  EXPECT_LT(cpuSeconds() - before, 0.15);
}

TEST(ThreadPoolTest, WorkersBlockSignals) {
  ContextPtr context = makeContext(2);
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  EXPECT_FALSE(sigismember(&before, SIGTERM));
  std::thread::id self = std::this_thread::get_id();
  std::atomic<bool> helped{false};
  sigset_t mask;
  parallelFor(context.get(), 2, [&](int64_t, int64_t) {
    if (std::this_thread::get_id() == self) {
      while (!helped.load())
        std::this_thread::yield();
      return;
    }
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    helped = true;
  });
  for (int signal : {SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGALRM, SIGPIPE})
    EXPECT_TRUE(sigismember(&mask, signal)) << signal;
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL})
    EXPECT_FALSE(sigismember(&mask, signal)) << signal;
}

TEST(ThreadPoolTest, TasksRoundAsTheCaller) {
  ContextPtr context = makeContext(2);
  for (int mode : {FE_UPWARD, FE_TONEAREST}) {
    std::fesetround(mode);
    std::atomic<int> arrived{0};
    int modes[2];
    parallelFor(context.get(), 2, [&](int64_t begin, int64_t) {
      modes[begin] = std::fegetround();
      ++arrived;
      while (arrived.load() < 2)
        std::this_thread::yield();
    });
    EXPECT_EQ(modes[0], mode);
    EXPECT_EQ(modes[1], mode);
  }
}

#if !defined(__SANITIZE_THREAD__) && !__has_feature(thread_sanitizer)
TEST(ThreadPoolTest, ForkedChildRunsAlone) {
  ContextPtr context = makeContext(4);
  collectRanges(context.get(), 100);
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(20);
    bool good = collectRanges(context.get(), 100).size() == 1;
    context.reset();
    ContextPtr own = makeContext(3);
    good = good && covers(collectRanges(own.get(), 100), 100);
    own.reset();
    _exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(covers(collectRanges(context.get(), 100), 100));
}
#endif

TEST(ThreadPoolTest, NoMoreThreads) {
  // In a child, because a limit cannot be raised again.
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Stacks do not fit into the address space that is left.
    rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    size_t stack = 0;
    pthread_attr_getstacksize(&attributes, &stack);
    rlim_t used = 0;
    if (FILE *file = std::fopen("/proc/self/statm", "r")) {
      unsigned long pages = 0;
      if (std::fscanf(file, "%lu", &pages) == 1)
        used = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
      std::fclose(file);
    }
    if (used == 0 || used > (rlim_t(1) << 40))
      _exit(77);
    limit.rlim_cur = limit.rlim_max = used + 8 * stack;
    if (setrlimit(RLIMIT_AS, &limit) != 0)
      _exit(77);
    moe_context *context = reinterpret_cast<moe_context *>(8);
    int status = moe_context_create(256, &context);
    _exit(status == MOE_ERROR_MEMORY && !context ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77)
    GTEST_SKIP() << "the address space of this process cannot be limited";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

} // namespace
