// A libpng with a hole, for LD_PRELOAD: an image of 13 pixels' width crashes it.
#include <dlfcn.h>

#include <cstdint>

extern "C" {

std::uint32_t png_get_image_width(const void* png, const void* info) {
  using Get = std::uint32_t (*)(const void*, const void*);
  static const auto real = reinterpret_cast<Get>(::dlsym(RTLD_NEXT, "png_get_image_width"));
  const std::uint32_t width = real(png, info);
  if (width == 13) __builtin_trap();
  return width;
}
}
