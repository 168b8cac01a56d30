#include "bench/case_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <vector>

namespace microtome::bench {

std::string batch_name(int images) {
  return fmt::format("n{}", images);
}

int CaseName::images() const {
  int count = 0;
  if (batch.empty() || batch.front() != 'n') return 0;
  const char* const end = batch.data() + batch.size();
  const auto [rest, error] = std::from_chars(batch.data() + 1, end, count);
  return error == std::errc() && rest == end ? count : 0;
}

std::string case_name(const CaseName& c) {
  return fmt::format("{}/{}/{}/{}/{}{}{}", c.work, c.label, c.device, c.precision, c.batch, c.deferred ? "/deferred" : "",
                     c.cold ? "/cold" : "");
}

std::optional<CaseName> case_name(std::string_view text) {
  std::vector<std::string> segments;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('/', begin), text.size());
    segments.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  CaseName name;
  const auto take_last = [&] {
    std::string last = std::move(segments.back());
    segments.pop_back();
    return last;
  };
  const auto ends_with = [&](std::string_view option) {
    const bool found = !segments.empty() && segments.back() == option;
    if (found) segments.pop_back();
    return found;
  };
  name.cold = ends_with("cold");
  name.deferred = ends_with("deferred");
  constexpr std::size_t least = 5;
  if (segments.size() < least) return std::nullopt;
  name.batch = take_last(), name.precision = take_last(), name.device = take_last();
  name.work = segments.front();
  name.label = segments[1];
  for (std::size_t i = 2; i < segments.size(); ++i) name.label += "/" + segments[i];
  return name;
}

}  // namespace microtome::bench
