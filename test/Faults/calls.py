# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Calls of layers, forward and backward, with their arguments."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
for folder in (ROOT / "examples", ROOT / "python" / "tests"):
    sys.path.insert(0, str(folder))

import moe_mlir  # noqa: E402
from common import layer_text  # noqa: E402
from common.layers import ROUTERS, Sizes  # noqa: E402

Arrays = dict[str, np.ndarray]
BF16 = {"x_dtype": "bf16", "weight_dtype": "bf16", "router_dtype": "bf16"}


@dataclasses.dataclass(frozen=True)
class Call:
    """An entry of a source and what it is called with."""

    source: str
    entry: str
    arrays: Arrays
    dims: dict[str, int] = dataclasses.field(default_factory=dict)


def run(words: list[str], text: str | None = None) -> str:
    """What a command prints; its errors where it fails."""
    done = subprocess.run(
        words, input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"{words[0]} failed ({done.returncode}): {done.stderr.strip()}"
        )
    return done.stdout


def example(
    name: str, tokens: int, change: Callable[[Arrays], None], **keys: object
) -> Call:
    """The layer of `moe-compile --example` with other keys."""
    command = ["moe-compile", "--example", name, "-o", "-"]
    for key, value in {"name": "layer", **keys}.items():
        command += ["--set", f"{key}={value}"]
    source = run(command)
    layer = moe_mlir.compile(source, target="cpu", threads=1)
    rng = np.random.default_rng(3)
    arrays = {}
    for argument in layer.inputs:
        shape = tuple(
            n if isinstance(n, int) else tokens for n in argument.shape
        )
        if argument.dtype.startswith("int"):
            arrays[argument.name] = np.zeros(shape, argument.dtype)
            continue
        scale = 1.0 if argument.name == "x" else shape[-1] ** -0.5
        numbers = scale * rng.standard_normal(shape)
        arrays[argument.name] = numbers.astype(np.float32)
    change(arrays)
    return Call(source, "layer", arrays)


def router_arrays(name: str, s: Sizes, training: bool) -> Arrays:
    """Arguments of a layer of the examples, some sequences of it."""
    router = ROUTERS[name]
    rng = np.random.default_rng(5)
    tokens = s.batch * s.length
    arrays = {
        key: rng.standard_normal((tokens, s.width))
        for key in ("x", "query", "key")
    }
    for key, shape in router.weight_shapes(s).items():
        scale = shape[-1] ** -0.5 if shape else 1.0
        arrays[key] = scale * rng.standard_normal(shape)
    arrays = {key: np.asarray(a, np.float32) for key, a in arrays.items()}
    arrays["groups"] = np.arange(0, tokens + 1, s.length, dtype=np.int32)
    arrays["random"] = np.array([5, 1, 2**32 - 20], np.int64)
    return {key: arrays[key] for key in router.arguments(training)}


def forward(name: str, sizes: Sizes) -> Call:
    """The evaluation of a router's layer."""
    router = ROUTERS[name]
    source = layer_text.source(router, sizes, training=False)
    dims = {}
    if router.chooser == "experts":
        taken = router.sequence_slots(sizes) // sizes.experts
        dims["C"] = taken * sizes.batch
    return Call(source, name, router_arrays(name, sizes, False), dims)


def backward_of(
    source: str, entry: str, wrt: list[str], arrays: Arrays
) -> Call:
    """The backward of a layer, on what a CPU's forward saved."""
    layer = moe_mlir.compile_gradients(
        source, wrt=wrt, target="cpu", threads=1
    )
    given = {
        argument.name: arrays[argument.name].astype(argument.dtype)
        for argument in layer.inputs
    }
    results, saved = layer.forward(**given)
    rng = np.random.default_rng(7)
    given = {**saved.inputs, **saved.residuals}
    for key, value in results.items():
        given[f"d_{key}"] = rng.standard_normal(value.shape).astype(np.float32)
    # Files have no bf16; moe-run rounds what was rounded to itself.
    for key, value in given.items():
        if value.dtype.name == "bfloat16":
            given[key] = value.astype(np.float32)
    both = run(["moe-opt", f"--moe-generate-vjp=wrt={','.join(wrt)}"], source)
    return Call(both, f"{entry}_bwd", given)


