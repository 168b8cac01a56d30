# Untested. A recipe for Spack 1.x, to be copied into a repository of packages of yours (spack repo create) as
# packages/microtome/package.py. Then, in a clone of the sources:
#   spack dev-build microtome@main
from spack_repo.builtin.build_systems.cmake import CMakePackage, generator

from spack.package import *


class Microtome(CMakePackage):
    """An engine, written by hand in C++20 and CUDA, that trains and measures the convolutional networks of a study of
    breast-cancer histology. No licence has been chosen yet."""

    # For `spack install` add the address that you clone from: git = "…".
    version("main", branch="main")

    variant("cuda", default=False, description="The CUDA backend, with cuDNN 9")
    variant("native", default=False, description="Code for the building machine's processor alone")

    depends_on("cxx", type="build")
    depends_on("c", type="build")
    depends_on("cmake@3.25:", type="build")
    depends_on("ninja", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("git", type="build")

    depends_on("onednn@2.5:3")
    depends_on("hdf5@1.10:1.14~mpi+shared")
    depends_on("libpng")
    depends_on("zlib-api")
    depends_on("fmt")
    depends_on("boost", type="build")
    depends_on("cli11", type="build")
    depends_on("nlohmann-json@3.11:", type="build")
    depends_on("openssl")
    depends_on("onnx")
    depends_on("protobuf")
    depends_on("googletest", type="build")  # the build configures its tests
    depends_on("benchmark")
    depends_on("gnuplot", type="run")
    depends_on("cuda@12.4:", when="+cuda")
    depends_on("cudnn@9:", when="+cuda")

    conflicts("%gcc@:11")
    conflicts("%clang@:15")

    generator("ninja")
    build_targets = ["programs"]

    def cmake_args(self):
        return [
            self.define_from_variant("MICROTOME_CUDA", "cuda"),
            self.define_from_variant("MICROTOME_NATIVE", "native"),
        ]
