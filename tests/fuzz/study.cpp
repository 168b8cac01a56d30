// The files of a study and of its cells: cells.json, and result.json, tta.json, failed.json, metrics.csv and config.toml of
// one. The first byte says which of them the input is; the others are sound.
#include "fuzz/fuzz.h"
#include "tools/study/cell.h"

#include <array>

namespace microtome::fuzz {

namespace {

constexpr std::string_view metrics = R"({"n": 4, "loss": 0.5, "accuracy": 0.75, "auc": 0.8, "auc_ci95": [0.7, 0.9]})";
constexpr std::array<std::string_view, 6> names{"cells.json",  "result.json", "tta.json",
                                                "failed.json", "metrics.csv", "config.toml"};

std::array<std::string, names.size()> sound() {
  const Cell cell{.net = "b6", .data = "idc", .mode = "full", .preprocess = "paper", .augment = "none", .seed = 0};
  const StudyPlan plan{.epochs = 2, .views = true, .cells = {{.cell = cell, .parent = ""}}};
  return {written_by([&](const auto& file) { write_plan(file.parent_path(), plan); }, "cells.json"),
          R"({"net": "b6", "test": )" + std::string(metrics) + "}",
          std::string(metrics),
          written_by([](const auto& file) { write_failure(file.parent_path(), {.exit_code = 5, .what = "no memory"}); },
                     "failed.json"),
          "epoch,train_loss\n1,0.5\n2,0.25\n",
          "split-by = \"patient\"\nstatistics = \"moving\"\n"};
}

struct Place {
  Folder folder;
  std::array<MemoryFile, names.size()> files;
  const std::array<std::string, names.size()> as_written = sound();

  Place() {
    const std::filesystem::path cell = folder / "cells/idc-b6-full-paper-none-0";
    std::filesystem::create_directories(cell);
    for (std::size_t i = 0; i < names.size(); ++i) {
      folder.link(i == 0 ? std::string(names[i]) : "cells/idc-b6-full-paper-none-0/" + std::string(names[i]), files[i]);
      files[i].hold(as_written[i]);
    }
  }
};

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> all;
  const auto files = sound();
  for (std::size_t i = 0; i < files.size(); ++i) all.push_back(std::string(1, static_cast<char>('0' + i)) + files[i]);
  return all;
}

}  // namespace microtome::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace microtome;
  using namespace microtome::fuzz;
  static Place place;
  if (size == 0) return 0;
  const std::size_t which = bytes[0] % names.size();
  MemoryFile& file = place.files[which];
  file.hold(Input(bytes + 1, size - 1));
  may_refuse([&] {
    for (const CellState& state : read_study(place.folder.path())) {
      if (state.status != CellStatus::done) continue;
      // What the report takes without looking.
      expect(state.result.at("test").at("auc").is_number() && state.tta.at("auc").is_number(), "metrics without figures");
    }
  });
  if (which == 3) {
    file.hold(Input(bytes + 1, size - 1));
    place.files[1].hold(std::string_view());
    may_refuse([&] { read_study(place.folder.path()); });
    place.files[1].hold(place.as_written[1]);
  }
  file.hold(place.as_written[which]);
  return 0;
}
