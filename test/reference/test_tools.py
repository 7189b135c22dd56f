# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Specs, storage types, comparison, vector files; and that tests can fail."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

import compare
import dtypes
import generate
import reference
from families import CASES
from random_routers import KINDS, SAMPLES, RouterLayer, random_router
from random_specs import random_inputs, random_spec
from spec import LayerSpec, SpecError

# Storage types.


def test_bf16_rounds_to_nearest_even():
    ulp = 2.0**-7
    pairs = [
        (1.0, 1.0),
        (1.0 + ulp / 2, 1.0),
        (1.0 + 3 * ulp / 2, 1.0 + 2 * ulp),
        (1.0 + ulp / 2 + 2.0**-40, 1.0 + ulp),
        (-1.0 - ulp, -1.0 - ulp),
        (3.4e38, math.inf),
        (2.0**-133, 2.0**-133),
        (2.0**-134, 0.0),
        (1.5 * 2.0**-133, 2.0**-132),
        (math.inf, math.inf),
    ]
    for value, wanted in pairs:
        assert dtypes.round_to(np.float64(value), "bf16") == wanted
    assert np.signbit(dtypes.round_to(np.float64(-0.0), "bf16"))
    assert np.isnan(dtypes.round_to(np.float64(math.nan), "bf16"))


def test_bf16_rounding_equals_the_bit_trick():
    bits = np.random.default_rng(1).integers(0, 2**32, 20000, np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    bits = values.view(np.uint32).astype(np.uint64)
    high = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> (
        np.uint64(16)
    )
    wanted = dtypes.decode(high.astype("<u2"), "bf16")
    found = dtypes.round_to(values.astype(np.float64), "bf16")
    assert np.array_equal(found, wanted)


def test_16_bit_values_survive_storage():
    every = np.arange(2**16, dtype="<u2")
    for dtype, stored in (("bf16", every), ("f16", every.view("<f2"))):
        values = dtypes.decode(stored, dtype)
        again = dtypes.encode(values, dtype)
        number = ~np.isnan(values)
        assert np.array_equal(again[number], stored[number])
        assert np.isnan(dtypes.decode(again, dtype)[~number]).all()
    with pytest.raises(ValueError, match="not representable"):
        dtypes.encode(np.array([1.0 + 2.0**-9]), "bf16")


def test_no_double_rounding():
    # Through f32 this would first round to a tie, then down to even.
    value = np.float64(1.0 + 2.0**-8 + 2.0**-30)
    assert dtypes.round_to(value, "bf16") == 1.0 + 2.0**-7


# Specs.


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"top_k": 9}, "top_k: 9 is more than the 8"),
        ({"score": "hardmax"}, "score: 'hardmax' is not one of"),
        ({"experts": 0}, "experts: 0 is smaller than 1"),
        ({"hidden": 2.0}, "hidden: expected int"),
        ({"gated": 1}, "gated: expected bool"),
        ({"scale": math.nan}, "scale: nan is not finite"),
        ({"groups": 3}, "groups: 3 does not divide 8"),
        ({"groups": 2, "kept_groups": 3}, "kept_groups: 3 of only 2"),
        ({"groups": 8, "top_k": 2}, "top_k: 2 is more than the 1"),
        ({"groups": 8, "group_score": "top2sum", "top_k": 1}, "two experts"),
        ({"router": "expert_choice", "normalize": "sum"}, "normalize: must"),
        ({"router": "expert_choice", "capacity": "first_come"}, "capacity"),
        ({"zero_experts": 1, "capacity": "first_come"}, "zero experts"),
        ({"gated": False, "act_style": "oai"}, "gated experts only"),
        ({"gated": False, "pairing": "interleaved"}, "one matrix"),
        ({"shared_gate": True}, "shared_gate: needs shared_inter"),
        ({"norm_p": 0.0}, "norm_p: 0.0 is not positive"),
        ({"act_style": "oai", "activation": "gelu"}, "has its own"),
    ],
)
def test_invalid_specs_are_refused(keys: dict[str, Any], message: str):
    with pytest.raises(SpecError) as caught:
        LayerSpec(**keys)
    assert message in str(caught.value)


def test_text_forms():
    spec = LayerSpec(top_k=4, eps=1e-20, gated=False, score="sigmoid")
    assert spec.to_flags() == [
        "--set",
        "top_k=4",
        "--set",
        "score=sigmoid",
        "--set",
        "eps=1e-20",
        "--set",
        "gated=false",
    ]
    assert LayerSpec.from_json(spec.to_json()) == spec
    assert LayerSpec().to_flags() == []
    with pytest.raises(SpecError, match="unknown key 'topk'"):
        LayerSpec.from_json('{"topk": 2}')


