# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The reference against numbers and formulations that are not its own."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

import compare
import dense
import draw
import reference
import routing
from families import CASES
from random_specs import random_inputs, random_spec
from spec import LayerSpec

F64 = {
    "x_dtype": "f64",
    "router_dtype": "f64",
    "weight_dtype": "f64",
    "logit_dtype": "f64",
    "score_dtype": "f64",
    "route_dtype": "f64",
}

# Four tokens on three experts; softmax rows below it.
COMMON = [[2.0, 1.0, 0.0], [1.0, 0.5, 0.0], [1.5, 0.0, 1.0], [0.0, 0.0, 1.0]]
COMMON_SOFTMAX = [
    [0.665241, 0.244728, 0.090031],
    [0.506480, 0.307196, 0.186324],
    [0.546549, 0.121952, 0.331499],
    [0.211942, 0.211942, 0.576117],
]


def routed(logits: Any, rounding: bool = True, **keys: Any) -> routing.Routing:
    """Routes rows of logits [T, E]: they are x, the router is the identity."""
    x = np.array(logits, dtype=np.float64)
    width = x.shape[1]
    extra = {}
    if len(x) == 1 and not np.isfinite(x).all():
        # 0 * NaN would spread over the row; a bias stays in its column.
        extra["router_bias"], x = x[0], np.zeros((1, width))
        keys["router_bias"] = True
    if "selection_bias" in keys:
        extra["selection_bias"] = keys.pop("selection_bias")
    if "scales" in keys:
        extra["expert_scale"] = keys.pop("scales")
    zero = keys.get("zero_experts", 0)
    spec = LayerSpec(
        **{**F64, "experts": width - zero, "hidden": width, **keys}
    )
    inputs = {"x": x, "router_weight": np.eye(width), **extra}
    return routing.route(spec, inputs, rounding)


# Worked numbers.


def test_two_orders_of_softmax_and_choice():
    row = [[1.2, 0.4, -0.3, -0.9]]
    plain = routed(row)
    np.testing.assert_allclose(
        plain.scores[0], [0.557129, 0.250334, 0.124312, 0.068224], atol=1e-6
    )
    assert plain.ids.tolist() == [[0, 1]]
    np.testing.assert_allclose(
        plain.weights[0], [0.557129, 0.250334], atol=1e-6
    )
    chosen_first = routed(row, score_domain="topk")
    renormalised = routed(row, normalize="sum")
    for out in (chosen_first, renormalised):
        assert out.ids.tolist() == [[0, 1]]
        np.testing.assert_allclose(
            out.weights[0], [0.689974, 0.310026], atol=1e-6
        )


def test_expert_choice_example():
    logits = [
        [2, 0, 0],
        [1.5, 0.5, 0],
        [0, 1, 0.5],
        [0.2, 0.1, 0],
        [0, 0, 1],
        [1, 1, 0],
    ]
    out = routed(logits, router="expert_choice", top_k=1)
    assert out.capacities == [2]
    assert out.ids.tolist() == [[0, 1], [2, 5], [4, 2]]
    np.testing.assert_allclose(
        out.weights,
        [[0.786986, 0.628532], [0.506480, 0.422319], [0.576117, 0.307196]],
        atol=1e-6,
    )
    np.testing.assert_allclose(
        out.scores[:, 0],
        [0.786986, 0.628532, 0.186324, 0.367165, 0.211942, 0.422319],
        atol=1e-6,
    )
    shared = routed(
        logits, router="expert_choice", top_k=1, choice_normalize=True
    )
    # Experts per token: [1, 1, 2, 0, 1, 1]; only token 2 is divided, by 2.
    np.testing.assert_allclose(
        shared.weights, out.weights / [[1, 1], [2, 1], [1, 2]]
    )


def test_expert_choice_over_tokens():
    out = routed(
        [[0.0, 1.0], [math.log(3.0), 1.0]],
        router="expert_choice",
        choice_axis="tokens",
        top_k=1,
        capacity_fixed=1,
    )
    assert out.ids.tolist() == [[1], [0]]
    np.testing.assert_allclose(out.weights, [[0.75], [0.5]])


