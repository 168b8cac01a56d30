#include "engine/shape.h"

#include "engine/check.h"

#include <algorithm>

namespace microtome {

std::string to_string(const Shape& s) {
  return fmt::format("{}x{}x{}x{}", s.n, s.h, s.w, s.c);
}

Shape Window::output(const Shape& x, int channels) const {
  const int rows = x.h + before.h + after.h - kernel.h;
  const int columns = x.w + before.w + after.w - kernel.w;
  if (rows < 0 || columns < 0)
    fail(ExitCode::usage, "the image is too small for this network",
         {.expected = fmt::format("at least {}x{} here", kernel.h - before.h - after.h, kernel.w - before.w - after.w),
          .found = fmt::format("{}x{}", x.h, x.w)});
  return {x.n, rows / stride.h + 1, columns / stride.w + 1, channels};
}

Window resolve(const Shape& x, Extent kernel, Extent stride, Padding padding) {
  require(kernel.h > 0 && kernel.w > 0 && stride.h > 0 && stride.w > 0, "a window needs a positive kernel and stride");
  if (padding.rule == Padding::Rule::valid) return {kernel, stride};
  if (padding.rule == Padding::Rule::zeros) return {kernel, stride, padding.before, padding.after};
  const auto total = [](int n, int k, int s) { return std::max(((n + s - 1) / s - 1) * s + k - n, 0); };
  const Extent both(total(x.h, kernel.h, stride.h), total(x.w, kernel.w, stride.w));
  const Extent before(both.h / 2, both.w / 2);
  return {kernel, stride, before, Extent(both.h - before.h, both.w - before.w)};
}

}  // namespace microtome
