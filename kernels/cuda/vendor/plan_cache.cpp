#include "kernels/cuda/vendor/plan_cache.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <system_error>

namespace microtome::cuda {

std::string line_of(std::string_view key, const TimedChoice& timed) {
  std::string line =
      fmt::format("{}\tengine {} workspace {} us {:.6g} knobs", key, timed.choice.engine, timed.workspace_bytes, timed.time_us);
  for (const auto& [type, value] : timed.choice.knobs) line += fmt::format(" {}:{}", type, value);
  return line;
}

std::optional<std::pair<std::string, TimedChoice>> parsed_line(const std::string& line) {
  const std::size_t tab = line.find('\t');
  if (tab == std::string::npos || tab == 0) return {};
  std::istringstream words(line.substr(tab + 1));
  const auto says = [&](std::string_view expected) {
    std::string word;
    return words >> word && word == expected;
  };
  TimedChoice timed;
  if (!says("engine") || !(words >> timed.choice.engine) || timed.choice.engine < 0) return {};
  if (!says("workspace") || !(words >> timed.workspace_bytes)) return {};
  if (!says("us") || !(words >> timed.time_us) || !says("knobs")) return {};
  for (;;) {
    std::int64_t type = 0, value = 0;
    char colon = 0;
    if (!(words >> std::ws) || words.eof()) break;
    if (!(words >> type >> colon >> value) || colon != ':') return {};
    timed.choice.knobs.emplace_back(type, value);
  }
  return {{line.substr(0, tab), timed}};
}

PlanCache::PlanCache(std::filesystem::path path) : path_(std::move(path)), lines_(read(path_)) {}

PlanCache::Lines PlanCache::read(const std::filesystem::path& path) {
  Lines lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (auto parsed = parsed_line(line)) lines.insert_or_assign(std::move(parsed->first), std::move(parsed->second));
  }
  return lines;
}

const TimedChoice* PlanCache::find(const std::string& key) const {
  const auto found = lines_.find(key);
  return found == lines_.end() ? nullptr : &found->second;
}

void PlanCache::keep(const std::string& key, TimedChoice choice) {
  lines_.insert_or_assign(key, choice);
  fresh_.insert_or_assign(key, std::move(choice));
}

void PlanCache::save() {
  if (path_.empty() || fresh_.empty()) return;
  Lines lines = std::exchange(fresh_, {});
  lines.merge(read(path_));
  std::error_code error;
  if (path_.has_parent_path()) std::filesystem::create_directories(path_.parent_path(), error);
  std::filesystem::path beside = path_;
  beside += fmt::format(".{}", getpid());
  std::ofstream file(beside);
  for (const auto& [key, choice] : lines) file << line_of(key, choice) << '\n';
  file.close();
  if (!file) error = std::make_error_code(std::errc::io_error);
  if (!error) std::filesystem::rename(beside, path_, error);
  if (!error) return;
  std::fprintf(stderr, "warning: timed plans cannot be kept in %s: %s\n", path_.c_str(), error.message().c_str());
  std::filesystem::remove(beside, error);
  path_.clear();  // said once
}

}  // namespace microtome::cuda