def test_switch_drops_the_third_token():
    out = routed(COMMON, top_k=1, capacity="first_come", capacity_fixed=2)
    np.testing.assert_allclose(out.scores, COMMON_SOFTMAX, atol=1e-6)
    assert out.chosen_ids.ravel().tolist() == [0, 0, 0, 2]
    assert out.ids.ravel().tolist() == [0, 0, -1, 2]
    np.testing.assert_allclose(
        out.weights.ravel(), [0.665241, 0.506480, 0.0, 0.576117], atol=1e-6
    )


def test_gshard_second_choices_queue_behind_first():
    out = routed(
        COMMON,
        normalize="sum",
        eps=1e-9,
        capacity="first_come",
        capacity_fixed=2,
    )
    assert out.chosen_ids.tolist() == [[0, 1], [0, 1], [0, 2], [2, 0]]
    gates = np.array(
        [
            [0.731059, 0.268941],
            [0.622459, 0.377541],
            [0.622459, 0.377541],
            [0.731059, 0.268941],
        ]
    )
    np.testing.assert_allclose(out.chosen_weights, gates, atol=1e-6)
    # Dropped: token 2's first, token 3's second; the rest as it was.
    kept = np.array([[1, 1], [1, 1], [0, 1], [1, 0]])
    assert (out.ids >= 0).astype(int).tolist() == kept.tolist()
    np.testing.assert_allclose(out.weights, gates * kept, atol=1e-6)


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_batch_prioritised_positions(limit: int):
    # (token, slot): place in the queue of its expert.
    places = {
        (0, 0): 0,
        (3, 0): 0,
        (2, 0): 1,
        (1, 0): 2,
        (0, 1): 0,
        (3, 1): 3,
        (2, 1): 1,
        (1, 1): 1,
    }
    out = routed(COMMON, capacity="prioritized", capacity_fixed=limit)
    for (token, slot), place in places.items():
        assert (out.ids[token, slot] >= 0) == (place < limit)


def test_selection_bias_example():
    keys = {"score": "sigmoid", "normalize": "sum"}
    logits = [[0.5, 1.5, -0.5, 1.0]]
    bias = np.array([0.3, -0.4, 0.2, 0.0])
    out = routed(logits, select_bias=True, selection_bias=bias, **keys)
    np.testing.assert_allclose(
        out.scores[0], [0.622459, 0.817574, 0.377541, 0.731059], atol=1e-6
    )
    assert out.ids.tolist() == [[0, 3]]
    np.testing.assert_allclose(out.weights[0], [0.459883, 0.540117], atol=1e-6)
    assert routed(logits, **keys).ids.tolist() == [[1, 3]]


@pytest.mark.parametrize(
    ("keys", "tokens", "wanted"),
    [
        # Switch: max(4, int(T cf / E)).
        ({"capacity_factor": 1.25, "capacity_min": 4}, 100, 15),
        ({"capacity_factor": 1.25, "capacity_min": 4}, 16, 4),
        # NLLB: 2 ceil(T / E), as up to a multiple of 2.
        (
            {
                "capacity_factor": 2.0,
                "capacity_rounding": "ceil",
                "capacity_multiple": 2,
            },
            17,
            6,
        ),
        # V-MoE: ceil(cf T k / E) up to a multiple of 4.
        (
            {
                "capacity_factor": 1.5,
                "capacity_per": "slots",
                "capacity_rounding": "ceil",
                "capacity_multiple": 4,
            },
            23,
            12,
        ),
        ({"capacity_rounding": "nearest"}, 12, 2),
        ({"capacity_rounding": "nearest"}, 11, 1),
        ({"capacity_fixed": 64, "capacity_min": 99}, 8, 64),
        ({"capacity_min": 0}, 7, 0),
        ({}, 0, 1),
    ],
)
def test_capacity_rule(keys: dict[str, Any], tokens: int, wanted: int):
    spec = LayerSpec(experts=8, capacity="first_come", **keys)
    assert routing.capacity(spec, tokens) == wanted


