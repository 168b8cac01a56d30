# Before anything is packed.
if(CPACK_MICROTOME_NATIVE)
  message(FATAL_ERROR "This build is for the processors of this machine alone: configure without -DMICROTOME_NATIVE=ON to make a package")
endif()
if(CPACK_MICROTOME_CROSS)
  message(FATAL_ERROR "A package depends on the libraries of the system that it is made on: make one for another architecture in a root of that (tools/packaging/try.sh says how one runs here)")
endif()
set(source ${CPACK_MICROTOME_SOURCE})
include(${CMAKE_CURRENT_LIST_DIR}/commit_time.cmake)
set(FILE_EXECUTABLE ${CMAKE_CURRENT_LIST_DIR}/file.sh)  # not what CPack would find
