# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""examples/charlm: its text, its causality, its training."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import SMALL, check_slopes, forward_layer, run_quickly

from charlm import data  # noqa: E402
from charlm.task import Text  # noqa: E402
from common import parts, training  # noqa: E402
from common.layers import CAUSAL, ROUTERS, Sizes, names  # noqa: E402
from common.model import Batch, Model, initial_weights  # noqa: E402

PHASES = [(name, phase) for name in names(CAUSAL) for phase in (True, False)]


def text():
    return data.load()


def test_split():
    loaded = text()
    assert len(loaded.alphabet) == 63
    both = len(loaded.train) + len(loaded.held_out)
    assert both == 949_481
    assert 0.09 < len(loaded.held_out) / both < 0.11
    words = "".join(loaded.alphabet[code] for code in loaded.train[:40])
    assert words == "The book of the generation of Jesus Chri"


def test_windows():
    codes = np.arange(1000, dtype=np.int32)
    windows = data.spread_windows(codes, 10, 99)
    assert windows.shape == (99, 11)
    predicted = windows[:, 1:].ravel()
    assert len(set(predicted)) == len(predicted)
    assert windows[0, 0] == 0 and windows[-1, -1] == 999
    with pytest.raises(ValueError, match="100 windows of 10 do not fit"):
        data.spread_windows(codes, 10, 100)
    first, again, other = (
        data.random_windows(codes, 10, 4, 1, step) for step in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_bigram_entropy():
    # a is followed by b 200 times of 200, b by a 199 times of 199.
    codes = np.tile(np.array([0, 1], np.int32), 200)
    alternating = data.Text("ab", codes, codes)
    entropy = data.bigram_entropy(alternating, codes[:2], codes[1:3])
    want = -(np.log(201 / 202) + np.log(200 / 201)) / 2
    assert entropy == pytest.approx(want)


@pytest.mark.parametrize("name, phase", PHASES)
def test_nothing_looks_ahead(name, phase):
    layer = forward_layer(name, phase)
    task = Text(text(), SMALL)
    model = Model(task, ROUTERS[name], layer, layer)
    w = initial_weights(task, ROUTERS[name], 1, np.float32)
    rng = np.random.default_rng(2)
    codes = rng.integers(0, SMALL.classes, (3, SMALL.length))
    random = (7, 1000) if phase else None
    before = model.forward(w, codes, random).logits
    for place in (1, 5, SMALL.length - 1):
        changed = codes.copy()
        changed[1, place] = (changed[1, place] + 11) % SMALL.classes
        after = model.forward(w, changed, random).logits
        same = np.ones(codes.shape, bool)
        same[1, place:] = False
        np.testing.assert_array_equal(after[same], before[same])
        assert (after[1, place:] != before[1, place:]).any(axis=-1).all()


# ProbMoE's gradient is not that of its forward: the next test has it.
@pytest.mark.parametrize(
    "name", ["top_k", "moesart", "similarity", "attention"]
)
def test_backward_is_the_slope(name):
    sizes = Sizes(width=8, blocks=2, experts=4, inter=3, length=6, batch=2)
    task = Text(text(), sizes)
    model = training.make_model(task, ROUTERS[name], "float64")
    w = initial_weights(task, ROUTERS[name], 1, np.float64)
    rng = np.random.default_rng(3)
    windows = rng.integers(0, 20, (sizes.batch, sizes.length + 1))
    batch, random = Batch(windows[:, :-1], windows[:, 1:]), (1, 0)

    def loss():
        output = model.forward(w, batch.inputs, random)
        nats, _ = parts.cross_entropy(output.logits, batch.targets)
        return nats.mean() + output.aux

    _, _, gradients = model.loss_and_gradients(w, batch, random)
    # The characters that are read are below 20.
    check_slopes(w, gradients, loss, rng, {"embed": 20 * sizes.width})


@pytest.mark.parametrize("kind", ["float32", "compiled"])
def test_losses_are_those_of_f64(kind):
    task = Text(text(), SMALL)
    model = training.make_model(task, ROUTERS["attention"], kind)
    worst, _, choices = training.judge(model, 100, seed=1)
    assert choices == 100 * 2 * 32
    assert worst <= 1e-4


@pytest.mark.parametrize("layer", ["reference", "compiled"])
def test_quick_run(layer, tmp_path):
    told = run_quickly("charlm", tmp_path, "--layer", layer)
    assert "| top_k | " in told
    assert "ok   top_k: 30 losses differ by" in told
