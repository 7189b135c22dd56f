# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes PTX for every chip that an error message lists.

usage: emit_all_chips.py MOE_OPT MODULE.mlir MESSAGE
"""

import re
import subprocess
import sys


def main(tool: str, module: str, message: str) -> int:
    """Prints the PTX version of each chip; 1 where one gives no code."""
    with open(message, encoding="utf-8") as file:
        listed = re.search(r"known are (.*)", file.read())
    chips = listed.group(1).split(", ") if listed else []
    for chip in chips:
        done = subprocess.run(
            [tool, module, f"--moe-gpu=chip={chip}"],
            capture_output=True,
            text=True,
        )
        head = re.search(
            rf"(\.version [\d.]+)\\0A\.target {chip}\\0A", done.stdout
        )
        if done.returncode != 0 or not head:
            print(f"{chip}: exit code {done.returncode}, {done.stderr}")
            return 1
        print(f"{chip}: {head.group(1)}")
    print(f"{len(chips)} chips")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
