#include "data/csv.h"

#include "data/file.h"

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

/// The fields, and whether the last one's quote is not closed.
std::pair<std::vector<std::string>, bool> parse(std::string_view record, char separator) {
  if (record.ends_with('\r')) record.remove_suffix(1);
  std::vector<std::string> fields;
  bool open = false;
  for (std::size_t at = 0; at <= record.size();) {
    std::string field;
    if (const std::size_t quote = record.find_first_not_of(' ', at); quote != record.npos && record[quote] == '"') {
      for (at = quote + 1; at < record.size(); ++at) {
        if (record[at] == '"' && !record.substr(at + 1).starts_with('"')) break;
        if (record[at] == '"') ++at;
        field += record[at];
      }
      open = at >= record.size();
      at = std::min(at + 1, record.size());
    }
    const std::size_t end = std::min(record.find(separator, at), record.size());
    field += trimmed(record.substr(at, end - at));
    fields.push_back(std::move(field));
    at = end + 1;
  }
  return {std::move(fields), open};
}

}  // namespace

std::vector<std::string> csv_fields(std::string_view record, char separator) {
  return parse(record, separator).first;
}

bool take_csv_record(std::string_view& left, std::string_view& record, char separator) {
  constexpr std::size_t longest = 1 << 16;  // bytes that are looked through for a quote's end
  const std::string_view whole = left;
  if (!take_line(left, record)) return false;
  if (!parse(record, separator).second) return true;
  const std::string_view line = record, behind = left;
  while (record.size() < longest && take_line(left, record)) {
    record = {whole.data(), static_cast<std::size_t>(record.data() + record.size() - whole.data())};
    if (!parse(record, separator).second) return true;
  }
  record = line, left = behind;
  return true;
}

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\n\r") == text.npos && text == trimmed(text)) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
  return quoted + '"';
}

}  // namespace microtome
