# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Judges one random layer of random_routers, in a process of its own.

usage: router_judge.py SEED FOLDER [--backward-of-oracle] ROAD...

Prints a JSON object: what is wrong, how many rows were drawn again, and the
layer. The IR is left in FOLDER.

Forward: the oracle in f64 is compared with NumPy where there is a reference;
every road in the layer's own types is compared with the oracle in f64 (in its
own types where these have 16 bits). Rows whose choice would change with a
relative move of the operands by 2e-5 are drawn again before, so that ids are
equal or wrong.

Backward: the compiled gradient against differences of the oracle in f64 along
random directions, of the layer or, where the rule is straight-through, of what
it is the derivative of (router_surrogates.py); and against the oracle's
backward of the same forward with --backward-of-oracle, and where the layer has
16 bits.
"""

from __future__ import annotations

import json
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import moe_mlir
import numpy as np
import roads
import router_layers
import router_surrogates

import compare  # noqa: E402, found by way of roads
import routed_layers  # noqa: E402
from draw import Stream  # noqa: E402
from random_routers import RouterLayer, random_router  # noqa: E402

# How far operands are moved to see whether a choice is clear, and what is a
# jump of a weight: twenty roundings of f32, a hundred times that.
MOVE, JUMP = 2e-5, 2e-3
MOVES = 3
ATTEMPTS = 60
# NumPy sums in another order than the oracle.
REFERENCE = 1e-10
# A gradient is up to four products after each other.
GRADIENT = 4.0
STEP = 1e-7
DIFFERENCES = 1e-6

Arrays = dict[str, np.ndarray]


def run(compiled: moe_mlir.Layer, arrays: Arrays) -> Arrays:
    """Results by name."""
    names = [argument.name for argument in compiled.outputs]
    return dict(zip(names, compiled(**arrays), strict=True))


def exactly(entry: router_layers.Entry) -> Callable[[Arrays], Arrays]:
    """The oracle of an entry in f64."""
    compiled = moe_mlir.compile(entry.source, target="oracle", threads=1)
    return lambda operands: run(compiled, entry.arrays(operands))


class Judge:
    """One layer, and what is found to be wrong with it."""

    def __init__(self, layer: RouterLayer, folder: pathlib.Path) -> None:
        self.layer = layer
        self.folder = folder
        self.texts: list[str] = []
        self.redrawn = 0
        self.is_narrow = layer.storage in ("bf16", "f16")
        self.wide = layer.widened()
        entry = router_layers.Text(self.wide, exposed=True).entry()
        self.run_exact = exactly(entry)
        self.operands = router_layers.draw_operands(layer)
        self.wanted = self.run_exact(self.operands)

    # What is compared.

    def fragile_tokens(self) -> set[int]:
        """Tokens whose choice hangs on the last places of an operand."""
        out: set[int] = set()
        if "ids" not in self.wanted:
            return out
        for turn in range(MOVES):
            moved = {}
            for name, values in self.operands.items():
                moved[name] = values
                if values.dtype == np.float64:
                    stream = Stream(self.layer.seed, "move", name, turn)
                    factor = 1.0 + MOVE * stream.normal(*values.shape)
                    moved[name] = np.asarray(values * factor)
            found = self.run_exact(moved)
            ids, other = self.wanted["ids"], found["ids"]
            weights = self.wanted["w"]
            size = np.max(np.abs(weights), axis=1, keepdims=True, initial=0)
            differ = ids != other
            differ |= np.abs(found["w"] - weights) > JUMP * size
            if self.layer.kind == "expert_choice":
                out |= {int(t) for t in ids[differ]}
                out |= {int(t) for t in other[differ]}
            else:
                out |= {int(t) for t in np.flatnonzero(differ.any(axis=1))}
            if "l1_balance" in self.layer.losses:
                # Counts of positive logits.
                jumps = (found["logits" if "logits" in found else "values"] > 0
                         ) != (self.known_values() > 0)  # fmt: skip
                out |= {int(t) for t in np.flatnonzero(jumps.any(axis=1))}
        return out - {-1}

    def known_values(self) -> np.ndarray:
        """What the choice reads."""
        name = "values" if "values" in self.wanted else "logits"
        return self.wanted[name]

    def settle(self) -> None:
        """Draws rows again until no choice is fragile."""
        attempts = [0] * self.layer.tokens
        for _ in range(ATTEMPTS):
            fragile = self.fragile_tokens()
            if not fragile:
                return
            for token in fragile:
                attempts[token] += 1
                self.operands["x"][token] = router_layers.draw_row(
                    self.layer, token, attempts[token]
                )
            self.redrawn += len(fragile)
            self.wanted = self.run_exact(self.operands)
        raise AssertionError(f"no clear-cut inputs; {sorted(fragile)}")

    def judge_reference(self) -> None:
        """The oracle in f64 against NumPy."""
        layer, known = self.layer, self.known_values()
        values = routed_layers.values_of(layer, self.operands)
        if layer.mix and layer.mask:
            known = known[self.operands["mask"]]
            values = values[self.operands["mask"]]
        scale = np.max(np.abs(values), initial=1.0, where=np.isfinite(values))
        if not np.allclose(known, values, REFERENCE, REFERENCE * scale):
            self.texts.append("oracle: other values than the reference")
        routed = routed_layers.routing_of(
            layer, self.operands, self.known_values()
        )
        for name, wanted in routed.items():
            found = self.wanted[name]
            if layer.kind == "expert_choice":
                # There may be room for more than the groups give.
                rest = found[:, wanted.shape[1] :]
                found = found[:, : wanted.shape[1]]
                empty = -1 if name == "ids" else 0
                if np.any(rest != empty):
                    self.texts.append(f"oracle: {name} past the last group")
            if name.startswith("ids"):
                same = np.array_equal(found, wanted)
            else:
                same = np.allclose(found, wanted, 1e-9, 1e-14)
            if not same:
                self.texts.append(f"oracle: other {name} than the reference")

    def compare(
        self, road: str, found: Arrays, wanted: Arrays, dtype: str
    ) -> None:
        """Results by their tolerances; `dtype` is that of rows."""
        allowed = compare.TOLERANCE[dtype]
        routing = compare.TOLERANCE[self.layer.compute]
        for name, value in found.items():
            if name not in wanted:
                continue
            other, limit = wanted[name], routing
            if value.dtype.kind == "i":
                if not np.array_equal(value, other):
                    at = np.flatnonzero((value != other).any(axis=1))
                    self.texts.append(
                        f"{road}: {name}{at}: {value[at]}, not {other[at]}"
                    )
                continue
            value = value.astype(np.float64)
            other = other.astype(np.float64)
            if name in ("y", "d"):
                limit = allowed if name == "y" else routing
                sizes = np.linalg.norm(other, axis=1)
                # Terms that cancel, as those of the other rows suggest.
                usual = np.sqrt(np.mean(sizes**2)) if len(sizes) else 0.0
                errors = compare.row_errors(
                    value, other, np.where(sizes > 0, usual, 0.0)
                )
            elif value.ndim == 0:
                size = max(
                    abs(float(other)),
                    router_layers.COEFFICIENT * compare.CANCELLATION_FLOOR,
                )
                errors = np.nan_to_num(abs(value - other) / size, nan=np.inf)
            else:
                errors = compare.weight_errors(value, other)
            worst = np.max(errors, initial=0.0)
            if worst > limit:
                self.texts.append(
                    f"{road}: {name} off by {worst:.3g} > {limit:.3g}"
                )

    def judge_forward(self, wanted_roads: list[str]) -> None:
        """All roads in the layer's own types."""
        layer = self.layer
        entry = router_layers.Text(layer).entry()
        path = self.folder / f"{layer.seed}.router.mlir"
        path.write_text(entry.source)
        arrays = entry.arrays(self.operands)
        # Rounded rows are other numbers than those of f64.
        wanted = dict(self.wanted)
        if self.is_narrow:
            del wanted["y"]
        for road in sorted(wanted_roads, key="oracle".__ne__):
            source, target, operands = entry.source, road, arrays
            if road == "linalg":
                source, target = roads.to_linalg(path), "cpu"
            packs = road == "packed"
            compiled = moe_mlir.compile(
                source,
                target="cpu" if packs else target,
                threads=2,
                pack_weights=packs,
            )
            if packs:
                operands = dict(arrays)
                weights = {
                    a.name: operands.pop(a.name) for a in compiled.stored
                }
                operands.update(compiled.pack(**weights))
            found = run(compiled, operands)
            if road == "oracle" and self.is_narrow:
                wanted = {**wanted, "y": found["y"]}
            self.compare(road, found, wanted, layer.storage)

    # Gradients.

    def judge_backward(self, with_oracle: bool) -> None:
        """The compiled backward, by both its judges."""
        layer = self.layer
        entry = router_layers.Text(layer).entry()
        text, arrays = entry.source, entry.arrays(self.operands)
        compiled = moe_mlir.compile_gradients(text, target="cpu", threads=2)
        results, saved = compiled.forward(**arrays)
        wanted = dict(self.wanted)
        if self.is_narrow:
            del wanted["y"]
        self.compare("cpu's forward", results, wanted, layer.storage)
        cotangents = {
            f"d_{name}": value for name, value in self.draw_like(results)
        }
        found = compiled.backward(saved, **cotangents)
        size = self.loss_size(results, cotangents)
        self.judge_idle(found)
        if not self.is_narrow and not layer.has_kinks:
            self.judge_slopes(found, cotangents, size)
        if with_oracle or self.is_narrow:
            other = moe_mlir.compile_gradients(
                text, target="oracle", threads=1
            )
            naive = other.backward(saved, **cotangents)
            self.compare_gradients(found, naive, arrays, size)

    def draw_like(self, results: Arrays) -> Iterator[tuple[str, np.ndarray]]:
        """Random numbers for every result but ids."""
        for name, value in results.items():
            if value.dtype.kind != "i":
                stream = Stream(self.layer.seed, "cotangent", name)
                drawn = stream.normal(*value.shape)
                yield name, np.asarray(drawn, dtype=value.dtype)

    @staticmethod
    def loss_size(results: Arrays, cotangents: Arrays) -> float:
        """The size of the terms of sum <cotangent, result>."""
        squares = 0.0
        for name, cotangent in cotangents.items():
            value = results[name[2:]].astype(float)
            squares += float(np.sum((value * cotangent.astype(float)) ** 2))
        return squares**0.5

    @staticmethod
    def least_size(size: float, values: np.ndarray) -> float:
        """What a gradient counts as at least: a share of what the values as a
        whole would have if the loss were linear in them."""
        values = values.astype(float)
        finite = values[np.isfinite(values)]
        norm = float(np.linalg.norm(finite))
        return compare.CANCELLATION_FLOOR * size / norm if norm else 0.0

    def judge_idle(self, found: Arrays) -> None:
        """Weights of experts without tokens have zeros."""
        if "ids" not in self.wanted:
            return
        count, ids = self.layer.experts, self.wanted["ids"]
        if self.layer.kind == "expert_choice":
            idle = (ids < 0).all(axis=1)
        else:
            idle = ~np.isin(np.arange(count), ids)
        for name in router_layers.expert_weights(self.layer).tensors():
            own = found[f"d_{name}"].astype(float).reshape(count, -1)
            if np.any(own[idle] != 0.0):
                self.texts.append(f"cpu: d_{name} of experts without tokens")

    def smooth_forward(self) -> Callable[[Arrays], Arrays]:
        """What the gradient is the derivative of, in f64."""
        if not self.layer.is_surrogate:
            return self.run_exact
        surrogate = router_surrogates.Surrogate(self.wide).entry()
        ids = self.wanted.get("ids0", self.wanted["ids"])
        constants = router_surrogates.constants_of(
            self.wide, self.operands, ids, self.known_values()
        )
        compiled = exactly(surrogate)
        found = compiled({**self.operands, **constants})
        if "m" in found:
            constants["marginals"] = found["m"]
        return lambda operands: compiled({**operands, **constants})

    def judge_slopes(
        self, found: Arrays, cotangents: Arrays, size: float
    ) -> None:
        """Gradients along random directions against differences."""
        layer, forward = self.layer, self.smooth_forward()
        centre = forward(self.operands)
        if not np.allclose(centre["y"], self.wanted["y"], 1e-9, 1e-12):
            self.texts.append("the surrogate's y is not the layer's")
        allowed = GRADIENT * compare.TOLERANCE[layer.compute]
        allowed = max(allowed, DIFFERENCES)
        for name, gradient in found.items():
            values = self.operands[name[2:]]
            least = self.least_size(size, values)
            errors = []
            for turn in range(3):
                stream = Stream(layer.seed, "direction", name, turn)
                direction = np.where(
                    np.isfinite(values), stream.normal(*values.shape), 0.0
                )
                slope = self.slope(
                    forward, centre, name[2:], direction, cotangents
                )
                if slope is None:
                    continue
                terms = np.where(
                    direction == 0.0, 0.0, gradient.astype(float) * direction
                )
                limit = np.linalg.norm(terms)
                limit += least * np.linalg.norm(direction) / np.sqrt(
                    max(1, direction.size)
                )
                error = abs(np.sum(terms) - slope)
                errors.append(error / limit if limit else error)
                if not errors[-1] > allowed:
                    break
            # A kink of the forward may lie in one direction.
            least_error = min(errors, default=np.inf)
            if not least_error <= allowed or np.isnan(errors).any():
                self.texts.append(
                    f"cpu: {name} off by {least_error:.3g} > {allowed:.3g} "
                    "of differences"
                )

    def slope(
        self,
        forward: Callable[[Arrays], Arrays],
        centre: Arrays,
        name: str,
        direction: np.ndarray,
        cotangents: Arrays,
    ) -> float | None:
        """A central difference; None where ids change on the way."""
        sums = []
        for step in (STEP, -STEP):
            values = np.asarray(self.operands[name] + step * direction)
            results = forward({**self.operands, name: values})
            if "ids" in results:
                if not np.array_equal(results["ids"], centre["ids"]):
                    return None
            total = 0.0
            for result, cotangent in cotangents.items():
                change = results[result[2:]] - centre[result[2:]]
                total += float(np.sum(cotangent.astype(float) * change))
            sums.append(total)
        return (sums[0] - sums[1]) / (2 * STEP)

    def compare_gradients(
        self, found: Arrays, naive: Arrays, arrays: Arrays, size: float
    ) -> None:
        """Row by row; rows of zeros of tokens and experts are equal."""
        exact = {"d_x"} | {
            f"d_{name}"
            for name in router_layers.expert_weights(self.layer).tensors()
        }
        for name, wanted in naive.items():
            values = arrays[name[2:]]
            dtype = wanted.dtype.name.replace("float", "f")
            allowed = GRADIENT * compare.TOLERANCE[dtype]
            least = self.least_size(size, values)
            rows = wanted.shape[0] if wanted.ndim else 1
            columns = wanted.size // max(1, rows)
            other = wanted.astype(float).reshape(rows, columns)
            value = found[name].astype(float).reshape(other.shape)
            sizes = np.linalg.norm(other, axis=1)
            floor = least / np.sqrt(max(1, len(other)))
            magnitude = np.full(rows, floor / compare.CANCELLATION_FLOOR)
            if name in exact:
                magnitude[sizes == 0.0] = 0.0
            errors = compare.row_errors(value, other, magnitude)
            worst = np.max(errors, initial=0.0)
            if worst > allowed:
                self.texts.append(
                    f"cpu: {name}[{int(errors.argmax())}] off by {worst:.3g} "
                    f"> {allowed:.3g} of the oracle's"
                )


def judge(
    seed: int,
    folder: pathlib.Path,
    wanted_roads: list[str],
    with_oracle: bool = False,
) -> dict[str, Any]:
    """What is wrong with the layer of a seed."""
    layer = random_router(seed)
    own = Judge(layer, folder)
    own.settle()
    for name, value in own.wanted.items():
        if value.dtype.kind == "f" and np.isnan(value).any():
            own.texts.append(f"oracle: NaN in {name}")
    own.judge_reference()
    own.judge_forward(wanted_roads)
    if layer.has_backward and "cpu" in wanted_roads:
        own.judge_backward(with_oracle)
    return {
        "texts": own.texts,
        "redrawn": own.redrawn,
        "layer": layer.stated(),
    }


def main() -> int:
    """The command line."""
    # Not every choice is fused with its gate.
    warnings.simplefilter("ignore", moe_mlir.CompileWarning)
    np.seterr(all="ignore")
    words = [word for word in sys.argv[1:] if word != "--backward-of-oracle"]
    seed, folder, *wanted_roads = words
    with_oracle = len(words) < len(sys.argv) - 1
    found = judge(int(seed), pathlib.Path(folder), wanted_roads, with_oracle)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
