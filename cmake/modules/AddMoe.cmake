# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Thin wrappers over CMake and MLIR's own functions:
#
#   moe_add_subdirectory_if_present(DIR)
#   moe_add_tablegen(NAME TD td OUTPUTS "file args" ... [DEPENDS ...])
#   moe_add_dialect(NAME TD ops.td DIALECT name [INTERFACES i.td] [ATTRS a.td]
#                   [ENUMS e.td])
#   moe_add_library(NAME srcs... [SHARED] [NO_INSTALL] [NO_MLIR_LINK]
#                   [DEPENDS targets...] [LINK_LIBS [PUBLIC|PRIVATE] libs...])
#   moe_add_runtime_library(NAME srcs... [SHARED] [NO_INSTALL]
#                           [LINK_LIBS libs...])
#   moe_link_whole_archives(NAME libs...)
#   moe_add_tool(NAME srcs... [NO_INSTALL] [RUNTIME] [LINK_LIBS libs...])
#   moe_add_plugin(NAME srcs... [LINK_LIBS libs...])
#   moe_add_unittest(NAME srcs... [RUNTIME] [LINK_LIBS libs...])
#
# Compile options sit on targets, not on directories, so that the runtime and
# the file readers see neither MLIR's headers nor LLVM's flags.

function(moe_add_subdirectory_if_present dir)
  if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${dir}/CMakeLists.txt")
    add_subdirectory(${dir})
  endif()
endfunction()

# Every header made by TableGen; every MLIR library waits for it.
add_custom_target(moe-headers)
add_custom_target(moe-doc)
add_dependencies(mlir-doc moe-doc)

#===------------------------------------------------------------------------===#
# Options shared by all targets
#===------------------------------------------------------------------------===#

