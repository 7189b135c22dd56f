# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes the PTX of a module's one gpu.binary to a file.

usage: extract_ptx.py MODULE.mlir KERNEL.ptx
"""

import re
import sys

OBJECT = re.compile(r'assembly = "((?:[^"\\]|\\.)*)"')
ESCAPE = re.compile(r"\\([0-9A-Fa-f]{2}|.)")


def unescape(match: re.Match[str]) -> str:
    """Returns the character that MLIR's escape stands for."""
    code = match.group(1)
    return chr(int(code, 16)) if len(code) == 2 else code


def main(module: str, kernel: str) -> int:
    """Copies the text; 1 unless the module holds exactly one PTX object."""
    with open(module, encoding="utf-8") as file:
        found = OBJECT.findall(file.read())
    if len(found) != 1:
        print(f"{module}: {len(found)} PTX objects, not one", file=sys.stderr)
        return 1
    with open(kernel, "w", encoding="utf-8") as file:
        file.write(ESCAPE.sub(unescape, found[0]).rstrip("\0"))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