def test_group_limit_by_hand():
    # Scores: groups {.9 .1}, {.6 .55}, {.7 .2}: best {0}, best pair {1}.
    scores = np.array([0.9, 0.1, 0.6, 0.55, 0.7, 0.2])
    logits = [np.log(scores / (1 - scores))]
    keys = {"score": "sigmoid", "groups": 3, "kept_groups": 1}
    best = routed(logits, group_score="max", **keys)
    assert best.ids.tolist() == [[0, 1]]
    pair = routed(logits, group_score="top2sum", **keys)
    assert pair.ids.tolist() == [[2, 3]]
    # With all biased scores negative, a dropped expert at zero wins.
    low = {"select_bias": True, "selection_bias": np.full(6, -2.0)}
    zero = routed(
        logits, group_score="top2sum", group_fill="zero", **low, **keys
    )
    assert zero.ids.tolist() == [[0, 1]]
    np.testing.assert_allclose(zero.weights, [[0.9, 0.1]])
    below = routed(logits, group_score="top2sum", **low, **keys)
    assert below.ids.tolist() == [[2, 3]]


def test_group_sums_are_sums_of_scores():
    """Best pairs by logits and by scores are different groups."""
    logits = [[3.0, -3.0, 1.4, 1.2]]
    keys = {"groups": 2, "kept_groups": 1, "group_score": "top2sum"}
    assert routed(logits, **keys).ids.tolist() == [[0, 1]]
    case = CASES["mistral4"]
    out = reference.run(case.spec, case.inputs())["routing"]
    by_logit = np.sort(out.logits.reshape(case.tokens, 4, 4), axis=2)
    kept = np.argsort(-by_logit[..., -2:].sum(-1), axis=1)[:, :2]
    groups = out.ids // 4
    outside = [set(groups[t]) - set(kept[t]) for t in range(case.tokens)]
    assert any(outside)


def test_normalisation_by_hand():
    row = [[3.0, 4.0, 0.0]]
    keys = {"score": "none", "top_k": 2}
    wanted = [
        ({"normalize": "sum"}, [4 / 7, 3 / 7]),
        ({"normalize": "sum", "eps": 1.0}, [4 / 8, 3 / 8]),
        ({"normalize": "sum", "eps": 8.0, "eps_mode": "clamp"}, [0.5, 0.375]),
        (
            {"normalize": "sum", "eps": 6.0, "eps_mode": "clamp"},
            [4 / 7, 3 / 7],
        ),
        ({"normalize": "pnorm", "norm_p": 2.0}, [0.8, 0.6]),
        ({"normalize": "sum", "scale": 7.0}, [4.0, 3.0]),
    ]
    for change, weights in wanted:
        out = routed(row, **keys, **change)
        np.testing.assert_allclose(out.weights[0], weights, rtol=1e-15)
    scaled = routed(
        row, **keys, expert_scale=True, scales=np.array([2.0, 3.0, 5.0])
    )
    assert scaled.weights.tolist() == [[12.0, 6.0]]


def test_score_functions_by_hand():
    values = np.array([0.0, math.log(3.0), -math.log(3.0)])
    np.testing.assert_allclose(
        routing.score_row("sigmoid", values), [0.5, 0.75, 0.25]
    )
    np.testing.assert_allclose(
        routing.score_row("sqrt_softplus", values) ** 2,
        np.log([2.0, 4.0, 4.0 / 3.0]),
    )
    np.testing.assert_allclose(
        routing.score_row("softmax", values), [3 / 13, 9 / 13, 1 / 13]
    )
    far = np.array([-1e4, 1e4])
    assert routing.score_row("sigmoid", far).tolist() == [0.0, 1.0]
    np.testing.assert_allclose(
        routing.score_row("sqrt_softplus", far), [0, 100]
    )


