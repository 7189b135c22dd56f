# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the tests of the router references share."""

from __future__ import annotations

import math
from typing import Any, Callable

import numpy as np


def near(actual: Any, expected: Any) -> None:
    """Equal to the printed six decimals."""
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=6e-7)


def differences(
    function: Callable[[np.ndarray], float],
    at: np.ndarray,
    step: float = 1e-5,
) -> np.ndarray:
    """Central differences of a scalar function, shaped like `at`."""
    out = np.zeros(at.shape)
    for index in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[index] += step
        down[index] -= step
        out[index] = (function(up) - function(down)) / (2.0 * step)
    return out


def chi_square_limit(freedom: int) -> float:
    """Exceeded with probability 1e-4 (Wilson and Hilferty)."""
    part = 2.0 / (9.0 * freedom)
    return freedom * (1.0 - part + 3.719 * math.sqrt(part)) ** 3
