#include "data/format.h"

#include "engine/check.h"

#include <algorithm>

namespace microtome {

namespace format {
extern const Format pcam, idc;  // each in the file of its name
}

namespace {

constexpr std::array table{&format::pcam, &format::idc};

}  // namespace

std::span<const Format* const> formats() {
  return table;
}

std::string layouts() {
  std::string text;
  for (const Format* format : formats()) text += fmt::format("{}{}", text.empty() ? "" : ", or ", format->layout);
  return text;
}

const Format& find_format(std::string_view name) {
  const auto found = std::ranges::find(table, name, &Format::name);
  require(found != table.end(), "no data format is called ", name);
  return **found;
}

void Inspected::look_at(Extent its_size, std::span<const std::uint8_t> rgb) {
  size = its_size;
  digest = sha256(rgb);
  blank = std::equal(rgb.begin() + 3, rgb.end(), rgb.begin());
}

}  // namespace microtome
