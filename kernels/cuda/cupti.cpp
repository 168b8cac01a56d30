#include "kernels/cuda/cupti.h"

#include <fmt/format.h>

#include <dlfcn.h>

namespace microtome::cuda {

namespace {

/// CUPTI_LIBRARY is where the build found it.
void* open_library(std::string& why) {
  for (const char* path : {"libcupti.so.13", "libcupti.so.12", "libcupti.so", CUPTI_LIBRARY})
    if (void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL)) return library;
  why = fmt::format("CUPTI's library is missing ({}): install the CUDA toolkit's, or name its folder in LD_LIBRARY_PATH",
                    dlerror());
  return nullptr;
}

}  // namespace

const Cupti* find_cupti(std::string& why) {
  static Cupti table;
  static void* library = nullptr;  // never closed: it has threads of its own
  if (library != nullptr) return &table;
  void* opened = open_library(why);
  if (opened == nullptr) return nullptr;
#define FIND(function)                                                                   \
  table.function = reinterpret_cast<decltype(table.function)>(dlsym(opened, #function)); \
  if (table.function == nullptr) {                                                       \
    why = "CUPTI's library lacks " #function ": use that of CUDA 12.4 or later";         \
    return nullptr;                                                                      \
  }
  CUPTI_FUNCTIONS(FIND)
#undef FIND
  library = opened;
  return &table;
}

}  // namespace microtome::cuda
