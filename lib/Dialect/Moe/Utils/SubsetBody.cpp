//===- SubsetBody.cpp - Subset inference as token code --------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/Utils/SubsetBody.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace mlir::moe;

/// What the odds sum to after scaling, for each of the k experts of a subset:
/// somewhat less than 1 leaves room for what e_k of many experts alike is above
/// 1, k^k / k! at most; and no more than leaves exp(sum), which the e_j between
/// come close to, in the range of f32.
static double getScaledSum(int64_t size) {
  return std::min(0.75, 52.0 / static_cast<double>(size));
}

/// Groups of experts whose sums place the scale; each is a step of an unrolled
/// loop.
static constexpr int64_t kMostGroups = 16;

/// Experts that share a row of the prefix. The second one's prefix follows from
/// the first one's, which is cheaper than a row twice as many.
static constexpr int64_t kSharedRow = 2;

/// Where sums of many small products start instead of at 0: numbers below the
/// normal ones are slow to compute with. Its square is still a normal number.
static double getFloor(FloatType type) {
  return type.isF64() ? 0x1p-500 : 0x1p-62;
}

/// Odds of less count as 0, for the same reason.
static double getSmallestOdds(FloatType type) {
  return type.isF64() ? 1e-160 : 1e-24;
}

/// The relative error that these two may make.
static double getLostShare(FloatType type) {
  return type.isF64() ? 1e-20 : 1e-7;
}

//===----------------------------------------------------------------------===//
// The linear form
//===----------------------------------------------------------------------===//

/// Loops over blocks of `size` neighbouring experts; the rest is a last one. As
/// `step` gets the block's number and size, and changes what is carried.
SmallVector<Value> SubsetBody::loopBlocks(int64_t size, ValueRange inits,
                                          BlockStep step) {
  SmallVector<Value> carried(inits);
  int64_t blocks = width / size;
  if (blocks > 0)
    carried = loop(blocks, carried, [&](Value block, ValueRange so) {
      SmallVector<Value> next(so);
      step(block, size, next);
      return next;
    });
  if (width % size != 0)
    step(index(blocks), width % size, carried);
  return carried;
}

/// The same from the last block to the first.
SmallVector<Value> SubsetBody::loopBlocksDown(int64_t size, ValueRange inits,
                                              BlockStep step) {
  SmallVector<Value> carried(inits);
  int64_t blocks = width / size;
  if (width % size != 0)
    step(index(blocks), width % size, carried);
  if (blocks > 0)
    carried = loopDown(blocks, carried, [&](Value block, ValueRange so) {
      SmallVector<Value> next(so);
      step(block, size, next);
      return next;
    });
  return carried;
}

Value SubsetBody::expertOf(Value block, int64_t size, int64_t place) {
  Value first = arith::MulIOp::create(b, block, index(size));
  return arith::AddIOp::create(b, first, index(place));
}

/// Fills `odds` with exp(r - largest), and sets the scale and the shift.
///
/// The experts are dealt out to groups, whose sums S_g have the geometric mean
/// k getScaledSum / groups after scaling. With k groups a subset of one expert
/// each is a term of e_k, so that e_k >= prod (scale S_g), a constant however
/// the logits lie; and e_k <= (scale sum S_g)^k / k!, small where the groups
/// are alike.
void SubsetBody::emitScale(Table &table) {
  int64_t groups = std::min({band.max, width, kMostGroups});
  SmallVector<Value> largest(groups, infinity(/*isNegative=*/true));
  largest = loopBlocks(
      groups, largest, [&](Value block, int64_t size, auto &carried) {
        for (int64_t place = 0; place < size; ++place)
          carried[place] =
              larger(readLogit(expertOf(block, groups, place)), carried[place]);
      });
  Value shift = largest[0];
  for (Value own : ArrayRef(largest).drop_front())
    shift = larger(own, shift);

  SmallVector<Value> sums(groups, real(0.0));
  sums.push_back(makeRow({width}));
  sums =
      loopBlocks(groups, sums, [&](Value block, int64_t size, auto &carried) {
        for (int64_t place = 0; place < size; ++place) {
          Value expert = expertOf(block, groups, place);
          Value power = exp(sub(readLogit(expert), shift));
          carried[place] = add(carried[place], power);
          carried.back() = write(power, carried.back(), expert);
        }
      });
  table.odds = sums.pop_back_val();

  // The logarithms are read off the bits, to a tenth: nothing but the range
  // depends on the scale. Groups without an admissible expert do not count.
  Type bitsType = b.getIntegerType(type.getWidth());
  auto bitsOf = [&](Value value) -> Value {
    return arith::BitcastOp::create(b, bitsType, value);
  };
  Value one = bitsOf(real(1.0));
  Value least = real(getSafeRange().first * getSafeRange().first);
  Value sum = real(0.0), count = real(0.0);
  for (Value own : sums) {
    Value counts = isGreater(own, least);
    own = select(counts, own, real(1.0));
    Value logarithm = arith::SIToFPOp::create(
        b, type, arith::SubIOp::create(b, bitsOf(own), one));
    sum = add(sum, logarithm);
    count = add(count, select(counts, real(1.0), real(0.0)));
  }
  Value mean = div(sum, larger(count, real(1.0)));
  Value bits =
      arith::SubIOp::create(b, one, arith::FPToSIOp::create(b, bitsType, mean));
  Value inverse = arith::BitcastOp::create(b, type, bits);
  double share = getScaledSum(band.max) * static_cast<double>(band.max) /
                 static_cast<double>(groups);
  table.scale = mul(inverse, real(share));
  table.shift = sub(shift, log(table.scale));
}

