# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The text: its split, windows of it, and what a bigram model makes of it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np

PATH = Path(__file__).resolve().parent / "data" / "new-testament.txt.gz"

# Verses are dealt out in runs, so that both sides have all books; of every
# SHARE runs the last one is held out.
RUN = 20
SHARE = 10


class Text(NamedTuple):
    """Characters as i32 codes, places in the alphabet."""

    alphabet: str
    train: np.ndarray  # [N]
    held_out: np.ndarray  # [M]


def load(path: Path = PATH) -> Text:
    """Reads the text and splits it; nothing about the split is random."""
    with gzip.open(path, "rt", encoding="ascii", newline="\n") as stream:
        verses = stream.read().splitlines(keepends=True)
    sides = [[], []]
    for start in range(0, len(verses), RUN):
        held_out = start // RUN % SHARE == SHARE - 1
        sides[held_out].extend(verses[start : start + RUN])
    alphabet = "".join(sorted(set("".join(verses))))
    code_of = np.zeros(128, np.int32)
    code_of[[ord(letter) for letter in alphabet]] = np.arange(len(alphabet))
    codes = [
        code_of[np.frombuffer("".join(side).encode("ascii"), np.uint8)]
        for side in sides
    ]
    return Text(alphabet, *codes)


def spread_windows(codes: np.ndarray, length: int, count: int) -> np.ndarray:
    """Windows [count, length + 1] at equal distances, ends included.

    A model reads all but the last character of a window and predicts all but
    the first. No character is predicted twice.
    """
    room = len(codes) - 1 - length
    if count * length > room + length:
        raise ValueError(
            f"{count} windows of {length} do not fit {len(codes)} characters"
        )
    starts = np.linspace(0, room, count).astype(np.int64)
    return codes[starts[:, None] + np.arange(length + 1)]


def random_windows(
    codes: np.ndarray, length: int, count: int, seed: int, step: int
) -> np.ndarray:
    """Windows [count, length + 1] of a training step.

    They depend on seed and step alone: every router trains on the same ones.
    """
    rng = np.random.default_rng([seed, step])
    starts = rng.integers(0, len(codes) - length, size=count)
    return codes[starts[:, None] + np.arange(length + 1)]


def bigram_entropy(
    text: Text, codes: np.ndarray, targets: np.ndarray
) -> float:
    """Cross entropy of a bigram model on codes' targets, nats a character.

    The model is P(b | a) = (n(ab) + 1) / (n(a) + V), counted on the training
    side.
    """
    size = len(text.alphabet)
    pairs = np.bincount(text.train[:-1] * size + text.train[1:],
                        minlength=size * size)  # fmt: skip
    counts = pairs.reshape(size, size) + 1.0
    chance = counts / counts.sum(axis=1, keepdims=True)
    return float(-np.log(chance[codes, targets]).mean())
