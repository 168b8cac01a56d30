#include "tools/options/outputs.h"

#include "data/checkpoint.h"
#include "data/file.h"
#include "data/weight_file.h"
#include "engine/check.h"
#include "tools/cli/run_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

namespace microtome {
namespace {

namespace fs = std::filesystem;

bool is_a_runs(const fs::path& file) {
  const std::string name = file.filename().string();
  std::error_code ignored;
  if (!fs::exists(file.parent_path() / "config.toml", ignored) || name == "scores.csv" || name == "roc.csv") return false;
  return name == "last.checkpoint" || name == "result.json" || std::ranges::find(run_files, name) != std::end(run_files);
}

/// What it is instead of `kind`; empty where it is of that kind.
std::string other_kind(const fs::path& file, OutputKind kind) {
  const std::string found = kind_of_file(file);
  try {
    switch (kind) {
      case OutputKind::text:
      case OutputKind::onnx: return is_checkpoint(file) ? "a checkpoint" : found;
      case OutputKind::weights: open_weights(file); return "";
      case OutputKind::checkpoint: return read_checkpoint(file).info.options.empty() ? "" : "a run's checkpoint";
    }
  } catch (const Error&) {
  }
  return found.empty() ? "something else" : found;
}

}  // namespace

void require_replaceable(std::string_view option, const fs::path& output, OutputKind kind) {
  std::error_code failure;
  const fs::path file = fs::weakly_canonical(output, failure);
  const bool there = fs::is_regular_file(file, failure) && fs::file_size(file, failure) > 0;
  const std::string found = is_a_runs(file) ? "a run's file" : there ? other_kind(file, kind) : "";
  if (found.empty()) return;
  constexpr const char* kinds[] = {"text", "a file of weights", "a checkpoint without a run", "an ONNX file"};
  fail(ExitCode::usage, fmt::format("{} would overwrite another kind of file", option),
       {.where = output.string(),
        .expected = fmt::format("a new name, or {}", kinds[static_cast<int>(kind)]),
        .found = found,
        .next = fmt::format("another file for {}, or delete this one first", option)});
}

}  // namespace microtome
