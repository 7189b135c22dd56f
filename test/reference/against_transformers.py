# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compares the reference with the layers of huggingface/transformers.

Needs torch and transformers, which no test of this project installs:

  python against_transformers.py [FAMILY ...]

Each family's layer is built from a small config in float32, filled with
random weights, and run; the reference runs on the same weights read back
from the module's state. Both forms of the library are understood: one
module per expert (4.x) and fused parameters (5.x). Exit status 1 where a
layer differs, 2 where torch or transformers is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from typing import Any

import numpy as np

import compare
import reference
from spec import LayerSpec

TOKENS, HIDDEN, INTER, EXPERTS, SLOTS = 12, 32, 24, 8, 3

State = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Family:
    """Where a layer is, how it is configured, and what it should equal."""

    module: str
    config_class: str
    layer_class: str
    config: dict[str, Any]
    spec: dict[str, Any]


_SIZES = {"hidden_size": HIDDEN, "num_experts_per_tok": SLOTS}
_LOCAL = {**_SIZES, "num_local_experts": EXPERTS, "intermediate_size": INTER}
_COUNTED = {**_SIZES, "num_experts": EXPERTS}

FAMILIES = {
    "mixtral": Family(
        "mixtral",
        "MixtralConfig",
        "MixtralSparseMoeBlock",
        _LOCAL,
        {"normalize": "sum"},
    ),
    "olmoe": Family(
        "olmoe",
        "OlmoeConfig",
        "OlmoeSparseMoeBlock",
        {**_COUNTED, "intermediate_size": INTER, "norm_topk_prob": False},
        {},
    ),
    "qwen2": Family(
        "qwen2_moe",
        "Qwen2MoeConfig",
        "Qwen2MoeSparseMoeBlock",
        {
            **_COUNTED,
            "moe_intermediate_size": INTER,
            "shared_expert_intermediate_size": 40,
            "norm_topk_prob": False,
        },
        {"shared_inter": 40, "shared_gate": True},
    ),
    "deepseek_v3": Family(
        "deepseek_v3",
        "DeepseekV3Config",
        "DeepseekV3MoE",
        {
            **_SIZES,
            "n_routed_experts": EXPERTS,
            "moe_intermediate_size": INTER,
            "n_shared_experts": 2,
            "n_group": 4,
            "topk_group": 2,
            "norm_topk_prob": True,
            "routed_scaling_factor": 2.5,
        },
        {
            "score": "sigmoid",
            "select_bias": True,
            "groups": 4,
            "kept_groups": 2,
            "group_score": "top2sum",
            "normalize": "sum",
            "eps": 1e-20,
            "scale": 2.5,
            "shared_inter": 2 * INTER,
        },
    ),
    "gpt_oss": Family(
        "gpt_oss",
        "GptOssConfig",
        "GptOssMLP",
        _LOCAL,
        {
            "score_domain": "topk",
            "router_bias": True,
            "expert_bias": True,
            "act_style": "oai",
            "act_limit": 7.0,
            "orientation": "in_out",
            "down_orientation": "in_out",
            "pairing": "interleaved",
        },
    ),
    "granite": Family(
        "granitemoe",
        "GraniteMoeConfig",
        "GraniteMoeMoE",
        _LOCAL,
        {"score_domain": "topk"},
    ),
}


def _first(state: State, *names: str) -> np.ndarray:
    """The entry of the first of `names` that the module has."""
    for name in names:
        if name in state:
            return state[name]
    raise KeyError(f"none of {', '.join(names)} in {sorted(state)}")


def _experts(state: State) -> dict[str, np.ndarray]:
    """gate_up and down (and biases), whatever the module calls them."""
    if "input_linear.weight" in state:
        return {
            "gate_up": state["input_linear.weight"],
            "down": state["output_linear.weight"],
        }
    if "experts.gate_up_proj" in state:
        out = {
            "gate_up": state["experts.gate_up_proj"],
            "down": state["experts.down_proj"],
        }
        if "experts.gate_up_proj_bias" in state:
            out["gate_up_bias"] = state["experts.gate_up_proj_bias"]
            out["down_bias"] = state["experts.down_proj_bias"]
        return out
    fused, down = [], []
    for expert in range(EXPERTS):
        prefix = f"experts.{expert}."
        parts = [
            _first(state, f"{prefix}{short}.weight", f"{prefix}{long}.weight")
            for short, long in (
                ("w1", "gate_proj"),
                ("w3", "up_proj"),
                ("w2", "down_proj"),
            )
        ]
        fused.append(np.concatenate(parts[:2]))
        down.append(parts[2])
    return {"gate_up": np.stack(fused), "down": np.stack(down)}


