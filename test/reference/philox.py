# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random numbers of a token: Philox4x32-10 and what is made of its words.

Philox is a keyed bijection of 128-bit counters (Salmon, Moraes, Dror, Shaw,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011; Random123). A number
depends on (seed, layer, token, draw) alone, so a sample does not change with
threads, tiles or the split of a batch:

  key      seed as two 32-bit words, low first
  counter  (token low, token high, draw // 4, layer)
  word     draw % 4 of the four output words
  uniform  (word >> 8) * 2^-24, in [0, 1); exact in f32 and in f64

Where a logarithm is taken, it is that of uniform + 2^-25, which lies strictly
between 0 and 1.
"""

from __future__ import annotations

import numpy as np

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

MASK32 = np.uint64(0xFFFFFFFF)
SHIFT32 = np.uint64(32)

UNIFORM_STEP = 2.0**-24
LOG_OFFSET = 2.0**-25


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Output words [..., 4] u32 of counters [..., 4] u32 under one key.

    One round: (c0, c1, c2, c3) becomes
      (high(M1 c2) ^ c1 ^ k0, low(M1 c2), high(M0 c0) ^ c3 ^ k1, low(M0 c0));
    between rounds the key words advance by the Weyl constants mod 2^32.
    """
    words = np.asarray(counter).astype(np.uint64)
    c0, c1, c2, c3 = (words[..., lane] for lane in range(4))
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(ROUNDS):
        product0 = c0 * np.uint64(MULTIPLIERS[0])
        product1 = c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (product1 >> SHIFT32) ^ c1 ^ np.uint64(k0),
            product1 & MASK32,
            (product0 >> SHIFT32) ^ c3 ^ np.uint64(k1),
            product0 & MASK32,
        )
        k0 = (k0 + WEYL[0]) % 2**32
        k1 = (k1 + WEYL[1]) % 2**32
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(
    seed: int, tokens: int, draws: int, layer: int = 0, first_token: int = 0
) -> np.ndarray:
    """Words [tokens, draws] u32 of the tokens first_token, first_token + 1..

    Token indices are 64 bits wide and wrap around.
    """
    blocks = (draws + 3) // 4
    counter = np.zeros((tokens, blocks, 4), dtype=np.uint64)
    with np.errstate(over="ignore"):
        index = np.arange(tokens, dtype=np.uint64)
        index = index + np.uint64(first_token % 2**64)
    counter[..., 0] = (index & MASK32)[:, None]
    counter[..., 1] = (index >> SHIFT32)[:, None]
    counter[..., 2] = np.arange(blocks, dtype=np.uint64)[None, :]
    counter[..., 3] = layer % 2**32
    seed %= 2**64
    out = philox4x32(counter, (seed % 2**32, seed // 2**32))
    return out.reshape(tokens, 4 * blocks)[:, :draws]


def uniforms(
    seed: int, tokens: int, draws: int, layer: int = 0, first_token: int = 0
) -> np.ndarray:
    """Uniforms [tokens, draws] f64: (word >> 8) * 2^-24."""
    drawn = words(seed, tokens, draws, layer, first_token)
    return (drawn >> np.uint32(8)).astype(np.float64) * UNIFORM_STEP


def normals_of(drawn: np.ndarray) -> np.ndarray:
    """Standard normals of uniforms [..., n], n even, by Box-Muller.

    Uniforms a = 2i and b = 2i + 1 give
      2i:     sqrt(-2 ln(a + 2^-25)) cos(2 pi b)
      2i + 1: sqrt(-2 ln(a + 2^-25)) sin(2 pi b)
    """
    radius = np.sqrt(-2.0 * np.log(drawn[..., 0::2] + LOG_OFFSET))
    angle = 2.0 * np.pi * drawn[..., 1::2]
    out = np.zeros(drawn.shape)
    out[..., 0::2] = radius * np.cos(angle)
    out[..., 1::2] = radius * np.sin(angle)
    return out


def normals(
    seed: int, tokens: int, experts: int, layer: int = 0, first_token: int = 0
) -> np.ndarray:
    """Standard normals [tokens, experts]; expert e uses the pair e // 2.

    An odd number of experts leaves the sine of the last pair unused.
    """
    even = experts + experts % 2
    drawn = uniforms(seed, tokens, even, layer, first_token)
    return normals_of(drawn)[:, :experts]


def gumbels_of(drawn: np.ndarray) -> np.ndarray:
    """Standard Gumbels -ln(-ln(u + 2^-25)) of uniforms u."""
    return -np.log(-np.log(drawn + LOG_OFFSET))


def gumbels(
    seed: int, tokens: int, experts: int, layer: int = 0, first_token: int = 0
) -> np.ndarray:
    """Standard Gumbels [tokens, experts]; expert e uses draw e."""
    return gumbels_of(uniforms(seed, tokens, experts, layer, first_token))
