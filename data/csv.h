// Records of CSV files: commas, or what else separates fields, between them; quotes around those that hold one, or a line break
// (RFC 4180).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// The record's fields: without the blanks around them, and of a quoted one what stands between its quotes, where "" is one
/// quote.
std::vector<std::string> csv_fields(std::string_view record, char separator = ',');

/// Takes the next record out of `left`, as take_line (data/file.h) takes a line: a line, or several where a quoted field holds
/// the breaks between them. A quote that is never closed opens nothing: that record is its line.
bool take_csv_record(std::string_view& left, std::string_view& record, char separator = ',');

/// A field as it is written, quoted where it must be. csv_fields() gives it back.
std::string csv_field(std::string_view text);

}  // namespace microtome