def _shared(state: State) -> dict[str, np.ndarray]:
    """Shared expert operands; empty where the module has none."""
    for prefix in ("shared_expert.", "shared_experts."):
        if f"{prefix}gate_proj.weight" in state:
            out = {
                "shared_gate_up": np.concatenate(
                    [
                        state[f"{prefix}gate_proj.weight"],
                        state[f"{prefix}up_proj.weight"],
                    ]
                ),
                "shared_down": state[f"{prefix}down_proj.weight"],
            }
            if "shared_expert_gate.weight" in state:
                out["shared_gate"] = state["shared_expert_gate.weight"]
            return out
    return {}


def operands_of(spec: LayerSpec, state: State, x: np.ndarray) -> State:
    """The operands of `spec` out of a module's parameters and buffers."""
    out = {
        "x": x,
        "router_weight": _first(
            state, "gate.weight", "router.weight", "router.layer.weight"
        ),
        **_experts(state),
        **_shared(state),
    }
    if spec.router_bias:
        out["router_bias"] = state["router.bias"]
    if spec.select_bias:
        out["selection_bias"] = _first(
            state, "gate.e_score_correction_bias", "e_score_correction_bias"
        )
    return {name: np.asarray(v, np.float64) for name, v in out.items()}


def build(family: Family, torch: Any) -> Any:
    """The module with random weights, in evaluation mode."""
    base = f"transformers.models.{family.module}"
    configs = importlib.import_module(f"{base}.configuration_{family.module}")
    models = importlib.import_module(f"{base}.modeling_{family.module}")
    config = getattr(configs, family.config_class)(**family.config)
    # Loops over experts: the plain path, and the same on every machine.
    config._experts_implementation = "eager"
    config._attn_implementation = "eager"
    layer = getattr(models, family.layer_class)(config).to(torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for value in layer.parameters():
            value.normal_(0.0, 0.3)
        for name, value in layer.named_buffers():
            if name.endswith("e_score_correction_bias"):
                # Positive: then a fill of zero and of -inf are the same.
                value.uniform_(0.0, 0.3)
        for name, value in layer.named_parameters():
            if name.endswith("e_score_correction_bias"):
                value.uniform_(0.0, 0.3)
    return layer.eval()


def judge(name: str, torch: Any) -> list[str]:
    """Complaints about one family."""
    family = FAMILIES[name]
    spec = LayerSpec(
        experts=EXPERTS,
        top_k=SLOTS,
        hidden=HIDDEN,
        inter=INTER,
        **family.spec,
    )
    layer = build(family, torch)
    x = torch.randn(1, TOKENS, HIDDEN)
    with torch.no_grad():
        found = layer(x)
    found = found[0] if isinstance(found, tuple) else found
    state = {
        key: value.detach().numpy()
        for pairs in (layer.named_parameters(), layer.named_buffers())
        for key, value in pairs
    }
    inputs = operands_of(spec, state, x[0].numpy())
    actual = {"y": found.reshape(TOKENS, HIDDEN).numpy()}
    return compare.complaints(spec, actual, reference.run(spec, inputs))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", nargs="*", help=", ".join(FAMILIES))
    names = parser.parse_args().family or list(FAMILIES)
    for name in names:
        if name not in FAMILIES:
            print(f"error: no family '{name}'", file=sys.stderr)
            return 1
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("transformers")
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    status = 0
    for name in names:
        found = judge(name, torch)
        print(f"{name}: {'; '.join(found) or 'agrees'}")
        status = 1 if found else status
    return status


if __name__ == "__main__":
    sys.exit(main())
