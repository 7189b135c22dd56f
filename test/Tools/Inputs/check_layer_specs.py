# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Holds the example builder against the reference's description of layers.

usage: check_layer_specs.py MOE_COMPILE REFERENCE_FOLDER RANDOM_COUNT

Both sides share keys, defaults, operand names, order, shapes and types. For
every case of the reference and RANDOM_COUNT random layers, the function that
moe-compile prints must have the operands that the reference states.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

MOE_COMPILE, REFERENCE, RANDOM_COUNT = sys.argv[1:]
sys.path.insert(0, str(Path(REFERENCE)))

import families  # noqa: E402
from random_specs import random_spec  # noqa: E402
from spec import LayerSpec  # noqa: E402

# Keys of the builder alone: they change no number of the layer.
OWN_KEYS = {"name", "tokens", "expert_loads", "ids", "weights"}
ARGUMENT = re.compile(
    r'%\w+: tensor<([^>]*)> \{[^{}]*moe\.name = "(\w+)"\}'
)


def compile_text(words: list[str]) -> tuple[str, str]:
    """What moe-compile prints for these options, and its message."""
    done = subprocess.run(
        [MOE_COMPILE, *words], capture_output=True, text=True
    )
    return done.stdout, done.stderr.strip()


def operands_of(text: str) -> list[str]:
    """`name shapexdtype` of each argument; '?' is a dynamic size."""
    function = next(line for line in text.splitlines() if "func.func" in line)
    head = function.split(") -> (", 1)[0]
    return [f"{name} {shape}" for shape, name in ARGUMENT.findall(head)]


def expected_operands(spec: LayerSpec) -> list[str]:
    """The same from the reference, with recognisable T and G."""
    tokens, groups = 987_001, 876_001
    out = []
    for operand in spec.operands(tokens, groups):
        dynamic = {tokens: "?", groups + 1: "?"}
        sizes = [str(dynamic.get(size, size)) for size in operand.shape]
        out.append(f"{operand.name} {'x'.join([*sizes, operand.dtype])}")
    return out


def check_keys() -> list[str]:
    """Problems with the set of keys and their defaults."""
    text, _ = compile_text(["--list-keys"])
    listed = dict(
        line.split(" ", 1)[0].split("=", 1) for line in text.splitlines()
    )
    problems = []
    wanted = LayerSpec()
    names = set(LayerSpec.__dataclass_fields__)
    if names | OWN_KEYS != set(listed):
        problems.append(f"keys differ: {(names | OWN_KEYS) ^ set(listed)}")
    for name in sorted(names & set(listed)):
        value, default = listed[name], getattr(wanted, name)
        if isinstance(default, bool):
            same = value == ("true" if default else "false")
        elif isinstance(default, (int, float)):
            same = float(value) == default
        else:
            same = value == default
        if not same:
            problems.append(f"{name}: default {value}, not {default}")
    return problems


def check_spec(name: str, spec: LayerSpec) -> list[str]:
    """Problems with one layer."""
    text, message = compile_text(["--example", "layer", *spec.to_flags()])
    if message or not text:
        return [f"{name}: {message} for {spec.to_json()}"]
    found, wanted = operands_of(text), expected_operands(spec)
    if found != wanted:
        return [f"{name}: operands {found}, not {wanted}"]
    return []


def is_refused(spec: LayerSpec) -> bool:
    """Layers that the reference defines and the router attribute does not.

    A softmax over the chosen gives no scores before the choice, so the
    attribute has nothing to compare groups by; the reference takes logits.
    """
    return (
        spec.score_domain == "topk"
        and spec.score == "softmax"
        and spec.kept_groups < spec.groups
    )


def main() -> int:
    problems = check_keys()
    specs = {name: case.spec for name, case in families.CASES.items()}
    for seed in range(int(RANDOM_COUNT)):
        spec = random_spec(seed)
        if not is_refused(spec):
            specs[f"random {seed}"] = spec
    for name, spec in specs.items():
        problems += check_spec(name, spec)
    for problem in problems:
        print(problem)
    print(f"{len(specs)} layers, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
