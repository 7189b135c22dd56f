//===- NoiseBody.cpp - Noise on the logits of one token -------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "moe/Dialect/Moe/Utils/NoiseBody.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::moe;

Value moe::emitSigma(BodyBuilder &body, const NoiseSettings &settings,
                     Value raw) {
  if (settings.kind == NoiseKind::normal)
    return body.real(settings.std);
  // softplus(x) = max(x, 0) + log(1 + exp(-|x|)).
  ImplicitLocOpBuilder &b = body.getBuilder();
  Value distance = math::AbsFOp::create(b, raw);
  Value small =
      math::Log1pOp::create(b, body.exp(arith::NegFOp::create(b, distance)));
  Value positive = arith::MaximumFOp::create(b, raw, body.real(0.0));
  return body.add(body.add(positive, small), body.real(settings.floor));
}

/// Four normal numbers of a block's words.
static SmallVector<Value> spreadNormals(BodyBuilder &b, ArrayRef<Value> words) {
  auto [first, second] = emitNormals(b, words[0], words[1]);
  auto [third, fourth] = emitNormals(b, words[2], words[3]);
  return {first, second, third, fourth};
}

Value moe::emitNormalRow(BodyBuilder &b, const TokenRandom &random,
                         int64_t width) {
  return emitDrawnRow(
      b, random, width,
      [&](ArrayRef<Value> words) { return spreadNormals(b, words); },
      [](Value, Value normal) { return normal; });
}

Value moe::emitNoisyRow(BodyBuilder &b, const NoiseSettings &settings,
                        const TokenRandom &random, Value logits, Value raw,
                        int64_t width) {
  if (settings.kind == NoiseKind::gumbel)
    return emitDrawnRow(b, random, width, emitGumbel,
                        [&](Value expert, Value noise) {
                          if (settings.temperature != 1.0)
                            noise = b.mul(b.real(settings.temperature), noise);
                          return b.add(b.read(logits, expert), noise);
                        });
  auto spread = [&](ArrayRef<Value> words) { return spreadNormals(b, words); };
  return emitDrawnRow(b, random, width, spread, [&](Value expert, Value noise) {
    Value own = raw ? b.read(raw, expert) : Value();
    noise = b.mul(emitSigma(b, settings, own), noise);
    return b.add(b.read(logits, expert), noise);
  });
}