/// The polynomials with one more expert.
void SubsetBody::multiply(Polynomials &sums, const Expert &expert) {
  auto &[values, dots] = sums;
  for (int64_t degree = band.max; degree >= 0; --degree) {
    if (!dots.empty()) {
      Value dot = keep(expert, dots[degree]);
      if (degree > 0)
        dot = fma(expert.odds, dots[degree - 1],
                  fma(expert.along, values[degree - 1], dot));
      dots[degree] = dot;
    }
    Value value = keep(expert, values[degree]);
    values[degree] =
        degree > 0 ? fma(expert.odds, values[degree - 1], value) : value;
  }
}

Value SubsetBody::keep(const Expert &expert, Value value) {
  return expert.stay ? mul(expert.stay, value) : value;
}

SubsetBody::Expert SubsetBody::readExpert(const Table &table, Value odds,
                                          Value number, Value vector) {
  Expert expert;
  expert.odds = read(odds, number);
  if (table.stay)
    expert.stay = read(table.stay, number);
  if (vector) {
    expert.direction = read(vector, number);
    expert.along = mul(expert.odds, expert.direction);
  }
  return expert;
}

/// Fills the table from `odds` and, in the tilted form, `stay`; scales the odds
/// in the linear one.
void SubsetBody::emitRecursion(Table &table, Value vector) {
  int64_t degrees = band.max + 1;
  int64_t numSums = vector ? 2 * degrees : degrees;
  SmallVector<Value> inits(degrees, real(table.floor));
  inits[0] = real(1.0);
  inits.append(numSums - degrees, real(0.0));
  llvm::append_range(inits, ArrayRef<Value>{table.prefix, table.odds});
  if (vector)
    inits.push_back(table.prefixDot);
  SmallVector<Value> results = loopBlocks(
      table.rowSize, inits, [&](Value block, int64_t size, auto &carried) {
        ArrayRef<Value> all(carried);
        Polynomials sums{
            llvm::to_vector(all.take_front(degrees)),
            llvm::to_vector(all.slice(degrees, numSums - degrees))};
        SmallVector<Value> rows(all.drop_front(numSums));
        for (int64_t degree = 0; degree < table.columns; ++degree) {
          SmallVector<Value> place = {block, index(degree)};
          rows[0] = write(sums.values[degree], rows[0], place);
          if (vector)
            rows[2] = write(sums.dots[degree], rows[2], place);
        }
        for (int64_t place = 0; place < size; ++place) {
          Value number = expertOf(block, table.rowSize, place);
          if (!table.stay) {
            Value odds = mul(read(rows[1], number), table.scale);
            Value isNone = isLess(odds, real(getSmallestOdds(type)));
            odds = select(isNone, real(0.0), odds);
            rows[1] = write(odds, rows[1], number);
          }
          multiply(sums, readExpert(table, rows[1], number, vector));
        }
        carried = sums.values;
        llvm::append_range(carried, sums.dots);
        llvm::append_range(carried, rows);
      });
  ArrayRef<Value> all(results);
  table.total = llvm::to_vector(all.take_front(degrees));
  table.totalDot = llvm::to_vector(all.slice(degrees, numSums - degrees));
  table.prefix = all[numSums];
  table.odds = all[numSums + 1];
  if (vector)
    table.prefixDot = all.back();
}

