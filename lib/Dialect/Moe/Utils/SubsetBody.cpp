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

/// Steps of Newton's method from the start below; its equation is nearly
/// linear, and any tilt near the solution does.
static constexpr int64_t kTiltSteps = 6;
static constexpr double kLargestTiltStep = 40.0;

/// The numbers between which polynomials are trusted.
static std::pair<double, double> getSafeRange(FloatType type) {
  if (type.isF64())
    return {1e-280, 1e300};
  return {1e-30, 1e36};
}

//===----------------------------------------------------------------------===//
// The linear form
//===----------------------------------------------------------------------===//

/// The `count` largest logits in descending order; NaN counts as no logit.
SmallVector<Value> SubsetBody::emitLargest(int64_t count) {
  SmallVector<Value> none(count, infinity(/*isNegative=*/true));
  return loop(width, none, [&](Value expert, ValueRange best) {
    Value logit = readLogit(expert);
    SmallVector<Value> next = {larger(logit, best[0])};
    // What falls out of the place above, or the new one, against each place:
    // no place waits for another.
    for (int64_t place = 1; place < count; ++place)
      next.push_back(larger(smaller(logit, best[place - 1]), best[place]));
    return next;
  });
}

/// Fills the table: from `odds` and `stay` where they are given, which is the
/// tilted form, else with the odds of the linear form.
void SubsetBody::emitRecursion(Table &table, int64_t columns, Value vector) {
  bool isLinear = !table.stay;
  int64_t degrees = band.max + 1;
  int64_t numSums = vector ? 2 * degrees : degrees;
  SmallVector<Value> inits(numSums, real(0.0));
  inits[0] = real(1.0);
  llvm::append_range(inits, ArrayRef<Value>{table.prefix, table.odds});
  if (vector)
    inits.push_back(table.prefixDot);
  SmallVector<Value> results =
      loop(width, inits, [&](Value expert, ValueRange carried) {
        ValueRange sums = carried.take_front(degrees);
        ValueRange dots = carried.slice(degrees, numSums - degrees);
        SmallVector<Value> rows(carried.drop_front(numSums));
        for (int64_t degree = 0; degree < columns; ++degree) {
          SmallVector<Value> place = {expert, index(degree)};
          rows[0] = write(sums[degree], rows[0], place);
          if (vector)
            rows[2] = write(dots[degree], rows[2], place);
        }
        Value odds, stay;
        if (isLinear) {
          odds = exp(sub(readLogit(expert), table.shift));
          rows[1] = write(odds, rows[1], expert);
        } else {
          odds = read(rows[1], expert);
          stay = read(table.stay, expert);
        }
        auto kept = [&](Value sum) { return stay ? mul(stay, sum) : sum; };
        SmallVector<Value> next = {kept(sums[0])};
        for (int64_t degree = 1; degree < degrees; ++degree)
          next.push_back(fma(odds, sums[degree - 1], kept(sums[degree])));
        if (vector) {
          Value along = mul(odds, read(vector, expert));
          next.push_back(kept(dots[0]));
          for (int64_t degree = 1; degree < degrees; ++degree)
            next.push_back(
                fma(odds, dots[degree - 1],
                    fma(along, sums[degree - 1], kept(dots[degree]))));
        }
        llvm::append_range(next, rows);
        return next;
      });
  ArrayRef<Value> all(results);
  table.total = llvm::to_vector(all.take_front(degrees));
  table.totalDot = llvm::to_vector(all.slice(degrees, numSums - degrees));
  table.prefix = all[numSums];
  table.odds = all[numSums + 1];
  if (vector)
    table.prefixDot = all.back();
}

SubsetBody::Table SubsetBody::emitLinear(int64_t columns, Value vector) {
  Table table;
  Value sum;
  for (Value logit : emitLargest(band.max))
    sum = sum ? add(sum, logit) : logit;
  table.shift = mul(sum, real(1.0 / static_cast<double>(band.max)));
  table.odds = makeRow({width});
  table.prefix = makeRow({width, columns});
  if (vector)
    table.prefixDot = makeRow({width, columns});
  emitRecursion(table, columns, vector);
  return table;
}

/// Whether a polynomial has left the range; a NaN has too.
Value SubsetBody::isUnsafe(const Table &table) {
  auto [low, high] = getSafeRange(type);
  Value isSafe;
  auto require = [&](Value condition) {
    isSafe = isSafe ? both(isSafe, condition) : condition;
  };
  for (int64_t size = 1; size <= band.max; ++size) {
    require(isLess(table.total[size], real(high)));
    if (size >= band.min)
      require(isGreater(table.total[size], real(low)));
  }
  return negate(isSafe);
}