def test_activations_by_hand():
    one = {
        "silu": 0.7310585786300049,
        "gelu": 0.8413447460685429,
        "gelu_tanh": 0.8411919906082768,
        "relu": 1.0,
        "relu2": 1.0,
        "identity": 1.0,
    }
    for kind, value in one.items():
        assert reference.activate(kind, 1.0) == pytest.approx(value, rel=1e-15)
    assert reference.activate("relu2", -3.0) == 0.0
    assert reference.activate("relu2", 3.0) == 9.0
    clamp = LayerSpec(activation="identity", act_limit=2.0)
    # From above only on the gate, on both sides on the up value.
    assert reference.hidden_value(clamp, 5.0, 3.0) == 4.0
    assert reference.hidden_value(clamp, -5.0, -3.0) == 10.0
    oai = LayerSpec(act_style="oai", act_limit=7.0)
    wanted = 1.0 / (1.0 + math.exp(-1.702)) * 3.0
    assert reference.hidden_value(oai, 1.0, 2.0) == pytest.approx(wanted)
    assert reference.hidden_value(oai, 0.5, -1.0) == 0.0
    assert reference.hidden_value(oai, 9.0, -9.0) == pytest.approx(
        7.0 / (1.0 + math.exp(-1.702 * 7.0)) * -6.0
    )


def test_whole_layer_by_hand():
    spec = LayerSpec(
        **F64,
        experts=2,
        top_k=1,
        hidden=2,
        inter=1,
        shared_inter=1,
        shared_gate=True,
        output_scale=2.0,
        output_bias=True,
        activation="relu",
    )
    inputs = {
        "x": np.array([[1.0, 2.0]]),
        "router_weight": np.array([[0.0, 0.0], [0.0, math.log(2.0)]]),
        "gate_up": np.array(
            [[[9.0, 9.0], [9.0, 9.0]], [[3.0, 1.0], [0.0, 2.0]]]
        ),
        "down": np.array([[[9.0], [9.0]], [[1.0], [-1.0]]]),
        "shared_gate_up": np.array([[1.0, 0.0], [0.0, 0.5]]),
        "shared_down": np.array([[8.0], [0.0]]),
        "shared_gate": np.array([[0.0, 0.0]]),
        "output_bias": np.array([0.25, -0.25]),
    }
    # Logits 0 and 2 log 2: weight 4/5. Hidden (3+2)*4 = 20, rows 20 and -20,
    # so 2*16 and -2*16; shared 1*1*8/2 = 4; then the bias.
    out = reference.run(spec, inputs)
    np.testing.assert_allclose(out["y"], [[36.25, -32.25]])
    assert out["ids"].tolist() == [[1]]
    assert out["expert_loads"].tolist() == [0, 1]


def test_weight_on_input_by_hand():
    spec = LayerSpec(
        **F64,
        experts=1,
        top_k=1,
        hidden=1,
        inter=1,
        gated=False,
        activation="relu2",
        score="sigmoid",
        weight_site="input",
    )
    inputs = {
        "x": np.array([[3.0]]),
        "router_weight": np.array([[0.0]]),
        "gate_up": np.array([[[2.0]]]),
        "down": np.array([[[1.0]]]),
    }
    assert reference.run(spec, inputs)["y"].tolist() == [[9.0]]
    spec = dataclasses.replace(spec, weight_site="output")
    assert reference.run(spec, inputs)["y"].tolist() == [[18.0]]


# Ties, NaN, infinities.


def test_ties_take_the_lower_index():
    assert routed([[1.0, 2.0, 2.0, 1.0]], top_k=3).ids.tolist() == [[1, 2, 0]]
    assert routed([[-0.0, 0.0, -0.0]], top_k=2).ids.tolist() == [[0, 1]]
    bf16 = routed([[1.0, 1.0 + 2.0**-9]], top_k=1, logit_dtype="bf16")
    assert bf16.ids.tolist() == [[0]]
    exact = routed([[1.0, 1.0 + 2.0**-9]], False, top_k=1, logit_dtype="bf16")
    assert exact.ids.tolist() == [[1]]


def test_choice_compares_logits_where_scores_underflow():
    row = [[-200.0, -150.0, 0.0]]
    out = routed(row, score_dtype="f32", top_k=2)
    assert out.scores[0, :2].tolist() == [0.0, 0.0]
    assert out.ids.tolist() == [[2, 1]]


