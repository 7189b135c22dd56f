# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# MOE_SANITIZER=address|undefined|thread instruments this project's own code;
# the packaged libMLIR stays as it is, which all three tolerate.

set(MOE_SANITIZER_OPTIONS)
if(MOE_SANITIZER STREQUAL "")
elseif(MOE_SANITIZER STREQUAL "address")
  set(MOE_SANITIZER_OPTIONS -fsanitize=address)
elseif(MOE_SANITIZER STREQUAL "undefined")
  # vptr and function would need type information that libMLIR does not export.
  set(MOE_SANITIZER_OPTIONS -fsanitize=undefined -fno-sanitize=vptr,function
    -fno-sanitize-recover=all)
elseif(MOE_SANITIZER STREQUAL "thread")
  set(MOE_SANITIZER_OPTIONS -fsanitize=thread)
else()
  message(FATAL_ERROR "MOE_SANITIZER is '${MOE_SANITIZER}': expected address, "
    "undefined, thread or nothing")
endif()
if(MOE_SANITIZER_OPTIONS)
  add_compile_options(${MOE_SANITIZER_OPTIONS} -fno-omit-frame-pointer -g1)
  add_link_options(${MOE_SANITIZER_OPTIONS})
endif()
