//===- Access.cpp - Checked accesses to memory ----------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Warp.h"

#include <algorithm>
#include <cstdio>
#include <string>

using namespace moe;
using namespace moe::emulator;

namespace {

const char *verb(AccessKind kind) {
  switch (kind) {
  case AccessKind::Read:
  case AccessKind::StrongRead:
    return "read";
  case AccessKind::Write:
  case AccessKind::StrongWrite:
    return "write";
  case AccessKind::Atomic:
    return "atomic access";
  }
  return "access";
}

/// One access of one lane.
struct Access {
  Warp &warp;
  const Inst &inst;
  unsigned lane;
  uint64_t address;
  unsigned bytes;
  AccessKind kind;
  const void *data;

  std::string text(const char *space) const {
    return std::string(verb(kind)) + " of " + std::to_string(bytes) +
           " bytes at " + space + " address " + hexText(address);
  }
  std::string text(const Allocation &allocation) const {
    return std::string(verb(kind)) + " of " + std::to_string(bytes) +
           " bytes at '" + allocation.name + "' + " +
           std::to_string(address - allocation.begin);
  }
  uint8_t *fail(ReportKind what, const std::string &message) const {
    addReport(warp, inst, what, lane, message);
    return nullptr;
  }
  bool strong() const {
    return kind != AccessKind::Read && kind != AccessKind::Write;
  }
  unsigned thread() const { return warp.index * kLanes + lane; }
  Stamp stamp() const { return Stamp::make(strong(), thread(), warp.time); }

