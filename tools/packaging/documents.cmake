# At install time: documents.sh, with the programs that were just installed.
include(${CMAKE_CURRENT_LIST_DIR}/commit_time.cmake)
string(TIMESTAMP date "%Y-%m-%d" UTC)
set(commit unknown)
if(EXISTS ${commit_header})
  file(STRINGS ${commit_header} line REGEX MICROTOME_COMMIT)
  string(REGEX REPLACE ".*\"(.*)\".*" "\\1" commit "${line}")
endif()

set(prefix "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}")
if(cross AND NOT emulator)
  message(WARNING "The programs do not run on this machine, so there is no front end, man page nor completion: set CMAKE_CROSSCOMPILING_EMULATOR")
  return()
endif()
string(REPLACE ";" " " emulator "${emulator}")
execute_process(
  COMMAND ${CMAKE_COMMAND} -E env "EMULATOR=${emulator}" sh ${CMAKE_CURRENT_LIST_DIR}/documents.sh
    ${prefix}/${programs_folder} ${programs_from_bin} ${prefix}/${bin} ${prefix}/${man} ${prefix}/${completions} ${version} ${commit} ${date}
  OUTPUT_VARIABLE made RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "The front end, man pages and completion could not be made in ${prefix}")
endif()
string(REPLACE "\n" ";" made "${made}")
foreach(file ${made})
  message(STATUS "Made: ${file}")
  string(LENGTH "$ENV{DESTDIR}" skipped)
  string(SUBSTRING "${file}" ${skipped} -1 file)
  list(APPEND CMAKE_INSTALL_MANIFEST_FILES "${file}")
endforeach()
