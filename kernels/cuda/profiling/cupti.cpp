#include "kernels/cuda/profiling/cupti.h"

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

void* find_in_cupti(const char* name, std::string& why) {
  static void* library = nullptr;  // never closed: it has threads of its own
  if (library == nullptr) library = open_library(why);
  if (library == nullptr) return nullptr;
  void* found = dlsym(library, name);
  if (found == nullptr) why = fmt::format("CUPTI's library lacks {}: use that of a later CUDA", name);
  return found;
}

const Cupti* find_cupti(std::string& why) {
  static Cupti table;
#define FIND(function) \
  if (!find_in_cupti(#function, table.function, why)) return nullptr;
  CUPTI_FUNCTIONS(FIND)
#undef FIND
  return &table;
}

}  // namespace microtome::cuda
