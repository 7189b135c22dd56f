# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Kernels of the routers, run by the emulator, against the CPU's code.

The emulator fails a call with its first report: a race, a read of what nobody
wrote, an access out of bounds. So a result that is equal had none.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(
    0, str(pathlib.Path(__file__).resolve().parents[3] / "python" / "tests")
)

import moe_mlir  # noqa: E402
from small_models import SMALL, draw_arrays  # noqa: E402

from common import layer_text  # noqa: E402
from common.layers import ROUTERS  # noqa: E402

TARGETS = ("cpu", "gpu-emulator")
NAMES = list(ROUTERS)
# f32 sums in another order, relative to the largest number of a result.
TOLERANCE = 2e-6

pytestmark = pytest.mark.filterwarnings("ignore:.*not fused with a gate")


def assert_near(found, wanted):
    """Integers are equal, numbers as near as two orders of a sum are."""
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        if value.dtype.kind == "i":
            np.testing.assert_array_equal(found[name], value, err_msg=name)
            continue
        size = np.abs(value).max(initial=0.0)
        worst = np.abs(found[name] - value).max(initial=0.0)
        assert worst <= TOLERANCE * size, name


def run(name, target, arrays):
    """The results of a layer's evaluation by name."""
    source = layer_text.source(ROUTERS[name], SMALL, training=False)
    layer = moe_mlir.compile(source, target=target, threads=1)
    out = {}
    if ROUTERS[name].chooser == "experts":
        taken = 2 * len(arrays["x"]) // SMALL.experts
        out["ids"] = np.empty((SMALL.experts, taken), np.int32)
    values = layer(out=out, **arrays)
    return dict(zip((a.name for a in layer.outputs), values))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sequences", [0, 2])
def test_forward(name, sequences):
    arrays = draw_arrays(name, False, sequences=sequences)
    found, wanted = (run(name, t, arrays) for t in reversed(TARGETS))
    assert_near(found, wanted)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    router = ROUTERS[name]
    source = layer_text.source(router, SMALL, training=True)
    arrays = draw_arrays(name, True, sequences=2)
    results, gradients = {}, {}
    for target in TARGETS:
        layer = moe_mlir.compile_gradients(
            source, wrt=list(router.learned()), target=target, threads=1
        )
        results[target], saved = layer.forward(**arrays)
        stream = np.random.default_rng(5)
        cotangents = {
            f"d_{key}": stream.normal(size=value.shape).astype(np.float32)
            for key, value in results[target].items()
        }
        gradients[target] = layer.backward(saved, **cotangents)
    for found in (results, gradients):
        assert_near(found["gpu-emulator"], found["cpu"])


def test_groups_that_do_not_ascend_are_an_error():
    # The host copies back what the device found, and leaves.
    arrays = draw_arrays("expert_choice", False, sequences=2)
    arrays["groups"] = np.array([0, 20, 10], np.int32)
    with pytest.raises(ValueError, match="group"):
        run("expert_choice", "gpu-emulator", arrays)


def test_no_driver_is_an_error():
    source = layer_text.source(ROUTERS["top_k"], SMALL, training=False)
    try:
        layer = moe_mlir.compile(source, target="cuda")
    except RuntimeError as error:
        assert "NVIDIA driver" in str(error) or "CUDA error" in str(error)
        return
    # Here is a device: it has to agree.
    arrays = draw_arrays("top_k", False, sequences=2)
    found = dict(zip((a.name for a in layer.outputs), layer(**arrays)))
    assert_near(found, run("top_k", "cpu", arrays))
