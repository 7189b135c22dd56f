# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Capped expert choice by two kernels a sweep, run by the emulator against the
oracle. Its f64 exponentials are of CUDA's device library."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Routers"))

import test_compiled_capped as capped  # noqa: E402

EXPERTS = 5
RULE = "capacity = <factor = 1.6>, cap = 1.5, strength = 0.1, sweeps = 12"
SETTINGS = {
    "scores": RULE,
    "assignment": f"{RULE}, weights = assignment",
    "sum": f"{RULE}, normalize = sum",
    "once": RULE.replace("12", "1"),
}
# f32 weights of f64 numbers.
TOLERANCE = 1e-6


def compare(settings, slots, *arrays, **keys):
    """Ids are equal, and weights near."""
    results = []
    for target in ("gpu-emulator", "oracle"):
        try:
            layer = capped.expert_choice(
                settings, EXPERTS, slots, target, **keys
            )
        except RuntimeError as error:
            if "device library" in str(error):
                pytest.skip("no CUDA toolkit with a device library")
            raise
        results.append(layer(*arrays))
    found, wanted = results
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], rtol=TOLERANCE)
    return found


def logits(tokens):
    return np.random.default_rng(tokens).normal(size=(tokens, EXPERTS)).astype(
        np.float32
    )


@pytest.mark.parametrize("tokens", [0, 1, 33, 100])
@pytest.mark.parametrize("name", SETTINGS)
def test_one_group(name, tokens):
    slots = min(max(int(1.6 * tokens / EXPERTS), 1), tokens)
    compare(SETTINGS[name], slots, logits(tokens))


@pytest.mark.parametrize("name", SETTINGS)
def test_masks(name):
    mask = np.random.default_rng(2).random(60) < 0.5
    compare(SETTINGS[name], 19, logits(60), mask, masked=True)
    # Fewer than an expert takes, and none.
    mask[7:] = False
    compare(SETTINGS[name], 19, logits(60), mask, masked=True)
    compare(SETTINGS[name], 19, logits(60), np.zeros(60, bool), masked=True)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_groups(name, masked):
    groups = np.array([0, 10, 10, 31, 60], np.int32)
    settings = SETTINGS[name].replace("factor = 1.6", "fixed = 4")
    mask = [np.arange(60) % 4 != 1] if masked else []
    compare(
        settings, 16, logits(60), *mask, groups, masked=masked,
        groups=4,
    )  # fmt: skip


def test_ties_and_nan():
    x = logits(40)
    x[10:20] = x[10]
    x[30, 2] = -np.inf
    compare(RULE, 12, x)
    x[5] = np.nan
    compare(RULE, 12, x)
