# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Inputs and printed results of external-router.mlir.

    external_router.py write DIR     logits.npy [20, 3] and x.npy [20, 2], f32
    external_router.py print DIR     ids.npy, weights.npy [20, 2], y.npy [20, 2]

The twenty tokens are five, four times over, so that they fill more than one
register of lanes.
"""

import pathlib
import sys

import numpy as np

REPEATS = 4
LOGITS = [
    [100, 0, -100],
    [-100, -100, -100],
    [0, 0, 0],
    [np.nan, 0, 100],
    [0, -100, -20],
]
X = [[1, 2], [3, 1], [1, -1], [2, 0], [-1, 1]]


def write(folder: pathlib.Path) -> None:
    """Writes the two arguments, [20, 3] and [20, 2] of f32."""
    for name, rows in (("logits", LOGITS), ("x", X)):
        tiled = np.tile(np.array(rows, dtype=np.float32), (REPEATS, 1))
        np.save(folder / f"{name}.npy", tiled)


def show(folder: pathlib.Path) -> None:
    """Prints the first five rows of each result, once all repeats agree."""
    for name in ("ids", "weights", "y"):
        rows = np.load(folder / f"{name}.npy")
        first = rows[: len(X)]
        same = np.array_equal(rows, np.tile(first, (REPEATS, 1)))
        print(name, "repeats" if same else "differs", first.tolist())


if __name__ == "__main__":
    {"write": write, "print": show}[sys.argv[1]](pathlib.Path(sys.argv[2]))
