#include "tools/profile/recorded_profile.h"

#include "engine/check.h"
#include "tools/cli/documents.h"
#include "tools/profile/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

namespace microtome {
namespace {

Json parse_profile(const std::filesystem::path& file) {
  std::string why;
  const std::optional<Json> read = read_json(file, &why);
  if (!read) fail(ExitCode::data, "the profile cannot be read, or is not JSON", {.where = file.string(), .found = why});
  const Json& json = *read;
  const std::string schema = json.is_object() && json.contains("schema") ? brief(json["schema"]) : "none";
  if (schema != fmt::format("\"{}\"", profile_schema))
    fail(ExitCode::data, "the profile is of another schema",
         {.where = file.string(),
          .expected = std::string(profile_schema),
          .found = schema,
          .next = "profile again with this version"});
  return json;
}

RecordedProfile profile_of(const Json& json) {
  const Json &run = json.at("run"), &device = json.at("device"), &distortion = json.at("distortion");
  RecordedProfile profile{.net = run.at("net"),
                          .commit = run.at("commit"),
                          .device = device.at("description"),
                          .batch = run.at("batch_size"),
                          .epoch_steps = json.at("method").at("epoch_steps"),
                          .untraced_ns = distortion.at("untraced_ns_per_step"),
                          .traced_ns = distortion.at("traced_ns_per_step"),
                          .untraced_samples_ns = distortion.at("untraced_samples_ns")};
  for (const char* key : {"name", "description"}) profile.setting[key] = device.at(key).dump();
  for (const char* key : {"net", "mode", "image", "precision", "graph", "augment", "batch_size", "data_name"})
    profile.setting[key] = run.at(key).dump();
  for (const char* key : {"dropped_records", "unfinished_records"})
    profile.lost_records += json.at("method").at(key).get<int>();
  for (const Json& layer : json.at("layers")) {
    const std::string row = layer.at("row"), pass = layer.at("pass");
    profile.layers.push_back({.key = row.empty() ? pass : row + " " + pass,
                              .ns = layer.at("ns_per_step"),
                              .traced_samples_ns = layer.at("traced_samples_ns")});
  }
  for (const Json& plan : json.at("plans")) {
    std::string& list = profile.plans[plan.at("row")];
    list += fmt::format("{}{}", list.empty() ? "" : ", ", plan.at("implementation").get<std::string>());
  }
  return profile;
}

}  // namespace

RecordedProfile read_profile(std::filesystem::path file) {
  if (std::filesystem::is_directory(file)) file /= "profile.json";
  const Json json = parse_profile(file);
  const auto damaged = [&](const std::string& found) {
    fail(ExitCode::data, "the profile is damaged",
         {.where = file.string(), .expected = "what profile writes", .found = found, .next = "profile again"});
  };
  RecordedProfile profile;
  try {
    profile = profile_of(json);
  } catch (const Json::exception& error) {
    damaged(error.what());
  }
  profile.file = file.string();
  const auto positive = [](double value) { return value > 0; };
  const auto negative = [](double value) { return value < 0; };
  if (!positive(profile.batch) || !positive(profile.untraced_ns) || profile.untraced_samples_ns.empty() ||
      !std::all_of(profile.untraced_samples_ns.begin(), profile.untraced_samples_ns.end(), positive) ||
      (!profile.layers.empty() && !positive(profile.traced_ns)) ||
      std::any_of(profile.layers.begin(), profile.layers.end(), [&](const RecordedProfile::Layer& layer) {
        return std::any_of(layer.traced_samples_ns.begin(), layer.traced_samples_ns.end(), negative);
      }))
    damaged("steps that took no time, or less");
  std::set<std::string> keys;
  for (const RecordedProfile::Layer& layer : profile.layers)
    if (!keys.insert(layer.key).second) damaged(layer.key + " twice");
  return profile;
}

}  // namespace microtome
