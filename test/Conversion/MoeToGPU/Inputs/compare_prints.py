# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compares two printed sets of tensors: integers exactly, floats to 1e-5.

usage: compare_prints.py FILE REFERENCE COUNT [ABSOLUTE]

ABSOLUTE is how far sums may differ whose terms cancel; 0 if it is left out.
"""

import math
import re
import sys

HEADER = re.compile(r"^Unranked Memref .*$", re.MULTILINE)
NUMBER = re.compile(r"-?nan|-?inf|-?\d+(?:\.\d+)?(?:e[-+]\d+)?")
TOLERANCE = 1e-5  # Six digits are printed.


def read(path: str) -> list[str]:
    """Returns the numbers of a file as text, without the tensors' headers."""
    with open(path, encoding="utf-8") as file:
        return NUMBER.findall(HEADER.sub("", file.read()))


def agree(found: str, wanted: str, absolute: float) -> bool:
    """True for equal integers, near floats, and NaN with NaN."""
    if found == wanted:
        return True
    if not set(found + wanted) & set(".en"):
        return False
    x, y = float(found), float(wanted)
    if math.isnan(x) or math.isnan(y):
        return math.isnan(x) and math.isnan(y)
    return math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=absolute)


def main(
    path: str, reference: str, count: str, absolute: str = "0"
) -> int:
    """Prints the first difference; 1 if there is one."""
    found, wanted = read(path), read(reference)
    if len(found) != int(count) or len(wanted) != int(count):
        print(f"{len(found)} and {len(wanted)} numbers, not {count}")
        return 1
    for place, (x, y) in enumerate(zip(found, wanted)):
        if not agree(x, y, float(absolute)):
            print(f"number {place} is {x}, in the reference {y}")
            return 1
    print(f"{count} numbers agree")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
