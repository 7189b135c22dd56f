//===- SubsetTilt.cpp - The tilted form of subset inference ---------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "moe/Dialect/Moe/Utils/SubsetBody.h"

using namespace mlir;
using namespace mlir::moe;

/// Steps of Newton's method from the start below; its equation is nearly
/// linear, and any tilt near the solution does.
static constexpr int64_t kTiltSteps = 6;
/// How far from the start it may be; and the distance from there at which a
/// probability counts as 0 or 1. A product of two odds is in range of f32.
static constexpr double kLargestTilt = 12.0, kLargestDistance = 30.0;

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
  // Odds at the start; a tilt multiplies all of them.
  Value row = loop(width, table.odds, [&](Value expert, ValueRange carried) {
    Value distance = sub(readClean(expert), start);
    distance = smaller(distance, real(kLargestDistance));
    distance = larger(distance, real(-kLargestDistance));
    return SmallVector<Value>{write(exp(distance), carried[0], expert)};
  })[0];
  Value tilt = loop(kTiltSteps, real(0.0), [&](Value, ValueRange carried) {
    Value factor = exp(sub(real(0.0), carried[0]));
    // Two experts share a division, which costs more than all else here.
    SmallVector<Value> sums = loopBlocks(
        2, {real(0.0), real(0.0)}, [&](Value block, int64_t size, auto &sums) {
          SmallVector<Value> wholes, odds;
          for (int64_t place = 0; place < size; ++place) {
            odds.push_back(mul(read(row, expertOf(block, 2, place)), factor));
            wholes.push_back(add(real(1.0), odds.back()));
          }
          Value product = size == 2 ? mul(wholes[0], wholes[1]) : wholes[0];
          Value inverse = div(real(1.0), product);
          for (int64_t place = 0; place < size; ++place) {
            Value stay = size == 2 ? mul(inverse, wholes[1 - place]) : inverse;
            Value p = mul(odds[place], stay);
            sums[0] = add(sums[0], p);
            sums[1] = fma(p, stay, sums[1]);
          }
        });
    // Newton's method on the log-odds of the mean probability, which are nearly
    // linear in the tilt.
    Value rest = sub(table.admissible, sums[0]);
    Value slope =
        mul(sums[1], add(div(real(1.0), sums[0]), div(real(1.0), rest)));
    Value step = div(sub(logOdds(sums[0]), wanted), larger(slope, real(1e-30)));
    Value next = smaller(add(carried[0], step), real(kLargestTilt));
    return SmallVector<Value>{larger(next, real(-kLargestTilt))};
  })[0];
  table.odds = row;
  table.shift = add(start, tilt);

  // exp may overflow: then p is 0 and the expert stays out.
  double large = getSafeRange().second;
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
SubsetBody::Table SubsetBody::emitTilted(const Table &linear, Value vector) {
  Table table = linear;
  table.floor = 0.0;
  emitTilt(table);
  emitRecursion(table, vector);
  return table;
}

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