def test_operands_in_order():
    spec = LayerSpec(
        experts=4,
        zero_experts=1,
        top_k=2,
        hidden=6,
        inter=3,
        latent=5,
        router_dtype="f64",
        weight_dtype="bf16",
        router_bias=True,
        router_norm=True,
        select_bias=True,
        expert_scale=True,
        indices=True,
        token_mask=True,
        group_offsets=True,
        expert_bias=True,
        orientation="in_out",
        shared_inter=2,
        shared_gate=True,
        output_bias=True,
    )
    found = [(o.name, o.shape, o.dtype) for o in spec.operands(7, 3)]
    assert found == [
        ("x", (7, 6), "f32"),
        ("router_weight", (5, 6), "f64"),
        ("router_bias", (5,), "f64"),
        ("router_scale", (6,), "f64"),
        ("selection_bias", (5,), "f32"),
        ("expert_scale", (5,), "f32"),
        ("indices", (7, 2), "i32"),
        ("token_mask", (7,), "i1"),
        ("group_offsets", (4,), "i32"),
        ("gate_up", (4, 5, 6), "bf16"),
        ("gate_up_bias", (4, 6), "bf16"),
        ("down", (4, 5, 3), "bf16"),
        ("down_bias", (4, 5), "bf16"),
        ("shared_gate_up", (4, 6), "bf16"),
        ("shared_down", (6, 2), "bf16"),
        ("shared_gate", (1, 6), "bf16"),
        ("latent_in", (5, 6), "bf16"),
        ("latent_out", (6, 5), "bf16"),
        ("output_bias", (6,), "bf16"),
    ]


def test_folded_operands():
    spec = LayerSpec(
        experts=4,
        hidden=6,
        inter=3,
        pairing="separate",
        expert_axis="folded",
        down_orientation="in_out",
    )
    shapes = {o.name: o.shape for o in spec.operands(1)}
    assert shapes["gate"] == shapes["up"] == shapes["down"] == (12, 6)


def test_inputs_are_checked():
    spec = LayerSpec(experts=4, hidden=4, inter=3, weight_dtype="bf16")
    good = random_inputs(spec, 0, tokens=2)
    for change, message in (
        ({"x": good["x"][:, :3]}, "x: shape"),
        ({"down": good["down"] + 2.0**-30}, "values that are not bf16"),
        ({"latent_in": good["x"]}, "not an operand"),
    ):
        with pytest.raises(reference.InputError, match=message):
            reference.run(spec, {**good, **change})
    del good["down"]
    with pytest.raises(reference.InputError, match="down: missing"):
        reference.run(spec, good)
    grouped = LayerSpec(experts=4, hidden=4, inter=3, group_offsets=True)
    inputs = random_inputs(grouped, 0, tokens=3, token_groups=2)
    inputs["group_offsets"] = np.array([0, 4, 3], dtype=np.int32)
    with pytest.raises(reference.InputError, match="group_offsets"):
        reference.run(grouped, inputs)


