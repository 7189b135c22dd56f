//===- MatrixOps.cpp - mma, ldmatrix and stmatrix -------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// Fragments: register r of A holds row lane / 4 + 8 * (r % 2), register r of B
// column lane / 4; both hold consecutive k from 4 * n * (r / 2) and 4 * n * r,
// n values a register, the lane's at n * (lane % 4). This one rule covers all
// shapes m16n8 with elements of 8, 16 and 32 bits.

#include "Lanes.h"
#include "MemoryOps.h"
#include "Numbers.h"

using namespace moe;
using namespace moe::emulator;

namespace {

constexpr unsigned kRows = 16, kColumns = 8, kMaxDepth = 32;

enum class Element : uint8_t { Half, BFloat, TF32, U8, S8 };

double decodeElement(Element element, uint32_t word, unsigned index) {
  switch (element) {
  case Element::Half:
    return double(fromHalf(uint16_t(word >> 16 * index)));
  case Element::BFloat:
    return double(fromBFloat(uint16_t(word >> 16 * index)));
  case Element::TF32:
    return double(bitCast<float>(word & ~0x1fffu));
  case Element::U8:
    return double(uint8_t(word >> 8 * index));
  case Element::S8:
    return double(int8_t(word >> 8 * index));
  }
  return 0;
}

unsigned elementsOf(Element element) {
  switch (element) {
  case Element::Half:
  case Element::BFloat:
    return 2;
  case Element::TF32:
    return 1;
  case Element::U8:
  case Element::S8:
    return 4;
  }
  return 1;
}

/// How the accumulators are kept.
enum class Sum : uint8_t { Single, Half, Integer };

struct Tile {
  double a[kRows][kMaxDepth];
  double b[kMaxDepth][kColumns];
  double c[kRows][kColumns];
};

/// inst.list: the registers of D, A, B and C; option the elements of A, option2
/// those of B, bytes the kind of sum, count the depth.
void gather(const Warp &warp, const Inst &inst, Tile &tile) {
  const uint32_t *list = &warp.program->lists[inst.list];
  Element ofA = Element(inst.option), ofB = Element(inst.option2);
  unsigned each = elementsOf(ofA), blocks = inst.count / (4 * each);
  unsigned sums = Sum(inst.bytes) == Sum::Half ? 2 : 4;
  const uint32_t *aList = list + sums, *bList = aList + 2 * blocks;
  const uint32_t *cList = bList + blocks;
  for (unsigned r = 0; r < 2 * blocks; ++r) {
    const uint32_t *words = warp.slots<uint32_t>(aList[r]);
    for (unsigned lane = 0; lane < kLanes; ++lane)
      for (unsigned j = 0; j < each; ++j)
        tile.a[lane / 4 + 8 * (r % 2)][4 * each * (r / 2) + each * (lane % 4) +
                                       j] = decodeElement(ofA, words[lane], j);
  }
  for (unsigned r = 0; r < blocks; ++r) {
    const uint32_t *words = warp.slots<uint32_t>(bList[r]);
    for (unsigned lane = 0; lane < kLanes; ++lane)
      for (unsigned j = 0; j < each; ++j)
        tile.b[4 * each * r + each * (lane % 4) + j][lane / 4] =
            decodeElement(ofB, words[lane], j);
  }
  for (unsigned i = 0; i < 4; ++i)
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      uint32_t word = warp.slots<uint32_t>(cList[sums == 2 ? i / 2 : i])[lane];
      double value = 0;
      switch (Sum(inst.bytes)) {
      case Sum::Single:
        value = double(bitCast<float>(word));
        break;
      case Sum::Half:
        value = double(fromHalf(uint16_t(word >> 16 * (i % 2))));
        break;
      case Sum::Integer:
        value = double(int32_t(word));
        break;
      }
      tile.c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2] = value;
    }
}

uint32_t encodeSum(const Inst &inst, double value) {
  switch (Sum(inst.bytes)) {
  case Sum::Single:
    return bitCast<uint32_t>(canonical(float(value)));
  case Sum::Half:
    return toHalf(value);
  case Sum::Integer:
    break;
  }
  // Sums of 32 products of bytes and an int32 are exact in double.
  int64_t wide = int64_t(value);
  if (inst.flag)
    wide = wide > INT32_MAX ? INT32_MAX : wide < INT32_MIN ? INT32_MIN : wide;
  return uint32_t(wide);
}

