# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Small layers in two random orders of warps and blocks; scripts/run-schedules
takes larger ones, and more orders."""

from __future__ import annotations

import pathlib
import sys

import pytest

sys.path.insert(
    0, str(pathlib.Path(__file__).resolve().parents[2] / "Faults")
)

import schedules  # noqa: E402

SHAPES = {shape.name: shape for shape in schedules.QUICK}

pytestmark = pytest.mark.filterwarnings("ignore:.*not fused with a gate")


@pytest.mark.parametrize("name", list(SHAPES))
def test_orders_make_no_difference(name, tmp_path):
    assert schedules.compare(SHAPES[name], tmp_path, seeds=2) == ""
