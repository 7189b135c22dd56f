//===- Race.h - Who touched a byte last -------------------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_RACE_H
#define MOE_LIB_EMULATOR_RACE_H

#include <cstdint>
#include <cstdlib>
#include <memory>

namespace moe::emulator {

/// An access as 32 bits: atomic or not, the thread in its block, and the clock
/// of its warp, which a synchronisation moves on. 0 is none.
struct Stamp {
  static constexpr unsigned kClockBits = 21;
  static constexpr uint32_t kMaxClock = (1u << kClockBits) - 1;
  uint32_t bits = 0;

  static Stamp make(bool atomic, unsigned thread, uint32_t clock) {
    return {uint32_t(atomic) << 31 | thread << kClockBits | clock};
  }
  explicit operator bool() const { return bits != 0; }
  bool atomic() const { return bits >> 31; }
  unsigned thread() const { return bits >> kClockBits & 1023; }
  unsigned warp() const { return thread() / 32; }
  uint32_t clock() const { return bits & kMaxClock; }
};

/// Of each warp of a block: up to which of its clocks everything is known to
/// have happened.
struct VectorClock {
  uint32_t seen[32] = {};
  void join(const VectorClock &other) {
    for (unsigned i = 0; i < 32; ++i)
      seen[i] = seen[i] < other.seen[i] ? other.seen[i] : seen[i];
  }
};

/// The last write and two reads of a word or byte of shared memory. Two,
/// because of two different readers one is not the writer that comes next.
struct SharedRecord {
  Stamp write, read, read2;
};

/// The same with blocks, numbered across launches.
struct GlobalRecord {
  Stamp write, read, read2;
  uint32_t writeBlock, readBlock, read2Block;
};

/// A record for each word of memory, or for each byte of those words that were
/// accessed in smaller pieces.
template <typename Record> class ShadowTable {
public:
  void resize(size_t bytes) {
    if (bytes > capacity || !words) {
      capacity = bytes;
      words.reset(allocate((bytes + 3) / 4));
      pieces.reset();
      split.reset(static_cast<uint8_t *>(std::calloc(bytes / 4 + 1, 1)));
    }
  }
  explicit operator bool() const { return words && split; }

  void clear(size_t bytes) {
    for (size_t i = 0; i < (bytes + 3) / 4; ++i)
      words.get()[i] = Record();
    for (size_t i = 0; i < bytes / 4 + 1; ++i)
      split.get()[i] = 0;
  }

  /// Calls `visit(record)` for all records of the bytes, and stops where it
  /// returns false. A visit must set what a later one compares with.
  template <typename Visit>
  void access(size_t offset, unsigned bytes, Visit visit) {
    size_t end = offset + bytes;
    while (offset < end) {
      size_t word = offset / 4;
      bool whole = offset % 4 == 0 && end - offset >= 4;
      if (whole && !split.get()[word]) {
        if (!visit(words.get()[word]))
          return;
        offset += 4;
        continue;
      }
      if (!split.get()[word] && !splitWord(word))
        return;
      size_t stop = (word + 1) * 4 < end ? (word + 1) * 4 : end;
      for (; offset < stop; ++offset)
        if (!visit(pieces.get()[offset]))
          return;
    }
  }

private:
  struct Free {
    void operator()(void *pointer) const { std::free(pointer); }
  };
  static Record *allocate(size_t count) {
    // Untouched pages cost nothing.
    return static_cast<Record *>(std::calloc(count + 1, sizeof(Record)));
  }
  bool splitWord(size_t word) {
    if (!pieces)
      pieces.reset(allocate((capacity + 3) / 4 * 4));
    if (!pieces)
      return false;
    for (unsigned i = 0; i < 4; ++i)
      pieces.get()[word * 4 + i] = words.get()[word];
    split.get()[word] = 1;
    return true;
  }

  size_t capacity = 0;
  std::unique_ptr<Record, Free> words, pieces;
  std::unique_ptr<uint8_t, Free> split;
};

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_RACE_H