//===----------------------------------------------------------------------===//
// The tilted form
//===----------------------------------------------------------------------===//

/// Where Newton's method starts: between the logits of the last expert in and
/// the first one out. `size` becomes the sum of probabilities that is sought: a
/// size of the band, the one that the law is near.
Value SubsetBody::emitTiltStart(Value &size) {
  SmallVector<Value> largest = emitLargest(std::min(band.max + 1, width));
  auto between = [&](int64_t count) {
    if (count >= width)
      return largest.back();
    return mul(real(0.5), add(largest[count - 1], largest[count]));
  };
  Value smallest = real(static_cast<double>(band.min));
  if (isExact()) {
    size = smallest;
    return between(band.min);
  }
  Value untilted =
      loop(width, real(0.0),
           [&](Value expert, ValueRange sum) -> SmallVector<Value> {
             Value share = logistic(readLogit(expert));
             return {add(sum[0], share)};
           })[0];
  Value most = real(static_cast<double>(band.max));
  size = smaller(larger(untilted, smallest), most);
  Value start = select(isGreater(untilted, most), between(band.max), real(0.0));
  return select(isLess(untilted, smallest), between(band.min), start);
}

/// Finds the tilt and writes probabilities into `odds` and `stay`.
void SubsetBody::emitTilt(Table &table) {
  Value none = infinity(/*isNegative=*/true), infinite = infinity();
  SmallVector<Value> counts =
      loop(width, {real(0.0), flag(false)},
           [&](Value expert, ValueRange carried) -> SmallVector<Value> {
             Value logit = readLogit(expert);
             Value one = select(isGreater(logit, none), real(1.0), real(0.0));
             Value isBad = negate(isLess(logit, infinite));
             return {add(carried[0], one), either(carried[1], isBad)};
           });
  table.isBad = counts[1];
  table.admissible =
      select(table.isBad, real(static_cast<double>(width)), counts[0]);
  Value least = real(static_cast<double>(band.min));
  table.isForced = negate(isGreater(table.admissible, least));
  // A row with a NaN counts as one of equal logits, so that a sample of it is
  // one; what is a number becomes NaN at the end.
  auto readClean = [&](Value expert) {
    return select(table.isBad, real(0.0), readLogit(expert));
  };

  Value size;
  Value start = select(table.isBad, real(0.0), emitTiltStart(size));
  size = select(table.isBad, least, size);
  auto logOdds = [&](Value sum) {
    return log(div(sum, sub(table.admissible, sum)));
  };
  Value wanted = logOdds(size);
  table.shift = loop(kTiltSteps, start, [&](Value, ValueRange tilt) {
    SmallVector<Value> sums = loop(
        width, {real(0.0), real(0.0)},
        [&](Value expert, ValueRange carried) -> SmallVector<Value> {
          Value p = logistic(sub(readClean(expert), tilt[0]));
          return {add(carried[0], p), fma(p, sub(real(1.0), p), carried[1])};
        });
    // Newton's method on the log-odds of the mean probability, which are nearly
    // linear in the tilt.
    Value rest = sub(table.admissible, sums[0]);
    Value slope =
        mul(sums[1], add(div(real(1.0), sums[0]), div(real(1.0), rest)));
    Value step = div(sub(logOdds(sums[0]), wanted), larger(slope, real(1e-30)));
    step = smaller(step, real(kLargestTiltStep));
    step = larger(step, real(-kLargestTiltStep));
    return SmallVector<Value>{add(tilt[0], step)};
  })[0];

  // exp may overflow: then p is 0 and the expert stays out.
  double large = getSafeRange(type).second;
  SmallVector<Value> rows = loop(
      width, {table.odds, makeRow({width})},
      [&](Value expert, ValueRange carried) -> SmallVector<Value> {
        Value logit = readClean(expert);
        Value power = exp(sub(table.shift, logit));
        Value p = div(real(1.0), add(real(1.0), power));
        Value stay =
            select(isLess(power, real(large)), mul(power, p), real(1.0));
        Value isAdmissible = isGreater(logit, none);
        Value whole = select(isAdmissible, real(1.0), real(0.0));
        p = select(table.isForced, whole, p);
        stay = select(table.isForced, sub(real(1.0), whole), stay);
        return {write(p, carried[0], expert), write(stay, carried[1], expert)};
      });
  table.odds = rows[0];
  table.stay = rows[1];
}