SubsetBody::Table SubsetBody::emitLinear(int64_t columns, int64_t rowSize,
                                         Value vector) {
  Table table;
  table.columns = columns;
  table.rowSize = rowSize;
  // A sample has to end with the size it is of.
  table.floor = rowSize == kSharedRow ? getFloor(type) : 0.0;
  emitScale(table);
  int64_t rows = (width + rowSize - 1) / rowSize;
  table.prefix = makeRow({rows, columns});
  if (vector)
    table.prefixDot = makeRow({rows, columns});
  emitRecursion(table, vector);
  return table;
}

/// Whether a polynomial has left the range; a NaN has too.
Value SubsetBody::isUnsafe(const Table &table) {
  auto [low, high] = getSafeRange();
  Value isSafe;
  auto require = [&](Value condition) {
    isSafe = isSafe ? both(isSafe, condition) : condition;
  };
  Value largest = real(1.0), least;
  for (int64_t size = 1; size <= band.max; ++size) {
    Value own = table.total[size];
    require(isLess(own, real(high)));
    largest = larger(own, largest);
    if (size >= band.min)
      least = least ? smaller(own, least) : own;
  }
  require(isGreater(least, real(low)));
  // What starts at the floor, and odds that were left out, count by one degree
  // less or more.
  Value lost = mul(largest, real(getFloor(type)));
  require(isLess(lost, mul(least, real(getLostShare(type)))));
  return negate(isSafe);
}

//===----------------------------------------------------------------------===//
// The law of the size and the derivatives of log Z
//===----------------------------------------------------------------------===//

SmallVector<Value> SubsetBody::emitSizeLaw(const Table &table) {
  SmallVector<Value> law(band.max + 1);
  if (isExact()) {
    law[band.max] = real(1.0);
  } else {
    Value largest, sum;
    for (int64_t size = band.min; size <= band.max; ++size) {
      Value power = mul(table.shift, real(static_cast<double>(size)));
      law[size] = add(log(table.total[size]), power);
      largest = largest ? larger(law[size], largest) : law[size];
    }
    for (int64_t size = band.min; size <= band.max; ++size) {
      law[size] = exp(sub(law[size], largest));
      sum = sum ? add(sum, law[size]) : law[size];
    }
    for (int64_t size = band.min; size <= band.max; ++size)
      law[size] = div(law[size], sum);
  }
  if (table.isForced)
    for (auto [size, share] : llvm::enumerate(law)) {
      Value count = real(static_cast<double>(size));
      Value isCount = arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ,
                                            table.admissible, count);
      Value forced = select(isCount, real(1.0), real(0.0));
      share = select(table.isForced, forced, share ? share : real(0.0));
    }
  return law;
}

SmallVector<Value> SubsetBody::emitAdjointStart(const Table &table,
                                                ValueRange law) {
  SmallVector<Value> start;
  for (int64_t size = 1; size <= band.max; ++size) {
    if (!law[size]) {
      start.push_back(real(table.floor));
      continue;
    }
    if (!table.isForced) {
      // Times the last one, so that a slope is as large as the floor expects.
      bool isLast = size == band.max;
      Value ratio = isLast ? law[size]
                           : mul(law[size],
                                 div(table.total[band.max], table.total[size]));
      start.push_back(ratio);
      continue;
    }
    // 0 / 0: a size that a forced token does not have.
    Value slope = div(law[size], table.total[size]);
    Value has = isGreater(law[size], real(0.0));
    start.push_back(select(has, slope, real(0.0)));
  }
  return start;
}

/// What log e_j has by U(j) is 1 / e_j. Sizes below the band start at 0, not at
/// the floor: factors may be small.
SmallVector<Value> SubsetBody::emitWeightedStart(const Table &table,
                                                 ValueRange factors) {
  SmallVector<Value> start(band.min - 1, real(0.0));
  for (int64_t size = band.min; size <= band.max; ++size) {
    Value factor = factors[size - band.min], total = table.total[size];
    if (table.isForced) {
      // A size that the token does not have.
      Value has = isGreater(total, real(0.0));
      start.push_back(select(has, div(factor, total), real(0.0)));
    } else if (size == band.max) {
      start.push_back(factor);
    } else {
      start.push_back(mul(factor, div(table.total[band.max], total)));
    }
  }
  return start;
}

