# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Products on tensor cores, forward and backward, run by the emulator.

Sizes are multiples of 8 but not of a tile, so that every edge is met; experts
have no row, few rows and more than a tile. The judge is the oracle's code on
the same numbers.
"""

from __future__ import annotations

import pathlib
import sys

import ml_dtypes
import moe_mlir
import numpy as np
import pytest

sys.path.insert(
    0, str(pathlib.Path(__file__).resolve().parents[1] / "Gradients")
)

from expert_layers import Experts, draw_ids  # noqa: E402

TYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32}
TF32_EPS = 2.0**-10
# Of the largest number, in units of the type: the products' own rounding, and
# that of what they read.
UNITS = 4

pytestmark = pytest.mark.filterwarnings("ignore:.*not fused with a gate")

BASE = Experts(experts=5, k=2, hidden=72, inter=40, dtype="f16")


def form(**changes) -> Experts:
    return Experts(**{**BASE.__dict__, **changes})


FORMS = {
    "gated": BASE,
    "bf16": form(dtype="bf16"),
    "biases": form(biases=True, gated=False, activation="kind = gelu"),
    "in-out": form(layout="orientation = in_out, down = in_out"),
    "interleaved": form(layout="orientation = in_out, down = in_out, "
                        "pairing = interleaved", biases=True),
    "separate": form(layout="orientation = out_in, pairing = separate"),
    "weighted input": form(weighs=False, weighs_input=True),
    "wide": form(hidden=136, inter=168),
    # More than sixteen parts of D: a loop and what is left behind it.
    "deep": form(inter=568),
    "one piece": form(hidden=8, inter=8),
    "one step": form(hidden=32, inter=64, layout="orientation = in_out"),
}  # fmt: skip

# Rows of the five experts: a whole tile and more, 17 to 32, few, one, none.
COUNTS = (75, 30, 11, 1, 0)


def draw(layer: Experts, counts=COUNTS) -> dict[str, np.ndarray]:
    """Tokens of two experts each, so many for each expert."""
    stream = np.random.default_rng(7)
    left = list(counts)
    ids = []
    while any(left):
        first, second = sorted(range(5), key=lambda e: (-left[e], e))[:2]
        pair = [first, second if left[second] else -1]
        for expert in pair:
            if expert >= 0:
                left[expert] -= 1
        ids.append(pair)
    ids = stream.permutation(np.array(ids, np.int32).reshape(-1, 2))
    values = layer.draw(len(ids), ids=ids)
    for name, value in values.items():
        if name != "ids":
            scale = value.shape[-1] ** -0.5 if value.ndim == 3 else 1.0
            values[name] = (scale * value).astype(TYPES[layer.dtype])
    return values


def assert_near(found, wanted, unit):
    """As near as two roads with steps rounded to such units are."""
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        value = value.astype(np.float64)
        off = np.abs(found[name].astype(np.float64) - value)
        size = np.abs(value).max(initial=0.0)
        assert off.max(initial=0.0) <= UNITS * unit * size, name
        # Most numbers are the very same.
        assert off.mean() <= unit * size / 8 if off.size else True, name


def unit_of(layer: Experts) -> float:
    """The unit in the last place of a layer's numbers from 1 to 2."""
    return float(ml_dtypes.finfo(TYPES[layer.dtype]).eps)


def run(layer: Experts, values, target: str, **options):
    """Results and gradients."""
    compiled = moe_mlir.compile_gradients(
        layer.function().source(), target=target, threads=1, **options
    )
    results, saved = compiled.forward(**values)
    stream = np.random.default_rng(5)
    d_y = stream.normal(size=results["y"].shape).astype(TYPES[layer.dtype])
    return results, compiled.backward(saved, d_y=d_y)


@pytest.mark.parametrize("name", FORMS)
def test_form(name):
    layer = FORMS[name]
    values = draw(layer)
    found, wanted = (
        run(layer, values, target) for target in ("gpu-emulator", "oracle")
    )
    for own, other in zip(found, wanted):
        assert_near(own, other, unit_of(layer))


@pytest.mark.parametrize(
    "counts", [(), (1, 0, 0, 0, 0), (0, 0, 0, 16, 17), (64, 0, 65, 32, 33)]
)
def test_numbers_of_rows(counts):
    values = draw(BASE, counts or (0,) * 5)
    found, wanted = (
        run(BASE, values, target) for target in ("gpu-emulator", "oracle")
    )
    for own, other in zip(found, wanted):
        assert_near(own, other, unit_of(BASE))


def test_many_experts():
    # More than the lanes that look for a tile at a time.
    layer = form(experts=70, hidden=16, inter=16)
    ids = draw_ids(np.random.default_rng(2), 60, 70, 2)
    values = {
        name: value if name == "ids" else value.astype(np.float16)
        for name, value in layer.draw(60, ids=ids).items()
    }
    found, wanted = (
        run(layer, values, target) for target in ("gpu-emulator", "oracle")
    )
    for own, other in zip(found, wanted):
        assert_near(own, other, unit_of(layer))


def test_f32_as_tf32():
    layer = form(dtype="f32")
    values = draw(layer)
    wanted = run(layer, values, "oracle")
    exact = run(layer, values, "gpu-emulator")
    found = run(layer, values, "gpu-emulator", tf32=True)
    for own, other in zip(found, wanted):
        assert_near(own, other, TF32_EPS)
    for own, other in zip(exact, wanted):
        assert_near(own, other, 2.0**-18)
    # Every product was rounded.
    for name in ("y", "d_x", "d_down"):
        own = next(part[name] for part in found if name in part)
        other = next(part[name] for part in exact if name in part)
        assert np.abs(own - other).max() > 2.0**-16 * np.abs(other).max(), name


def test_batch_invariance():
    # A token alone has experts of one row; in a batch they have a tile.
    layer = form(dtype="f32")
    source = layer.function().source()
    values = draw(layer)
    tokens = [name for name in values if len(values[name]) == len(values["ids"])]
    invariant, other = (
        moe_mlir.compile(
            source, target="gpu-emulator", tf32=True, batch_invariant=value
        )
        for value in (True, False)
    )
    batch = invariant(**values)
    differs = False
    for token in range(0, len(batch), 7):
        alone = {
            name: value[token : token + 1] if name in tokens else value
            for name, value in values.items()
        }
        np.testing.assert_array_equal(
            invariant(**alone)[0].view(np.uint32),
            batch[token].view(np.uint32),
        )
        differs |= bool(np.any(other(**alone)[0] != batch[token]))
    # The kernel for few rows does not round to tf32, or this shows nothing.
    assert differs


@pytest.mark.parametrize("option", ["tf32", "batch_invariant"])
def test_options_of_gpus(option):
    with pytest.raises(ValueError, match="are of target cuda"):
        moe_mlir.compile(BASE.function().source(), **{option: True})
