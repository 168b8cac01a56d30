# `cpack -G DEB` in the build folder: a Debian package of what `cmake --install` installs. It takes dpkg-dev, and the same
# build gives the same bytes whenever it is packed: times are the commit's.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME microtome)
set(CPACK_PACKAGE_VENDOR Microtome)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "train and measure convolutional networks of histology")
set(computes "This package computes on the CPU.")
if(NOT cuda_reason)
  set(computes "This package computes on the CPU, and on NVIDIA GPUs where NVIDIA's driver,
cuBLAS of CUDA ${CUDAToolkit_VERSION_MAJOR} and cuDNN 9 are installed.")
endif()
set(CPACK_PACKAGE_DESCRIPTION "Microtome is an engine, written by hand in C++20, for one job: training and
applying the convolutional networks of a study of breast-cancer histology on
patches of stained tissue, in Keras' own weight files. It trains, tunes,
evaluates, scores images, measures where the time goes, and makes synthetic
data to try it on.
.
${computes}
It is for research: not a medical device, and not for diagnosis.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_STRIP_FILES ON)
set(CPACK_THREADS 1)

# Two releases of Debian have different libraries: an upgrade from one to the next replaces the package.
execute_process(COMMAND sh -c ". /etc/os-release && echo 1~$ID$VERSION_ID" OUTPUT_VARIABLE release OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
string(REPLACE "debian" "deb" release "${release}")
if(NOT release)
  set(release 1)
endif()
set(CPACK_DEBIAN_PACKAGE_RELEASE ${release})

execute_process(COMMAND git -C ${CMAKE_SOURCE_DIR} log -1 "--format=%an <%ae>" OUTPUT_VARIABLE author OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT author)
  set(author "The authors of Microtome <microtome@example.org>")
endif()
set(MICROTOME_MAINTAINER "" CACHE STRING "Maintainer of packages: NAME <MAIL>; else the author of the commit")
set(CPACK_DEBIAN_PACKAGE_MAINTAINER ${author})
if(MICROTOME_MAINTAINER)
  set(CPACK_DEBIAN_PACKAGE_MAINTAINER ${MICROTOME_MAINTAINER})
endif()
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS gnuplot-nox)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(CPACK_PROJECT_CONFIG_FILE ${CMAKE_CURRENT_LIST_DIR}/cpack_before.cmake)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/cpack_staged.cmake)
set(CPACK_MICROTOME_SOURCE ${CMAKE_SOURCE_DIR})
set(CPACK_MICROTOME_NATIVE ${MICROTOME_NATIVE})
set(CPACK_MICROTOME_CROSS ${CMAKE_CROSSCOMPILING})
include(CPack)
