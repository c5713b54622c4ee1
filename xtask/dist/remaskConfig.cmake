# find_package(remask) gives two targets:
#   remask::remask   the shared library
#   remask::static   the same inside the program; brings the C++ runtime that it needs. Not where ggml's
#                    backends are files of their own
# Both bring remask.h and remask.hpp. The folder can be moved as a whole.

get_filename_component(remask_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(remask_VERSION "@VERSION@")

if(NOT TARGET remask::remask)
  add_library(remask::remask SHARED IMPORTED)
  set_target_properties(remask::remask PROPERTIES
    IMPORTED_LOCATION "${remask_PREFIX}/lib/@SHARED_FILE@"
    IMPORTED_SONAME "@SONAME@"
    INTERFACE_INCLUDE_DIRECTORIES "${remask_PREFIX}/include")

  if(EXISTS "${remask_PREFIX}/lib/libremask.a")
    add_library(remask::static STATIC IMPORTED)
    set_target_properties(remask::static PROPERTIES
      IMPORTED_LOCATION "${remask_PREFIX}/lib/libremask.a"
      INTERFACE_COMPILE_DEFINITIONS REMASK_STATIC
      INTERFACE_INCLUDE_DIRECTORIES "${remask_PREFIX}/include"
      INTERFACE_LINK_LIBRARIES "@PRIVATE_LIBRARIES@")
  endif()
endif()
