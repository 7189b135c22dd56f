# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""`benchmarks/gpu --device` through the driver of the tests, whose times are
the emulator's: that it runs, checks and labels, and what it refuses."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
DRIVER = ROOT / "build" / "test" / "driver"
TINY = "--shape=4,4,2,64,64"
EMULATED = "on driver of the tests (emulated)"
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu_device  # noqa: E402
from gpu_problem import Shape  # noqa: E402

needs_driver = pytest.mark.skipif(
    not (DRIVER / "libcuda.so.1").exists(), reason="no driver of the tests"
)


def run(
    *words: str, driver: str = "capability=80", folder: pathlib.Path = DRIVER
) -> subprocess.CompletedProcess[str]:
    """The benchmark with the driver that is described."""
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "MOE_TEST_DRIVER": driver,
    }
    return subprocess.run(
        [ROOT / "benchmarks" / "gpu", *words],
        env=environment,
        capture_output=True,
        text=True,
    )


@needs_driver
def test_times_name_the_device():
    done = run("--device", "--quick", "--rounds=1", "--json", TINY)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in map(json.loads, done.stdout.split("\n")[:-1])}
    where = f"T=4 E=4 k=2 H=64 I=64, {EMULATED}"
    assert rows[f"time of moe-mlir, {where}"]["value"] > 0
    assert rows[f"TFLOP/s of moe-mlir, {where}"]["unit"] == "TFLOP/s"
    assert all(name.endswith(EMULATED) for name in rows)
    assert not any("share" in name for name in rows)
    assert all(row["target"] is row["met"] is None for row in rows.values())
    # Each peer is there or said to be missing.
    for peer in ("PyTorch", "Triton"):
        there = any(peer in name for name in rows)
        assert there or f"not compared: {peer}" in done.stderr


@needs_driver
def test_a_table_for_people():
    done = run("--device", "--quick", "--rounds=1", TINY, driver="capability=90")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "device: driver of the tests (emulated), sm_90"
    assert lines[1].startswith("peak: none is known of this device")
    assert any(line.startswith("  moe-mlir ") for line in lines)


@needs_driver
@pytest.mark.parametrize(
    "driver, message",
    [
        ("devices=0", "cuInit: no CUDA-capable device is detected"),
        ("capability=75", "driver of the tests (emulated) is sm_75: kernels"),
        ("capability=80,version=11070", "the NVIDIA driver is too old: PTX"),
        ("capability=80,memory=5000", "GPU 0: 65536 bytes of memory: out of"),
        ("capability=80,fail=cuLaunchKernel:1:719", "layer_kernel: unspecif"),
    ],
)
def test_what_the_driver_refuses(driver, message):
    done = run("--device", "--quick", TINY, driver=driver)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_no_driver(tmp_path):
    (tmp_path / "libcuda.so.1").write_text("text")
    done = run("--device", TINY, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no NVIDIA driver: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words, message",
    [
        ([TINY], "--shape and --rounds go with --device"),
        (["--device", "--shape=1,2,3"], "is not five numbers T,E,k,H,I"),
        (["--device", "--shape=1,2,3,64,64"], "and k at most E"),
        (["--device", "--shape=1,2,2,63,64"], "multiples of 8"),
        (["--device", "--rounds=0"], "'0' is no number from 1"),
        (["--devices"], "unrecognized arguments: --devices"),
    ],
)
def test_wrong_options(words, message):
    done = run(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert done.stderr.count("\n") == 1


class FakeDevice(NamedTuple):
    name: str
    capability: int = 90


class FakeCall(NamedTuple):
    bytes: int


class FakeRace(NamedTuple):
    shape: Shape
    calls: list[FakeCall]


def test_shares_of_a_known_peak(capsys):
    shape = Shape(2, 4, 2, 8, 16)
    # 2 tokens of H = 8; k = 2 experts of 3 I and the router's 4.
    assert gpu_device.flops_of(shape) == 2 * 2 * 8 * (2 * 3 * 16 + 4)
    table = gpu_device.Table(FakeDevice("NVIDIA H100 80GB HBM3"), as_json=True)
    seconds = gpu_device.flops_of(shape) / 494.7e12
    race = FakeRace(shape, [FakeCall(10), FakeCall(20)])
    table.add(race, {"moe-mlir": seconds, "other": 2 * seconds})
    rows = map(json.loads, capsys.readouterr().out.splitlines())
    found = {row["name"]: row["value"] for row in rows}
    where = f"moe-mlir, {shape}, on NVIDIA H100 80GB HBM3"
    assert found[f"share of peak TFLOP/s of {where}"] == pytest.approx(0.5)
    assert found[f"GB/s of {where}"] == pytest.approx(15e-9 / seconds)
    other = where.replace("moe-mlir", "other")
    assert found[f"time to that of moe-mlir, of {other}"] == pytest.approx(2)


def test_wrong_numbers_end_the_run():
    race = gpu_device.Race.__new__(gpu_device.Race)
    race.shape, race.ways = Shape(2, 4, 2, 8, 16), []
    race.rows, race.wanted = np.array([0, 1]), np.ones((2, 8), np.float32)
    race.enter(gpu_device.Way("good", [], lambda: race.wanted * 1.003, 1))
    with pytest.raises(SystemExit, match="bad, T=2 .*: wrong by"):
        race.enter(gpu_device.Way("bad", [], lambda: race.wanted * 1.005, 1))
    assert [way.name for way in race.ways] == ["good"]


def test_bytes_are_of_chosen_experts():
    call = gpu_device.Call.__new__(gpu_device.Call)
    call.shape = Shape(2, 8, 2, 4, 16)
    call.routing = (np.array([[1, 5], [5, 1]]), None)
    # Two experts of 3 H I, a router of E H, x and y.
    assert call.bytes == 2 * (2 * 3 * 4 * 16 + 8 * 4 + 2 * 2 * 4)


@pytest.mark.parametrize(
    "name, peak",
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 PCIe", 756.5e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA H200 NVL", 835.5e12),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_peaks_by_name(name, peak, capsys):
    known = gpu_device.Table(FakeDevice(name), as_json=False).peak
    assert (known and known.flops) == peak
    assert ("none is known" in capsys.readouterr().out) == (peak is None)
