# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A sample of the faults that scripts/plant-faults puts into kernels."""

from __future__ import annotations

import pathlib
import sys

import pytest

sys.path.insert(
    0, str(pathlib.Path(__file__).resolve().parents[2] / "Faults")
)

import plant_faults  # noqa: E402
from fault_cases import CASES  # noqa: E402

# Faults of a layer by chance, and how many at least have to be noticed: a
# sample has more survivors than all by chance too.
SAMPLES = {
    "products of bf16": 50,
    "products of f32": 80,
    "expert_choice, forward": 100,
    "top_k, backward": 100,
}
LEAST = 0.9

pytestmark = pytest.mark.filterwarnings("ignore:.*not fused with a gate")


@pytest.mark.parametrize("name", list(SAMPLES))
def test_sample(name, tmp_path):
    (case,) = (case for case in CASES if case.name == name)
    rows = plant_faults.judge(case, tmp_path, SAMPLES[name], seed=20261122)
    tally = plant_faults.tally_by({name: rows}, "layer")[name]
    _, unexplained = plant_faults.survivors({name: rows})
    assert tally.executed >= SAMPLES[name] * 0.7
    assert tally.share >= LEAST
    assert not unexplained
    # Not one way alone to notice them.
    assert tally.counts["reported"] > 0 < tally.counts["wrong numbers"]
