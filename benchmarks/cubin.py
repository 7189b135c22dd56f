# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What ptxas makes of PTX: registers, memory, and the machine's instructions.

An instruction has 16 bytes, and its low 9 bits name the operation. OPERATIONS
has those that kernels are judged by; test/Integration/GPU/test_assembly.py
finds each anew, for every chip, in what ptxas makes of a few lines.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

OPERATIONS = {
    0x020: "FMUL",
    0x021: "FADD",
    0x023: "FFMA",
    0x02B: "DFMA",
    0x03B: "LDSM",
    0x03C: "HMMA",
    0x108: "MUFU",
    0x11A: "DEPBAR",
    0x11D: "BAR",
    0x181: "LDG",
    0x183: "LDL",
    0x184: "LDS",
    0x186: "STG",
    0x187: "STL",
    0x188: "STS",
    0x189: "SHFL",
    0x18E: "REDG",
    0x1A8: "ATOMG",
    0x1AE: "LDGSTS",
    0x1AF: "LDGDEPBAR",
}
PADDING = 0x118  # NOP


class Chip(NamedTuple):
    """What a multiprocessor has, of the CUDA programming guide's table."""

    warps: int
    blocks: int
    shared: int  # Bytes; a block takes RESERVED more than it asks for.


CHIPS = {
    "sm_80": Chip(64, 32, 164 << 10),
    "sm_90": Chip(64, 32, 228 << 10),
    "sm_100": Chip(64, 32, 228 << 10),
    "sm_120": Chip(48, 24, 100 << 10),
}
REGISTERS = 65536
RESERVED = 1024


class Kernel(NamedTuple):
    """One kernel as assembled."""

    name: str
    threads: int  # Of a block.
    registers: int
    spills: int  # Bytes stored and loaded.
    stack: int  # Bytes of a thread.
    shared: int  # Bytes of a block.
    instructions: int
    mix: dict[str, int]

    def warps(self, chip: str) -> int:
        """Warps that are on a multiprocessor together."""
        most = CHIPS[chip]
        own = -(-self.threads // 32)
        # Registers are given out to a warp in pieces of 256.
        for_warp = -(-32 * self.registers // 256) * 256
        blocks = min(
            most.blocks,
            most.warps // own,
            REGISTERS // for_warp // own,
            most.shared // (self.shared + RESERVED),
        )
        return blocks * own


def find_ptxas() -> str | None:
    """The assembler's path, or None."""
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        path = Path(os.environ.get(variable, "")) / "bin" / "ptxas"
        if variable in os.environ and os.access(path, os.X_OK):
            return str(path)
    return shutil.which("ptxas") or shutil.which("/usr/local/cuda/bin/ptxas")


def read_code(cubin: bytes) -> dict[str, bytes]:
    """The machine code of each kernel of an ELF file."""
    headers = struct.unpack_from("<Q", cubin, 40)[0]
    size, count, names = struct.unpack_from("<HHH", cubin, 58)
    strings = struct.unpack_from("<Q", cubin, headers + names * size + 24)[0]
    found = {}
    for number in range(count):
        at = headers + number * size
        begin = strings + struct.unpack_from("<I", cubin, at)[0]
        name = cubin[begin : cubin.index(b"\0", begin)].decode()
        if name.startswith(".text."):
            offset, length = struct.unpack_from("<QQ", cubin, at + 24)
            found[name[len(".text.") :]] = cubin[offset : offset + length]
    return found


def count_operations(code: bytes) -> collections.Counter[int]:
    """Instructions of machine code by operation, without what pads it."""
    words = struct.iter_unpack("<H14x", code)
    operations = collections.Counter(word & 0x1FF for (word,) in words)
    del operations[PADDING]
    return operations


def run_ptxas(ptxas: str, ptx: str, chip: str) -> tuple[bytes, str]:
    """The cubin and what `ptxas -v` says of it."""
    with tempfile.TemporaryDirectory() as folder:
        source, cubin = Path(folder) / "k.ptx", Path(folder) / "k.cubin"
        source.write_text(ptx, encoding="utf-8")
        done = subprocess.run(
            [ptxas, f"-arch={chip}", "-v", str(source), "-o", str(cubin)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return cubin.read_bytes(), done.stderr


def _number(pattern: str, text: str) -> int:
    return sum(int(n) for n in re.findall(pattern, text))


def assemble(ptxas: str, ptx: str, chip: str) -> list[Kernel]:
    """Every kernel of a text, in its order."""
    cubin, said = run_ptxas(ptxas, ptx, chip)
    code = read_code(cubin)
    facts = dict(
        re.findall(
            r"Compiling entry function '(\S+)' for.*?\n(.*?Used [^\n]*)",
            said, flags=re.DOTALL,
        )
    )  # fmt: skip
    kernels = []
    for name, head in re.findall(r"\.entry (\w+)\((.*?)\n\{", ptx, re.DOTALL):
        operations = count_operations(code[name])
        text = facts[name]
        kernels.append(
            Kernel(
                name=name,
                threads=_number(r"\.(?:max|req)ntid (\d+)", head),
                registers=_number(r"Used (\d+) registers", text),
                spills=_number(r"(\d+) bytes spill", text),
                stack=_number(r"(\d+) bytes stack", text),
                shared=_number(r"(\d+) bytes smem", text),
                instructions=operations.total(),
                mix={
                    OPERATIONS[key]: count
                    for key, count in sorted(operations.items())
                    if key in OPERATIONS
                },
            )
        )
    return kernels
