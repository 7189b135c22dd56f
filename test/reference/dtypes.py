# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Storage types: rounding, exactness checks, and bytes.

Inside the reference every floating value is a float64. A stored operand is a
float64 array whose values are exactly representable in its storage type; the
functions here round to a type and turn such arrays into bytes and back.
"""

from __future__ import annotations

import numpy as np

FLOATS = ("f64", "f32", "f16", "bf16")

# Unit roundoff: half the distance from 1 to the next larger value.
UNIT_ROUNDOFF = {
    "f64": 2.0**-53,
    "f32": 2.0**-24,
    "f16": 2.0**-11,
    "bf16": 2.0**-8,
}

_BYTES_AS = {
    "f64": np.dtype("<f8"),
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "bf16": np.dtype("<u2"),
    "i32": np.dtype("<i4"),
    "i1": np.dtype("u1"),
}

_BF16_DIGITS = 8
_BF16_MIN_EXPONENT = -126
_BF16_MAX = (2.0 - 2.0**-7) * 2.0**127


def _round_bf16(values: np.ndarray) -> np.ndarray:
    """Rounds float64 to bf16 once, to nearest, ties to even."""
    out = values.copy()
    finite = np.isfinite(values)
    # frexp's mantissa is in [0.5, 1), so 2^(exponent - digits) is one unit
    # in the last place; the exponent stops falling at the subnormal range.
    _, exponent = np.frexp(values[finite])
    exponent = np.maximum(exponent - 1, _BF16_MIN_EXPONENT)
    ulp = np.ldexp(1.0, exponent - (_BF16_DIGITS - 1))
    rounded = np.rint(values[finite] / ulp) * ulp
    overflow = np.abs(rounded) > _BF16_MAX
    rounded[overflow] = np.copysign(np.inf, rounded[overflow])
    out[finite] = rounded
    return out


def round_to(values: np.ndarray, dtype: str) -> np.ndarray:
    """Rounds float64 values to `dtype` directly (no double rounding).

    The result is float64 again. f32 and f16 use the conversion of the
    hardware or of NumPy, which round to nearest, ties to even.
    """
    values = np.asarray(values, dtype=np.float64)
    if dtype == "f64":
        return values
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype == "f32":
            return values.astype(np.float32).astype(np.float64)
        if dtype == "f16":
            return values.astype(np.float16).astype(np.float64)
        if dtype == "bf16":
            return np.asarray(_round_bf16(np.atleast_1d(values))).reshape(
                values.shape
            )
    raise ValueError(f"unknown floating type '{dtype}'")


def is_exact(values: np.ndarray, dtype: str) -> bool:
    """Whether every value is representable in `dtype` (NaN counts as is)."""
    return np.array_equal(round_to(values, dtype), values, equal_nan=True)


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """The stored form of `values`, little-endian; bf16 becomes uint16.

    Raises ValueError where a value is not representable, so that a file
    never holds something else than what the reference computed with.
    """
    target = _BYTES_AS[dtype]
    if dtype in FLOATS:
        values = np.asarray(values, dtype=np.float64)
        if not is_exact(values, dtype):
            raise ValueError(f"values are not representable in {dtype}")
        if dtype == "bf16":
            with np.errstate(invalid="ignore"):  # NaN with a payload.
                bits = values.astype("<f4").view("<u4")
            # A NaN whose payload lies in the low half would become infinity.
            nan = np.where(bits >> 31, 0xFFC0, 0x7FC0)
            high = np.where(np.isnan(values), nan, bits >> 16)
            return high.astype(target)
        return values.astype(target)
    values = np.asarray(values)
    out = values.astype(target)
    if not np.array_equal(out, values):
        raise ValueError(f"values are not representable in {dtype}")
    return out


def decode(stored: np.ndarray, dtype: str) -> np.ndarray:
    """The reverse of `encode`: float64, int32, or bool values."""
    if dtype == "bf16":
        stored = (stored.astype("<u4") << 16).view("<f4")
    if dtype in FLOATS:
        with np.errstate(invalid="ignore"):  # A signalling NaN.
            return stored.astype(np.float64)
    return stored.astype(bool) if dtype == "i1" else stored.astype(np.int32)


def bytes_type(dtype: str) -> np.dtype:
    """The NumPy type whose bytes hold values of `dtype`."""
    return _BYTES_AS[dtype]