def test_random_specs_cover_every_value():
    """Every key varies, and every choice of a key is drawn."""
    from spec import _CHOICES

    specs = [random_spec(seed) for seed in range(600)]
    for field in dataclasses.fields(LayerSpec):
        seen = {getattr(spec, field.name) for spec in specs}
        assert len(seen) > 1, field.name
        wanted = set(_CHOICES.get(field.name, ()))
        if field.name == "weight_dtype":
            wanted -= {"f32"} - seen
        assert wanted <= seen, field.name
    assert random_spec(7) == random_spec(7)
    one, two = (random_inputs(specs[3], 3) for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_random_routers_cover_every_router():
    """Every setting varies, in training and not."""
    layers = [random_router(seed) for seed in range(600)]
    assert random_router(7) == random_router(7)
    for field in dataclasses.fields(RouterLayer):
        seen = {getattr(layer, field.name) for layer in layers}
        assert len(seen) > 1, field.name
    for kind in KINDS:
        own = [layer for layer in layers if layer.kind == kind]
        assert {layer.mask for layer in own} == {False, True}
        assert {bool(layer.losses) for layer in own} == {False, True}
        assert {"f32", "f64"} <= {layer.storage for layer in own}
        if kind in SAMPLES:
            assert {layer.training for layer in own} == {False, True}
    forms = {layer.mix.form for layer in layers if layer.mix}
    assert forms == {"dot", "learned", "attention", "matrix"}
    assert {"load", "second_place", "l1_balance"} <= {
        name for layer in layers for name in layer.losses
    }


# Comparison.


def result_of(name: str) -> tuple[LayerSpec, dict, dict]:
    case = CASES[name]
    inputs = case.inputs()
    return case.spec, inputs, reference.run(case.spec, inputs)


@pytest.mark.parametrize("name", ["f64", "mixtral", "f16", "mixtral_bf16"])
def test_tolerance_is_a_line(name: str):
    spec, _, result = result_of(name)
    allowed = compare.TOLERANCE[compare.tolerance_class(spec)]
    near = {"y": result["y"] * (1.0 + 0.5 * allowed)}
    assert not compare.complaints(spec, near, result)
    far = {"y": result["y"] * (1.0 + 2.0 * allowed)}
    assert compare.complaints(spec, far, result)


def test_storing_the_exact_result_passes():
    for name, case in CASES.items():
        spec, _, result = result_of(name)
        stored = dtypes.round_to(result["y"], spec.x_dtype)
        actual = {**{k: result[k] for k in ("ids", "weights")}, "y": stored}
        assert not compare.complaints(case.spec, actual, result), name


def test_small_mistakes_are_found():
    spec, inputs, result = result_of("mixtral")
    swapped = {**inputs, "gate_up": inputs["gate_up"].copy()}
    swapped["gate_up"][3] = np.roll(inputs["gate_up"][3], spec.inter, axis=0)
    y = reference.run(spec, swapped)["y"]
    assert any(
        "expert 3" in line
        for line in compare.complaints(spec, {"y": y}, result)
    )
    lone = result["y"].copy()
    lone[4, 7] = np.nan
    assert "row 4" in compare.complaints(spec, {"y": lone}, result)[0]
    wrong = result["ids"].copy()
    wrong[0] = wrong[0, ::-1]
    assert compare.complaints(spec, {"ids": wrong}, result)
    weights = result["weights"] * (1 + 1e-4)
    assert compare.complaints(spec, {"weights": weights}, result)
    with pytest.raises(AssertionError, match="instead of"):
        compare.assert_close(
            spec, {"expert_loads": result["expert_loads"] + 1}, result
        )
    with pytest.raises(ValueError, match="nothing to compare"):
        compare.complaints(spec, {}, result)


def test_dropped_rows_have_to_be_exact_zeros():
    spec, _, result = result_of("one_takes_all_capacity")
    y = result["y"].copy()
    y[-1] = 1e-30
    assert "inf" in compare.complaints(spec, {"y": y}, result)[0]


def test_nan_has_to_stay_where_it_is():
    spec, _, result = result_of("nan_row")
    assert not compare.complaints(spec, {"y": result["y"]}, result)
    for row, value in ((3, 0.0), (2, np.nan)):
        y = result["y"].copy()
        y[row] = value
        assert compare.complaints(spec, {"y": y}, result)


# The cases can tell a right layer from a wrong one.

MISTAKES: dict[str, dict[str, list[Any]]] = {
    # Key: for each case that has to notice, the wrong values.
    "score": {"deepseek_v4": ["sigmoid"], "minimax_m2": ["softmax"]},
    "score_domain": {"granite": ["all"]},
    "softcap": {"laguna": [0.0, 30.0]},
    "group_score": {"deepseek_v3": ["max"], "deepseek_v2": ["top2sum"]},
    "group_fill": {"deepseek_v3_zero_fill": ["neg_inf"]},
    "groups": {"deepseek_v3": [8], "mistral4": [2]},
    "kept_groups": {"deepseek_v3": [1, 3, 4], "deepseek_v2": [8]},
    "normalize": {"mixtral": ["none"], "dbrx_p2": ["sum"], "qwen2": ["sum"]},
    "norm_p": {"dbrx_p2": [1.0, 3.0]},
    "eps": {"eps_add": [0.0], "eps_clamp": [0.0]},
    "eps_mode": {"eps_add": ["clamp"], "eps_clamp": ["add"]},
    "scale": {"longcat": [1.0], "openai_privacy_filter": [1.0]},
    "weight_site": {"llama4": ["output"], "mixtral": ["input"]},
    "capacity": {
        "switch": ["none"],
        "packed_capacity": ["first_come"],
        "v_moe": ["first_come"],
        "gshard": ["prioritized"],
    },
    "capacity_fixed": {"one_takes_all_capacity": [4, 6]},
    "capacity_factor": {"nllb": [1.0], "expert_choice": [1.0]},
    "capacity_rounding": {
        "expert_choice": ["floor"],
        "packed_capacity": ["floor", "ceil"],
    },
    "capacity_multiple": {"expert_choice": [4]},
    "capacity_per": {"v_moe": ["tokens"]},
    "capacity_min": {"gshard": [6]},
    "choice_axis": {"expert_choice_tokens": ["experts"]},
    "choice_normalize": {"expert_choice_tokens": [False]},
    "activation": {
        "gemma4_f32": ["gelu", "silu"],
        "nemotron_h": ["relu"],
        "switch": ["gelu"],
        "v_moe": ["gelu_tanh"],
    },
    "act_limit": {"gpt_oss_f32": [0.0, 1.0], "deepseek_v4_clamped": [0.0]},
    "act_style": {"minimax_m3": ["plain"]},
    "act_alpha": {"gpt_oss_f32": [1.702]},
    "down_orientation": {"gpt_oss_f32": ["in_out"]},
    "pairing": {"gpt_oss_f32": ["cat"], "minimax_m3": ["interleaved"]},
    "order": {
        "deepseek_v4_clamped": ["gate_up"],
        "minimax_m3": ["up_gate"],
        "openai_privacy_filter": ["up_gate"],
    },
    "shared_mode": {"cohere2_sigmoid": ["sum"]},
    "output_scale": {"nllb": [1.0], "minimax_m3": [1.0], "laguna": [1.0]},
    "logit_dtype": {"mixtral_bf16": ["f32"], "qwen3": ["f32"]},
    "score_dtype": {"lfm2": ["f32"], "dbrx": ["f32"]},
    "route_dtype": {"lfm2": ["f32"], "f16": ["f32"]},
}


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [
        (key, name, value)
        for key, cases in MISTAKES.items()
        for name, values in cases.items()
        for value in values
    ],
)
def test_a_wrong_setting_is_noticed(key: str, name: str, value: Any):
    spec, inputs, result = result_of(name)
    wrong = reference.run(dataclasses.replace(spec, **{key: value}), inputs)
    actual = {"y": wrong["y"]}
    if wrong["weights"].shape == result["weights"].shape:
        actual["weights"] = wrong["weights"]
    assert compare.complaints(spec, actual, result)


