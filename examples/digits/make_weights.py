# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Trains the digits classifier and a dense network of equal active size.

Both are trained by the same code, on the same images, with the same epochs
and schedule: a dense network is a layer of one expert with top_k = 1. The
backward pass is written out by hand; NumPy is all that is needed.

  make_weights.py                    train both, write digits.safetensors
  make_weights.py --cross-validate   the table that chose the size, on training
                                     images
  make_weights.py --check-gradients  the backward pass against central
                                     differences
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

# One thread: sums are split the same way on every run, and the products are
# too small for more to help.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402

import digits  # noqa: E402
import reference  # noqa: E402
from digits import Split, Weights  # noqa: E402

LAYOUT = "#moe.layout<orientation = out_in>"


@dataclass(frozen=True)
class Settings:
    """One model and the way it is trained."""

    experts: int = 8
    hidden: int = 32
    inter: int = 8
    epochs: int = 360
    batch: int = 32
    rate: float = 3e-3
    decay: float = 0.05
    balance: float = 0.05
    noise: float = 1.0
    warp: float = 0.8
    seed: int = 1

    @property
    def top_k(self) -> int:
        return min(2, self.experts)


def dense_like(moe: Settings) -> Settings:
    """The dense network of the size that one image uses of `moe`.

    Its width is rounded up so that it also gets the router's parameters: it
    is never the smaller of the two.
    """
    router = moe.experts * moe.hidden
    per_width = 3 * moe.hidden
    extra = -(-router // per_width)
    return replace(moe, experts=1, inter=moe.top_k * moe.inter + extra)


def initial_weights(s: Settings) -> Weights:
    """Random weights, f64; names and shapes are those of layer.mlir."""
    rng = np.random.default_rng(s.seed)

    def normal(*shape: int, fan_in: int) -> np.ndarray:
        return rng.standard_normal(shape) * fan_in**-0.5

    h, i = s.hidden, s.inter
    return {
        "embed_weight": normal(digits.PIXELS, h, fan_in=digits.PIXELS),
        "embed_bias": np.zeros(h),
        "norm_scale": np.ones(h),
        "router_weight": normal(s.experts, h, fan_in=h),
        "gate_up": normal(s.experts, 2 * i, h, fan_in=h),
        "down": normal(s.experts, h, i, fan_in=i),
        "head_weight": normal(h, digits.CLASSES, fan_in=h),
        "head_bias": np.zeros(digits.CLASSES),
    }


def softmax(values: np.ndarray) -> np.ndarray:
    """Row-wise softmax of [T, N]."""
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def softmax_backward(probs: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """Gradient of the inputs of softmax [T, N] from that of its result."""
    return probs * (grad - (probs * grad).sum(axis=1, keepdims=True))


def loss_and_gradients(
    w: Weights,
    s: Settings,
    pixels: np.ndarray,
    labels: np.ndarray,
    noise: np.ndarray | float = 0.0,
) -> tuple[float, Weights]:
    """Cross entropy plus the Switch balance loss, and all gradients.

    pixels [T, 64], labels [T], noise [T, E] added to the router's scores. The
    choice of experts is a constant of the backward pass; the combine weights
    and the balance loss are not.
    """
    tokens = len(pixels)
    rows = np.arange(tokens)

    # Embedding, RMS norm.
    hidden = pixels @ w["embed_weight"] + w["embed_bias"]
    inverse = (
        np.mean(hidden**2, axis=1, keepdims=True) + reference.NORM_EPS
    ) ** -0.5
    unit = hidden * inverse
    normed = unit * w["norm_scale"]

    # Router: slots in expert order, as dispatch makes them.
    scores = normed @ w["router_weight"].T + noise
    ids = np.argsort(-scores, axis=1, kind="stable")[:, : s.top_k]
    route = softmax(np.take_along_axis(scores, ids, axis=1))
    slots = np.argsort(ids.ravel(), kind="stable")
    bounds = np.searchsorted(ids.ravel()[slots], np.arange(s.experts + 1))
    token_of = slots // s.top_k

    # Experts and combine.
    gathered = normed[token_of]
    output = np.empty_like(gathered)
    saved = []
    for e in range(s.experts):
        part = slice(bounds[e], bounds[e + 1])
        gate, up = np.split(gathered[part] @ w["gate_up"][e].T, 2, axis=1)
        sigmoid = 1.0 / (1.0 + np.exp(-gate))
        output[part] = (gate * sigmoid * up) @ w["down"][e].T
        saved.append((gate, up, sigmoid))
    slot_output = np.empty_like(output)
    slot_output[slots] = output
    slot_output = slot_output.reshape(tokens, s.top_k, -1)
    mixed = (slot_output * route[:, :, None]).sum(axis=1)

    # Classifier and losses.
    probs = softmax(mixed @ w["head_weight"] + w["head_bias"])
    loss = -np.mean(np.log(probs[rows, labels] + 1e-300))
    fraction = np.diff(bounds) / len(slots)
    router_probs = softmax(scores)
    loss += s.balance * s.experts * (fraction @ router_probs.mean(axis=0))

    grads: Weights = {}
    d_logits = probs.copy()
    d_logits[rows, labels] -= 1.0
    d_logits /= tokens
    grads["head_weight"] = mixed.T @ d_logits
    grads["head_bias"] = d_logits.sum(axis=0)
    d_mixed = d_logits @ w["head_weight"].T

    d_route = (slot_output * d_mixed[:, None, :]).sum(axis=2)
    d_output = (route[:, :, None] * d_mixed[:, None, :]).reshape(
        len(slots), -1
    )
    d_output = d_output[slots]
    d_gathered = np.empty_like(gathered)
    grads["gate_up"] = np.empty_like(w["gate_up"])
    grads["down"] = np.empty_like(w["down"])
    for e, (gate, up, sigmoid) in enumerate(saved):
        part = slice(bounds[e], bounds[e + 1])
        silu = gate * sigmoid
        grads["down"][e] = d_output[part].T @ (silu * up)
        d_act = d_output[part] @ w["down"][e]
        d_gate = d_act * up * (sigmoid + silu * (1.0 - sigmoid))
        d_pair = np.concatenate([d_gate, d_act * silu], axis=1)
        grads["gate_up"][e] = d_pair.T @ gathered[part]
        d_gathered[part] = d_pair @ w["gate_up"][e]
    d_slots = np.empty_like(d_gathered)
    d_slots[slots] = d_gathered
    d_normed = d_slots.reshape(tokens, s.top_k, -1).sum(axis=1)

    d_chosen = softmax_backward(route, d_route)
    d_scores = softmax_backward(
        router_probs,
        np.broadcast_to(
            s.balance * s.experts * fraction / tokens, scores.shape
        ),
    )
    d_scores[rows[:, None], ids] += d_chosen
    grads["router_weight"] = d_scores.T @ normed
    d_normed += d_scores @ w["router_weight"]

    grads["norm_scale"] = (d_normed * unit).sum(axis=0)
    d_unit = d_normed * w["norm_scale"]
    d_hidden = inverse * (
        d_unit - unit * np.mean(d_unit * unit, axis=1, keepdims=True)
    )
    grads["embed_weight"] = pixels.T @ d_hidden
    grads["embed_bias"] = d_hidden.sum(axis=0)
    return float(loss), grads


def train(s: Settings, data: Split) -> Weights:
    """AdamW; the rate and the router noise follow a cosine down to zero.

    Returns the final weights in f32.
    """
    w = initial_weights(s)
    first = {name: np.zeros_like(tensor) for name, tensor in w.items()}
    second = {name: np.zeros_like(tensor) for name, tensor in w.items()}
    rng = np.random.default_rng([s.seed, 1])
    pixels = data.pixels.astype(np.float64)
    per_epoch = -(-len(pixels) // s.batch)
    steps = s.epochs * per_epoch
    for step in range(steps):
        if step % per_epoch == 0:
            order = rng.permutation(len(pixels))
        cosine = 0.5 * (1.0 + np.cos(np.pi * step / steps))
        rate = s.rate * cosine
        begin = step % per_epoch * s.batch
        pick = order[begin : begin + s.batch]
        _, grads = loss_and_gradients(
            w,
            s,
            digits.warped(pixels[pick], s.warp, rng),
            data.labels[pick],
            cosine * s.noise * rng.standard_normal((len(pick), s.experts)),
        )
        for name, grad in grads.items():
            first[name] += 0.1 * (grad - first[name])
            second[name] += 0.01 * (grad**2 - second[name])
            mean = first[name] / (1.0 - 0.9 ** (step + 1))
            spread = np.sqrt(second[name] / (1.0 - 0.99 ** (step + 1)))
            if w[name].ndim > 1:
                w[name] *= 1.0 - rate * s.decay
            w[name] -= rate * mean / (spread + 1e-8)
    return {name: tensor.astype(np.float32) for name, tensor in w.items()}


def rotated(weights: Weights) -> Weights:
    """Every router row meets its neighbour's expert."""
    return reference.permute_experts(
        weights, np.roll(np.arange(len(weights["gate_up"])), -1)
    )


def folds(data: Split, count: int) -> list[tuple[Split, Split]]:
    """(training part, validation part) of each fold of the training images."""
    which = np.arange(len(data.labels)) % count
    return [
        (
            Split(data.pixels[which != f], data.labels[which != f]),
            Split(data.pixels[which == f], data.labels[which == f]),
        )
        for f in range(count)
    ]


def check_gradients(count: int = 24, step: float = 1e-6) -> bool:
    """Compares every gradient with central differences in f64."""
    passed = True
    data = digits.load_split()[0]
    pixels = data.pixels[:count].astype(np.float64)
    labels = data.labels[:count]
    moe = Settings(hidden=16, inter=4)
    for s in (moe, dense_like(moe)):
        rng = np.random.default_rng(7)
        w = initial_weights(s)
        noise = 0.3 * rng.standard_normal((count, s.experts))
        _, grads = loss_and_gradients(w, s, pixels, labels, noise)
        print(f"{s.experts} experts, top {s.top_k}: largest relative error")
        for name, tensor in w.items():
            worst = 0.0
            for _ in range(20):
                at = tuple(rng.integers(0, size) for size in tensor.shape)
                kept = tensor[at]
                sides = []
                for side in (step, -step):
                    tensor[at] = kept + side
                    sides.append(
                        loss_and_gradients(w, s, pixels, labels, noise)[0]
                    )
                tensor[at] = kept
                slope = (sides[0] - sides[1]) / (2 * step)
                worst = max(worst, abs(slope - grads[name][at]))
            # The router of a lone expert has no gradient at all.
            worst /= np.abs(grads[name]).max() or 1.0
            passed &= bool(worst < 1e-6)
            print(
                f"  {name:<14} {worst:.1e}{'' if worst < 1e-6 else '  FAIL'}"
            )
    return passed


def measure(weights: Weights, data: Split) -> float:
    """Accuracy of the f64 reference."""
    logits = reference.forward(weights, data.pixels).logits
    return reference.accuracy(logits, data.labels)


def cross_validate(settings: Settings, widths: list[int], count: int) -> None:
    """Table of the validation accuracy by width, on training images only."""
    data, _ = digits.load_split()
    print(
        f"H={settings.hidden}, {count} folds of {len(data.labels)} training "
        "images, mean accuracy"
    )
    print(f"{'I':>4} {'MoE':>9} {'dense':>9} {'rotated':>9} {'folds won':>10}")
    for inter in widths:
        s = replace(settings, inter=inter)
        rows = []
        for part, validation in folds(data, count):
            moe = train(s, part)
            dense = train(dense_like(s), part)
            models = (moe, dense, rotated(moe))
            rows.append([measure(model, validation) for model in models])
        table = np.array(rows)
        means = "".join(f" {mean:>9.2%}" for mean in table.mean(axis=0))
        won = np.sum(table[:, 0] >= table[:, 1])
        print(f"{inter:>4}{means} {won:>7}/{count}", flush=True)


def train_and_save(settings: Settings, path: Path) -> None:
    """Trains both networks on all training images and writes the weights."""
    data, held_out = digits.load_split()
    dense_settings = dense_like(settings)
    tensors: Weights = {}
    metadata = {
        "split_seed": str(digits.SPLIT_SEED),
        "held_out_images": str(digits.HELD_OUT),
        "moe.layout.gate_up": LAYOUT,
        "moe.layout.down": LAYOUT,
    }
    print(
        f"{'':<18} {'active':>8} {'all':>8} {'training':>9} "
        f"{'held-out':>9} {'seconds':>8}"
    )
    for name, prefix, s in (
        ("MoE, top 2 of 8", "", settings),
        ("dense", digits.DENSE_PREFIX, dense_settings),
    ):
        start = time.perf_counter()
        weights = train(s, data)
        seconds = time.perf_counter() - start
        accuracy = measure(weights, held_out)
        print(
            f"{name:<18} {reference.active_parameters(weights):>8,} "
            f"{reference.parameters(weights):>8,} "
            f"{measure(weights, data):>9.2%} {accuracy:>9.2%} {seconds:>8.1f}"
        )
        tensors |= {prefix + key: tensor for key, tensor in weights.items()}
        metadata[f"{prefix}settings"] = json.dumps(asdict(s))
        metadata[f"{prefix}held_out_accuracy"] = f"{accuracy:.6f}"
        if not prefix:
            metadata["rotated_held_out_accuracy"] = (
                f"{measure(rotated(weights), held_out):.6f}"
            )
            print(
                f"{'  experts rotated':<18} {'':>27} "
                f"{measure(rotated(weights), held_out):>9.2%}"
            )
    digits.save_safetensors(path, tensors, metadata)
    print(f"wrote {path}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-o", type=Path, default=digits.WEIGHTS)
    parser.add_argument("--check-gradients", action="store_true")
    parser.add_argument("--cross-validate", action="store_true")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--hidden", type=int, default=Settings.hidden)
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    options = parser.parse_args()
    settings = Settings(
        hidden=options.hidden, epochs=options.epochs, seed=options.seed
    )
    if options.check_gradients:
        return 0 if check_gradients() else 1
    if options.cross_validate:
        cross_validate(settings, options.widths, options.folds)
    else:
        train_and_save(settings, options.o)
    return 0


if __name__ == "__main__":
    sys.exit(main())
