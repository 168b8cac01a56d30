// A program that makes a backend, as ours do, from wherever it lies: open_backend DEVICE. Prints the backend's name; last, what
// of CUDA's is in its memory then.
#include "engine/check.h"
#include "kernels/backend.h"

#include <cstdio>
#include <fstream>
#include <new>
#include <set>
#include <string>

int main(int, char** arguments) {
  using namespace microtome;
  int code = 0;
  const auto refuse = [&code](const char* type, const Error& error) {
    std::printf("%s\n%s", type, to_text(error, "open_backend").c_str());
    code = static_cast<int>(error.code());
  };
  try {
    std::printf("%s\n", make_backend(arguments[1], Precision::f32)->device().name.c_str());
  } catch (const OutOfMemory& error) {
    refuse("OutOfMemory", error);
  } catch (const Error& error) {
    refuse("Error", error);
  } catch (const std::bad_alloc&) {
    std::puts("bad_alloc");
  }
  std::set<std::string> mapped;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    for (const char* part : {"libcuda", "libcublas", "libcudnn", "libmicrotome_cuda"})
      if (const std::size_t at = line.find(part); at != std::string::npos) mapped.insert(line.substr(at));
  for (const std::string& file : mapped) std::printf("maps %s\n", file.c_str());
  return code;
}
