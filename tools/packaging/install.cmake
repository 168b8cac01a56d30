# What `cmake --install` does beside copying the programs: the READMEs, and what is made from the programs' own --help: the front
# end bin/microtome, man pages, completion. All of it finds the rest from where it lies itself, so the prefix may be moved.
file(GLOB documents RELATIVE ${CMAKE_SOURCE_DIR} CONFIGURE_DEPENDS
  ${CMAKE_SOURCE_DIR}/README.md ${CMAKE_SOURCE_DIR}/[a-z]*/README.md ${CMAKE_SOURCE_DIR}/[a-z]*/*/README.md)
list(FILTER documents EXCLUDE REGEX "^(build|runs)")
list(APPEND documents tools/packaging/CHANGELOG.md)
foreach(document ${documents})
  get_filename_component(folder ${document} DIRECTORY)
  install(FILES ${document} DESTINATION ${CMAKE_INSTALL_DOCDIR}/${folder})
endforeach()

file(RELATIVE_PATH programs_from_bin /prefix/${CMAKE_INSTALL_BINDIR} /prefix/${programs_folder})
install(CODE "
  set(source [[${CMAKE_SOURCE_DIR}]])
  set(version ${PROJECT_VERSION})
  set(commit_header [[${CMAKE_BINARY_DIR}/generated/tools/cli/commit.h]])
  set(cross ${CMAKE_CROSSCOMPILING})
  set(emulator \"${CMAKE_CROSSCOMPILING_EMULATOR}\")
  set(programs_folder ${programs_folder})
  set(programs_from_bin ${programs_from_bin})
  set(bin ${CMAKE_INSTALL_BINDIR})
  set(man ${CMAKE_INSTALL_MANDIR}/man1)
  set(completions ${CMAKE_INSTALL_DATAROOTDIR}/bash-completion/completions)")
install(SCRIPT ${CMAKE_CURRENT_LIST_DIR}/documents.cmake)
