# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Small layers and models of the examples that train."""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import sys

import numpy as np

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
for folder in (EXAMPLES, EXAMPLES / "digits"):
    sys.path.insert(0, str(folder))

from common import compiled  # noqa: E402
from common.layers import ROUTERS, Sizes  # noqa: E402

SMALL = Sizes(width=16, inter=8, length=16, batch=2)
# f32 beside f64, relative to the largest number of an array.
TOLERANCE = 1e-5


@functools.lru_cache(maxsize=None)
def forward_layer(name, phase):
    return compiled.compile_forward(ROUTERS[name], SMALL, phase, threads=2)


def draw_arrays(name, phase, seed=1, sequences=4):
    """Arguments of a layer, f32."""
    rng = np.random.default_rng(seed)
    e, d, i = SMALL.experts, SMALL.width, SMALL.inter
    tokens = sequences * SMALL.length

    def normal(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    arrays = {
        "x": normal(tokens, d),
        "query": normal(tokens, d),
        "key": normal(tokens, d),
        "router": normal(*ROUTERS[name].weight_shapes(SMALL)["router"],
                         scale=d**-0.5),
        "gate_up": normal(e, 2 * i, d, scale=d**-0.5),
        "down": normal(e, d, i, scale=i**-0.5),
        "scale": np.array(2.0, np.float32),
        "groups": np.arange(0, tokens + 1, SMALL.length, dtype=np.int32),
        "random": np.array([seed, 1, 2**32 - 20], np.int64),
    }
    return {key: arrays[key] for key in ROUTERS[name].arguments(phase)}


def exact(arrays):
    """The same numbers in f64; integers as they are."""
    return {
        key: a.astype(np.float64) if a.dtype == np.float32 else a
        for key, a in arrays.items()
    }


def assert_near(got, want):
    """Equal to f64 as far as f32 goes; integers exactly."""
    assert got.shape == want.shape
    if want.dtype.kind == "i":
        np.testing.assert_array_equal(got, want)
        return
    assert got.dtype == np.float32
    error = np.abs(got - want).max(initial=0.0)
    assert error <= TOLERANCE * np.abs(want).max(initial=1e-30)


def check_slopes(w, gradients, loss, rng, most=None):
    """Some gradients of every weight against central differences.

    most: how many of the first numbers of a weight are read, if not all.
    """
    step = 1e-6
    for key in w.shapes:
        flat, slopes = w[key].reshape(-1), gradients[key].reshape(-1)
        for at in rng.integers(0, (most or {}).get(key, flat.size), 4):
            kept, sides = flat[at], []
            for side in (step, -step):
                flat[at] = kept + side
                sides.append(loss())
            flat[at] = kept
            slope = (sides[0] - sides[1]) / (2 * step)
            assert abs(slope - slopes[at]) <= 1e-6 * np.abs(slopes).max(), key


def run_quickly(example, folder, *arguments):
    """What `train.py --quick` of an example prints; it must succeed."""
    command = [sys.executable, str(EXAMPLES / example / "train.py"), "--quick"]
    command += ["--out", str(folder), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("\n| router |")
    assert (folder / "report.md").read_text().count("\n| ") >= 2
    assert (folder / "plot.svg").read_text().endswith("</svg>\n")
    return done.stdout
