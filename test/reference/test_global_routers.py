# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""global_routers.py against worked numbers, optimality and packing."""

from __future__ import annotations

import itertools
import math
from typing import Callable

import numpy as np
import pytest

import global_routers as routers
from checking import differences, near
from losses import row_entropy
from token_routers import softmax

LOGITS = np.array([[2, 1, 0], [1, 0.5, 0], [1.5, 0, 1], [0, 0, 1]])

# Three tokens in two dimensions, two slots; experts 2 x and -x.
X = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 0.5]])
PHI = np.array([[1.0, 0.5], [0.0, -1.0]])
D_Y = np.array([[0.3, -0.2], [0.7, 0.1], [-0.5, 0.4]])


def two_experts(slots: np.ndarray) -> np.ndarray:
    """Slot 0 times 2, slot 1 times -1; linear, so its own backward."""
    return slots * np.array([2.0, -1.0])[None, :, None]


# Soft MoE.


def test_soft_moe_example():
    logits = routers.soft_logits(X, PHI, 2.0)
    near(
        logits,
        [[0.894427, -1.199999], [1.897366, 1.414213], [0.0, -1.788850]],
    )
    dispatch, combine = routers.soft_route(logits)
    near(
        dispatch,
        [[0.241831, 0.065740], [0.659299, 0.897776], [0.098871, 0.036483]],
    )
    near(
        combine,
        [[0.890360, 0.109640], [0.618492, 0.381508], [0.856786, 0.143214]],
    )
    slots = routers.soft_inputs(X, dispatch)
    near(slots, [[[2.219727, -0.126202], [2.759070, -0.748055]]])
    outputs = two_experts(slots)
    y = routers.soft_outputs(outputs, combine)
    near(
        y,
        [[3.650210, -0.142714], [1.693160, 0.129279], [3.408526, -0.109125]],
    )
    gradient = routers.soft_backward(X, PHI, 2.0, outputs, D_Y, two_experts)
    near(
        gradient.x,
        [[0.194168, 0.065819], [0.397532, 0.965623], [-1.369368, 0.042098]],
    )
    near(gradient.phi, [[0.000003, -1.268393], [-1.370635, -0.634195]])
    near(gradient.scale, 0.085289)


