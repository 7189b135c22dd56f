# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Shared by the bash scripts of this folder; to be sourced, not run.

set -euo pipefail

MOE_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
MOE_BUILD="$MOE_ROOT/build"
MOE_VENV="$MOE_BUILD/venv"
MOE_TRITON_VENV="$MOE_BUILD/venv-triton"

say() { printf '== %s\n' "$*"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# The processors this process may use; containers often see more than they get.
moe_jobs() { echo "${MOE_JOBS:-$(nproc)}"; }

# The build folder of a preset, as CMakePresets.json names it.
moe_build_dir() {
  if [ "$1" = dev ]; then echo "$MOE_BUILD"; else echo "$MOE_BUILD/$1"; fi
}

# Configures a preset where that has not been done; ninja itself notices later
# changes of CMake files.
moe_configure() {
  local preset="$1" dir
  dir="$(moe_build_dir "$preset")"
  if [ ! -f "$dir/build.ninja" ]; then
    say "configuring $preset"
    (cd "$MOE_ROOT" && cmake --preset "$preset")
  fi
}