/// The same table of the tokens that need it; reuses the rows of the linear
/// one.
SubsetBody::Table SubsetBody::emitTilted(const Table &linear, int64_t columns,
                                         Value vector) {
  Table table = linear;
  emitTilt(table);
  emitRecursion(table, columns, vector);
  return table;
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
      start.push_back(real(0.0));
      continue;
    }
    Value slope = div(law[size], table.total[size]);
    if (table.isForced) {
      // 0 / 0: a size that a forced token does not have.
      Value has = isGreater(law[size], real(0.0));
      slope = select(has, slope, real(0.0));
    }
    start.push_back(slope);
  }
  return start;
}

/// Writes the marginals into a row.
Value SubsetBody::emitAdjoint(const Table &table, ValueRange start, Value row) {
  SmallVector<Value> inits(start);
  inits.push_back(row);
  return loopDown(width, inits,
                  [&](Value expert, ValueRange carried) {
                    Value odds = read(table.odds, expert);
                    Value stay =
                        table.stay ? read(table.stay, expert) : Value();
                    Value sums[2];
                    SmallVector<Value> next;
                    for (int64_t degree = 0; degree < band.max; ++degree) {
                      Value before =
                          read(table.prefix, {expert, index(degree)});
                      Value &sum = sums[degree % 2];
                      sum = sum ? fma(before, carried[degree], sum)
                                : mul(before, carried[degree]);
                      Value kept =
                          stay ? mul(stay, carried[degree]) : carried[degree];
                      next.push_back(degree + 1 < band.max
                                         ? fma(odds, carried[degree + 1], kept)
                                         : kept);
                    }
                    Value sum = sums[1] ? add(sums[0], sums[1]) : sums[0];
                    Value marginal = mul(odds, sum);
                    if (table.isBad)
                      marginal = select(table.isBad, nan(), marginal);
                    next.push_back(write(marginal, carried.back(), expert));
                    return next;
                  })
      .back();
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

/// Writes Cov(z) v into a row: with dots for tangents along v,
///   m_i (v_i - zeta) + w_i sum_l (dot P_i(l) U_i(l) + P_i(l) dot U_i(l)).
Value SubsetBody::emitAdjointDot(const Table &table, ValueRange start,
                                 Value zeta, Value vector, Value row) {
  SmallVector<Value> inits(start);
  inits.append(band.max, real(0.0));
  inits.push_back(row);
  return loopDown(
             width, inits,
             [&](Value expert, ValueRange carried) {
               ValueRange slopes = carried.take_front(band.max);
               ValueRange dots = carried.slice(band.max, band.max);
               Value odds = read(table.odds, expert);
               Value stay = table.stay ? read(table.stay, expert) : Value();
               Value along = read(vector, expert);
               Value oddsAlong = mul(odds, along);
               auto kept = [&](Value value) {
                 return stay ? mul(stay, value) : value;
               };
               Value sum = real(0.0), sumDot = real(0.0);
               SmallVector<Value> next, nextDots;
               for (int64_t degree = 0; degree < band.max; ++degree) {
                 Value before = read(table.prefix, {expert, index(degree)});
                 Value beforeDot =
                     read(table.prefixDot, {expert, index(degree)});
                 sum = fma(before, slopes[degree], sum);
                 sumDot = fma(beforeDot, slopes[degree], sumDot);
                 sumDot = fma(before, dots[degree], sumDot);
                 Value slope = kept(slopes[degree]), dot = kept(dots[degree]);
                 if (degree + 1 < band.max) {
                   dot = fma(odds, dots[degree + 1],
                             fma(oddsAlong, slopes[degree + 1], dot));
                   slope = fma(odds, slopes[degree + 1], slope);
                 }
                 next.push_back(slope);
                 nextDots.push_back(dot);
               }
               Value result = mul(odds, fma(sum, sub(along, zeta), sumDot));
               if (table.isBad) {
                 result = select(table.isForced, real(0.0), result);
                 result = select(table.isBad, nan(), result);
               }
               llvm::append_range(next, nextDots);
               next.push_back(write(result, carried.back(), expert));
               return next;
             })
      .back();
}

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

/// The logs of the tilted form. Its polynomials have a factor 1 - p_i of every
/// expert less, and a tilt for each one they take; with log(1 - p_i) =
/// log p_i - (r_i - t) for those above the tilt, the large numbers cancel
/// before they are added: what is left is the sum of these logits.
SmallVector<Value> SubsetBody::emitTiltedLogs(const Table &table) {
  Value none = infinity(/*isNegative=*/true);
  SmallVector<Value> sums =
      loop(width, {real(0.0), real(0.0), real(0.0), real(0.0)},
           [&](Value expert, ValueRange carried) -> SmallVector<Value> {
             Value logit = readLogit(expert);
             Value p = read(table.odds, expert),
                   stay = read(table.stay, expert);
             Value isAbove = isGreater(logit, table.shift);
             Value finite = select(isGreater(logit, none), logit, real(0.0));
             return {sub(carried[0], log(larger(p, stay))),
                     add(carried[1], select(isAbove, logit, real(0.0))),
                     add(carried[2], select(isAbove, real(1.0), real(0.0))),
                     add(carried[3], finite)};
           });
  SmallVector<Value> logs;
  for (int64_t size = band.min; size <= band.max; ++size) {
    Value count = real(static_cast<double>(size));
    Value tilts = mul(sub(count, sums[2]), table.shift);
    Value value =
        add(add(log(table.total[size]), sums[0]), add(sums[1], tilts));
    // A forced token has one subset.
    Value isCount = arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ,
                                          table.admissible, count);
    value = select(table.isForced, select(isCount, sums[3], none), value);
    logs.push_back(select(table.isBad, nan(), value));
  }
  return logs;
}

