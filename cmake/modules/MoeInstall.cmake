# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# `ninja install`: headers, td files, libraries, tools and the CMake package
# Moe, which a foreign project finds by find_package(Moe).

include(CMakePackageConfigHelpers)

install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h" PATTERN "*.td" PATTERN "*.inc")
install(DIRECTORY "${PROJECT_BINARY_DIR}/include/"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h" PATTERN "*.inc"
  PATTERN "CMakeFiles" EXCLUDE)
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE"
  DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/doc/moe-mlir")

get_property(MOE_EXPORTED_LIBS GLOBAL PROPERTY MOE_EXPORTED_LIBS)
get_property(MOE_MLIR_LIBS GLOBAL PROPERTY MOE_MLIR_LIBS)
set(MOE_INSTALL_CMAKEDIR "${CMAKE_INSTALL_LIBDIR}/cmake/Moe")
configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/MoeConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/lib/cmake/Moe/MoeConfig.cmake"
  INSTALL_DESTINATION "${MOE_INSTALL_CMAKEDIR}"
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/lib/cmake/Moe/MoeConfigVersion.cmake"
  VERSION "${PROJECT_VERSION}" COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/lib/cmake/Moe/MoeConfig.cmake"
  "${PROJECT_BINARY_DIR}/lib/cmake/Moe/MoeConfigVersion.cmake"
  DESTINATION "${MOE_INSTALL_CMAKEDIR}")
if(MOE_EXPORTED_LIBS)
  install(EXPORT MoeTargets NAMESPACE Moe::
    DESTINATION "${MOE_INSTALL_CMAKEDIR}")
endif()
