#include "data/csv.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace microtome {
namespace {

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

}  // namespace

std::vector<std::string> csv_fields(std::string_view line, char separator) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  std::vector<std::string> fields;
  for (std::size_t at = 0; at <= line.size();) {
    std::string field;
    if (const std::size_t quote = line.find_first_not_of(' ', at); quote != line.npos && line[quote] == '"') {
      for (at = quote + 1; at < line.size(); ++at) {
        if (line[at] == '"' && !line.substr(at + 1).starts_with('"')) break;
        if (line[at] == '"') ++at;
        field += line[at];
      }
      at = std::min(at + 1, line.size());
    }
    const std::size_t end = std::min(line.find(separator, at), line.size());
    field += trimmed(line.substr(at, end - at));
    fields.push_back(std::move(field));
    at = end + 1;
  }
  return fields;
}

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\n\r") == text.npos && text == trimmed(text)) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
  return quoted + '"';
}

}  // namespace microtome