SmallVector<Value> SubsetBody::emitLogPartition() {
  Table linear = emitLinear(/*columns=*/0);
  SmallVector<Value> logs;
  for (int64_t size = band.min; size <= band.max; ++size)
    logs.push_back(add(log(linear.total[size]),
                       mul(linear.shift, real(static_cast<double>(size)))));
  return rarely(isUnsafe(linear), logs, [&] {
    return emitTiltedLogs(emitTilted(linear, /*columns=*/0));
  });
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

Value SubsetBody::emitMarginals() {
  auto finish = [&](const Table &table, Value row) {
    SmallVector<Value> law = emitSizeLaw(table);
    return emitAdjoint(table, emitAdjointStart(table, law), row);
  };
  Table linear = emitLinear(band.max);
  Value row = finish(linear, makeRow({width}));
  return rarely(isUnsafe(linear), row, [&] {
    Table table = emitTilted(linear, band.max);
    return SmallVector<Value>{finish(table, row)};
  })[0];
}

Value SubsetBody::emitCovariance(Value vector) {
  auto finish = [&](const Table &table, Value row) {
    SmallVector<Value> law = emitSizeLaw(table);
    return emitAdjointDot(table, emitAdjointStart(table, law),
                          emitZeta(table, law), vector, row);
  };
  Table linear = emitLinear(band.max, vector);
  Value row = finish(linear, makeRow({width}));
  return rarely(isUnsafe(linear), row, [&] {
    Table table = emitTilted(linear, band.max, vector);
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
  int64_t columns = band.max + 1;
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
  Table linear = emitLinear(columns);
  SmallVector<Value> state = start(linear);
  state.push_back(linear.prefix);
  state.push_back(linear.odds);
  state = rarely(isUnsafe(linear), state, [&] {
    Table table = emitTilted(linear, columns);
    SmallVector<Value> tilted = start(table);
    tilted.push_back(table.prefix);
    tilted.push_back(table.odds);
    return tilted;
  });
  Value prefix = state[2], odds = state[3];

  // From the last expert to the first; `carried` is how many are left, the
  // polynomial of that degree over the experts up to here, and the ids.
  auto take = [&](Value expert, Value word, ValueRange carried) {
    Value left = carried[0];
    Value with = real(0.0), without = real(0.0);
    SmallVector<Value> isLast;
    for (int64_t size = 1; size <= band.max; ++size) {
      Value isSize = isEqual(left, id(size));
      isLast.push_back(isSize);
      with = select(isSize, read(prefix, {expert, index(size - 1)}), with);
      without = select(isSize, read(prefix, {expert, index(size)}), without);
    }
    Value threshold = mul(emitUniform(*this, word), carried[1]);
    Value isTaken = isLess(threshold, mul(read(odds, expert), with));
    Value number = idOf(expert);
    SmallVector<Value> next = {select(isTaken, subId(left, id(1)), left),
                               select(isTaken, with, without)};
    for (auto [size, slot] : llvm::enumerate(carried.drop_front(2)))
      next.push_back(select(both(isTaken, isLast[size]), number, slot));
    return next;
  };
  SmallVector<Value> carried = {state[0], state[1]};
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