/// d log Z along the vector.
Value SubsetBody::emitZeta(const Table &table, ValueRange law) {
  Value zeta;
  for (int64_t size = 1; size <= band.max; ++size) {
    if (!law[size])
      continue;
    Value term = mul(law[size], div(table.totalDot[size], table.total[size]));
    if (table.isForced)
      term = select(isGreater(law[size], real(0.0)), term, real(0.0));
    zeta = zeta ? add(zeta, term) : term;
  }
  return zeta;
}

/// sum_l P(l - lag) U(l) and, where there are tangents, the sum's own.
std::pair<Value, Value> SubsetBody::contract(const Polynomials &before,
                                             const Polynomials &slopes,
                                             int64_t lag) {
  Value sums[2], dots[2];
  auto addTo = [&](Value &sum, Value x, Value y) {
    sum = sum ? fma(x, y, sum) : mul(x, y);
  };
  for (int64_t degree = lag; degree < band.max; ++degree) {
    Value value = before.values[degree - lag], slope = slopes.values[degree];
    addTo(sums[degree % 2], value, slope);
    if (before.dots.empty())
      continue;
    addTo(dots[0], before.dots[degree - lag], slope);
    addTo(dots[1], value, slopes.dots[degree]);
  }
  auto total = [&](ArrayRef<Value> parts) {
    if (parts[0] && parts[1])
      return add(parts[0], parts[1]);
    return parts[0] ? parts[0] : parts[1];
  };
  return {total(sums), total(dots)};
}

/// The slopes in front of an expert, from those behind it.
void SubsetBody::absorb(Polynomials &slopes, const Expert &expert) {
  auto &[values, dots] = slopes;
  for (int64_t degree = 0; degree < band.max; ++degree) {
    bool isLast = degree + 1 == band.max;
    if (!dots.empty()) {
      Value dot = keep(expert, dots[degree]);
      dots[degree] = isLast ? dot
                            : fma(expert.odds, dots[degree + 1],
                                  fma(expert.along, values[degree + 1], dot));
    }
    Value value = keep(expert, values[degree]);
    values[degree] =
        isLast ? value : fma(expert.odds, values[degree + 1], value);
  }
}

/// Writes the marginals into a row or, along a vector v, Cov(z) v: with dots
/// for tangents along v,
///   m_i (v_i - zeta) + w_i sum_l (dot P_i(l) U_i(l) + P_i(l) dot U_i(l)).
Value SubsetBody::emitAdjoint(const Table &table, ValueRange start, Value row,
                              Value vector, Value zeta) {
  int64_t numDots = vector ? band.max : 0;
  SmallVector<Value> inits(start);
  inits.append(numDots, real(0.0));
  inits.push_back(row);
  // An expert's odds are not needed once its result is there.
  bool isInPlace = row == table.odds;
  Value unit;
  if (!table.isForced)
    unit = div(real(1.0), table.total[band.max]);
  auto finish = [&](const Expert &expert, Value sum, Value dot) {
    if (vector)
      sum = fma(sum, sub(expert.direction, zeta), dot);
    if (unit)
      sum = mul(sum, unit);
    Value result = mul(expert.odds, sum);
    if (vector && table.isForced)
      result = select(table.isForced, real(0.0), result);
    return table.isBad ? select(table.isBad, nan(), result) : result;
  };
  return loopBlocksDown(
             table.rowSize, inits,
             [&](Value block, int64_t size, auto &carried) {
               ArrayRef<Value> all(carried);
               Polynomials slopes{
                   llvm::to_vector(all.take_front(band.max)),
                   llvm::to_vector(all.slice(band.max, numDots))};
               Value results = carried.back();
               Polynomials before;
               for (int64_t degree = 0; degree < band.max; ++degree) {
                 SmallVector<Value> place = {block, index(degree)};
                 before.values.push_back(read(table.prefix, place));
                 if (vector)
                   before.dots.push_back(read(table.prefixDot, place));
               }
               SmallVector<Value> numbers;
               SmallVector<Expert> experts;
               for (int64_t place = 0; place < size; ++place) {
                 numbers.push_back(expertOf(block, table.rowSize, place));
                 experts.push_back(readExpert(table,
                                              isInPlace ? results : table.odds,
                                              numbers.back(), vector));
               }
               if (size == kSharedRow) {
                 // With P of the second: stay P(l) + odds P(l - 1).
                 const Expert &first = experts[0];
                 auto [sum, dot] = contract(before, slopes, /*lag=*/0);
                 auto [late, lateDot] = contract(before, slopes, /*lag=*/1);
                 sum = keep(first, sum);
                 if (vector)
                   dot = keep(first, dot);
                 if (late && vector)
                   dot = fma(first.odds, lateDot, fma(first.along, late, dot));
                 if (late)
                   sum = fma(first.odds, late, sum);
                 results =
                     write(finish(experts[1], sum, dot), results, numbers[1]);
                 absorb(slopes, experts[1]);
               }
               auto [sum, dot] = contract(before, slopes, /*lag=*/0);
               results =
                   write(finish(experts[0], sum, dot), results, numbers[0]);
               absorb(slopes, experts[0]);
               carried = slopes.values;
               llvm::append_range(carried, slopes.dots);
               carried.push_back(results);
             })
      .back();
}

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

