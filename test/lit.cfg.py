# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The lit suite: tools, substitutions and features.

Features are set from what is found on the machine, never from who runs the
suite:

  nvptx      LLVM has the NVPTX target: PTX can be made
  ptxas      the assembler is there: cubins can be made
  cuda-gpu   the driver answers and reports a device: kernels can run
  asserts    this project's assertions are on
  asan, ubsan, tsan    the sanitizer of this build
  python     the project's Python has NumPy
  x86        the machine runs x86-64 code; avx2, avx512f, avx512_bf16 and
             the amx names of /proc/cpuinfo where the processor has them
  <tool>     the tool is part of this build, for example moe-reduce
"""

import ctypes
import os
import platform
import shutil
import subprocess

import lit.formats
from lit.llvm import llvm_config
from lit.llvm.subst import ToolSubst

config.name = "MOE"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs", "Consumer", "lib", "reference"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.moe_binary_dir, "test")

# -----------------------------------------------------------------------------
# Environment
# -----------------------------------------------------------------------------

# An undefined variable or a prefix that nothing uses is a mistake in a test.
config.environment["FILECHECK_OPTS"] = (
    "-enable-var-scope --allow-unused-prefixes=false"
)
for name in ("HOME", "CUDA_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES"):
    if name in os.environ:
        config.environment[name] = os.environ[name]
if config.moe_sanitizer:
    # The packaged libraries are not instrumented, so containers cross a border
    # that the sanitizer cannot see, and MLIR keeps what it allocates once.
    config.environment["ASAN_OPTIONS"] = (
        "detect_leaks=0:detect_container_overflow=0:allow_user_poisoning=0"
    )
    config.environment["UBSAN_OPTIONS"] = "print_stacktrace=1"
    symbolizer = os.path.join(config.llvm_tools_dir, "llvm-symbolizer")
    config.environment["ASAN_SYMBOLIZER_PATH"] = symbolizer

llvm_config.with_system_environment(["TMPDIR", "TEMP", "TMP"])
llvm_config.with_environment("PATH", config.llvm_tools_dir, append_path=True)
llvm_config.with_environment("PATH", config.moe_tools_dir, append_path=True)

# -----------------------------------------------------------------------------
# Features
# -----------------------------------------------------------------------------


def find_ptxas():
    """Returns the path of ptxas, or None."""
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        root = os.environ.get(variable)
        if root and os.access(os.path.join(root, "bin", "ptxas"), os.X_OK):
            return os.path.join(root, "bin", "ptxas")
    return shutil.which("ptxas") or shutil.which("/usr/local/cuda/bin/ptxas")


def has_cuda_gpu():
    """True when the CUDA driver loads and reports at least one device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int(0)
        return (
            driver.cuInit(0) == 0
            and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
            and count.value > 0
        )
    except (OSError, AttributeError):
        return False


def has_numpy(python):
    """True when the interpreter runs and imports NumPy."""
    if not python:
        return False
    try:
        done = subprocess.run(
            [python, "-c", "import numpy"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return False
    return done.returncode == 0


def cpu_features():
    """Names in /proc/cpuinfo that tests of vector code ask for."""
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_")
    try:
        with open("/proc/cpuinfo") as info:
            flags = next(
                (line for line in info if line.startswith("flags")), ""
            )
    except OSError:
        return []
    return [flag for flag in flags.split() if flag.startswith(wanted)]


features = config.available_features
if "NVPTX" in config.llvm_targets:
    features.add("nvptx")
ptxas = find_ptxas()
if ptxas:
    features.add("ptxas")
    llvm_config.with_environment(
        "PATH", os.path.dirname(ptxas), append_path=True
    )
if has_cuda_gpu():
    features.add("cuda-gpu")
if config.moe_assertions:
    features.add("asserts")
features.update(
    {"address": ["asan"], "undefined": ["ubsan"], "thread": ["tsan"]}.get(
        config.moe_sanitizer, []
    )
)
if has_numpy(config.moe_python):
    features.add("python")
if platform.machine() in ("x86_64", "AMD64"):
    features.add("x86")
    features.update(cpu_features())
features.update(tool for tool in config.moe_tools if tool)

# Kernels of several tests at once would share one device's memory.
lit_config.parallelism_groups["cuda-gpu"] = 1

# -----------------------------------------------------------------------------
# Tools and substitutions
# -----------------------------------------------------------------------------

moe_opt_arguments = []
if os.environ.get("MOE_OPT_VERIFY_ROUNDTRIP", "0") not in ("", "0"):
    # Text and bytecode must both read back what they wrote, in every test.
    moe_opt_arguments.append("--verify-roundtrip")

tools = [
    ToolSubst("moe-opt", extra_args=moe_opt_arguments, unresolved="ignore"),
    "FileCheck",
    "count",
    "not",
    "split-file",
    "mlir-opt",
    "mlir-translate",
    "llc",
]
tools += [
    ToolSubst(name, unresolved="ignore")
    for name in ("moe-run", "moe-compile", "moe-lsp-server", "moe-reduce", "moe-ptx-run")
]
llvm_config.add_tool_substitutions(
    tools, [config.moe_tools_dir, config.llvm_tools_dir]
)

config.substitutions += [
    ("%moe_source", config.moe_source_dir),
    ("%moe_include", os.path.join(config.moe_source_dir, "include")),
    ("%moe_build_include", os.path.join(config.moe_binary_dir, "include")),
    ("%moe_libs", config.moe_libs_dir),
    ("%moe_test_driver", os.path.join(config.test_exec_root, "driver")),
    ("%moe_old_test_driver", os.path.join(config.test_exec_root, "old-driver")),
    ("%mlir_libs", config.llvm_libs_dir),
    ("%moe_plugin", os.path.join(config.moe_libs_dir, "MoePlugin.so")),
    ("%moe_cc", config.moe_cc),
    ("%moe_cxx", config.moe_cxx),
    ("%python", config.moe_python),
]