def test_nan_loses_to_everything():
    nan, inf = math.nan, math.inf
    row = np.array([nan, -inf, 1.0, nan, inf])
    assert routing.largest(row, 5) == [4, 2, 1, 0, 3]
    everywhere = routed([[nan] * 4], top_k=2)
    assert everywhere.ids.tolist() == [[0, 1]]
    assert np.isnan(everywhere.weights).all()
    one = routed([[1.0, nan, 3.0, 2.0]], top_k=2)
    assert one.ids.tolist() == [[2, 3]]
    assert np.isnan(one.weights).all()
    infinite = routed([[1.0, inf, -inf, 2.0]], score="sigmoid", top_k=4)
    assert infinite.ids.tolist() == [[1, 3, 0, 2]]
    assert infinite.weights[0, [0, 3]].tolist() == [1.0, 0.0]
    sigmoid = routed([[1.0, nan, 3.0, 2.0]], score="sigmoid", top_k=2)
    assert sigmoid.ids.tolist() == [[2, 3]]
    assert np.isfinite(sigmoid.weights).all()


def test_nan_row_stays_in_its_row():
    case = CASES["nan_row_sigmoid"]
    y = reference.run(case.spec, case.inputs())["y"]
    assert np.isnan(y[3]).all()
    assert np.isfinite(np.delete(y, 3, axis=0)).all()


# A second formulation.

FINITE = [
    name
    for name in CASES
    if not name.startswith(("nan_", "infinite_", "minus_infinite_"))
]


def agree(spec: LayerSpec, inputs: dict[str, np.ndarray]) -> None:
    """Both formulations, exactly evaluated, give the same layer."""
    out = reference.run(spec, inputs, rounding=False)
    second = dense.dense_run(spec, inputs)
    assert (
        compare.row_errors(second["y"], out["y"], out["magnitude"]).max(
            initial=0.0
        )
        < 1e-12
    )
    assert np.array_equal(second["expert_loads"], out["expert_loads"])


@pytest.mark.parametrize("name", FINITE)
def test_cases_by_dense_evaluation(name: str):
    case = CASES[name]
    agree(case.spec, case.inputs())


@pytest.mark.parametrize("block", range(10))
def test_random_layers_by_dense_evaluation(block: int):
    for seed in range(40 * block, 40 * block + 40):
        spec = random_spec(seed)
        agree(spec, random_inputs(spec, seed))


@pytest.mark.parametrize("block", range(5))
def test_f32_arithmetic_is_within_tolerance(block: int):
    """The second formulation in f32: tolerances are attainable, ids equal."""
    judged = 0
    for seed in range(1000 + 40 * block, 1040 + 40 * block):
        spec = random_spec(seed)
        types = (spec.x_dtype, spec.logit_dtype, spec.score_dtype)
        if any(dtype != "f32" for dtype in types):
            continue
        inputs = random_inputs(spec, seed)
        narrow = {
            name: value.astype(np.float32) if value.dtype == float else value
            for name, value in inputs.items()
        }
        second = dense.dense_run(spec, narrow)
        assert second["y"].dtype == np.float32
        actual = {name: second[name] for name in ("y", "expert_loads")}
        compare.assert_close(spec, actual, reference.run(spec, inputs))
        judged += 1
    assert judged >= 5


# Identities.

TOKEN_CHOICE = [
    seed
    for seed in range(300)
    if random_spec(seed).router == "top_k"
    and random_spec(seed).capacity == "none"
][:40]
GROUPED = [seed for seed in range(400) if random_spec(seed).group_offsets][:60]