def backward(name: str, sizes: Sizes) -> Call:
    """The backward of a router's training layer."""
    router = ROUTERS[name]
    return backward_of(
        layer_text.source(router, sizes, training=True),
        name,
        list(router.learned()),
        router_arrays(name, sizes, True),
    )


def example_backward(
    name: str, tokens: int, change: Callable[[Arrays], None], **keys: object
) -> Call:
    """The backward of such a layer, for all that are numbers."""
    call = example(name, tokens, change, **keys)
    wrt = [key for key, array in call.arrays.items() if array.dtype.kind == "f"]
    return backward_of(call.source, call.entry, wrt, call.arrays)


# Losses of 5 experts, of each kind of sum: scores and choices, rows of tokens,
# terms, softmax over tokens, chances.
LOSSES = """
func.func @losses(%x: tensor<?x5xf32> {moe.name = "x", moe.dims = ["T", ""]},
    %noisy: tensor<?x5xf32> {moe.name = "noisy", moe.dims = ["T", ""]},
    %ids: tensor<?x2xi32> {moe.name = "ids", moe.dims = ["T", ""]},
    %mask: tensor<?xi1> {moe.name = "mask", moe.dims = ["T"]},
    %groups: tensor<?xi32> {moe.name = "groups", moe.dims = ["G"]})
    -> (tensor<f32> {moe.name = "balance"}, tensor<f32> {moe.name = "second"},
        tensor<f32> {moe.name = "z"}, tensor<f32> {moe.name = "tokens"},
        tensor<f32> {moe.name = "load"})
    attributes {moe.entry} {
  %s = moe.score %x by softmax : tensor<?x5xf32> -> tensor<?x5xf32>
  %0 = moe.aux_loss <balance> %s ids(%ids : tensor<?x2xi32>)
      mask(%mask : tensor<?xi1>) groups(%groups : tensor<?xi32>)
      coefficient 1.0 : tensor<?x5xf32> -> tensor<f32>
  %1 = moe.aux_loss <second_place> %s ids(%ids : tensor<?x2xi32>)
      mask(%mask : tensor<?xi1>) groups(%groups : tensor<?xi32>)
      coefficient 1.0 : tensor<?x5xf32> -> tensor<f32>
  %2 = moe.aux_loss <z> %x mask(%mask : tensor<?xi1>)
      groups(%groups : tensor<?xi32>)
      coefficient 1.0 : tensor<?x5xf32> -> tensor<f32>
  %3 = moe.aux_loss <token_balance> %x mask(%mask : tensor<?xi1>)
      groups(%groups : tensor<?xi32>)
      coefficient 1.0 : tensor<?x5xf32> -> tensor<f32>
  %4 = moe.load_loss <kth_excluding> %x, %noisy std 0.5
      mask(%mask : tensor<?xi1>) groups(%groups : tensor<?xi32>) k 2
      eps 1.0e-10 coefficient 1.0
      : tensor<?x5xf32>, tensor<?x5xf32> -> tensor<f32>
  return %0, %1, %2, %3, %4 : tensor<f32>, tensor<f32>, tensor<f32>,
      tensor<f32>, tensor<f32>
}
"""