def soft_layer(
    x: np.ndarray,
    phi: np.ndarray,
    scale: float,
    offsets: np.ndarray | None,
    mask: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """y and the slot outputs of the two experts."""
    logits = routers.soft_logits(x, phi, scale)
    dispatch, combine = routers.soft_route(logits, offsets, mask)
    slots = two_experts(routers.soft_inputs(x, dispatch, offsets))
    return routers.soft_outputs(slots, combine, offsets), slots


@pytest.mark.parametrize("masked", [False, True])
def test_soft_moe_gradient(masked):
    rng = np.random.default_rng(2)
    x, phi = rng.standard_normal((6, 3)), rng.standard_normal((3, 2))
    d_y = rng.standard_normal((6, 3))
    offsets = np.array([0, 4, 6])
    mask = np.array([1, 0, 1, 1, 1, 1], bool) if masked else None

    def loss(a: np.ndarray, b: np.ndarray, s: float) -> float:
        return float(np.sum(d_y * soft_layer(a, b, s, offsets, mask)[0]))

    outputs = soft_layer(x, phi, 1.3, offsets, mask)[1]
    ours = routers.soft_backward(
        x, phi, 1.3, outputs, d_y, two_experts, offsets, mask
    )
    numeric = differences(lambda at: loss(at, phi, 1.3), x)
    np.testing.assert_allclose(ours.x, numeric, atol=1e-8)
    numeric = differences(lambda at: loss(x, at, 1.3), phi)
    np.testing.assert_allclose(ours.phi, numeric, atol=1e-8)
    numeric = differences(lambda at: loss(x, phi, float(at)), np.array(1.3))
    np.testing.assert_allclose(ours.scale, numeric, atol=1e-8)


def test_soft_moe_sums_groups_and_masks():
    rng = np.random.default_rng(3)
    logits = 3.0 * rng.standard_normal((7, 6))
    offsets = np.array([0, 3, 3, 7])
    dispatch, combine = routers.soft_route(logits, offsets)
    np.testing.assert_allclose(combine.sum(axis=1), 1.0)
    for low, high in ((0, 3), (3, 7)):
        np.testing.assert_allclose(dispatch[low:high].sum(axis=0), 1.0)
        alone = routers.soft_route(logits[low:high])
        assert np.array_equal(alone[0], dispatch[low:high])
        assert np.array_equal(alone[1], combine[low:high])
    slots = routers.soft_inputs(logits, dispatch, offsets)
    assert slots.shape == (3, 6, 6) and not slots[1].any()
    mask = np.array([1, 0, 1, 0, 0, 0, 0], bool)
    dispatch, combine = routers.soft_route(logits, offsets, mask)
    alone = routers.soft_route(logits[[0, 2]])
    assert np.array_equal(dispatch[[0, 2]], alone[0])
    assert np.array_equal(combine[[0, 2]], alone[1])
    assert not dispatch[~mask].any() and not combine[~mask].any()


# Expert choice, plain and capped.

CHOICE = np.array(
    [
        [2, 0, 0],
        [1.5, 0.5, 0],
        [0, 1, 0.5],
        [0.2, 0.1, 0],
        [0, 0, 1],
        [1, 1, 0],
    ]
)


def test_expert_choice_backward_example():
    ids = np.array([[0, 1], [2, 5], [4, 2]], dtype=np.int32)
    cotangents = np.array([[0.0, 0.0], [0.4, 0.0], [0.0, -0.3]])
    gradient = routers.expert_choice_backward(CHOICE, ids, cotangents)
    near(gradient[2], [-0.020576, 0.146660, -0.126083])
    assert not np.delete(gradient, 2, axis=0).any()


def test_capped_example():
    out = routers.capped_expert_choice(CHOICE, [2], 1.0, 0.1, 2000)
    np.testing.assert_allclose(
        out.assignment.T,
        [
            [0.9780, 0.8161, 0.0049, 0.0790, 0.0019, 0.1201],
            [0.0069, 0.0976, 0.7659, 0.3542, 0.0118, 0.7637],
            [0.0151, 0.0863, 0.2292, 0.5668, 0.9864, 0.1162],
        ],
        atol=6e-5,
    )
    # Token 3 replaces token 2 at expert 2: nobody is taken twice.
    assert out.ids.tolist() == [[0, 1], [2, 5], [4, 3]]
    near(out.weights[0], [0.786986, 0.628532])
    by_assignment = routers.capped_expert_choice(
        CHOICE, [2], 1.0, 0.1, 2000, "assignment"
    )
    assert by_assignment.weights[2, 0] == out.assignment[4, 2]
    # A cap that never binds leaves plain expert choice.
    loose = routers.capped_expert_choice(CHOICE, [2], 3.0, 0.1, 200)
    assert loose.ids.tolist() == [[0, 1], [2, 5], [4, 2]]


def objective(scores: np.ndarray, a: np.ndarray, strength: float) -> float:
    """<scores, A> + strength * entropy(A), 0 log 0 = 0."""
    logs = np.where(a > 0.0, np.log(np.maximum(a, 1e-300)), 0.0)
    return float(np.sum(scores * a) - strength * np.sum(a * logs))


@pytest.mark.parametrize("k, cap", [(2, 1.0), (3, 1.6), (4, 2.2)])
def test_capped_assignment_is_the_optimum(k, cap):
    rng = np.random.default_rng(int(10 * cap))
    scores = softmax(2.0 * rng.standard_normal((8, 4)))
    strength = 0.05
    a = routers.capped_assignment(scores, k, cap, strength, 6000)
    np.testing.assert_allclose(a.sum(axis=1), k, atol=1e-8)
    assert np.all(a.sum(axis=0) < cap + 1e-8) and np.all(a < 1.0 + 1e-8)
    assert np.any(a.sum(axis=0) > cap - 1e-6)  # the cap does bind
    # A concave problem: no feasible direction may improve. Exchanges move
    # mass around a rectangle (two experts, two tokens) or along a row.
    here = objective(scores.T, a, strength)
    step = 1e-5
    better = 0
    for e in range(4):
        for t, u in itertools.permutations(range(8), 2):
            moved = a.copy()
            moved[e, t] -= step
            moved[e, u] += step
            if feasible(moved, cap):
                better += objective(scores.T, moved, strength) > here + 1e-9
            for f in set(range(4)) - {e}:
                again = moved.copy()
                again[f, u] -= step
                again[f, t] += step
                if feasible(again, cap):
                    value = objective(scores.T, again, strength)
                    better += value > here + 1e-9
    assert better == 0


def feasible(a: np.ndarray, cap: float) -> bool:
    """Within the column caps and the unit interval."""
    inside = np.all(a >= 0.0) and np.all(a <= 1.0 + 1e-8)
    return bool(inside and np.all(a.sum(axis=0) <= cap + 1e-8))


def test_capped_groups_and_masks():
    rng = np.random.default_rng(4)
    logits = rng.standard_normal((11, 3))
    offsets = np.array([0, 6, 6, 11])
    mask = np.ones(11, bool)
    mask[[1, 8]] = False
    options = {"cap": 2.0, "strength": 0.05, "sweeps": 300}
    packed = routers.capped_expert_choice(
        logits, [2, 0, 3], offsets=offsets, mask=mask, **options
    )
    assert packed.ids.shape == (3, 5)
    first = [0, 2, 3, 4, 5]
    alone = routers.capped_expert_choice(logits[first], [2], **options)
    assert packed.ids[:, :2].tolist() == [
        [first[at] for at in row] for row in alone.ids.tolist()
    ]
    assert np.array_equal(packed.weights[:, :2], alone.weights)
    second = [6, 7, 9, 10]
    alone = routers.capped_expert_choice(logits[second], [3], **options)
    assert packed.ids[:, 2:].tolist() == [
        [second[at] for at in row] for row in alone.ids.tolist()
    ]
    assert not packed.assignment[~mask].any()
    # More slots than live tokens: the rest stays empty.
    few = routers.capped_expert_choice(
        logits[:3], [3], 3.0, mask=np.array([True, False, True])
    )
    assert sorted(few.ids[0, :2].tolist()) == [0, 2]
    assert few.ids[:, 2].tolist() == [-1] * 3
    # In log space a tiny strength does not overflow.
    sharp = routers.capped_expert_choice(logits[:6], [2], 1.0, 1e-3, 100)
    assert np.isfinite(sharp.assignment).all()


# BASE and Sinkhorn.


def test_base_example():
    ids, weights = routers.base_route(LOGITS[:3], training=True)
    assert ids.ravel().tolist() == [0, 1, 2]
    near(LOGITS[np.arange(3), ids.ravel()].sum(), 3.5)
    near(weights.ravel(), 1.0 / (1.0 + np.exp([-2.0, -0.5, -1.0])))
    ids, _ = routers.base_route(LOGITS, training=False)
    assert ids.ravel().tolist() == [0, 0, 0, 2]


def test_balanced_assignment_against_enumeration():
    rng = np.random.default_rng(5)
    for tokens, experts in ((4, 4), (6, 3), (6, 2), (4, 1), (6, 6)):
        for _ in range(4):
            affinity = rng.standard_normal((tokens, experts))
            ids = routers.balanced_assignment(affinity)
            counts = np.bincount(ids, minlength=experts)
            assert counts.tolist() == [tokens // experts] * experts
            seats = np.repeat(np.arange(experts), tokens // experts)
            top = max(
                sum(affinity[t, e] for t, e in enumerate(order))
                for order in itertools.permutations(seats)
            )
            ours = affinity[np.arange(tokens), ids].sum()
            np.testing.assert_allclose(ours, top, atol=1e-12)
    with pytest.raises(ValueError):
        routers.balanced_assignment(np.zeros((5, 2)))


def test_sinkhorn_example():
    plan, rounds = routers.sinkhorn(LOGITS)
    assert rounds == 5
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 3, atol=1e-4)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 4, atol=1e-3)
    ids, weights = routers.sinkhorn_route(LOGITS, 1, training=True)
    assert ids.ravel().tolist() == [0, 1, 2, 2]
    near(weights.ravel(), [0.880797, 0.622459, 0.731059, 0.731059])
    ids, weights = routers.sinkhorn_route(LOGITS, 2, training=False)
    assert ids.tolist() == [[0, 1], [0, 1], [0, 2], [2, 0]]
    near(weights[0], [0.665241, 0.244728])


# Mixing.

U = np.array([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.5]])
W = np.array([[1.0, -0.5, 0.2], [0.3, 0.8, -0.4]])
HEADS = np.array(
    [
        [[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]],
        [[1, 0, 0], [0.9, 0.1, 0], [0.6, 0.2, 0.2]],
    ]
)