def test_softmax_orders_are_the_same_function():
    for seed in range(20):
        base = LayerSpec(**F64, experts=9, top_k=4, hidden=12, inter=5)
        inputs = draw.draw_inputs(base, seed, 7)
        first = dataclasses.replace(base, normalize="sum")
        second = dataclasses.replace(base, score_domain="topk")
        one, two = reference.run(first, inputs), reference.run(second, inputs)
        assert np.array_equal(one["ids"], two["ids"])
        np.testing.assert_allclose(one["weights"], two["weights"], rtol=1e-13)
        np.testing.assert_allclose(one["y"], two["y"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", TOKEN_CHOICE)
def test_masked_padding_changes_nothing(seed: int):
    spec = dataclasses.replace(
        random_spec(seed), token_mask=False, group_offsets=False
    )
    inputs = random_inputs(spec, seed, tokens=9)
    plain = reference.run(spec, inputs)
    padded = dict(inputs)
    padded["x"] = np.concatenate([inputs["x"], inputs["x"][:4]])
    padded["token_mask"] = np.arange(13) < 9
    if spec.indices:
        padded["indices"] = np.concatenate(
            [inputs["indices"], inputs["indices"][:4]]
        )
    out = reference.run(dataclasses.replace(spec, token_mask=True), padded)
    assert np.array_equal(out["y"][:9], plain["y"])
    assert np.array_equal(out["ids"][:9], plain["ids"])
    assert np.all(out["ids"][9:] == -1) and np.all(out["weights"][9:] == 0.0)
    assert np.array_equal(out["expert_loads"], plain["expert_loads"])
    if not spec.shared_inter and not spec.output_bias:
        assert np.all(out["y"][9:] == 0.0)


def test_masked_tokens_cannot_be_chosen():
    for axis in ("experts", "tokens"):
        spec = LayerSpec(
            **F64,
            router="expert_choice",
            top_k=1,
            experts=3,
            hidden=8,
            inter=4,
            choice_axis=axis,
            capacity_fixed=5,
        )
        inputs = draw.draw_inputs(spec, 5, 8)
        plain = reference.run(spec, inputs)
        padded = dict(inputs)
        padded["x"] = np.concatenate([10.0 * inputs["x"][:6], inputs["x"]])
        padded["token_mask"] = np.arange(14) >= 6
        out = reference.run(dataclasses.replace(spec, token_mask=True), padded)
        assert np.array_equal(out["ids"], plain["ids"] + 6)
        assert np.array_equal(out["y"][6:], plain["y"])
        assert np.all(out["y"][:6] == 0.0)


@pytest.mark.parametrize("seed", GROUPED)
def test_packed_groups_equal_separate_runs(seed: int):
    spec = random_spec(seed)
    inputs = random_inputs(spec, seed)
    whole = reference.run(spec, inputs)
    alone = dataclasses.replace(spec, group_offsets=False)
    loads = np.zeros(spec.experts, dtype=np.int32)
    bounds = inputs["group_offsets"]
    for low, high in zip(bounds, bounds[1:]):
        part = dict(inputs)
        del part["group_offsets"]
        for name in ("x", "indices", "token_mask"):
            if name in part:
                part[name] = part[name][low:high]
        out = reference.run(alone, part)
        assert np.array_equal(out["y"], whole["y"][low:high])
        loads += out["expert_loads"]
    assert np.array_equal(loads, whole["expert_loads"])


def test_permuted_experts_permute_ids():
    permuted = 0
    for seed in range(150):
        spec = random_spec(seed)
        if (
            spec.router != "top_k"
            or spec.groups > 1
            or spec.zero_experts
            or spec.indices
            or spec.expert_axis == "folded"
        ):
            continue
        inputs = random_inputs(spec, seed)
        order = np.argsort(draw.Stream(seed, "order").uniform(spec.experts))
        moved = dict(inputs)
        for name in (
            "router_weight",
            "router_bias",
            "selection_bias",
            "expert_scale",
            "gate_up",
            "gate",
            "up",
            "gate_up_bias",
            "down",
            "down_bias",
        ):
            if name in moved:
                moved[name] = moved[name][order]
        one, two = reference.run(spec, inputs), reference.run(spec, moved)
        place = np.append(order, -1)
        assert np.array_equal(place[two["ids"]], one["ids"])
        assert np.array_equal(two["weights"], one["weights"])
        assert np.array_equal(two["y"], one["y"])
        assert np.array_equal(two["expert_loads"], one["expert_loads"][order])
        permuted += 1
    assert permuted > 20


def test_layouts_hold_the_same_matrices():
    """Every layout, packed here from plain matrices, gives the same layer."""
    sizes = {"experts": 3, "top_k": 2, "hidden": 6, "inter": 5}
    base = LayerSpec(**F64, **sizes, expert_bias=True)
    plain = draw.draw_inputs(base, 3, 4)
    wanted = reference.run(base, plain)["y"]
    halves = np.split(plain["gate_up"], 2, axis=1)
    biases = np.split(plain["gate_up_bias"], 2, axis=1)
    for pairing in ("cat", "interleaved", "separate"):
        for order in ("gate_up", "up_gate"):
            for orientation in ("out_in", "in_out"):
                for axis in ("lead", "folded"):
                    spec = dataclasses.replace(
                        base,
                        pairing=pairing,
                        order=order,
                        orientation=orientation,
                        expert_axis=axis,
                        down_orientation=orientation,
                    )
                    step = 1 if order == "gate_up" else -1

                    def fuse(parts, pairing=pairing, step=step):
                        parts = parts[::step]
                        if pairing != "interleaved":
                            return np.concatenate(parts, axis=1)
                        return np.stack(parts, axis=2).reshape(
                            3, 10, *parts[0].shape[2:]
                        )

                    def store(stack, orientation=orientation, axis=axis):
                        if orientation == "in_out":
                            stack = stack.transpose(0, 2, 1)
                        if axis == "folded":
                            return stack.reshape(-1, stack.shape[2])
                        return stack

                    inputs = {
                        name: plain[name]
                        for name in ("x", "router_weight", "down_bias")
                    }
                    inputs["down"] = store(plain["down"])
                    inputs["gate_up_bias"] = fuse(biases)
                    if pairing == "separate":
                        inputs["gate"], inputs["up"] = map(store, halves)
                    else:
                        inputs["gate_up"] = store(fuse(halves))
                    assert np.array_equal(
                        reference.run(spec, inputs)["y"], wanted
                    )


def test_zero_experts_pass_x_through():
    spec = LayerSpec(
        **F64,
        experts=2,
        zero_experts=2,
        top_k=4,
        hidden=5,
        inter=3,
        output_scale=3.0,
    )
    inputs = draw.draw_inputs(spec, 1, 6)
    out = reference.run(spec, inputs)
    assert out["expert_loads"].tolist() == [6, 6]
    silent = {**inputs, "down": np.zeros_like(inputs["down"])}
    only = reference.run(spec, silent)["y"]
    passed = out["routing"].scores[:, 2:].sum(1, keepdims=True)
    np.testing.assert_allclose(only, 3.0 * passed * inputs["x"], rtol=1e-14)


def test_latent_is_two_projections():
    spec = LayerSpec(
        **F64, experts=4, hidden=6, inter=3, latent=4, shared_inter=2
    )
    inputs = draw.draw_inputs(spec, 2, 5)
    inner = dataclasses.replace(spec, latent=0, shared_inter=0, hidden=4)
    chosen = routing.route(spec, inputs)
    narrow = {
        "x": inputs["x"] @ inputs["latent_in"].T,
        "router_weight": np.zeros((4, 4)),
        "gate_up": inputs["gate_up"],
        "down": inputs["down"],
    }
    rows = reference.run(inner, narrow, routing_of=chosen)["y"]
    no_shared = dataclasses.replace(spec, shared_inter=0)
    rest = {k: v for k, v in inputs.items() if not k.startswith("shared")}
    out = reference.run(no_shared, rest)["y"]
    np.testing.assert_allclose(
        out, rows @ inputs["latent_out"].T, rtol=1e-11, atol=1e-13
    )


def test_repeated_ids_are_separate_slots():
    spec = LayerSpec(
        **F64,
        experts=3,
        top_k=2,
        hidden=4,
        inter=3,
        indices=True,
        normalize="sum",
    )
    ids = np.array([[1, 1], [-1, 2], [-1, -1]], dtype=np.int32)
    inputs = draw.draw_inputs(spec, 4, 3, indices=ids)
    out = reference.run(spec, inputs)
    np.testing.assert_allclose(out["weights"], [[0.5, 0.5], [0, 1], [0, 0]])
    assert out["expert_loads"].tolist() == [0, 2, 1]
    assert np.all(out["y"][2] == 0.0)
