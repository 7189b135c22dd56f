//===- Memory.h - Memory of the emulated device -----------------*- C++ -*-===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LIB_EMULATOR_MEMORY_H
#define MOE_LIB_EMULATOR_MEMORY_H

#include "Program.h"
#include "Race.h"
#include <memory>
#include <vector>

namespace moe::emulator {

/// Such as "0x400".
std::string hexText(uint64_t value);

/// One piece of global or constant memory.
struct Allocation {
  uint64_t begin = 0;
  size_t bytes = 0;
  std::string name;
  bool readOnly = false;
  bool isConst = false;
  std::vector<uint8_t> written; ///< One flag a byte.
  std::unique_ptr<uint8_t[]> storage;
  ShadowTable<GlobalRecord> race;

  uint8_t *data() const { return reinterpret_cast<uint8_t *>(begin); }
  uint64_t end() const { return begin + bytes; }
};

class GlobalMemory {
public:
  io::Expected<uint64_t> allocate(size_t bytes, const std::string &name);
  io::Status add(void *data, size_t bytes, const std::string &name,
                 bool written, bool isConst = false);
  bool remove(uint64_t address);

  /// The allocation that holds all the bytes, or null.
  Allocation *find(uint64_t address, size_t bytes) {
    if (last && address >= last->begin && address - last->begin < last->bytes &&
        bytes <= last->end() - address)
      return last;
    return search(address, bytes);
  }
  /// What is near an address that no allocation holds, for a message.
  std::string describe(uint64_t address) const;

  Snapshot save() const;
  io::Status restore(const Snapshot &snapshot);

private:
  Allocation *search(uint64_t address, size_t bytes);
  std::vector<std::unique_ptr<Allocation>> allocations; ///< By address.
  Allocation *last = nullptr;
};

/// The shared memory of one block.
class SharedMemory {
public:
  enum : uint8_t { Valid = 1, Written = 2, InFlight = 4 };

  /// Empties it for the next block: `ranges` and [dynamic, dynamic + size) may
  /// be accessed.
  void reset(const Program &program, size_t dynamicBytes, bool races);

  uint8_t *data(uint32_t address) { return &bytes[address]; }
  size_t size() const { return bytes.size(); }

  /// The flags that all bytes have, and that any has.
  struct Flags {
    uint8_t all, any;
  };
  Flags flags(uint32_t address, unsigned count) const {
    Flags result{0xff, 0};
    for (unsigned i = 0; i < count; ++i) {
      result.all &= states[address + i];
      result.any |= states[address + i];
    }
    return result;
  }
  bool contains(uint64_t address, unsigned count) const {
    return address < bytes.size() && count <= bytes.size() - address;
  }
  void setFlag(uint32_t address, unsigned count, uint8_t flag) {
    for (unsigned i = 0; i < count; ++i)
      states[address + i] |= flag;
  }
  void clearFlag(uint32_t address, unsigned count, uint8_t flag) {
    for (unsigned i = 0; i < count; ++i)
      states[address + i] &= uint8_t(~flag);
  }

  ShadowTable<SharedRecord> race;

private:
  std::vector<uint8_t> bytes;
  std::vector<uint8_t> states;
};

} // namespace moe::emulator

#endif // MOE_LIB_EMULATOR_MEMORY_H