def test_similarity_example():
    similarity = routers.dot_similarity(U)
    near(
        similarity[0],
        [
            [0.511753, 0.418988, 0.069258],
            [0.400973, 0.489749, 0.109278],
            [0.082396, 0.135849, 0.781755],
        ],
    )
    probs = softmax(U @ W)
    near(
        probs,
        [
            [0.597922, 0.133414, 0.268664],
            [0.570442, 0.231925, 0.197633],
            [0.120150, 0.691417, 0.188433],
        ],
    )
    mixed = routers.mix(probs, similarity)
    near(
        mixed,
        [
            [0.553319, 0.213335, 0.233346],
            [0.532254, 0.242637, 0.225109],
            [0.220688, 0.583018, 0.196294],
        ],
    )
    logits = routers.mix(U @ W, similarity)
    near(softmax(logits)[0], [0.555951, 0.199769, 0.244280])
    before = [row_entropy(row) for row in probs]
    after = [row_entropy(row) for row in mixed]
    near(before, [0.929348, 0.979566, 0.824238])
    near(after, [0.996618, 1.014953, 0.967615])
    # Entropy is concave: mixing cannot lower its mixed average.
    assert np.all(np.array(after) >= similarity[0] @ before)
    causal = routers.mix(probs, HEADS, causal=True)
    near(causal[2], [0.423832, 0.353343, 0.222825])
    ids, weights = routers.mixed_top_k(mixed, 2)
    assert ids.tolist() == [[0, 2], [0, 1], [1, 0]]
    near(weights[0], [0.553319, 0.233346])
    _, scaled = routers.mixed_top_k(mixed, 2, normalize=True)
    near(scaled.sum(axis=1), 1.0)


