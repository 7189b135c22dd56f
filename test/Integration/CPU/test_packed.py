# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Packed weights: code for several processors, parts of the experts, copies.

The layer is compiled ahead of time for each processor that this machine can
stand in for, and judged by the oracle; sizes are no multiples of anything.
"""

from __future__ import annotations

import pathlib
import subprocess

import ml_dtypes
import moe_mlir
import numpy as np
import pytest

EXPERTS, HIDDEN, WIDTH = 5, 51, 37
DTYPES = {
    "f32": (np.dtype(np.float32), 2e-6),
    "bf16": (np.dtype(ml_dtypes.bfloat16), 2e-2),
    "f16": (np.dtype(np.float16), 2e-3),
}
# What of /proc/cpuinfo code for a processor needs.
PROCESSORS = {
    "x86-64-v3": {"avx2", "fma", "bmi2"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "sapphirerapids": {"avx512_bf16", "avx512_fp16", "amx_tile"},
    "znver4": {"avx512_bf16", "avx512_vbmi2", "avx512_vnni", "sha_ni"},
    "native": set(),
}
LAYOUTS = {
    "out by in": [],
    "in by out, interleaved": ["orientation=in_out", "down_orientation=in_out",
                               "pairing=interleaved"],
    "separate": ["pairing=separate"],
}  # fmt: skip


def processor_flags() -> set[str]:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":")[1].split())
    return set()


def source_of(dtype: str, *more: str) -> str:
    words = ["moe-compile", "--example", "layer"]
    sizes = [f"experts={EXPERTS}", f"hidden={HIDDEN}", f"inter={WIDTH}"]
    types = [f"{key}_dtype={dtype}" for key in ("x", "weight")]
    for setting in (*sizes, *types, *more):
        words += ["--set", setting]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return done.stdout


def draw(layer: moe_mlir.Layer, tokens: int) -> dict[str, np.ndarray]:
    stream = np.random.default_rng(tokens)
    operands = {}
    for argument in layer.inputs:
        shape = [tokens if isinstance(s, str) else s for s in argument.shape]
        dtype = DTYPES["bf16"][0]
        if argument.dtype != "bfloat16":
            dtype = np.dtype(argument.dtype)
        values = stream.standard_normal(shape, np.float32)
        scale = 1.0 if argument.name == "x" else shape[-1] ** -0.5
        operands[argument.name] = (values * scale).astype(dtype)
    return operands


def largest_error(found: np.ndarray, wanted: np.ndarray) -> float:
    wide = wanted.astype(np.float64)
    return float(
        np.abs(found.astype(np.float64) - wide).max() / np.abs(wide).max()
    )


def packed_operands(
    layer: moe_mlir.Layer, operands: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    weights = {a.name: operands[a.name] for a in layer.stored}
    rest = {n: a for n, a in operands.items() if n not in weights}
    return {**rest, **layer.pack(**weights)}


def to_tool(array: np.ndarray) -> np.ndarray:
    """What moe-run reads: NumPy's files have no bf16, and it rounds f32."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_processors(
    processor: str, dtype: str, tmp_path: pathlib.Path
) -> None:
    missing = PROCESSORS[processor] - processor_flags()
    if missing:
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
    source = source_of(dtype)
    oracle = moe_mlir.compile(source, target="oracle")
    (tmp_path / "layer.mlir").write_text(source)
    library = tmp_path / "layer.so"
    subprocess.run(
        ["moe-compile", tmp_path / "layer.mlir", "--pack-weights",
         f"--mcpu={processor}", "-o", library],
        check=True,
    )  # fmt: skip
    for tokens in (0, 1, 3, 29, 70):
        operands = draw(oracle, tokens)
        words = ["moe-run", library, "--entry=layer", "--threads=2"]
        for name, array in operands.items():
            path = tmp_path / f"{name}.npy"
            np.save(path, to_tool(array))
            words.append(f"--arg={name}={path}")
        for argument in oracle.stored:
            words.append(f"--layout={argument.name}={argument.layout}")
        subprocess.run([*words, f"--out=y={tmp_path}/y.npy"], check=True,
                       capture_output=True)  # fmt: skip
        found, wanted = np.load(tmp_path / "y.npy"), oracle(**operands)
        assert found.shape == wanted.shape
        if tokens:
            assert largest_error(found, wanted) < DTYPES[dtype][1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_do_not_depend_on_companions(dtype: str, layout: str) -> None:
    """All heights of tiles, and one and two threads, give the same bits."""
    source = source_of(dtype, *LAYOUTS[layout])
    one, two = (
        moe_mlir.compile(source, threads=n, pack_weights=True) for n in (1, 2)
    )
    stored = moe_mlir.compile(source)
    operands = draw(stored, 41)
    packed = packed_operands(one, operands)
    whole = one(**packed)
    wanted = moe_mlir.compile(source, target="oracle")(**operands)
    assert largest_error(whole, wanted) < DTYPES[dtype][1]
    assert np.array_equal(whole, two(**packed))
    for cut in (1, 2, 5, 12, 13, 20):
        for part in (slice(0, cut), slice(cut, None)):
            own = two(**{**packed, "x": packed["x"][part]})
            assert np.array_equal(own, whole[part])


def test_parts_of_the_experts() -> None:
    """A model can be packed as it is read, a few experts at a time."""
    layer = moe_mlir.compile(source_of("bf16"), pack_weights=True)
    operands = draw(moe_mlir.compile(source_of("bf16")), 1)
    weights = {a.name: operands[a.name] for a in layer.stored}
    whole = layer.pack(**weights)
    bounds = (0, 1, 3, EXPERTS)
    parts = [
        layer.pack(**{n: a[low:high] for n, a in weights.items()})
        for low, high in zip(bounds, bounds[1:])
    ]
    for name, array in whole.items():
        own = np.concatenate([part[name] for part in parts])
        assert np.array_equal(own.view(np.uint16), array.view(np.uint16))


def test_pack_names_what_is_wrong() -> None:
    layer = moe_mlir.compile(source_of("f32"), pack_weights=True)
    operands = draw(moe_mlir.compile(source_of("f32")), 1)
    with pytest.raises(TypeError, match="pack takes .*'down'.* missing"):
        layer.pack(gate_up=operands["gate_up"])
    with pytest.raises(ValueError, match="layer_pack: argument 'down'"):
        layer.pack(gate_up=operands["gate_up"], down=operands["down"][:, 1:])
    with pytest.raises(ValueError, match="pack_weights is of target cpu"):
        moe_mlir.compile(source_of("f32"), target="oracle", pack_weights=True)


def test_without_packing_is_a_copy() -> None:
    layer = moe_mlir.compile(source_of("f32"))
    operands = draw(layer, 3)
    weights = {a.name: operands[a.name] for a in layer.stored}
    for name, array in layer.pack(**weights).items():
        assert np.array_equal(array, operands[name])
