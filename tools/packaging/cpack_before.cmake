# Before anything is packed.
if(CPACK_MICROTOME_NATIVE)
  message(FATAL_ERROR "This build is for the processors of this machine alone: configure without -DMICROTOME_NATIVE=ON to make a package")
endif()
set(source ${CPACK_MICROTOME_SOURCE})
include(${CMAKE_CURRENT_LIST_DIR}/commit_time.cmake)
set(FILE_EXECUTABLE ${CMAKE_CURRENT_LIST_DIR}/file.sh)  # not what CPack would find
