# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How far a compiled layer may be from the float64 reference.

Errors are relative and taken per row of y and per expert: an absolute or a
global measure would hide one expert with swapped halves among many right
ones. The numbers are written once, here, and are not widened to let
something pass.

The reference rounds where a compiled layer rounds, so what remains is
  f64   sums of at most a few thousand terms: sqrt(4096) * 2^-53 = 7e-15 for a
        product; two products, the combine, and library functions that
        differ in the last places stay below 1e-12.
  f32   sqrt(4096) * 2^-24 = 4e-6 for a product, two or three of which
        follow each other, plus a few 2^-24 for activation, router weight
        and combine: below 2e-5.
  f16   the last rounding of y is at most 2^-11 of a row's norm; a hidden or
        row value that lies near a rounding boundary may fall on the other
        side, or may be kept in f32 by a fused kernel, at most another
        1.5 * 2^-11 together: 2.5 * 2^-11.
  bf16  likewise 2.5 * 2^-8.
Combine weights are compared with the tolerance of the type in which routing
computes (f32, or f64 where every routing type is f64): the committed and the
random inputs keep clear of rounding boundaries and near-ties, so a stored
weight is the same number or is wrong. ids and loads are compared exactly.
"""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from dtypes import UNIT_ROUNDOFF
from spec import LayerSpec

TOLERANCE = {
    "f64": 1e-12,
    "f32": 2e-5,
    "f16": 2.5 * UNIT_ROUNDOFF["f16"],
    "bf16": 2.5 * UNIT_ROUNDOFF["bf16"],
}

# A row whose terms cancel is judged against its terms: its norm counts as at
# least this share of the sum of their norms.
CANCELLATION_FLOOR = 1.0 / 8.0


def routing_class(spec: LayerSpec) -> str:
    """The tolerance class of combine weights: f64 or f32."""
    types = (
        spec.x_dtype,
        spec.logit_dtype,
        spec.score_dtype,
        spec.route_dtype,
    )
    return "f64" if all(dtype == "f64" for dtype in types) else "f32"


def tolerance_class(spec: LayerSpec) -> str:
    """The tolerance class of y: that of x, or of routing where coarser."""
    return max(
        (spec.x_dtype, routing_class(spec)), key=lambda name: TOLERANCE[name]
    )


def _difference(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """actual - expected; zero where both are NaN or the same infinity.

    Infinite where only one of the two is not finite.
    """
    actual = np.asarray(actual, dtype=np.float64)
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        out = np.where(same, 0.0, actual - expected)
    return np.where(np.isfinite(out), out, np.inf)


def row_errors(
    actual: np.ndarray,
    expected: np.ndarray,
    magnitude: np.ndarray | None = None,
) -> np.ndarray:
    """Relative error of each row, [T].

    |actual - expected| / |expected| in the 2-norm over the finite entries;
    magnitude [T] (see reference.run) guards against cancellation. A row that
    is exactly zero has to be matched exactly: any deviation is infinite.
    """
    if actual.shape != expected.shape:
        raise AssertionError(f"shape {actual.shape}, not {expected.shape}")
    errors = np.zeros(len(expected))
    for row in range(len(expected)):
        finite = np.where(np.isfinite(expected[row]), expected[row], 0.0)
        norm = float(np.linalg.norm(finite))
        if magnitude is not None and np.isfinite(magnitude[row]):
            norm = max(norm, CANCELLATION_FLOOR * float(magnitude[row]))
        distance = float(
            np.linalg.norm(_difference(actual[row], expected[row]))
        )
        if distance > 0.0:
            errors[row] = distance / norm if norm > 0.0 else np.inf
    return errors


def expert_errors(
    spec: LayerSpec,
    actual: np.ndarray,
    expected: np.ndarray,
    ids: np.ndarray,
) -> np.ndarray:
    """Relative error per column of the router, [R].

    Over the rows of the tokens that an expert serves; 0 where it serves
    none. ids as in routing.Routing.
    """
    errors = np.zeros(spec.router_width)
    for expert in range(spec.router_width):
        if spec.router == "expert_choice":
            served = sorted({int(t) for t in ids[expert] if t >= 0})
        else:
            served = [t for t in range(len(ids)) if expert in ids[t]]
        if not served:
            continue
        wanted = np.where(np.isfinite(expected[served]), expected[served], 0.0)
        distance = np.linalg.norm(
            _difference(actual[served], expected[served])
        )
        norm = np.linalg.norm(wanted)
        if distance > 0.0:
            errors[expert] = distance / norm if norm > 0.0 else np.inf
    return errors


def weight_errors(
    actual: np.ndarray,
    expected: np.ndarray,
    cancellation: np.ndarray | None = None,
) -> np.ndarray:
    """Relative error of each combine weight; infinite off an exact zero.

    cancellation [T] (see reference.weight_cancellation): a weight that is a
    logit counts as at least CANCELLATION_FLOOR of its terms.
    """
    distance = np.abs(_difference(actual, expected))
    size = np.abs(np.where(np.isfinite(expected), expected, 0.0))
    if cancellation is not None and len(cancellation) == len(size):
        factor = np.maximum(1.0, CANCELLATION_FLOOR * cancellation)
        size = size * factor[:, np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance == 0.0, 0.0, distance / size)


def complaints(
    spec: LayerSpec, actual: Mapping[str, Any], result: Mapping[str, Any]
) -> list[str]:
    """What is wrong with `actual`, judged by `result` of reference.run.

    actual may hold y [T, H], ids, weights and expert_loads; at least one of
    them, and nothing else.
    """
    out: list[str] = []
    known = ("y", "ids", "weights", "expert_loads")
    unknown = sorted(set(actual) - set(known))
    if unknown or not actual:
        raise ValueError(f"nothing to compare, or not known: {unknown}")
    for name in ("ids", "expert_loads"):
        if name in actual and not np.array_equal(actual[name], result[name]):
            out.append(f"{name}: {actual[name]} instead of {result[name]}")
    if "weights" in actual and not out:
        allowed = TOLERANCE[routing_class(spec)]
        errors = weight_errors(
            actual["weights"], result["weights"], result.get("cancellation")
        )
        if errors.size and errors.max() > allowed:
            at = np.unravel_index(errors.argmax(), errors.shape)
            out.append(
                f"weights{at}: off by {errors.max():.3g} > {allowed:.3g}"
            )
    if "y" in actual:
        allowed = TOLERANCE[tolerance_class(spec)]
        rows = row_errors(actual["y"], result["y"], result.get("magnitude"))
        experts = expert_errors(spec, actual["y"], result["y"], result["ids"])
        for what, errors, limit in (
            ("row", rows, allowed),
            ("expert", experts, allowed / CANCELLATION_FLOOR),
        ):
            if errors.size and errors.max() > limit:
                at = int(errors.argmax())
                out.append(
                    f"y: {what} {at} off by {errors.max():.3g} > {limit:.3g}"
                )
    return out


def assert_close(
    spec: LayerSpec, actual: Mapping[str, Any], result: Mapping[str, Any]
) -> None:
    """Raises AssertionError with every complaint."""
    found = complaints(spec, actual, result)
    if found:
        raise AssertionError(f"{spec.stated()}: " + "; ".join(found))
