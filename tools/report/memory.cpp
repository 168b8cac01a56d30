#include "tools/report/memory.h"

#include "tools/cli/terminal.h"

#include <algorithm>

namespace microtome {
namespace {

bool has_memory(const ProgramMemory::Row& row) {
  return row.passing + row.kept + row.gradients > 0;
}

}  // namespace

std::string to_text(const MemoryPlan& plan, int batch_size, int images) {
  const auto line = [](std::string_view what, std::size_t bytes, std::string_view more = "") {
    return fmt::format("{:<20}{:>12}{}{}\n", what, size_text(bytes), more.empty() ? "" : "  ", more);
  };
  const ProgramMemory& step = plan.step;
  std::string text = line("weights", plan.parameters.weights) + line("gradients", plan.parameters.gradients) +
                     line("Adam's moments", plan.parameters.moments);
  if (plan.parameters.low_precision > 0) text += line("low-precision weights", plan.parameters.low_precision);
  text += line("activations", plan.arena,
               fmt::format("one arena for a step of {}; {} were nothing shared", batch_size, size_text(step.unshared)));
  text += line("scratch", plan.scratch);
  if (plan.kept > 0) text += line("kept by ops", plan.kept);
  text += line("images", plan.images);
  if (plan.features > 0) text += line("features", plan.features);
  if (plan.saving > 0) text += line("saving", plan.saving, "the best epoch's weights, and a file of them as it is made");
  text += line("total", plan.total());
  text +=
      fmt::format("\n{} free here{}{}: {}\n", size_text(plan.available), plan.bound.empty() ? "" : ", by ", plan.bound,
                  plan.largest_batch == 0 ? "beside the images not even one at a time fits: more memory, or fewer images"
                                          : fmt::format("a batch of {} would fit{}", with_separators(plan.largest_batch),
                                                        plan.largest_batch == images ? ", all training images in one" : ""));

  std::size_t width = 3;
  for (const ProgramMemory::Row& row : step.rows) width = std::max(width, row.name.size());
  text += fmt::format("\n{:<{}}{:>14}{:>14}{:>14}\n", "row", width, "forward only", "kept", "gradients");
  const auto cell = [](std::size_t bytes) { return bytes == 0 ? std::string("-") : size_text(bytes); };
  for (const ProgramMemory::Row& row : step.rows)
    if (has_memory(row))
      text +=
          fmt::format("{:<{}}{:>14}{:>14}{:>14}\n", row.name, width, cell(row.passing), cell(row.kept), cell(row.gradients));
  return text;
}

Json to_json(const MemoryPlan& plan, int batch_size) {
  Json rows = Json::array();
  for (const ProgramMemory::Row& row : plan.step.rows)
    if (has_memory(row))
      rows.push_back({{"name", row.name},
                      {"forward_only_bytes", row.passing},
                      {"kept_bytes", row.kept},
                      {"gradients_bytes", row.gradients}});
  return {{"batch_size", batch_size},
          {"weights_bytes", plan.parameters.weights},
          {"gradients_bytes", plan.parameters.gradients},
          {"moments_bytes", plan.parameters.moments},
          {"low_precision_weights_bytes", plan.parameters.low_precision},
          {"arena_bytes", plan.arena},
          {"arena_unshared_bytes", plan.step.unshared},
          {"scratch_bytes", plan.scratch},
          {"kept_bytes", plan.kept},
          {"images_bytes", plan.images},
          {"features_bytes", plan.features},
          {"saving_bytes", plan.saving},
          {"total_bytes", plan.total()},
          {"available_bytes", plan.available},
          {"largest_batch", plan.largest_batch},
          {"rows", rows}};
}

}  // namespace microtome
