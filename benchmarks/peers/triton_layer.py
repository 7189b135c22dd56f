# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The usual kernels of a layer's experts in Triton, compiled to PTX.

Runs in an environment that has Triton, with neither PyTorch nor a GPU. Rows
are sorted by expert and each expert's are padded to whole blocks by who calls:
`sorted_rows` holds pairs of token and slot, `experts` the expert of a block.
Sizes are constants of the code, which lets Triton drop the masks along K.

Reads one job a line, an object of `name`, `kernel`, `constants`, `warps`,
`stages`, and `capability` where it is not that of sm_80; writes NAME.ptx into
the folder it is given, and one object a line: `name`, `entry`, `threads`,
`shared`, or `name`, `error`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import triton
import triton.language as tl
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

CAPABILITY = 80


@triton.jit
def grouped_product(
    a,
    b,
    c,
    weights,
    sorted_rows,
    experts,
    padded_rows,
    pairs,
    N: tl.constexpr,
    K: tl.constexpr,
    rows_per_a: tl.constexpr,
    weighted: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """c[pair] = a[pair // rows_per_a] @ b[expert]^T, times weights[pair]."""
    block = tl.program_id(0)
    columns: tl.constexpr = tl.cdiv(N, BLOCK_N)
    block_m = block // columns
    block_n = block % columns
    if block_m * BLOCK_M >= tl.load(padded_rows):
        return
    rows = tl.load(sorted_rows + block_m * BLOCK_M + tl.arange(0, BLOCK_M))
    real = rows < pairs
    outs = block_n * BLOCK_N + tl.arange(0, BLOCK_N)
    ks = tl.arange(0, BLOCK_K)
    expert = tl.load(experts + block_m).to(tl.int64)
    a_at = a + (rows[:, None] // rows_per_a) * K + ks[None, :]
    b_at = b + expert * N * K + (outs % N)[None, :] * K + ks[:, None]
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BLOCK_K)):
        if K % BLOCK_K == 0:
            left = tl.load(a_at, mask=real[:, None], other=0.0)
            right = tl.load(b_at)
        else:
            within = ks < K - k * BLOCK_K
            left = tl.load(
                a_at, mask=real[:, None] & within[None, :], other=0.0
            )
            right = tl.load(b_at, mask=within[:, None], other=0.0)
        sums = tl.dot(left, right, sums)
        a_at += BLOCK_K
        b_at += BLOCK_K
    if weighted:
        scale = tl.load(weights + rows, mask=real, other=0.0)
        sums *= scale[:, None]
    c_at = c + rows[:, None] * N + outs[None, :]
    inside = real[:, None] & (outs < N)[None, :]
    tl.store(c_at, sums.to(tl.bfloat16), mask=inside)


@triton.jit
def silu_and_mul(x, y, count, I: tl.constexpr, BLOCK: tl.constexpr):
    """y[row] = silu(x[row, :I]) * x[row, I:]; a program is part of a row."""
    row = tl.program_id(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    if row >= count:
        return
    inside = at < I
    gate = tl.load(x + row * 2 * I + at, mask=inside).to(tl.float32)
    up = tl.load(x + row * 2 * I + I + at, mask=inside).to(tl.float32)
    out = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(y + row * I + at, out.to(tl.bfloat16), mask=inside)


KERNELS = {
    "grouped_product": (
        grouped_product,
        ["*bf16", "*bf16", "*bf16", "*fp32", "*i32", "*i32", "*i32", "i32"],
    ),
    "silu_and_mul": (silu_and_mul, ["*bf16", "*bf16", "i32"]),
}


def compile_job(job: dict, folder: Path) -> dict:
    """One kernel with its constants, down to PTX."""
    function, types = KERNELS[job["kernel"]]
    names = function.arg_names
    signature = dict(zip(names, types))
    signature |= {name: "constexpr" for name in names[len(types) :]}
    # Pointers are as aligned as an allocator makes them.
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, type in enumerate(types)
        if type.startswith("*")
    }
    source = ASTSource(function, signature, job["constants"], aligned)
    options = {
        "num_warps": job["warps"],
        "num_stages": job["stages"],
        "enable_fp_fusion": True,
    }
    target = GPUTarget("cuda", job.get("capability", CAPABILITY), 32)
    compiled = triton.compile(source, target=target, options=options)
    (folder / f"{job['name']}.ptx").write_text(compiled.asm["ptx"])
    return {
        "name": job["name"],
        "entry": compiled.metadata.name,
        "threads": 32 * compiled.metadata.num_warps,
        "shared": compiled.metadata.shared,
    }


def stop_at_ptx(*arguments: object) -> tuple[str, str] | None:
    """Triton's hook on its stages: leaves out the assembler."""
    if not arguments:
        return "ptx", "ptx"
    stages = arguments[1]
    stages["cubin"] = lambda text, metadata: text.encode()
    return None


def main() -> None:
    """Jobs from the standard input, results to the standard output."""
    folder = Path(sys.argv[1])
    knobs.cache.dir = str(folder / "cache")
    knobs.runtime.add_stages_inspection_hook = stop_at_ptx
    for line in sys.stdin:
        job = json.loads(line)
        try:
            result = compile_job(job, folder)
        except Exception as error:  # noqa: BLE001 whatever the compiler raises
            result = {"name": job["name"], "error": repr(error)}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
