# For arm64 on a machine of another kind: Debian's cross compiler, the libraries of an arm64 root, and qemu to run the programs
# for tests and, while installing, for their --help.
#   apt-get install debootstrap g++-aarch64-linux-gnu qemu-user-static binfmt-support
#   debootstrap --arch=arm64 bookworm ROOT; chroot ROOT apt-get install symlinks and the packages of tools/install.sh
#   chroot ROOT symlinks -c /usr/lib/aarch64-linux-gnu     links to /lib lead nowhere from outside
#   cmake --preset cpu-only --toolchain tools/packaging/arm64.cmake -DCMAKE_SYSROOT=ROOT
# With QEMU_LD_PREFIX=ROOT, programs that a test starts find these libraries too. With CUDA (nvcc and NVIDIA's files for sbsa):
#   cmake --preset release --toolchain … -DCMAKE_SYSROOT=ROOT -DCMAKE_FIND_ROOT_PATH=TOOLKIT/targets/sbsa-linux
#     -DCUDAToolkit_ROOT=TOOLKIT -DCMAKE_CUDA_COMPILER=TOOLKIT/bin/nvcc -DCMAKE_CUDA_FLAGS="-target-dir sbsa-linux"
# CMake 3.25 looks into targets/aarch64-linux for it, which may be a link.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})

find_program(MICROTOME_QEMU NAMES qemu-aarch64-static qemu-aarch64)
if(MICROTOME_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${MICROTOME_QEMU} -L ${CMAKE_SYSROOT})
endif()

set(HDF5_C_COMPILER_EXECUTABLE /bin/false)  # not this machine's h5cc, which names its folders
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
