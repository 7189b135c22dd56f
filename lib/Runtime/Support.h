//===- Support.h - Locks, messages and memory -------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the runtime uses in place of the C++ standard library's counterparts.
// Those throw, and need libstdc++ at link time; with these a C program links
// the runtime with its C compiler.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_RUNTIME_SUPPORT_H
#define MOE_LIB_RUNTIME_SUPPORT_H

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <pthread.h>
#include <utility>

namespace moe::rt {

/// The alignment of workspaces, a cache line.
constexpr size_t kAlignment = 64;

/// Returns `bytes` of memory at a multiple of kAlignment, for std::free, or
/// null.
inline void *allocateAligned(size_t bytes) {
  if (bytes == 0 || bytes > SIZE_MAX - (kAlignment - 1))
    return nullptr;
  return std::aligned_alloc(kAlignment,
                            (bytes + kAlignment - 1) / kAlignment * kAlignment);
}

/// Makes an object without operator new; null when memory is short.
template <typename T, typename... Args> T *createObject(Args &&...args) {
  static_assert(alignof(T) <= kAlignment, "allocateAligned is not enough");
  void *memory = allocateAligned(sizeof(T));
  return memory ? new (memory) T(std::forward<Args>(args)...) : nullptr;
}

/// Ends an object of createObject.
template <typename T> void destroyObject(T *object) {
  if (!object)
    return;
  object->~T();
  std::free(object);
}

class Mutex {
public:
  Mutex() = default;
  Mutex(const Mutex &) = delete;
  Mutex &operator=(const Mutex &) = delete;
  ~Mutex() { pthread_mutex_destroy(&handle); }

private:
  friend class Lock;
  friend class Condition;
  pthread_mutex_t handle = PTHREAD_MUTEX_INITIALIZER;
};

/// Holds a mutex for a scope.
class Lock {
public:
  explicit Lock(Mutex &mutex) : mutex(mutex) {
    pthread_mutex_lock(&mutex.handle);
  }
  Lock(const Lock &) = delete;
  Lock &operator=(const Lock &) = delete;
  ~Lock() { pthread_mutex_unlock(&mutex.handle); }

private:
  Mutex &mutex;
};

/// A condition variable. It is never destroyed through pthreads: that waits for
/// sleeping threads, which a forked child has in name only, and frees nothing.
class Condition {
public:
  Condition() = default;
  Condition(const Condition &) = delete;
  Condition &operator=(const Condition &) = delete;

  /// Sleeps; the caller holds `mutex` and tests its condition again.
  void wait(Mutex &mutex) { pthread_cond_wait(&handle, &mutex.handle); }
  void wakeOne() { pthread_cond_signal(&handle); }
  void wakeAll() { pthread_cond_broadcast(&handle); }

private:
  pthread_cond_t handle = PTHREAD_COND_INITIALIZER;
};

/// The longest message that is kept: a long path and a sentence.
constexpr size_t kMessageBytes = 5120;

/// Text that grows up to a fixed size and then ends in "...". Building an error
/// message must not fail when memory is what has run out.
class Message {
public:
  Message() { text[0] = '\0'; }

  __attribute__((format(printf, 2, 3))) Message &append(const char *format,
                                                        ...) {
    va_list args;
    va_start(args, format);
    int written =
        std::vsnprintf(text + length, kMessageBytes - length, format, args);
    va_end(args);
    if (written < 0)
      return *this;
    if (static_cast<size_t>(written) < kMessageBytes - length) {
      length += static_cast<size_t>(written);
      return *this;
    }
    length = kMessageBytes - 1;
    text[length - 1] = text[length - 2] = text[length - 3] = '.';
    return *this;
  }

  const char *str() const { return text; }

private:
  char text[kMessageBytes];
  size_t length = 0;
};

} // namespace moe::rt

#endif // MOE_LIB_RUNTIME_SUPPORT_H
