// Opens the CUDA module where a GPU is asked for: a program that asks for none has nothing of CUDA's in its memory, and starts
// where there is nothing of CUDA's.
#include "kernels/cuda_module.h"

#include "engine/check.h"

#include <dlfcn.h>
#include <elf.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace microtome {

namespace {

/// The first of the places where it may lie, as seen from the program so that the whole may be moved: beside it, installed,
/// built. Empty where it lies in none.
std::filesystem::path module_file() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  for (const char* folder : {".", MODULES_FROM_PROGRAMS, "../kernels/cuda", "../../kernels/cuda"}) {
    const std::filesystem::path file = (program.parent_path() / folder / "libmicrotome_cuda.so").lexically_normal();
    if (std::filesystem::exists(file, error)) return file;
  }
  return {};
}

struct Absence {
  std::string what;
  Report report;
};

/// Of the module or the driver; what cannot be used is not absent. Opens no more than the driver's library, which every GPU
/// has, in a container and under WSL too.
std::optional<Absence> absence() {
  if (module_file().empty())
    return Absence{
        "there is no CUDA module",
        {.expected = "libmicrotome_cuda.so beside the program or in " MODULES_FROM_PROGRAMS " from there",
         .next = "use --device cpu, or a Microtome that was built with the CUDA toolkit (12.4 or later) and cuDNN 9"}};
  if (dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) == nullptr)
    return Absence{"there is no NVIDIA driver", {.found = dlerror(), .next = "use --device cpu, or install the driver"}};
  return {};
}

/// The loader takes a file for what it says it has, and to read what that lacks is a SIGBUS.
bool is_cut_short(const std::filesystem::path& file) {
  Elf64_Ehdr header{};
  std::ifstream stream(file, std::ios::binary);
  stream.read(reinterpret_cast<char*>(&header), sizeof header);
  if (!stream || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return false;  // dlopen says what it is
  std::error_code error;
  return std::filesystem::file_size(file, error) <
         header.e_shoff + std::uint64_t{header.e_shnum} * header.e_shentsize;  // its last part
}

/// Stays open for good: the code of what it makes and throws lies there.
const CudaModule& open(const std::filesystem::path& file) {
  const char* const again = "install program and module from one package or build, or use --device cpu";
  if (is_cut_short(file)) fail(ExitCode::machine, "the CUDA module is cut short", {.where = file, .next = again});
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    fail(ExitCode::machine, "the CUDA module cannot be loaded",
         {.where = file,
          .found = dlerror(),
          .next = "install what it lacks of CUDA or cuDNN, or name its folder in LD_LIBRARY_PATH; or use --device cpu"});
  const auto* const module = static_cast<const CudaModule*>(dlsym(library, "microtome_cuda_module"));
  if (module == nullptr)
    fail(ExitCode::machine, "the CUDA module is none of Microtome's", {.where = file, .found = dlerror(), .next = again});
  if (std::string_view(module->version) != cuda_module_version)
    fail(ExitCode::machine, "the CUDA module is of another version than the program",
         {.where = file, .expected = cuda_module_version, .found = module->version, .next = again});
  return *module;
}

const CudaModule& cuda_module() {
  static const CudaModule& module = open(module_file());
  return module;
}

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int ordinal, Precision precision, const BackendOptions& options) {
  if (const std::optional<Absence> absent = absence()) fail(ExitCode::machine, absent->what, absent->report);
  return cuda_module().make_backend(ordinal, precision, options);
}

int cuda_device_count(std::string* why) {
  const std::optional<Absence> absent = absence();
  const int count = absent ? 0 : cuda_module().device_count();
  if (count == 0 && why != nullptr) *why = absent ? absent->what : "there is no NVIDIA GPU";
  return count;
}

}  // namespace microtome
