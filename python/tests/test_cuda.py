# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Target cuda through the driver of the tests (test/lib/Driver), which runs
kernels by the emulator and ends a process that leaves something behind with
exit code 97."""

import os
import pathlib
import subprocess
import sys

import moe_mlir
import numpy as np
import pytest
from small_layer import SmallLayer

DRIVER = pathlib.Path(moe_mlir.__file__).parents[2] / "test" / "driver"
HERE = pathlib.Path(__file__).parent

pytestmark = pytest.mark.skipif(
    not (DRIVER / "libcuda.so.1").exists(), reason="no driver of the tests"
)

SCRIPT = """
import numpy as np
import moe_mlir
from small_layer import SmallLayer

def main():
    small = SmallLayer()
    arrays = small.draw(5)
    expected = moe_mlir.compile(small.source(), target="gpu-emulator")(**arrays)
    try:
        layer = moe_mlir.compile(small.source(), target="cuda")
        for _ in range(2):
            np.testing.assert_array_equal(layer(**arrays), expected)
        print("equal")
    except Exception as error:
        print(type(error).__name__, error, sep=": ")

main()
"""


GRADIENTS = """
import ctypes
import numpy as np
import moe_mlir
from small_layer import SmallLayer

def main():
    small = SmallLayer()
    arrays = small.draw(5)
    results = []
    for target in ("gpu-emulator", "cuda"):
        layer = moe_mlir.compile_gradients(
            small.source(), target=target, chip="sm_90"
        )
        values, saved = layer.forward(**arrays)
        results.append(layer.backward(saved, d_y=np.ones_like(values["y"])))
    for name in results[0]:
        np.testing.assert_array_equal(results[0][name], results[1][name])
    driver = ctypes.CDLL("libcuda.so.1")
    print(driver.moe_test_driver_calls(b"cuModuleLoadDataEx"), "image")

main()
"""


def run(
    options: str = "", folder: pathlib.Path = DRIVER, script: str = SCRIPT
) -> str:
    """What the script prints with the driver that `options` describe."""
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "MOE_TEST_DRIVER": options,
        "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_results_are_those_of_the_emulator():
    assert run() == "equal"


def test_forward_and_backward_share_the_gpu():
    assert run(script=GRADIENTS) == "1 image"


@pytest.mark.parametrize(
    "options, message",
    [
        ("devices=0", "RuntimeError: cuInit: no CUDA-capable device"),
        ("version=11070", "RuntimeError: the NVIDIA driver is too old: PTX"),
        ("capability=75", "RuntimeError: kernels for sm_80 do not run on"),
        ("memory=100", "MemoryError: layer: argument 'x' (input 0): GPU 0: "),
        ("fail=cuModuleLoadDataEx:1:218", "RuntimeError: loading kernels: a "),
    ],
)
def test_errors_are_exceptions(options, message):
    assert run(options).startswith(message)


def test_no_driver_is_an_exception(tmp_path):
    (tmp_path / "libcuda.so.1").write_text("text")
    message = run(folder=tmp_path)
    assert message.startswith("RuntimeError: there is no NVIDIA driver: ")


def test_an_unknown_chip_is_an_exception():
    source = SmallLayer().source()
    with pytest.raises(moe_mlir.CompileError, match="no GPU code for chip"):
        moe_mlir.compile(source, target="gpu-emulator", chip="sm_1")
    with pytest.raises(ValueError, match="a chip is of target cuda"):
        moe_mlir.compile(source, chip="sm_80")
    assert moe_mlir.compile(source, target="gpu-emulator", chip="sm_90a")


def test_arrays_of_the_cpu_need_no_alignment():
    small = SmallLayer()
    arrays = small.draw(5)
    layer = moe_mlir.compile(small.source(), target="gpu-emulator")
    expected = layer(**arrays)
    memory = np.zeros(arrays["x"].size + 1, np.float32)
    memory[1:] = arrays["x"].ravel()
    arrays["x"] = memory[1:].reshape(arrays["x"].shape)
    np.testing.assert_array_equal(layer(**arrays), expected)