# What every C or C++ file of the project is compiled with.
function(_moe_base_options target)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wno-unused-parameter
    $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wcovered-switch-default>
    $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions>
    $<$<COMPILE_LANGUAGE:CXX>:-fvisibility-inlines-hidden>
    -ffunction-sections -fdata-sections -fPIC
    "$<$<COMPILE_LANG_AND_ID:CXX,Clang>:SHELL:-Xclang -fno-pch-timestamp>"
    $<$<BOOL:${MOE_ENABLE_WERROR}>:-Werror>
    $<$<BOOL:${MOE_ENABLE_ASSERTIONS}>:-UNDEBUG>)
  target_include_directories(${target} PUBLIC
    "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>"
    "$<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>"
    "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
endfunction()

# What files that include MLIR need on top: its headers (quiet), its macros and
# RTTI on, exceptions off, as the package itself was built.
function(_moe_mlir_options target)
  separate_arguments(definitions UNIX_COMMAND "${LLVM_DEFINITIONS}")
  # NDEBUG as the package was built: with another value Pass::Statistic has
  # another layout here than in libMLIR.
  target_compile_options(${target} PRIVATE ${definitions} -DNDEBUG)
  target_include_directories(${target} SYSTEM PUBLIC
    "$<BUILD_INTERFACE:${MLIR_INCLUDE_DIRS}>"
    "$<BUILD_INTERFACE:${LLVM_INCLUDE_DIRS}>")
  add_dependencies(${target} moe-headers)
  if(TARGET moe-pch AND NOT target STREQUAL moe-pch)
    target_precompile_headers(${target} REUSE_FROM moe-pch)
  endif()
endfunction()

# The headers that nearly every file needs, compiled once for all targets: a
# typical pass then compiles in a fifth of the time or less.
if(MOE_ENABLE_PCH AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  file(WRITE "${PROJECT_BINARY_DIR}/cmake/MoePch.cpp.new"
    "// Carries the precompiled header.\n")
  file(COPY_FILE "${PROJECT_BINARY_DIR}/cmake/MoePch.cpp.new"
    "${PROJECT_BINARY_DIR}/cmake/MoePch.cpp" ONLY_IF_DIFFERENT)
  add_library(moe-pch OBJECT "${PROJECT_BINARY_DIR}/cmake/MoePch.cpp")
  _moe_base_options(moe-pch)
  _moe_mlir_options(moe-pch)
  target_precompile_headers(moe-pch PRIVATE
    "${PROJECT_SOURCE_DIR}/cmake/pch/MlirCommon.h")
endif()

function(_moe_install_library target)
  install(TARGETS ${target} EXPORT MoeTargets
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  set_property(GLOBAL APPEND PROPERTY MOE_EXPORTED_LIBS ${target})
endfunction()

#===------------------------------------------------------------------------===#
# TableGen
#===------------------------------------------------------------------------===#

# Each OUTPUTS entry is one string: the file name, then mlir-tblgen's arguments.
function(moe_add_tablegen name)
  cmake_parse_arguments(ARG "" "TD" "OUTPUTS;DEPENDS" ${ARGN})
  include_directories("${PROJECT_SOURCE_DIR}/include"
    "${PROJECT_BINARY_DIR}/include" ${MLIR_INCLUDE_DIRS})
  set(generated)
  foreach(output IN LISTS ARG_OUTPUTS)
    separate_arguments(words UNIX_COMMAND "${output}")
    list(POP_FRONT words file)
    set(LLVM_TARGET_DEFINITIONS ${ARG_TD})
    mlir_tablegen(${file} ${words})
    list(APPEND generated "${CMAKE_CURRENT_BINARY_DIR}/${file}")
  endforeach()
  add_custom_target(${name} DEPENDS ${generated})
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
  add_dependencies(moe-headers ${name})
endfunction()

# The whole set of a dialect, from one td file that includes the others.
function(moe_add_dialect name)
  cmake_parse_arguments(ARG "" "TD;DIALECT;PREFIX;INTERFACES;ATTRS;ENUMS" ""
    ${ARGN})
  set(p ${ARG_PREFIX})
  moe_add_tablegen(${name}Ops TD ${ARG_TD} OUTPUTS
    "${p}Dialect.h.inc -gen-dialect-decls -dialect=${ARG_DIALECT}"
    "${p}Dialect.cpp.inc -gen-dialect-defs -dialect=${ARG_DIALECT}"
    "${p}Ops.h.inc -gen-op-decls"
    "${p}Ops.cpp.inc -gen-op-defs")
  set(parts ${name}Ops)
  if(ARG_ENUMS)
    moe_add_tablegen(${name}Enums TD ${ARG_ENUMS} OUTPUTS
      "${p}Enums.h.inc -gen-enum-decls" "${p}Enums.cpp.inc -gen-enum-defs")
    list(APPEND parts ${name}Enums)
  endif()
  if(ARG_ATTRS)
    moe_add_tablegen(${name}Attrs TD ${ARG_ATTRS} OUTPUTS
      "${p}Attrs.h.inc -gen-attrdef-decls -attrdefs-dialect=${ARG_DIALECT}"
      "${p}Attrs.cpp.inc -gen-attrdef-defs -attrdefs-dialect=${ARG_DIALECT}")
    list(APPEND parts ${name}Attrs)
  endif()
  if(ARG_INTERFACES)
    moe_add_tablegen(${name}Interfaces TD ${ARG_INTERFACES} OUTPUTS
      "${p}OpInterfaces.h.inc -gen-op-interface-decls"
      "${p}OpInterfaces.cpp.inc -gen-op-interface-defs"
      "${p}AttrInterfaces.h.inc -gen-attr-interface-decls"
      "${p}AttrInterfaces.cpp.inc -gen-attr-interface-defs")
    list(APPEND parts ${name}Interfaces)
  endif()
  add_custom_target(${name} DEPENDS ${parts})
  add_dependencies(moe-headers ${name})
endfunction()

# A generated page under docs/ of the build tree, made by the target moe-doc.
function(moe_add_doc td page command)
  include_directories("${PROJECT_SOURCE_DIR}/include"
    "${PROJECT_BINARY_DIR}/include" ${MLIR_INCLUDE_DIRS})
  add_mlir_doc(${td} ${page} "" ${command} ${ARGN})
  add_dependencies(moe-doc ${page}DocGen)
endfunction()

#===------------------------------------------------------------------------===#
# Libraries, tools, unit tests
#===------------------------------------------------------------------------===#

function(moe_add_library name)
  cmake_parse_arguments(ARG "SHARED;NO_INSTALL;NO_MLIR_LINK" ""
    "DEPENDS;LINK_LIBS" ${ARGN})
  set(kind STATIC)
  if(ARG_SHARED)
    set(kind SHARED)
  endif()
  add_library(${name} ${kind} ${ARG_UNPARSED_ARGUMENTS})
  add_library(Moe::${name} ALIAS ${name})
  _moe_base_options(${name})
  _moe_mlir_options(${name})
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
  if(NOT ARG_LINK_LIBS MATCHES "^(PUBLIC|PRIVATE|INTERFACE)(;|$)")
    list(PREPEND ARG_LINK_LIBS PUBLIC)
  endif()
  target_link_libraries(${name} ${ARG_LINK_LIBS})
  if(NOT ARG_NO_MLIR_LINK)
    mlir_target_link_libraries(${name} PUBLIC MLIR)
    target_link_libraries(${name} PUBLIC LLVM)
  endif()
  if(NOT ARG_NO_INSTALL)
    _moe_install_library(${name})
    set_property(GLOBAL APPEND PROPERTY MOE_MLIR_LIBS ${name})
  endif()
endfunction()

function(moe_add_runtime_library name)
  cmake_parse_arguments(ARG "SHARED;NO_INSTALL" "" "LINK_LIBS" ${ARGN})
  set(kind STATIC)
  if(ARG_SHARED)
    set(kind SHARED)
  endif()
  add_library(${name} ${kind} ${ARG_UNPARSED_ARGUMENTS})
  add_library(Moe::${name} ALIAS ${name})
  _moe_base_options(${name})
  if(NOT ARG_LINK_LIBS MATCHES "^(PUBLIC|PRIVATE|INTERFACE)(;|$)")
    list(PREPEND ARG_LINK_LIBS PUBLIC)
  endif()
  target_link_libraries(${name} ${ARG_LINK_LIBS})
  if(NOT ARG_NO_INSTALL)
    _moe_install_library(${name})
  endif()
endfunction()

# Takes static libraries into a shared one with all they define, ours or MLIR's
# (the C API comes as archives only). Named by file, so that the libraries they
# were made with do not come along: those are in libMLIR.so.
function(moe_link_whole_archives name)
  set(archives)
  foreach(library IN LISTS ARGN)
    list(APPEND archives "$<TARGET_FILE:${library}>")
    get_target_property(imported ${library} IMPORTED)
    if(NOT imported)
      add_dependencies(${name} ${library})
    endif()
  endforeach()
  target_link_libraries(${name} PRIVATE
    -Wl,--whole-archive ${archives} -Wl,--no-whole-archive)
endfunction()

function(moe_add_tool name)
  cmake_parse_arguments(ARG "NO_INSTALL;RUNTIME" "" "LINK_LIBS" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  _moe_base_options(${name})
  target_link_libraries(${name} PRIVATE ${ARG_LINK_LIBS})
  if(NOT ARG_RUNTIME)
    _moe_mlir_options(${name})
    mlir_target_link_libraries(${name} PRIVATE MLIR)
    target_link_libraries(${name} PRIVATE LLVM)
  endif()
  set_property(GLOBAL APPEND PROPERTY MOE_TOOLS ${name})
  if(NOT ARG_NO_INSTALL)
    install(TARGETS ${name} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endif()
endfunction()

# A module that a stock mlir-opt loads. Its copy of our libraries stays private:
# two loaded plugins, or a plugin beside libMoeC.so, must not mix symbols.
function(moe_add_plugin name)
  cmake_parse_arguments(ARG "" "" "LINK_LIBS" ${ARGN})
  add_library(${name} MODULE ${ARG_UNPARSED_ARGUMENTS})
  _moe_base_options(${name})
  _moe_mlir_options(${name})
  set_target_properties(${name} PROPERTIES PREFIX "")
  target_link_libraries(${name} PRIVATE ${ARG_LINK_LIBS})
  mlir_target_link_libraries(${name} PRIVATE MLIR)
  target_link_libraries(${name} PRIVATE LLVM)
  target_link_options(${name} PRIVATE "LINKER:--exclude-libs,ALL")
  set_property(GLOBAL APPEND PROPERTY MOE_TOOLS ${name})
  install(TARGETS ${name} LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endfunction()

# A gtest program, run by check-moe-unit through ctest.
function(moe_add_unittest name)
  cmake_parse_arguments(ARG "RUNTIME" "" "LINK_LIBS" ${ARGN})
  if(NOT TARGET GTest::gtest_main)
    return()
  endif()
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  _moe_base_options(${name})
  target_link_libraries(${name} PRIVATE ${ARG_LINK_LIBS} GTest::gtest
    GTest::gtest_main)
  if(NOT ARG_RUNTIME)
    _moe_mlir_options(${name})
    mlir_target_link_libraries(${name} PRIVATE MLIR)
    target_link_libraries(${name} PRIVATE LLVM)
  endif()
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/unittests")
  add_test(NAME ${name} COMMAND ${name}
    "--gtest_output=xml:${PROJECT_BINARY_DIR}/reports/${name}.xml")
  add_dependencies(check-moe-unit-build ${name})
endfunction()
