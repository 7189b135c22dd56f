# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Trains a small vision transformer once for each router, and compares them.

The layers with experts are compiled, forward and backward; the rest is NumPy.
Prints a table, writes it with a plot into a folder, and says which claims of
the routers' papers hold at this size, from the numbers of this run. Exit
status 1 if a bar at the end is missed.

  train.py                     all routers, some minutes
  train.py --quick             one router, 30 steps: does it run
  train.py --layer reference   the layers in NumPy as well
  train.py --print-layer soft  the IR that is trained

The weights of `scripts/demo` are made by make_weights.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import claims, command, layers  # noqa: E402
from task import Images  # noqa: E402


def main() -> int:
    task = Images()
    return command.main(
        command.Example(
            description=__doc__,
            task=task,
            routers=(*layers.CAUSAL, *layers.GLOBAL),
            claims=[*claims.CAUSAL_CLAIMS, *claims.GLOBAL_CLAIMS],
            held_out=task.held_out,
            told=task.told,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
