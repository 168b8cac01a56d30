# With all that is to be packed in CPACK_TEMPORARY_INSTALL_DIRECTORY: what Debian's policy wants, which is no business of
# `cmake --install`.
if(NOT CPACK_GENERATOR STREQUAL "DEB")
  return()
endif()
execute_process(
  COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/debianize.sh ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr
    ${CPACK_PACKAGE_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE} ${CPACK_DEBIAN_PACKAGE_MAINTAINER} ${CPACK_MICROTOME_SOURCE}
  RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "debianize.sh failed")
endif()
