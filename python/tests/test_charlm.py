# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""examples/charlm: its layers, its hand-written backward, its causality."""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from charlm import (  # noqa: E402
    compiled,
    data,
    parts,
    reference_routers,
    report,
    training,
)
from charlm.layers import ROUTERS, Sizes  # noqa: E402
from charlm.measures import NOISE_LEVELS, Result  # noqa: E402
from charlm.model import Model, initial_weights  # noqa: E402
from charlm.reference import ReferenceLayer  # noqa: E402

SMALL = Sizes(width=16, inter=8, length=16, batch=2)
NAMES = list(ROUTERS)
PHASES = [(name, phase) for name in NAMES for phase in (True, False)]
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
        "router": normal(e, d, scale=d**-0.5),
        "gate_up": normal(e, 2 * i, d, scale=d**-0.5),
        "down": normal(e, d, i, scale=i**-0.5),
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


def text():
    return data.load()


# ---------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------


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
    entropy = data.bigram_entropy(alternating, codes[None, :3])
    want = -(np.log(201 / 202) + np.log(200 / 201)) / 2
    assert entropy == pytest.approx(want)


# ---------------------------------------------------------------------------
# Compiled layers
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("name, phase", PHASES)
def test_layer_is_the_reference(name, phase):
    arrays = draw_arrays(name, phase)
    got, _ = forward_layer(name, phase).forward(**arrays)
    judge = ReferenceLayer(ROUTERS[name], SMALL, phase, np.float64)
    want, _ = judge.forward(**exact(arrays))
    assert set(got) == set(want)
    for key, value in want.items():
        assert_near(got[key], value)
    if not phase and name == "dynamic_k":
        assert (got["ids"] < 0).any() and (got["ids"][:, 1] >= 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_the_reference_s(name):
    router = ROUTERS[name]
    arrays = draw_arrays(name, True)
    layer = compiled.compile_training(router, SMALL, threads=2)
    judge = ReferenceLayer(router, SMALL, True, np.float64)
    got, saved = layer.forward(**arrays)
    want, wanted_saved = judge.forward(**exact(arrays))
    cotangents = {"d_y": draw_arrays(name, True, seed=2)["x"]}
    for loss in router.losses:
        cotangents[f"d_{loss}"] = np.array(3.0, np.float32)
    assert set(got) == set(want)
    for key, value in want.items():
        assert_near(got[key], value)
    gradients = layer.backward(saved, **cotangents)
    wanted = judge.backward(wanted_saved, **exact(cotangents))
    assert set(gradients) == {f"d_{key}" for key in router.learned()}
    assert set(wanted) == set(gradients)
    for key, value in wanted.items():
        assert_near(gradients[key], value)


@pytest.mark.parametrize("name, phase", PHASES)
def test_nothing_looks_ahead(name, phase):
    layer = forward_layer(name, phase)
    model = Model(ROUTERS[name], SMALL, layer, layer)
    w = initial_weights(SMALL, 1, np.float32)
    rng = np.random.default_rng(2)
    codes = rng.integers(0, SMALL.vocab, (3, SMALL.length))
    random = (7, 1000) if phase else None
    before = model.forward(w, codes, random).logits
    for place in (1, 5, SMALL.length - 1):
        changed = codes.copy()
        changed[1, place] = (changed[1, place] + 11) % SMALL.vocab
        after = model.forward(w, changed, random).logits
        same = np.ones(codes.shape, bool)
        same[1, place:] = False
        np.testing.assert_array_equal(after[same], before[same])
        assert (after[1, place:] != before[1, place:]).any(axis=-1).all()


@pytest.mark.parametrize("name", ["similarity", "attention"])
def test_packed_sequences_are_separate_ones(name):
    layer = forward_layer(name, False)
    arrays = draw_arrays(name, False)
    packed, _ = layer.forward(**arrays)
    for start, end in zip(arrays["groups"], arrays["groups"][1:]):
        part = dict(arrays)
        for key in {"x", "query", "key"} & set(arrays):
            part[key] = arrays[key][start:end]
        part["groups"] = np.array([0, end - start], np.int32)
        alone, _ = layer.forward(**part)
        for key in packed:
            np.testing.assert_array_equal(packed[key][start:end], alone[key])


# ---------------------------------------------------------------------------
# The hand-written backward
# ---------------------------------------------------------------------------


# ProbMoE's gradient is not that of its forward: the next test has it.
@pytest.mark.parametrize(
    "name", ["top_k", "moesart", "similarity", "attention"]
)
def test_backward_is_the_slope(name):
    sizes = Sizes(width=8, blocks=2, experts=4, inter=3, length=6, batch=2)
    model = training.make_model(ROUTERS[name], sizes, "float64")
    w = initial_weights(sizes, 1, np.float64)
    rng = np.random.default_rng(3)
    windows = rng.integers(0, 20, (sizes.batch, sizes.length + 1))
    random = (1, 0)

    def loss():
        output = model.forward(w, windows[:, :-1], random)
        nats, _ = parts.cross_entropy(output.logits, windows[:, 1:])
        return nats.mean() + output.aux

    _, _, gradients = model.loss_and_gradients(w, windows, random)
    step = 1e-6
    for key in w.shapes:
        flat, slopes = w[key].reshape(-1), gradients[key].reshape(-1)
        # The characters that are read are below 20.
        most = 20 * sizes.width if key == "embed" else flat.size
        for at in rng.integers(0, most, 4):
            kept, sides = flat[at], []
            for side in (step, -step):
                flat[at] = kept + side
                sides.append(loss())
            flat[at] = kept
            slope = (sides[0] - sides[1]) / (2 * step)
            assert abs(slope - slopes[at]) <= 1e-6 * np.abs(slopes).max()


@pytest.mark.parametrize("low", [1, 2])
def test_straight_through_gradient(low):
    rng = np.random.default_rng(4)
    logits, c = rng.standard_normal((9, 5)), rng.standard_normal((9, 2))
    random = np.array([3, 0, 0])
    routing = reference_routers.subset_router(logits, low, 2, random)
    sets = reference_routers.all_subsets(5, low, 2)

    def marginals(r):
        return reference_routers.softmax(r @ sets.T) @ sets

    fixed = marginals(logits)

    def surrogate(r):
        """sum of c (m + constant) pi over the sample, the constant 1 - m."""
        weights = (1.0 + marginals(r) - fixed) * reference_routers.softmax(r)
        return (c * reference_routers.gather(weights, routing.ids)).sum()

    got = routing.pull(c, 0.0)["logits"]
    for at in np.ndindex(logits.shape):
        side = np.zeros(logits.shape)
        side[at] = 1e-6
        slope = surrogate(logits + side) - surrogate(logits - side)
        assert slope / 2e-6 == pytest.approx(got[at], abs=1e-8)


def test_samples_have_the_law():
    logits = np.tile([0.3, -1.0, 0.9, 0.0], (40_000, 1))
    random = np.array([5, 0, 0])
    routing = reference_routers.subset_router(logits, 1, 2, random)
    sets = reference_routers.all_subsets(4, 1, 2)
    drawn = reference_routers.scatter(
        routing.ids, np.ones(routing.ids.shape), 4
    )
    law = reference_routers.softmax(logits[0] @ sets.T)
    counted = (drawn[:, None] == sets).all(axis=2).mean(axis=0)
    assert counted.sum() == 1.0
    # Five standard deviations of a count.
    assert np.abs(counted - law).max() < 5 * (0.25 / len(logits)) ** 0.5


# ---------------------------------------------------------------------------
# Training and report
# ---------------------------------------------------------------------------


def test_a_choice_that_is_given_counts_in_ties_alone():
    logits = np.array([[1.0, 2.0, 1.0 - 1e-8], [1.0, 2.0, 0.9]])
    given = np.array([[1, 2], [1, 2]])
    routing = reference_routers.top_k(logits, 2, 0.0, given)
    np.testing.assert_array_equal(routing.ids, [[1, 2], [1, 0]])
    assert routing.ties == 1


@pytest.mark.parametrize("kind", ["float32", "compiled"])
def test_losses_are_those_of_f64(kind):
    model = training.make_model(ROUTERS["attention"], SMALL, kind)
    worst, _, choices = training.judge(model, text().train, 100, seed=1)
    assert choices == 100 * 2 * 32
    assert worst <= 1e-4


def results(loss, seeds=2):
    """Runs of one model, of the same windows, all numbers alike."""
    windows = np.linspace(-0.1, 0.1, 50)

    def run(seed):
        numbers = loss + windows + 0.001 * seed
        return Result(
            "top_k", seed, 1.0, [3.0, 2.0], numbers, numbers, numbers,
            numbers, numbers, {n: numbers for n in NOISE_LEVELS}, 1.0, 3.0,
        )  # fmt: skip

    return [run(seed) for seed in range(seeds)]


@pytest.mark.parametrize(
    "loss, sign, word",
    [
        (1.5, -1, "**holds**"),
        (2.5, -1, "**does not hold, it is the other way round**"),
        (1.999, -1, "**not decided**"),
        (2.5, 1, "**holds**"),
        (2.001, 0, "**holds**"),
        (2.5, 0, "**does not hold**"),
    ],
)
def test_verdicts_follow_the_numbers(loss, sign, word):
    claim = report.Claim("P", "text", "ours", "theirs", report.nats, sign)
    both = {"ours": results(loss), "theirs": results(2.0)}
    assert word in report.verdict(claim, both)


def test_a_difference_within_the_scatter_of_seeds_does_not_count():
    claim = report.Claim("P", "text", "ours", "theirs", report.nats, -1)
    both = {"ours": results(1.9), "theirs": results(2.0)}
    assert "**holds**" in report.verdict(claim, both)
    both["theirs"][1].nats -= 0.2
    assert "**not decided**" in report.verdict(claim, both)


@pytest.mark.parametrize("layer", ["reference", "compiled"])
def test_quick_run(layer, tmp_path):
    command = [sys.executable, str(EXAMPLES / "charlm" / "train.py")]
    command += ["--quick", "--layer", layer, "--out", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| top_k | " in done.stdout
    assert "ok   top_k: 30 losses differ by" in done.stdout
    assert "| top_k | " in (tmp_path / "report.md").read_text()
    assert (tmp_path / "plot.svg").read_text().endswith("</svg>\n")
