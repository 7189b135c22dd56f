# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the examples that train share: layers, their judge, verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import (
    SMALL,
    assert_near,
    draw_arrays,
    exact,
    forward_layer,
)

from common import claims, compiled, reference_routers  # noqa: E402
from common.claims import Claim  # noqa: E402
from common.layers import GLOBAL, ROUTERS  # noqa: E402
from common.measures import NOISE_LEVELS, Result, meeting  # noqa: E402
from common.reference import ReferenceLayer  # noqa: E402
from common.reference_groups import expert_choice  # noqa: E402

NAMES = list(ROUTERS)
PHASES = [(name, phase) for name in NAMES for phase in (True, False)]


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


LOOKING_ROUND = ["similarity", "attention", *(r.name for r in GLOBAL)]


@pytest.mark.parametrize("name", LOOKING_ROUND)
def test_packed_sequences_are_separate_ones(name):
    layer = forward_layer(name, False)
    arrays = draw_arrays(name, False)
    packed, _ = layer.forward(**arrays)
    rows = packed["y"].shape[0] // SMALL.length
    taken = ROUTERS[name].sequence_slots(SMALL) // SMALL.experts
    for at in range(rows):
        start, end = arrays["groups"][at : at + 2]
        part = dict(arrays)
        for key in {"x", "query", "key"} & set(arrays):
            part[key] = arrays[key][start:end]
        part["groups"] = np.array([0, end - start], np.int32)
        alone, _ = layer.forward(**part)
        for key, value in packed.items():
            own = value[start:end]
            if key == "ids" and ROUTERS[name].chooser == "experts":
                own = value[:, at * taken : (at + 1) * taken] - start
            np.testing.assert_array_equal(own, alone[key])


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


def test_a_choice_that_is_given_counts_in_ties_alone():
    logits = np.array([[1.0, 2.0, 1.0 - 1e-8], [1.0, 2.0, 0.9]])
    given = np.array([[1, 2], [1, 2]])
    routing = reference_routers.top_k(logits, 2, 0.0, given)
    np.testing.assert_array_equal(routing.ids, [[1, 2], [1, 0]])
    assert routing.ties == 1


def test_a_token_that_is_given_counts_in_ties_alone():
    near = np.array([[0.0, 0.0], [1.0, 0.0], [1.0 - 1e-8, 0.0], [0.0, 0.9]])
    given = np.array([[2], [3]])
    routing = expert_choice(near, 1, 1, np.repeat(given, 2, axis=1))
    assert routing.ties == 0  # Two tokens each, and no tie at the second.
    logits = np.array([[1.0, 0.0], [1.0 - 1e-8, 0.0]])
    routing = expert_choice(logits, 1, 1, np.array([[1], [0]]))
    np.testing.assert_array_equal(routing.taken, [[1], [0]])
    assert routing.ties == 2


def test_how_tokens_and_experts_met():
    scores = np.full((3, 2), 0.5)
    met = meeting(
        ROUTERS["dynamic_k"], 2,
        {"ids": np.array([[0, -1], [1, 0], [-1, -1]]), "scores": scores},
    )  # fmt: skip
    assert met.taken.tolist() == [[1, 0], [1, 1], [0, 0]]
    assert met.loads.tolist() == [2.0, 1.0]
    ids = np.array([[0, 2], [2, 1]])
    met = meeting(ROUTERS["expert_choice"], 2, {"ids": ids, "scores": scores})
    assert met.taken.tolist() == [[1, 0], [0, 1], [1, 1]]
    combine = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.0, 1.0]])
    met = meeting(ROUTERS["soft"], 2, {"combine": combine})
    np.testing.assert_allclose(met.scores, [[0.3, 0.7], [0.0, 1.0]])
    np.testing.assert_allclose(met.loads, [0.3, 1.7])
    assert met.taken.all()


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
    claim = Claim("P", "text", "ours", "theirs", claims.nats, sign)
    both = {"ours": results(loss), "theirs": results(2.0)}
    assert word in claims.verdict(claim, both)


def test_a_difference_within_the_scatter_of_seeds_does_not_count():
    claim = Claim("P", "text", "ours", "theirs", claims.nats, -1)
    both = {"ours": results(1.9), "theirs": results(2.0)}
    assert "**holds**" in claims.verdict(claim, both)
    both["theirs"][1].nats -= 0.2
    assert "**not decided**" in claims.verdict(claim, both)
