# Writes sources.h when a source of engine/ or kernels/ has changed, or what compiles them; run at every build, for a program and
# its CUDA module fit only where these are the same. A digest, since git's id is one for all that a changed tree has ever held.
file(GLOB_RECURSE files RELATIVE ${SOURCE} ${SOURCE}/engine/*.h ${SOURCE}/engine/*.cpp ${SOURCE}/kernels/*.h ${SOURCE}/kernels/*.cpp ${SOURCE}/kernels/*.cu)
set(digests "${COMPILER}")
foreach(file ${files})
  file(SHA256 ${SOURCE}/${file} digest)
  string(APPEND digests "\n${digest} ${file}")
endforeach()
string(SHA256 digest "${digests}")
string(SUBSTRING ${digest} 0 16 digest)
file(CONFIGURE OUTPUT ${HEADER} CONTENT "#define MICROTOME_SOURCES \"Microtome ${VERSION}, sources ${digest}\"\n" @ONLY)  # left as it is where it says so already
