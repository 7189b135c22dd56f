# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes PTX for every chip that an error message lists, and runs it on a driver
of the tests that is too old for it.

usage: emit_all_chips.py DRIVER_FOLDER GATE.mlir MESSAGE MOE_RUN MOE_OPT...
"""

import os
import re
import subprocess
import sys


def run_too_old(run: str, driver: str, module: str, chip: str) -> str:
    """What moe-run says where the driver is of CUDA 11.0."""
    done = subprocess.run(
        [run, module, "--target=cuda", f"--chip={chip}", "--dim=T=2"]
        + ["--arg=x=ones", "--arg=router=ones"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "LD_LIBRARY_PATH": driver,
            "MOE_TEST_DRIVER": "version=11000",
        },
    )
    return done.stderr.strip()


def main(
    driver: str, module: str, message: str, run: str, *tool: str
) -> int:
    """Prints the PTX version of each chip; 1 where one gives no code or the
    runtime does not know what it needs."""
    with open(message, encoding="utf-8") as file:
        listed = re.search(r"known are (.*)", file.read())
    chips = listed.group(1).split(", ") if listed else []
    for chip in chips:
        done = subprocess.run(
            [*tool, module, f"--moe-gpu=chip={chip}"],
            capture_output=True,
            text=True,
        )
        head = re.search(
            rf"(\.version [\d.]+)\\0A\.target {chip}\\0A", done.stdout
        )
        if done.returncode != 0 or not head:
            print(f"{chip}: exit code {done.returncode}, {done.stderr}")
            return 1
        told = run_too_old(run, driver, module, chip)
        if "the NVIDIA driver is too old: PTX" not in told:
            print(f"{chip}: {told}")
            return 1
        print(f"{chip}: {head.group(1)}")
    print(f"{len(chips)} chips")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