def test_cases_state_every_key():
    stated = set().union(*(case.spec.stated() for case in CASES.values()))
    assert {field.name for field in dataclasses.fields(LayerSpec)} == stated


# Vector files.


def test_committed_vectors_are_current():
    assert generate.check(generate.DEFAULT_DIRECTORY) == []
    files = generate.DEFAULT_DIRECTORY.glob("*.safetensors")
    assert sum(path.stat().st_size for path in files) < 1_500_000


def test_a_stale_vector_is_noticed(tmp_path):
    case = CASES["ties"]
    data = generate.pack(*generate.contents(case))
    assert generate.difference(case, data) == ""
    assert generate.difference(CASES["ties_zero"], data) == "metadata"
    tensors, metadata = generate.contents(case)
    tensors["y"][1][2, 3] += 1e-6
    stale = generate.pack(tensors, metadata)
    assert generate.difference(case, stale) == "y: values"
    assert "not readable" in generate.difference(case, data[:-8])
    assert "not readable" in generate.difference(case, data[:4])
    (tmp_path / "left_over.safetensors").write_bytes(data)
    found = generate.check(tmp_path)
    assert "ties.safetensors: missing" in found
    assert "left_over.safetensors: belongs to no case" in found


def test_vectors_load_as_written():
    for name in ("masked", "mixtral_bf16", "no_tokens", "deepseek_v4_hash"):
        path = generate.DEFAULT_DIRECTORY / f"{name}.safetensors"
        spec, inputs, expected = generate.load(path)
        assert spec == CASES[name].spec
        result = reference.run(spec, inputs)
        for key in generate.RESULTS:
            np.testing.assert_allclose(
                expected[key], result[key], rtol=1e-12, atol=1e-12
            )


def test_header_of_a_vector():
    data = generate.pack({"a": ("bf16", np.array([1.0, -2.0]))}, {"k": "v"})
    size = int.from_bytes(data[:8], "little")
    assert size % 8 == 0
    assert data[8 : 8 + size].rstrip().decode() == (
        '{"__metadata__":{"k":"v"},"a":{"dtype":"BF16","shape":[2],'
        '"data_offsets":[0,4]}}'
    )
    assert data[8 + size :] == b"\x80\x3f\x00\xc0"