SmallVector<Value> SubsetBody::emitLogPartition() {
  Table linear = emitLinear(/*columns=*/0, kSharedRow);
  SmallVector<Value> logs;
  for (int64_t size = band.min; size <= band.max; ++size)
    logs.push_back(add(log(linear.total[size]),
                       mul(linear.shift, real(static_cast<double>(size)))));
  return rarely(isUnsafe(linear), logs,
                [&] { return emitTiltedLogs(emitTilted(linear)); });
}

Value SubsetBody::emitLogProb(ValueRange ids) {
  SmallVector<Value> logs = emitLogPartition();
  Value logSum = logs[0], largest = logs[0];
  if (!isExact()) {
    Value sum;
    for (Value value : ArrayRef(logs).drop_front())
      largest = arith::MaximumFOp::create(b, value, largest);
    for (Value value : logs) {
      Value share = exp(sub(value, largest));
      sum = sum ? add(sum, share) : share;
    }
    logSum = add(largest, log(sum));
  }
  Value count = id(0);
  for (Value own : ids) {
    Value isFull =
        arith::CmpIOp::create(b, arith::CmpIPredicate::sge, own, id(0));
    count = addId(count, select(isFull, id(1), id(0)));
  }
  Value chosen = loop(width, real(0.0), [&](Value expert, ValueRange carried) {
    Value number = idOf(expert), isMember;
    for (Value own : ids) {
      Value same = isEqual(own, number);
      isMember = isMember ? either(isMember, same) : same;
    }
    // Not times 0: a logit of -inf outside of the subset counts nothing.
    Value term = select(isMember, readLogit(expert), real(0.0));
    return SmallVector<Value>{add(carried[0], term)};
  })[0];
  Value fits = both(
      arith::CmpIOp::create(b, arith::CmpIPredicate::sge, count, id(band.min)),
      arith::CmpIOp::create(b, arith::CmpIPredicate::sle, count, id(band.max)));
  // A row without any subset of the band has log Z = -inf.
  Value none = infinity(/*isNegative=*/true);
  Value hasNone =
      arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, largest, none);
  return select(both(fits, negate(hasNone)), sub(chosen, logSum), none);
}

Value SubsetBody::emitSlopes(
    llvm::function_ref<SmallVector<Value>(const Table &)> start) {
  Table linear = emitLinear(band.max, kSharedRow);
  Value row = emitAdjoint(linear, start(linear), linear.odds);
  return rarely(isUnsafe(linear), row, [&] {
    // In the same row, which holds the results of the lanes that pass.
    Table again = linear;
    again.odds = row;
    Table table = emitTilted(again);
    return SmallVector<Value>{emitAdjoint(table, start(table), table.odds)};
  })[0];
}

Value SubsetBody::emitMarginals() {
  return emitSlopes([&](const Table &table) {
    return emitAdjointStart(table, emitSizeLaw(table));
  });
}

Value SubsetBody::emitPartitionVJP(ValueRange cotangents) {
  return emitSlopes(
      [&](const Table &table) { return emitWeightedStart(table, cotangents); });
}

