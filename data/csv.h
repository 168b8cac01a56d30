// Lines of CSV files: commas, or what else separates fields, between them; quotes around those that hold one (RFC 4180).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// The line's fields: without the blanks around them, and of a quoted one what stands between its quotes, where "" is one
/// quote.
std::vector<std::string> csv_fields(std::string_view line, char separator = ',');

/// A field as it is written, quoted where it must be. csv_fields() gives it back, but for one with a line break: that is no
/// line.
std::string csv_field(std::string_view text);

}  // namespace microtome
