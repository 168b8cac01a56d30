#include "tools/profile/measured_step.h"

#include "engine/check.h"
#include "tools/cli/documents.h"
#include "tools/profile/profile.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

namespace microtome {
namespace {

constexpr int smallest_image = 8, largest_image = 4096;

/// A whole number as our programs write it.
int whole_number(const Json& json, const std::filesystem::path& file, const std::string& what, int lowest, int highest) {
  if (!json.is_number_integer() || json < lowest || json > highest)
    fail(ExitCode::data, "what was measured is damaged",
         {.where = fmt::format("{}, {}", file.string(), what),
          .expected = fmt::format("a whole number from {} to {}", lowest, highest),
          .found = brief(json)});
  return json;
}

double time_of(const Json& json, const std::filesystem::path& file, const std::string& what, double longest) {
  if (!json.is_number() || !(json.get<double>() > 0) || json.get<double>() > longest)
    fail(ExitCode::data, "what was measured is damaged",
         {.where = fmt::format("{}, {}", file.string(), what),
          .expected = fmt::format("more than 0, at most {:g}", longest),
          .found = brief(json)});
  return json;
}

/// Of an image's height and width.
int side_of(const Json& image, const std::filesystem::path& file) {
  return whole_number(image.at(0), file, "image", smallest_image, largest_image);
}

}  // namespace

MeasuredStep measured_step(const std::filesystem::path& folder) {
  constexpr int most_images = 1'000'000'000, largest_batch = 65536;
  constexpr double longest_epoch = 1e9, longest_step_ns = 1e15;
  try {
    const std::filesystem::path profiled = folder / "profile.json", trained = folder / "result.json";
    if (const std::optional<Json> read = read_json(profiled)) {
      const Json& profile = *read;
      if (const Json& schema = profile.at("schema"); schema != profile_schema)
        fail(ExitCode::data, "the profile is of another schema",
             {.where = profiled.string(),
              .expected = std::string(profile_schema),
              .found = brief(schema),
              .next = "profile again with this version"});
      const Json &run = profile.at("run"), &step_ns = profile.at("distortion").at("untraced_ns_per_step");
      return {.net = run.at("net"),
              .mode = run.at("mode"),
              .device = profile.at("device").at("name"),
              .precision = run.at("precision"),
              .side = side_of(run.at("image"), profiled),
              .batch = whole_number(run.at("batch_size"), profiled, "batch_size", 1, largest_batch),
              .seconds = time_of(step_ns, profiled, "untraced_ns_per_step", longest_step_ns) * 1e-9};
    }
    if (const std::optional<Json> read = read_json(trained); read && read->at("seconds_per_epoch") != 0) {
      const Json& run = *read;
      const int batch = whole_number(run.at("batch_size"), trained, "batch_size", 1, largest_batch);
      const double images = whole_number(run.at("train_images"), trained, "train_images", 1, most_images);
      return {.net = run.at("net"),
              .mode = run.at("mode"),
              .device = run.at("device"),
              .precision = run.at("precision"),
              .side = run.contains("image") ? side_of(run["image"], trained) : 0,
              .batch = batch,
              .seconds = time_of(run.at("seconds_per_epoch"), trained, "seconds_per_epoch", longest_epoch) /
                         std::ceil(images / batch)};
    }
  } catch (const Json::exception&) {
  }
  fail(ExitCode::data, "this is neither a profile's folder nor a run's",
       {.where = folder.string(), .expected = "profile.json, or result.json of a run of one epoch or more"});
}

}  // namespace microtome