def test_similarity_operands():
    rng = np.random.default_rng(6)
    u, w_s = rng.standard_normal((5, 3)), rng.standard_normal((3, 3))
    ours = routers.dot_similarity(u, 0.7, w_s)[0]
    for i in range(5):
        logits = [u[i] @ w_s @ u[j] / 0.7 for j in range(5)]
        np.testing.assert_allclose(ours[i], softmax(np.array(logits)))
    query, key = rng.standard_normal((2, 2, 5, 4))
    ours = routers.attention(query, key, causal=True)
    for head, i in itertools.product(range(2), range(5)):
        logits = [query[head, i] @ key[head, j] / 2.0 for j in range(i + 1)]
        np.testing.assert_allclose(
            ours[head, i, : i + 1], softmax(np.array(logits))
        )
        assert not ours[head, i, i + 1 :].any()


def test_heads():
    probs = softmax(U @ W)
    even = routers.mix(probs, HEADS, np.full((3, 2), 0.5))
    np.testing.assert_allclose(even, routers.mix(probs, HEADS))
    posterior = np.array([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75]])
    ours = routers.mix(probs, HEADS, posterior)
    expected = np.stack(
        [
            HEADS[0, 0] @ probs,
            HEADS[1, 1] @ probs,
            0.25 * HEADS[0, 2] @ probs + 0.75 * HEADS[1, 2] @ probs,
        ]
    )
    np.testing.assert_allclose(ours, expected)


def test_a_given_matrix_is_cut_but_not_rescaled():
    matrix = np.full((1, 4, 4), 0.25)
    values = np.ones((4, 1))
    causal = routers.mix(values, matrix, causal=True)
    assert causal.ravel().tolist() == [0.25, 0.5, 0.75, 1.0]
    groups = routers.mix(values, matrix, offsets=np.array([0, 1, 4]))
    assert groups.ravel().tolist() == [0.25, 0.75, 0.75, 0.75]
    mask = np.array([True, True, False, True])
    masked = routers.mix(values, matrix, mask=mask)
    assert masked.ravel().tolist() == [0.75, 0.75, 0.0, 0.75]
    # What is cut may even be NaN.
    matrix[0, :, 2] = math.nan
    values[2] = math.nan
    masked = routers.mix(values, matrix, mask=mask)
    assert masked.ravel().tolist() == [0.75, 0.75, 0.0, 0.75]


