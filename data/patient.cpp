#include "data/patient.h"

#include <algorithm>

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

}  // namespace microtome