  /// True where an earlier access by a thread of this block is not ordered
  /// before this one, and matters.
  bool conflicts(Stamp other) const {
    return other && other.thread() != thread() &&
           !(strong() && other.atomic()) && !warp.knows(other);
  }
};

std::string threadText(const Block &block, unsigned thread) {
  const Dim3 &size = block.launch->options.block;
  return "(" + std::to_string(thread % size.x) + "," +
         std::to_string(thread / size.x % size.y) + "," +
         std::to_string(thread / size.x / size.y) + ")";
}

void reportRace(const Access &access, const std::string &text, Stamp other,
                bool otherWrites, const std::string &block) {
  access.fail(ReportKind::Race,
              text + " races with a " + (otherWrites ? "write" : "read") +
                  " by thread " +
                  threadText(*access.warp.block, other.thread()) + block);
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

void checkSharedRace(const Access &access) {
  SharedMemory &shared = access.warp.block->shared;
  Stamp now = access.stamp();
  Stamp other;
  bool otherWrites = false;
  bool writes = isWrite(access.kind);
  shared.race.access(access.address, access.bytes, [&](SharedRecord &record) {
    if (access.conflicts(record.write)) {
      other = record.write;
      otherWrites = true;
    }
    if (!writes) {
      // A known read is replaced, an unknown one kept.
      if (!record.read || record.read.thread() == access.thread() ||
          access.warp.knows(record.read))
        record.read = now;
      else
        record.read2 = now;
      return true;
    }
    for (Stamp read : {record.read, record.read2})
      if (access.conflicts(read))
        other = read;
    record.write = now;
    record.read = record.read2 = Stamp();
    return true;
  });
  if (!other)
    return;
  // Storing what is there already harms nobody.
  if (otherWrites && writes && access.data &&
      !std::memcmp(shared.data(uint32_t(access.address)), access.data,
                   access.bytes))
    return;
  reportRace(access, access.text("shared"), other, otherWrites, "");
}

uint8_t *accessShared(const Access &access) {
  Block &block = *access.warp.block;
  SharedMemory &shared = block.shared;
  if (!shared.contains(access.address, access.bytes))
    return access.fail(ReportKind::OutOfBounds,
                       access.text("shared") +
                           " is out of bounds: the block "
                           "has " +
                           hexText(kSharedBase) + " to " +
                           hexText(shared.size()));
  uint32_t address = uint32_t(access.address);
  SharedMemory::Flags flags = shared.flags(address, access.bytes);
  if (!(flags.all & SharedMemory::Valid))
    return access.fail(ReportKind::OutOfBounds,
                       access.text("shared") +
                           " is out of bounds: no variable is there");
  if (flags.any & SharedMemory::InFlight)
    return access.fail(ReportKind::InFlight,
                       access.text("shared") +
                           " while an asynchronous copy to it is in flight");
  if (block.launch->options.checkRaces)
    checkSharedRace(access);
  if (isWrite(access.kind) && access.kind != AccessKind::Atomic) {
    if (!(flags.all & SharedMemory::Written))
      shared.setFlag(address, access.bytes, SharedMemory::Written);
  } else if (!(flags.all & SharedMemory::Written)) {
    if (block.launch->options.checkWritten)
      access.fail(ReportKind::NeverWritten,
                  access.text("shared") + ", which was never written");
    // Once is enough.
    shared.setFlag(address, access.bytes, SharedMemory::Written);
  }
  return shared.data(address);
}

//===----------------------------------------------------------------------===//
// Global memory
//===----------------------------------------------------------------------===//

/// Fences and atomics are not followed address by address: a block that has
/// passed a fence and then touched an atomic, and another that has touched one
/// later, count as ordered.
bool blocksOrdered(const Launch &launch, uint32_t before, uint32_t after) {
  if (before < launch.firstBlock)
    return true;
  uint64_t released = launch.released[before - launch.firstBlock];
  return released && launch.acquired[after - launch.firstBlock] > released;
}

struct GlobalConflict {
  Stamp stamp;
  uint32_t block = 0;
  bool write = false;
};

void checkGlobalRace(const Access &access, Allocation &allocation) {
  Block &block = *access.warp.block;
  Launch &launch = *block.launch;
  if (!allocation.race)
    allocation.race.resize(allocation.bytes);
  if (!allocation.race)
    return;
  Stamp now = access.stamp();
  bool writes = isWrite(access.kind);
  GlobalConflict found;
  auto unordered = [&](Stamp other, uint32_t otherBlock) {
    if (!other || otherBlock < launch.firstBlock)
      return false;
    if (otherBlock == block.number)
      return access.conflicts(other);
    return !(access.strong() && other.atomic()) &&
           !blocksOrdered(launch, otherBlock, block.number);
  };
  auto known = [&](Stamp other, uint32_t otherBlock) {
    return !other || otherBlock < launch.firstBlock ||
           (otherBlock == block.number &&
            (other.thread() == access.thread() || access.warp.knows(other)));
  };
  allocation.race.access(access.address - allocation.begin, access.bytes,
                         [&](GlobalRecord &record) {
                           if (unordered(record.write, record.writeBlock))
                             found = {record.write, record.writeBlock, true};
                           if (!writes) {
                             if (known(record.read, record.readBlock)) {
                               record.read = now;
                               record.readBlock = block.number;
                             } else {
                               record.read2 = now;
                               record.read2Block = block.number;
                             }
                             return true;
                           }
                           if (unordered(record.read, record.readBlock))
                             found = {record.read, record.readBlock, false};
                           if (unordered(record.read2, record.read2Block))
                             found = {record.read2, record.read2Block, false};
                           record.write = now;
                           record.writeBlock = block.number;
                           record.read = record.read2 = Stamp();
                           return true;
                         });
  if (!found.stamp)
    return;
  if (found.write && writes && access.data &&
      !std::memcmp(reinterpret_cast<const void *>(access.address), access.data,
                   access.bytes))
    return;
  std::string where;
  if (found.block != block.number) {
    uint64_t id = found.block - launch.firstBlock;
    const Dim3 &grid = launch.options.grid;
    where = " of block (" + std::to_string(id % grid.x) + "," +
            std::to_string(id / grid.x % grid.y) + "," +
            std::to_string(id / grid.x / grid.y) + ")";
  }
  reportRace(access, access.text(allocation), found.stamp, found.write, where);
}

uint8_t *accessGlobal(const Access &access) {
  Block &block = *access.warp.block;
  Launch &launch = *block.launch;
  Allocation *allocation = launch.memory->find(access.address, access.bytes);
  if (!allocation)
    return access.fail(ReportKind::OutOfBounds,
                       std::string(verb(access.kind)) + " of " +
                           std::to_string(access.bytes) +
                           " bytes of global memory " +
                           launch.memory->describe(access.address));
  if (allocation->readOnly && isWrite(access.kind))
    return access.fail(ReportKind::ReadOnly,
                       access.text(*allocation) + ", which is constant");
  if (launch.options.checkGlobalRaces && !allocation->readOnly)
    checkGlobalRace(access, *allocation);
  uint8_t *written = &allocation->written[access.address - allocation->begin];
  if (isWrite(access.kind) && access.kind != AccessKind::Atomic) {
    std::memset(written, 1, access.bytes);
  } else if (launch.options.checkWritten &&
             std::memchr(written, 0, access.bytes)) {
    access.fail(ReportKind::NeverWritten,
                access.text(*allocation) + ", which was never written");
    std::memset(written, 1, access.bytes);
  }
  if (access.strong() && block.fenced) {
    uint32_t id = block.number - launch.firstBlock;
    launch.acquired[id] = launch.stats.warpInstructions + 1;
    if (isWrite(access.kind))
      launch.released[id] = launch.stats.warpInstructions;
  }
  return reinterpret_cast<uint8_t *>(access.address);
}

//===----------------------------------------------------------------------===//
// Local memory and parameters
//===----------------------------------------------------------------------===//

uint8_t *accessLocal(const Access &access) {
  Block &block = *access.warp.block;
  uint64_t size = access.warp.program->localBytes;
  if (access.address < kLocalBase || access.address >= size ||
      access.bytes > size - access.address)
    return access.fail(ReportKind::OutOfBounds,
                       access.text("local") +
                           " is out of bounds: a thread "
                           "has " +
                           hexText(kLocalBase) + " to " + hexText(size));
  size_t at = size_t(access.thread()) * size + access.address;
  uint8_t *written = &block.localWritten[at];
  if (isWrite(access.kind)) {
    std::memset(written, 1, access.bytes);
  } else if (std::memchr(written, 0, access.bytes)) {
    if (block.launch->options.checkWritten)
      access.fail(ReportKind::NeverWritten,
                  access.text("local") + ", which was never written");
    std::memset(written, 1, access.bytes);
  }
  return &block.local[at];
}

uint8_t *accessParam(const Access &access) {
  const std::vector<uint8_t> &params = *access.warp.block->launch->params;
  if (access.address > params.size() ||
      access.bytes > params.size() - access.address)
    return access.fail(ReportKind::OutOfBounds,
                       access.text("parameter") +
                           " is out of bounds: there are " +
                           std::to_string(params.size()) + " bytes");
  if (isWrite(access.kind))
    return access.fail(ReportKind::ReadOnly,
                       access.text("parameter") + ", which is constant");
  return const_cast<uint8_t *>(params.data()) + access.address;
}

const char *spaceName(Space space) {
  switch (space) {
  case Space::Generic:
    return "generic";
  case Space::Global:
    return "global";
  case Space::Const:
    return "constant";
  case Space::Shared:
    return "shared";
  case Space::Local:
    return "local";
  case Space::Param:
    return "parameter";
  }
  return "unknown";
}

} // namespace

uint8_t *emulator::accessMemory(Warp &warp, const Inst &inst, unsigned lane,
                                Space space, uint64_t address, unsigned bytes,
                                AccessKind kind, const void *data) {
  if (space == Space::Generic) {
    switch (address >> kWindowShift) {
    case kSharedWindow >> kWindowShift:
      space = Space::Shared;
      break;
    case kLocalWindow >> kWindowShift:
      space = Space::Local;
      break;
    case kParamWindow >> kWindowShift:
      space = Space::Param;
      break;
    default:
      space = Space::Global;
    }
    if (space != Space::Global)
      address &= (uint64_t(1) << kWindowShift) - 1;
  }
  Access access{warp, inst, lane, address, bytes, kind, data};
  if (address & (bytes - 1))
    return access.fail(ReportKind::Misaligned,
                       access.text(spaceName(space)) + " is misaligned");
  switch (space) {
  case Space::Shared:
    return accessShared(access);
  case Space::Local:
    return accessLocal(access);
  case Space::Param:
    return accessParam(access);
  default:
    return accessGlobal(access);
  }
}

//===----------------------------------------------------------------------===//
// Counting
//===----------------------------------------------------------------------===//

void emulator::countGlobalAccess(Launch &launch, const uint64_t *addresses,
                                 uint32_t lanes, unsigned bytes, bool store) {
  uint64_t sorted[kLanes];
  unsigned count = 0;
  bool ascending = true;
  forLanes(lanes, [&](unsigned lane) {
    sorted[count] = addresses[lane];
    ascending &= count == 0 || sorted[count - 1] <= sorted[count];
    ++count;
  });
  if (!ascending)
    std::sort(sorted, sorted + count);
  // Addresses are aligned to their power-of-two size: they are equal or apart.
  uint64_t sectors = 0, used = 0, lastSector = ~uint64_t(0);
  for (unsigned i = 0; i < count; ++i) {
    if (i && sorted[i] == sorted[i - 1])
      continue;
    used += bytes;
    for (uint64_t s = sorted[i] / 32; s <= (sorted[i] + bytes - 1) / 32; ++s)
      if (s != lastSector) {
        ++sectors;
        lastSector = s;
      }
  }
  Statistics &stats = launch.stats;
  (store ? stats.storeSectors : stats.loadSectors) += sectors;
  (store ? stats.storeSectorsIdeal : stats.loadSectorsIdeal) +=
      (used + 31) / 32;
  (store ? stats.storeBytes : stats.loadBytes) += used;
}

void emulator::countSharedAccess(Launch &launch, const uint64_t *addresses,
                                 uint32_t lanes, unsigned bytes) {
  // Wide accesses go in halves or quarters of a warp.
  unsigned group = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  unsigned words = bytes <= 4 ? 1 : bytes / 4;
  for (unsigned first = 0; first < kLanes; first += group) {
    uint32_t here = lanes >> first & (group == 32 ? ~0u : (1u << group) - 1);
    if (!here)
      continue;
    uint32_t seen[32][32];
    uint8_t count[32] = {};
    unsigned passes = 1, distinct = 0;
    forLanes(here, [&](unsigned lane) {
      uint32_t word = uint32_t(addresses[first + lane] / 4);
      for (unsigned i = 0; i < words; ++i, ++word) {
        unsigned bank = word % 32;
        unsigned known = count[bank];
        if (std::find(seen[bank], seen[bank] + known, word) !=
            seen[bank] + known)
          continue;

        seen[bank][known] = word;
        ++distinct;
        passes = std::max<unsigned>(passes, ++count[bank]);
      }
    });
    launch.stats.sharedPasses += passes;
    launch.stats.sharedPassesIdeal += (distinct + 31) / 32;
  }
}

//===----------------------------------------------------------------------===//
// Asynchronous copies
//===----------------------------------------------------------------------===//

static void finishCopy(Warp &warp, const AsyncCopy &copy) {
  SharedMemory &shared = warp.block->shared;
  uint8_t bytes[16] = {};
  if (copy.sourceBytes) {
    // The source may have changed since: what arrives is what is there now.
    uint64_t address = copy.global;
    const uint8_t *source = nullptr;
    // A source size that is no power of two is read byte by byte.
    unsigned step = copy.sourceBytes == copy.bytes ? copy.bytes : 1;
    for (unsigned i = 0; i < copy.sourceBytes; i += step) {
      source = accessMemory(warp, *copy.inst, copy.lane, Space::Global,
                            address + i, step, AccessKind::Read);
      if (source)
        std::memcpy(bytes + i, source, step);
    }
  }
  shared.clearFlag(copy.shared, copy.bytes, SharedMemory::InFlight);
  if (uint8_t *to = accessMemory(warp, *copy.inst, copy.lane, Space::Shared,
                                 copy.shared, copy.bytes, AccessKind::Write))
    std::memcpy(to, bytes, copy.bytes);
}

void emulator::finishAsyncCopies(Warp &warp, unsigned lane, uint32_t group) {
  size_t kept = 0;
  for (size_t i = 0; i < warp.copies.size(); ++i) {
    AsyncCopy copy = warp.copies[i];
    if (copy.lane == lane && copy.group <= group)
      finishCopy(warp, copy);
    else
      warp.copies[kept++] = copy;
  }
  warp.copies.resize(kept);
}
