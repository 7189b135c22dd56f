# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the scripts of this example share: the images, their split, and the
weight file. NumPy only."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
DATA = HERE / "data" / "digits.csv.gz"
WEIGHTS = HERE / "digits.safetensors"
LAYER = HERE / "layer.mlir"

CLASSES = 10
PIXELS = 64
SPLIT_SEED = 20240
HELD_OUT = 600

# Tensors of the file that belong to the dense network of equal active size.
DENSE_PREFIX = "dense."

Weights = dict[str, np.ndarray]


class Split(NamedTuple):
    """One side of the split: pixels f32 [N, 64] in [0, 1], labels i64 [N]."""

    pixels: np.ndarray
    labels: np.ndarray


def load_split(seed: int = SPLIT_SEED) -> tuple[Split, Split]:
    """Returns (training images, held-out images); the seed fixes which."""
    with gzip.open(DATA, "rt", encoding="ascii") as stream:
        table = np.loadtxt(stream, delimiter=",", dtype=np.int64)
    order = np.random.default_rng(seed).permutation(len(table))
    pixels = (table[order, :PIXELS] / 16.0).astype(np.float32)
    labels = table[order, PIXELS]
    return (
        Split(pixels[HELD_OUT:], labels[HELD_OUT:]),
        Split(pixels[:HELD_OUT], labels[:HELD_OUT]),
    )


def warped(
    pixels: np.ndarray, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Random small affine warps of images [T, 64], read bilinearly.

    A strength of 1 moves an image by up to one pixel each way and bends each
    entry of the identity by up to 1/4.
    """
    count, side = len(pixels), 8
    bend = np.eye(2) + strength / 4 * rng.uniform(-1, 1, (count, 2, 2))
    shift = strength * rng.uniform(-1, 1, (count, 1, 2))
    centre = (side - 1) / 2
    grid = np.indices((side, side)).reshape(2, -1).T - centre
    # Coordinates in the image padded by one pixel of background.
    place = grid @ bend + shift + centre + 1
    corner = np.floor(place).astype(np.int64)
    share = place - corner
    padded = np.pad(
        pixels.reshape(count, side, side), ((0, 0), (1, 1), (1, 1))
    )
    image = np.arange(count)[:, None]
    result = np.zeros_like(pixels)
    for step in np.ndindex(2, 2):
        row, column = np.moveaxis(np.clip(corner + step, 0, side + 1), 2, 0)
        portion = np.abs(1 - np.array(step) - share).prod(axis=2)
        result += padded[image, row, column] * portion
    return result


def save_safetensors(
    path: Path, tensors: Weights, metadata: dict[str, str]
) -> None:
    """Writes f32 tensors of any shape; equal inputs give equal bytes."""
    header: dict[str, object] = {
        "__metadata__": dict(sorted(metadata.items()))
    }
    blobs = []
    offset = 0
    for name, tensor in sorted(tensors.items()):
        blob = np.ascontiguousarray(tensor, dtype="<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def load_safetensors(path: Path) -> tuple[Weights, dict[str, str]]:
    """Reads the f32 tensors that save_safetensors wrote, and the metadata."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise ValueError(f"{path}: {name} is {entry['dtype']}, not F32")
        begin, end = entry["data_offsets"]
        flat = np.frombuffer(content[start + begin : start + end], "<f4")
        tensors[name] = flat.reshape(entry["shape"])
    return tensors, metadata


def split_models(tensors: Weights) -> tuple[Weights, Weights]:
    """Separates a weight file into (MoE, dense), prefixes removed."""
    moe: Weights = {}
    dense: Weights = {}
    for name, tensor in tensors.items():
        if name.startswith(DENSE_PREFIX):
            dense[name.removeprefix(DENSE_PREFIX)] = tensor
        else:
            moe[name] = tensor
    return moe, dense
