#include "data/patient.h"

#include "data/tree.h"

#include <algorithm>
#include <vector>

namespace microtome {

std::string patient_in_name(std::string_view file_name) {
  const std::size_t end = file_name.rfind("_idx");
  if (end == file_name.npos) return {};
  std::string_view rest = file_name.substr(end);
  for (const std::string_view key : {"_idx", "_x", "_y"}) {
    if (!rest.starts_with(key)) return {};
    rest.remove_prefix(key.size());
    const std::size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
    if (digits == 0) return {};
    rest.remove_prefix(digits);
  }
  return std::string(file_name.substr(0, end));
}

std::string patient_in_path(std::string_view path) {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find_first_of("/\\", at), path.size());
    parts.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  const std::string named = patient_in_name(parts.back());
  if (!named.empty() || parts.size() < 3) return named;
  const std::string_view label = parts[parts.size() - 2];
  return label == "0" || label == "1" ? std::string(parts[parts.size() - 3]) : "";
}

std::optional<std::uint8_t> class_in_name(std::string_view name) {
  const std::size_t at = name.rfind("_class");
  if (at == name.npos || at + 7 >= name.size() || name[at + 7] != '.') return {};
  if (name[at + 6] == '0') return std::uint8_t{0};
  if (name[at + 6] == '1') return std::uint8_t{1};
  return {};
}

bool is_unknown(std::string_view patient) {
  constexpr std::string_view words[] = {"", "na", "n/a", "nan", "none", "null", "?", "-", "unknown"};
  return std::ranges::find(words, lower_case(patient)) != std::end(words);
}

}  // namespace microtome