/// Products are exact, sums are made in double and rounded once. The device
/// rounds differently, within what its documentation leaves open.
void runMma(Warp &warp, const Inst &inst, uint32_t mask) {
  Tile tile;
  if (mask != kAllLanes)
    addReport(warp, inst, ReportKind::Collective, unsigned(__builtin_ctz(mask)),
              "needs all 32 lanes of the warp");
  gather(warp, inst, tile);
  for (unsigned m = 0; m < kRows; ++m)
    for (unsigned k = 0; k < inst.count; ++k)
      for (unsigned n = 0; n < kColumns; ++n)
        tile.c[m][n] += tile.a[m][k] * tile.b[k][n];
  const uint32_t *list = &warp.program->lists[inst.list];
  bool pairs = Sum(inst.bytes) == Sum::Half;
  for (unsigned lane = 0; lane < kLanes; ++lane)
    for (unsigned i = 0; i < 4; ++i) {
      uint32_t word = encodeSum(
          inst, tile.c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2]);
      if (!pairs) {
        warp.slots<uint32_t>(list[i])[lane] = word;
        continue;
      }
      uint32_t &both = warp.slots<uint32_t>(list[i / 2])[lane];
      both = i % 2 ? (both & 0xffff) | word << 16 : word;
    }
  ++warp.block->launch->matrixCounts[inst.name];
}

std::optional<Element> elementOf(Type type) {
  switch (type) {
  case Type::F16:
    return Element::Half;
  case Type::BF16:
    return Element::BFloat;
  case Type::TF32:
    return Element::TF32;
  case Type::U8:
    return Element::U8;
  case Type::S8:
    return Element::S8;
  default:
    return std::nullopt;
  }
}

/// Depths that exist for elements of a size.
bool hasShape(Element element, unsigned depth) {
  switch (element) {
  case Element::Half:
  case Element::BFloat:
    return depth == 8 || depth == 16;
  case Element::TF32:
    return depth == 4 || depth == 8;
  case Element::U8:
  case Element::S8:
    return depth == 16 || depth == 32;
  }
  return false;
}

void addFragment(Decode &d, size_t index, unsigned count, bool write,
                 std::vector<uint32_t> &list) {
  const Operand &operand = d.operand(index);
  std::vector<Operand> one{operand};
  const std::vector<Operand> &elements =
      operand.kind == Operand::Vector ? operand.elements : one;
  if (elements.size() != count)
    return d.failOperand(index, "with " + std::to_string(elements.size()) +
                                    " registers instead of " +
                                    std::to_string(count));
  for (const Operand &element : elements)
    list.push_back(write ? d.destination(element, 32)
                         : d.source(element, Type::B32));
}

void decodeMma(Decode &d) {
  if (!d.take("sync") || !d.take("aligned"))
    return d.fail("needs .sync.aligned");
  int shape = d.takeOneOf({"m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32"});
  if (shape < 0)
    return d.fail("has a shape that is not supported");
  if (!d.take("row") || !d.take("col"))
    return d.fail("is supported with .row.col only");
  d.inst.flag = d.take("satfinite");
  Type types[4];
  for (Type &type : types)
    type = d.needType();
  if (!d.expectOperands(4))
    return;
  std::optional<Element> a = elementOf(types[1]), b = elementOf(types[2]);
  if (!a || !b || elementsOf(*a) != elementsOf(*b) ||
      (elementsOf(*a) < 4 && *a != *b))
    return d.failType(a ? types[2] : types[1]);
  unsigned depth = 4u << shape;
  bool integers = elementsOf(*a) == 4;
  Sum sum = types[0] == Type::F16   ? Sum::Half
            : types[0] == Type::S32 ? Sum::Integer
                                    : Sum::Single;
  bool fits = types[0] == types[3] &&
              (integers ? types[0] == Type::S32
                        : types[0] == Type::F32 ||
                              (types[0] == Type::F16 && *a == Element::Half));
  if (!fits)
    return d.failType(types[0]);
  if (!hasShape(*a, depth))
    return d.fail("has no such shape for its types");
  if (d.inst.flag && !integers)
    return d.fail("takes .satfinite with integers only");
  unsigned blocks = depth / (4 * elementsOf(*a));
  unsigned sums = sum == Sum::Half ? 2 : 4;
  std::vector<uint32_t> list;
  addFragment(d, 0, sums, true, list);
  addFragment(d, 1, 2 * blocks, false, list);
  addFragment(d, 2, blocks, false, list);
  addFragment(d, 3, sums, false, list);
  d.setList(list);
  d.inst.kind = InstClass::Matrix;
  d.inst.flow = Flow::Collective;
  d.inst.run = runMma;
  d.inst.option = uint8_t(*a);
  d.inst.option2 = uint8_t(*b);
  d.inst.bytes = uint8_t(sum);
  d.inst.count = uint8_t(depth);
}

//===----------------------------------------------------------------------===//
// Rows of 16 bytes
//===----------------------------------------------------------------------===//

/// The addresses come from lanes 0 to 8 * listSize - 1, one row each.
uint32_t rowLanes(const Inst &inst) {
  return inst.listSize == 4 ? kAllLanes : (1u << 8 * inst.listSize) - 1;
}

void checkWhole(Warp &warp, const Inst &inst, uint32_t mask) {
  if (mask != kAllLanes)
    addReport(warp, inst, ReportKind::Collective, unsigned(__builtin_ctz(mask)),
              "needs all 32 lanes of the warp");
}