def losses(tokens: int) -> Call:
    """Losses of some groups, one masked and one empty in front of others."""
    rng = np.random.default_rng(9)
    x, noise = rng.standard_normal((2, tokens, 5)).astype(np.float32)
    part = tokens // 5
    groups = np.array([0, part, 2 * part, 2 * part, tokens], np.int32)
    mask = rng.random(tokens) < 0.8
    mask[part : 2 * part] = False
    ids = np.argsort(-x, axis=1)[:, :2].astype(np.int32)
    ids[1] = -1
    arrays = {"x": x, "noisy": x + noise, "ids": ids}
    return Call(LOSSES, "losses", {**arrays, "mask": mask, "groups": groups})


def losses_backward(tokens: int) -> Call:
    """Their gradients."""
    call = losses(tokens)
    return backward_of(call.source, call.entry, ["x", "noisy"], call.arrays)


CAPACITIES = """
func.func @capacities(
    %ids: tensor<?x2xi32> {moe.name = "ids", moe.dims = ["T", ""]},
    %w: tensor<?x2xf32> {moe.name = "w", moe.dims = ["T", ""]})
    -> (tensor<?x2xi32> {moe.name = "first", moe.dims = ["T", ""]},
        tensor<?x2xf32> {moe.name = "first_w", moe.dims = ["T", ""]},
        tensor<?x2xi32> {moe.name = "best", moe.dims = ["T", ""]},
        tensor<?x2xf32> {moe.name = "best_w", moe.dims = ["T", ""]})
    attributes {moe.entry} {
  %0, %1 = moe.limit_capacity %ids, %w experts 6 by <fixed = 7>
      queue <first_come> : tensor<?x2xi32>, tensor<?x2xf32>
  %2, %3 = moe.limit_capacity %ids, %w experts 6 by <fixed = 7>
      queue <prioritized> : tensor<?x2xi32>, tensor<?x2xf32>
  return %0, %1, %2, %3 : tensor<?x2xi32>, tensor<?x2xf32>,
      tensor<?x2xi32>, tensor<?x2xf32>
}
"""


def capacities() -> Call:
    """The last that the last expert serves is the first of the second chunk,
    by order and in the queue."""
    rng = np.random.default_rng(6)
    ids = rng.integers(-1, 7, (71, 2)).astype(np.int32)
    ids[:, 0] %= 5
    early, late = np.arange(26, 33), np.arange(38, 45)
    ids[early, 0] = ids[late, 0] = 5
    others = rng.permutation(np.setdiff1d(np.arange(71), [*early, *late]))
    behind = rng.permutation([*others[26:], *early])
    queue = np.concatenate([others[:26], rng.permutation(late), behind])
    weights = rng.random(ids.shape, np.float32)
    weights[queue, 0] = np.arange(71, 0, -1) / 71
    return Call(CAPACITIES, "capacities", {"ids": ids, "w": weights})


def layouts_of(source: str) -> dict[str, str]:
    """The layouts that arguments have, by name: files do not say."""
    found = {}
    for facts in re.findall(r"\{([^{}]*moe\.layout[^{}]*)\}", source):
        name = re.search(r'moe\.name = "(\w+)"', facts)
        layout = re.search(r"moe\.layout = (#moe\.layout<[^<>]*>)", facts)
        if name and layout:
            found[name[1]] = layout[1]
    return found


def save_arguments(call: Call, folder: pathlib.Path) -> list[str]:
    """The words that give a call's arguments and sizes to moe-run."""
    words = [f"--dim={name}={size}" for name, size in call.dims.items()]
    for name, array in call.arrays.items():
        path = folder / f"{name}.npy"
        np.save(path, array)
        words.append(f"--arg={name}={path}")
    for name, layout in layouts_of(call.source).items():
        if name in call.arrays:
            words.append(f"--layout={name}={layout}")
    return words


def compile_library(call: Call, folder: pathlib.Path) -> pathlib.Path:
    """A call's layer as the emulator wants it."""
    source, library = folder / "layer.mlir", folder / "layer.so"
    source.write_text(call.source, encoding="utf-8")
    words = ["moe-compile", str(source), "--target=gpu-emulator"]
    run([*words, "-o", str(library)])
    return library
