// Lines of CSV files: commas between fields, quotes around those that hold one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// The line's fields without the blanks and quotes around them; views into it.
std::vector<std::string_view> csv_fields(std::string_view line);

/// A field as it is written, quoted where it must be.
std::string csv_field(const std::string& text);

}  // namespace microtome