Mixer = Callable[..., np.ndarray]


def mixers() -> list[Mixer]:
    """Mixed probabilities of operands u [T, 3], by similarity, attention."""
    rng = np.random.default_rng(7)
    gate, first, second = rng.standard_normal((3, 3, 4))

    def similar(u: np.ndarray, **options) -> np.ndarray:
        matrix = routers.dot_similarity(u, 0.5, **options)
        return routers.mix(softmax(u @ gate), matrix, **options)

    def attentive(u: np.ndarray, **options) -> np.ndarray:
        query = np.stack([u @ first, u @ second])
        key = np.stack([u @ second, u @ gate])
        matrix = routers.attention(query, key, **options)
        return routers.mix(softmax(u @ gate), matrix, **options)

    return [similar, attentive]


@pytest.mark.parametrize("mixer", mixers(), ids=["similar", "attentive"])
def test_packing_masking_and_causality(mixer):
    rng = np.random.default_rng(8)
    u = rng.standard_normal((9, 3))
    offsets = np.array([0, 4, 4, 9])
    for causal in (False, True):
        packed = mixer(u, causal=causal, offsets=offsets)
        np.testing.assert_allclose(packed.sum(axis=1), 1.0)
        for low, high in ((0, 4), (4, 9)):
            alone = mixer(u[low:high], causal=causal)
            np.testing.assert_allclose(packed[low:high], alone, rtol=1e-14)
        mask = np.ones(9, bool)
        mask[[1, 6]] = False
        masked = mixer(u, causal=causal, mask=mask)
        np.testing.assert_allclose(
            masked[mask], mixer(u[mask], causal=causal), rtol=1e-14
        )
        assert not masked[~mask].any()
    # Causal: a change at token 5 reaches tokens 5.. only.
    moved = u.copy()
    moved[5] += 1.0
    change = np.abs(mixer(moved, causal=True) - mixer(u, causal=True))
    assert not change[:5].any() and np.all(change[5:].max(axis=1) > 0.0)
    change = np.abs(mixer(moved) - mixer(u))
    assert np.all(change.max(axis=1) > 0.0)


def test_mix_gradient():
    rng = np.random.default_rng(9)
    values, c = rng.standard_normal((2, 5, 3))
    matrices = rng.standard_normal((2, 5, 5))
    heads = rng.standard_normal((5, 2))
    options = {
        "causal": True,
        "offsets": np.array([0, 2, 5]),
        "mask": np.array([1, 1, 1, 0, 1], bool),
    }

    def loss(v: np.ndarray, a: np.ndarray, p: np.ndarray) -> float:
        return float(np.sum(c * routers.mix(v, a, p, **options)))

    ours = routers.mix_backward(values, matrices, c, heads, **options)
    numeric = differences(lambda at: loss(at, matrices, heads), values)
    np.testing.assert_allclose(ours.values, numeric, atol=1e-8)
    numeric = differences(lambda at: loss(values, at, heads), matrices)
    np.testing.assert_allclose(ours.matrices, numeric, atol=1e-8)
    numeric = differences(lambda at: loss(values, matrices, at), heads)
    np.testing.assert_allclose(ours.heads, numeric, atol=1e-8)
    # Through the similarity's softmax, to its logits.
    u = rng.standard_normal((5, 3))

    def through(s: np.ndarray) -> float:
        probs = routers.masked_softmax(s, **options)[None]
        return float(np.sum(c * routers.mix(values, probs, **options)))

    scores = u @ u.T
    probs = routers.masked_softmax(scores, **options)
    d_probs = routers.mix_backward(values, probs[None], c, **options)
    ours = routers.masked_softmax_backward(probs, d_probs.matrices[0])
    np.testing.assert_allclose(
        ours, differences(through, scores), atol=1e-8
    )


# DeepSeek's selection bias.


def test_bias_update():
    bias = np.array([0.3, -0.4, 0.2, 0.0])
    out = routers.update_bias(bias, np.array([5, 1, 3, 3]), 0.01)
    near(out, [0.29, -0.39, 0.2, 0.0])
    out = routers.update_bias(np.zeros(4), np.array([2, 2, 2, 3]))
    near(out, [0.001, 0.001, 0.001, -0.001])