Value SubsetBody::emitCovariance(Value vector) {
  auto finish = [&](const Table &table, Value row) {
    SmallVector<Value> law = emitSizeLaw(table);
    return emitAdjoint(table, emitAdjointStart(table, law), row, vector,
                       emitZeta(table, law));
  };
  Table linear = emitLinear(band.max, kSharedRow, vector);
  Value row = finish(linear, makeRow({width}));
  return rarely(isUnsafe(linear), row, [&] {
    Table table = emitTilted(linear, vector);
    return SmallVector<Value>{finish(table, row)};
  })[0];
}

/// The first size whose cumulative probability is above a uniform number.
Value SubsetBody::emitSize(ValueRange law, Value uniform) {
  Value cumulative, size = id(0);
  SmallVector<std::pair<Value, int64_t>> steps;
  for (auto [count, share] : llvm::enumerate(law))
    if (share) {
      cumulative = cumulative ? add(cumulative, share) : share;
      steps.emplace_back(cumulative, count);
      size = select(isGreater(share, real(0.0)), id(count), size);
    }
  // The last size of the law stays where rounding leaves none.
  for (auto [sum, count] : llvm::reverse(steps))
    size = select(isLess(uniform, sum), id(count), size);
  return size;
}

SmallVector<Value> SubsetBody::emitSample(const TokenRandom &random) {
  Value uniform = isExact() ? real(0.0) : emitDraw(*this, random, width);
  // How many are left to take, and the polynomial of that degree.
  auto start = [&](const Table &table) -> SmallVector<Value> {
    if (isExact() && !table.isForced)
      return {id(band.max), table.total[band.max]};
    Value left = emitSize(emitSizeLaw(table), uniform);
    Value sum = real(0.0);
    for (int64_t size = 1; size <= band.max; ++size)
      sum = select(isEqual(left, id(size)), table.total[size], sum);
    return {left, sum};
  };
  Table linear = emitLinear(band.max + 1, /*rowSize=*/1);
  SmallVector<Value> state = start(linear);
  state.push_back(linear.prefix);
  state.push_back(linear.odds);
  state = rarely(isUnsafe(linear), state, [&] {
    Table table = emitTilted(linear);
    SmallVector<Value> tilted = start(table);
    tilted.push_back(table.prefix);
    tilted.push_back(table.odds);
    return tilted;
  });
  Value prefix = state[2], odds = state[3];

  // From the last expert to the first; `carried` is how many are left after the
  // next that is taken (-1: none is left to take), the polynomial of the degree
  // that is left over the experts up to here, and the ids.
  auto take = [&](Value expert, Value word, ValueRange carried) {
    Value left = carried[0];
    SmallVector<Value> sums;
    for (int64_t size = 0; size <= band.max; ++size)
      sums.push_back(read(prefix, {expert, index(size)}));
    ArrayRef<Value> all(sums);
    Value with = pick(all.drop_back(), left);
    Value without = pick(all.drop_front(), left);
    Value threshold = mul(emitUniform(*this, word), carried[1]);
    Value isTaken =
        both(isLess(threshold, mul(read(odds, expert), with)), isNatural(left));
    SmallVector<Value> next = {select(isTaken, subId(left, id(1)), left),
                               select(isTaken, with, without)};
    // The ids move up by a slot for one in front of them.
    Value number = idOf(expert);
    for (Value slot : carried.drop_front(2)) {
      next.push_back(select(isTaken, number, slot));
      number = slot;
    }
    return next;
  };
  SmallVector<Value> carried = {subId(state[0], id(1)), state[1]};
  carried.append(band.max, id(-1));
  int64_t blocks = width / 4;
  if (width % 4 != 0) {
    auto words = emitPhilox(*this, random, id(blocks));
    for (int64_t expert = width - 1; expert >= 4 * blocks; --expert)
      carried = take(index(expert), words[expert % 4], carried);
  }
  if (blocks > 0)
    carried = loopDown(blocks, carried, [&](Value block, ValueRange so) {
      auto words = emitPhilox(*this, random, idOf(block));
      SmallVector<Value> next(so);
      for (int64_t draw = 3; draw >= 0; --draw) {
        Value first = arith::MulIOp::create(b, block, index(4));
        Value expert = arith::AddIOp::create(b, first, index(draw));
        next = take(expert, words[draw], next);
      }
      return next;
    });
  return llvm::to_vector(ArrayRef(carried).drop_front(2));
}
