# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Faster tools where they are present: ccache before the compiler, lld behind
# it. Neither is required.

find_program(MOE_CCACHE ccache)
if(MOE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Clang's precompiled headers are cached only with these two checks relaxed.
  set(moe_launcher "${CMAKE_COMMAND}" -E env
    "CCACHE_SLOPPINESS=pch_defines,time_macros" "${MOE_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER ${moe_launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${moe_launcher})
endif()

if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # Only the linker of the same release is sure to read the compiler's output.
  string(REGEX MATCH "^[0-9]+" moe_clang_major "${CMAKE_CXX_COMPILER_VERSION}")
  find_program(MOE_LLD NAMES ld.lld-${moe_clang_major} ld.lld)
  if(MOE_LLD)
    add_link_options("$<$<LINK_LANGUAGE:C,CXX>:--ld-path=${MOE_LLD}>")
  endif()
endif()