/// Lane l holds of matrix i the pair at row l / 4, columns 2 * (l % 4) and one
/// more; transposed, rows and columns change places.
void runLoadMatrix(Warp &warp, const Inst &inst, uint32_t mask) {
  checkWhole(warp, inst, mask);
  uint64_t addresses[kLanes];
  uint32_t lanes = rowLanes(inst);
  computeAddresses(warp, inst, lanes, addresses);
  countAccess(warp, inst.space, addresses, lanes, 16, false);
  uint16_t rows[kLanes][8] = {};
  forLanes(lanes, [&](unsigned lane) {
    if (const uint8_t *from =
            accessMemory(warp, inst, lane, inst.space, addresses[lane], 16,
                         AccessKind::Read))
      std::memcpy(rows[lane], from, 16);
  });
  const uint32_t *list = &warp.program->lists[inst.list];
  for (unsigned i = 0; i < inst.listSize; ++i)
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      unsigned row = lane / 4, column = 2 * (lane % 4);
      const auto *matrix = &rows[8 * i];
      uint32_t lo = inst.flag2 ? matrix[column][row] : matrix[row][column];
      uint32_t hi =
          inst.flag2 ? matrix[column + 1][row] : matrix[row][column + 1];
      warp.slots<uint32_t>(list[i])[lane] = hi << 16 | lo;
    }
}

void runStoreMatrix(Warp &warp, const Inst &inst, uint32_t mask) {
  checkWhole(warp, inst, mask);
  uint64_t addresses[kLanes];
  uint32_t lanes = rowLanes(inst);
  computeAddresses(warp, inst, lanes, addresses);
  countAccess(warp, inst.space, addresses, lanes, 16, true);
  uint16_t rows[kLanes][8] = {};
  const uint32_t *list = &warp.program->lists[inst.list];
  for (unsigned i = 0; i < inst.listSize; ++i)
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      unsigned row = lane / 4, column = 2 * (lane % 4);
      auto *matrix = &rows[8 * i];
      uint32_t word = warp.slots<uint32_t>(list[i])[lane];
      (inst.flag2 ? matrix[column][row] : matrix[row][column]) = uint16_t(word);
      (inst.flag2 ? matrix[column + 1][row] : matrix[row][column + 1]) =
          uint16_t(word >> 16);
    }
  forLanes(lanes, [&](unsigned lane) {
    if (uint8_t *to =
            accessMemory(warp, inst, lane, inst.space, addresses[lane], 16,
                         AccessKind::Write, rows[lane]))
      std::memcpy(to, rows[lane], 16);
  });
}

void decodeRows(Decode &d) {
  bool load = d.word() == "ldmatrix";
  if (!d.take("sync") || !d.take("aligned"))
    return d.fail("needs .sync.aligned");
  if (!d.take("m8n8"))
    return d.fail("is supported for .m8n8 only");
  int number = d.takeOneOf({"x1", "x2", "x4"});
  bool transposed = d.take("trans");
  Space space = takeMemorySpace(d);
  Type type = d.needType();
  if (number < 0)
    return d.fail("names no number of matrices");
  if (type != Type::B16)
    return d.failType(type);
  if (!d.expectOperands(2))
    return;
  std::vector<uint32_t> list;
  addFragment(d, load ? 0 : 1, 1u << number, load, list);
  d.address(load ? 1 : 0, space);
  d.setList(list);
  d.inst.flag2 = transposed;
  d.inst.kind = InstClass::LoadMatrix;
  d.inst.flow = Flow::Collective;
  d.inst.run = load ? runLoadMatrix : runStoreMatrix;
}

void runMoveMatrix(Warp &warp, const Inst &inst, uint32_t mask) {
  checkWhole(warp, inst, mask);
  uint16_t matrix[8][8];
  const uint32_t *a = warp.slots<uint32_t>(inst.a);
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    matrix[lane / 4][2 * (lane % 4)] = uint16_t(a[lane]);
    matrix[lane / 4][2 * (lane % 4) + 1] = uint16_t(a[lane] >> 16);
  }
  uint32_t *to = warp.slots<uint32_t>(inst.d);
  for (unsigned lane = 0; lane < kLanes; ++lane)
    to[lane] = uint32_t(matrix[2 * (lane % 4) + 1][lane / 4]) << 16 |
               matrix[2 * (lane % 4)][lane / 4];
}

void decodeMoveMatrix(Decode &d) {
  if (!d.take("sync") || !d.take("aligned") || !d.take("m8n8") ||
      !d.take("trans"))
    return d.fail("is supported as .sync.aligned.m8n8.trans only");
  Type type = d.needType();
  if (type != Type::B16)
    return d.failType(type);
  if (!d.expectOperands(2))
    return;
  d.inst.kind = InstClass::LoadMatrix;
  d.inst.flow = Flow::Collective;
  d.inst.run = runMoveMatrix;
  d.inst.d = d.destination(size_t(0), 32);
  d.inst.a = d.source(1, Type::B32);
}

} // namespace

void emulator::addMatrixOps(DecodeTable &table) {
  table["mma"] = decodeMma;
  table["ldmatrix"] = table["stmatrix"] = decodeRows;
  table["movmatrix"] = decodeMoveMatrix;
}
