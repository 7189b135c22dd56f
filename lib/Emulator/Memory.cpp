//===- Memory.cpp - Memory of the emulated device -------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Memory.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

using namespace moe;
using namespace moe::emulator;

/// As the CUDA driver aligns.
static constexpr size_t kAlignment = 256;
/// What lies between two allocations, so that one does not run into the next.
static constexpr size_t kGap = 4096;

std::string emulator::hexText(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx",
                static_cast<unsigned long long>(value));
  return text;
}

io::Expected<uint64_t> GlobalMemory::allocate(size_t bytes,
                                              const std::string &name) {
  auto allocation = std::make_unique<Allocation>();
  // Large sizes fail here instead of being killed later; the pages of the
  // storage are not touched by that.
  size_t total = bytes + kAlignment + 2 * kGap;
  if (total < bytes)
    return io::Error{"no memory for " + std::to_string(bytes) + " bytes"};
  allocation->storage.reset(new (std::nothrow) uint8_t[total]);
  if (!allocation->storage)
    return io::Error{"no memory for " + std::to_string(bytes) + " bytes"};
  uint64_t address = reinterpret_cast<uint64_t>(allocation->storage.get());
  address = (address + kGap + kAlignment - 1) / kAlignment * kAlignment;
  allocation->begin = address;
  allocation->bytes = bytes;
  allocation->name = name;
  allocation->written.assign(bytes, 0);
  // As f16, bf16, f32 and f64: a NaN.
  std::memset(allocation->data(), 0xff, bytes);
  auto at = std::lower_bound(
      allocations.begin(), allocations.end(), address,
      [](const auto &other, uint64_t value) { return other->begin < value; });
  allocations.insert(at, std::move(allocation));
  return address;
}

io::Status GlobalMemory::add(void *data, size_t bytes, const std::string &name,
                             bool written, bool isConst) {
  uint64_t address = reinterpret_cast<uint64_t>(data);
  auto at = std::lower_bound(
      allocations.begin(), allocations.end(), address,
      [](const auto &other, uint64_t value) { return other->begin < value; });
  bool overlaps = (at != allocations.end() && (*at)->begin < address + bytes) ||
                  (at != allocations.begin() && at[-1]->end() > address);
  if (overlaps)
    return io::Error{"memory of '" + name + "' is known already"};
  auto allocation = std::make_unique<Allocation>();
  allocation->begin = address;
  allocation->bytes = bytes;
  allocation->name = name;
  allocation->readOnly = allocation->isConst = isConst;
  allocation->written.assign(bytes, written);
  allocations.insert(at, std::move(allocation));
  return io::Success();
}

bool GlobalMemory::remove(uint64_t address) {
  for (auto it = allocations.begin(); it != allocations.end(); ++it)
    if ((*it)->begin == address) {
      if (last == it->get())
        last = nullptr;
      allocations.erase(it);
      return true;
    }
  return false;
}

Allocation *GlobalMemory::search(uint64_t address, size_t bytes) {
  auto after = std::upper_bound(
      allocations.begin(), allocations.end(), address,
      [](uint64_t value, const auto &other) { return value < other->begin; });
  if (after == allocations.begin())
    return nullptr;
  Allocation *found = after[-1].get();
  if (address - found->begin >= found->bytes || bytes > found->end() - address)
    return nullptr;
  return last = found;
}

std::string GlobalMemory::describe(uint64_t address) const {
  const Allocation *best = nullptr;
  uint64_t distance = 0;
  for (const auto &allocation : allocations) {
    uint64_t here = address < allocation->begin    ? allocation->begin - address
                    : address >= allocation->end() ? address - allocation->end()
                                                   : 0;
    if (!best || here < distance) {
      best = allocation.get();
      distance = here;
    }
  }
  if (!best || distance > (uint64_t(1) << 32))
    return "far from all allocations, at address " + hexText(address);
  std::string text;
  if (address < best->begin)
    text = std::to_string(distance) + " bytes before";
  else if (address >= best->end())
    text = std::to_string(distance) + " bytes past the end of";
  else
    text = "across the end of";
  return text + " '" + best->name + "' of " + std::to_string(best->bytes) +
         " bytes";
}

Snapshot GlobalMemory::save() const {
  Snapshot snapshot;
  for (const auto &own : allocations)
    snapshot.pieces.push_back(
        {own->begin, {own->data(), own->data() + own->bytes}, own->written});
  return snapshot;
}

io::Status GlobalMemory::restore(const Snapshot &snapshot) {
  bool fits = snapshot.pieces.size() == allocations.size();
  for (size_t i = 0; fits && i < allocations.size(); ++i)
    fits = snapshot.pieces[i].address == allocations[i]->begin &&
           snapshot.pieces[i].bytes.size() == allocations[i]->bytes;
  if (!fits)
    return io::Error{"memory was allocated or released since it was saved"};
  for (size_t i = 0; i < allocations.size(); ++i) {
    const Snapshot::Piece &piece = snapshot.pieces[i];
    std::copy(piece.bytes.begin(), piece.bytes.end(), allocations[i]->data());
    allocations[i]->written = piece.written;
  }
  return io::Success();
}

void SharedMemory::reset(const Program &program, size_t dynamicBytes,
                         bool races) {
  size_t size = program.sharedEnd;
  if (dynamicBytes && program.dynamicShared)
    size = program.dynamicShared + dynamicBytes;
  bytes.assign(size, 0xff);
  states.assign(size, 0);
  for (const SharedRange &range : program.sharedRanges)
    setFlag(range.begin, range.end - range.begin, Valid);
  if (dynamicBytes && program.dynamicShared)
    setFlag(program.dynamicShared, unsigned(dynamicBytes), Valid);
  if (races) {
    race.resize(size);
    race.clear(size);
  }
}
