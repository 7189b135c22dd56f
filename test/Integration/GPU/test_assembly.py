# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What ptxas makes of kernels, for all chips: limits, and the right
instructions in the right places. `benchmarks/assembly` judges more layers."""

from __future__ import annotations

import functools
import pathlib
import re
import sys

import pytest

sys.path.insert(
    0, str(pathlib.Path(__file__).resolve().parents[3] / "benchmarks")
)

import assembly  # noqa: E402
import cubin  # noqa: E402

PTXAS = cubin.find_ptxas()
needs_ptxas = pytest.mark.skipif(not PTXAS, reason="ptxas is not installed")
CHIPS = list(cubin.CHIPS)
LAYERS = {layer.name: layer for layer in assembly.QUICK}
TENSOR = "products of bf16"

SHELL = """.version 9.0
.target {chip}
.address_size 64
.visible .entry k(.param .u64 a, .param .u64 b, .param .u32 n)
{{
  .reg .pred %p<4>;
  .reg .b32 %r<32>;
  .reg .b64 %rd<16>;
  .shared .align 16 .b8 s[4096];
  ld.param.u64 %rd1, [a];
  ld.param.u64 %rd2, [b];
  cvta.to.global.u64 %rd1, %rd1;
  cvta.to.global.u64 %rd2, %rd2;
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd3, %r1, 16;
  add.s64 %rd4, %rd1, %rd3;
  add.s64 %rd5, %rd2, %rd3;
  mov.u32 %r2, s;
  shl.b32 %r3, %r1, 4;
  add.u32 %r4, %r2, %r3;
  {body}
  ret;
}}
"""
LOAD = "ld.global.u32 %r5, [%rd4];"
KEEP = "st.global.u32 [%rd5], %r6;"
LOCAL = """.local .align 4 .b8 own[4096];
  and.b32 %r7, %r1, 1020;
  mov.u32 %r8, own;
  add.u32 %r7, %r7, %r8;
  st.local.u32 [%r7], %r1;
  ld.param.u32 %r9, [n];
  and.b32 %r9, %r9, 1020;
  add.u32 %r9, %r9, %r8;
  ld.local.u32 %r6, [%r9];"""
COPY = "cp.async.cg.shared.global [%r4], [%rd4], 16;"
# What brings an operation into the machine's code, and the same without it.
PROBES = {
    "FMUL": (f"{LOAD} mul.f32 %r6, %r5, %r5; {KEEP}", ""),
    "FADD": (f"{LOAD} add.f32 %r6, %r5, %r5; {KEEP}", ""),
    "FFMA": (f"{LOAD} fma.rn.f32 %r6, %r5, %r5, %r5; {KEEP}", ""),
    "DFMA": (
        "ld.global.u64 %rd6, [%rd4]; fma.rn.f64 %rd7, %rd6, %rd6, %rd6;"
        "st.global.u64 [%rd5], %rd7;",
        "ld.global.u64 %rd6, [%rd4]; st.global.u64 [%rd5], %rd6;",
    ),
    "LDSM": (
        "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r5, %r6}, [%r4];"
        f"{KEEP}",
        f"ld.shared.u32 %r6, [%r4]; {KEEP}",
    ),
    "HMMA": (
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
        " {%r6, %r7, %r8, %r9}, {%r1, %r1, %r1, %r1}, {%r1, %r1},"
        f" {{%r1, %r1, %r1, %r1}}; {KEEP}",
        "",
    ),
    "MUFU": (f"{LOAD} ex2.approx.ftz.f32 %r6, %r5; {KEEP}", ""),
    "DEPBAR": (f"{COPY} cp.async.commit_group; cp.async.wait_group 0;", COPY),
    "BAR": ("bar.sync 0;", ""),
    "LDG": (f"ld.global.u32 %r6, [%rd4]; {KEEP}", ""),
    "LDL": (f"{LOCAL} {KEEP}", ""),
    "LDS": (
        "st.shared.u32 [%r4], %r1; bar.sync 0;"
        f"ld.shared.u32 %r6, [%r4+64]; {KEEP}",
        "",
    ),
    "STG": ("st.global.u32 [%rd5], %r1;", ""),
    "STL": (f"{LOCAL} {KEEP}", ""),
    "STS": ("st.shared.u32 [%r4], %r1; bar.sync 0;", "bar.sync 0;"),
    "SHFL": (f"shfl.sync.bfly.b32 %r6, %r1, 1, 31, -1; {KEEP}", ""),
    "REDG": ("red.global.add.u32 [%rd4], %r1;", ""),
    "ATOMG": (f"atom.global.add.u32 %r6, [%rd4], %r1; {KEEP}", ""),
    "LDGSTS": (COPY, ""),
    "LDGDEPBAR": (f"{COPY} cp.async.commit_group;", COPY),
}


def operations(chip, body):
    code, _ = cubin.run_ptxas(PTXAS, SHELL.format(chip=chip, body=body), chip)
    return cubin.count_operations(cubin.read_code(code)["k"])


@needs_ptxas
@pytest.mark.parametrize("chip", CHIPS)
def test_operations_have_these_numbers(chip):
    assert set(PROBES) == set(cubin.OPERATIONS.values())
    for number, name in cubin.OPERATIONS.items():
        body, without = PROBES[name]
        assert operations(chip, body)[number] > 0, name
        assert operations(chip, without)[number] == 0, name


@functools.cache
def kernels(name, chip):
    ptx = assembly.ptx_of(LAYERS[name].source(), chip)
    return cubin.assemble(PTXAS, ptx, chip), ptx


@needs_ptxas
@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", list(LAYERS))
def test_limits(name, chip):
    for kernel in kernels(name, chip)[0]:
        tensor = "HMMA" in kernel.mix
        registers, warps = (
            (assembly.TENSOR_REGISTERS, assembly.TENSOR_WARPS)
            if tensor
            else (assembly.OTHER_REGISTERS, assembly.OTHER_WARPS)
        )
        assert kernel.spills == 0, kernel
        assert kernel.registers <= registers[chip], kernel
        assert kernel.warps(chip) >= warps[chip], kernel


@needs_ptxas
@pytest.mark.parametrize("chip", CHIPS)
def test_products_use_tensor_cores(chip):
    found, ptx = kernels(TENSOR, chip)
    products = [k for k in found if "HMMA" in k.mix]
    assert len(products) == 2
    for kernel in products:
        assert kernel.mix["HMMA"] >= 16, kernel
        for operation in ("LDSM", "LDGSTS", "LDGDEPBAR", "DEPBAR", "BAR"):
            assert operation in kernel.mix, (operation, kernel)
        # Sums in registers, rows by asynchronous copies.
        for operation in ("LDL", "STL", "STS", "ATOMG", "REDG"):
            assert operation not in kernel.mix, (operation, kernel)
    # The assembler may unroll a loop, and leaves none out.
    assert sum(k.mix["HMMA"] for k in products) >= ptx.count("mma.sync")


# What each operation comes from; without it there is none.
ORIGINS = {
    "HMMA": "mma.sync",
    "LDSM": "ldmatrix",
    "LDGSTS": "cp.async",
    "BAR": "bar.sync",
    "STS": "st.shared",
    "LDL": ".local",
    "STL": ".local",
    "SHFL": "shfl",
    "ATOMG": "atom.",
    "REDG": "red.",
    "DFMA": ".f64",
}


@needs_ptxas
@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", list(LAYERS))
def test_nothing_that_was_not_asked_for(name, chip):
    found, ptx = kernels(name, chip)
    bodies = dict(re.findall(r"\.entry (\w+)\((.*?)\n}", ptx, re.DOTALL))
    for kernel in found:
        for operation, origin in ORIGINS.items():
            asked = origin in bodies[kernel.name]
            assert asked or operation not in kernel.mix, (operation, kernel)


def test_warps_of_a_multiprocessor():
    def warps(chip, threads, registers, shared):
        kernel = cubin.Kernel("k", threads, registers, 0, 0, shared, 0, {})
        return kernel.warps(chip)

    # By warps, by blocks, by registers, by memory of the workgroup.
    assert warps("sm_80", 128, 32, 0) == 64
    assert warps("sm_80", 32, 32, 0) == 32
    assert warps("sm_80", 128, 230, 0) == 8
    assert warps("sm_80", 128, 64, 48 << 10) == 12
    assert warps("sm_120", 128, 32, 0) == 48
    assert warps("sm_120", 128, 64, 36 << 10) == 8
