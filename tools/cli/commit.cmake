# Writes commit.h when the git id has changed; run at every build, so that a result names the sources it came from.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 --match= OUTPUT_VARIABLE id OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT id)
  set(id unknown)
endif()
file(CONFIGURE OUTPUT ${HEADER} CONTENT "#define MICROTOME_COMMIT \"${id}\"\n" @ONLY)  # left as it is where it says so already
