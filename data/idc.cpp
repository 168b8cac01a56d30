// IDC [Janowczyk2016]: PATIENT/{0,1}/PATIENT_idx5_xX_yY_classC.png, RGB, 50 x 50, smaller at a slide's edge. The archive on
// Kaggle holds the tree twice: a second file of the same patient, class and name is left out. Palette, grey, alpha (over white) and 16 bits become 8-bit RGB and are counted.
#include "data/checks.h"
#include "data/decode.h"
#include "data/format.h"
#include "data/parallel.h"
#include "data/png.h"
#include "data/split.h"
#include "data/synthetic.h"
#include "data/tree.h"
#include "engine/check.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr Extent idc_image = 50;

bool recognise(const fs::path& folder) {
  return any_file(folder, [](const fs::path& path) {
    const fs::path label = path.parent_path().filename();
    return is_png_name(path) && (label == "0" || label == "1") && path.parent_path().has_parent_path();
  });
}

/// "…_class1.png" says 1; nothing where the name is of another form.
std::optional<std::uint8_t> class_in_name(std::string_view name) {
  const std::size_t at = name.rfind("_class");
  if (at == name.npos || at + 7 >= name.size() || name[at + 7] != '.') return {};
  if (name[at + 6] == '0') return std::uint8_t{0};
  if (name[at + 6] == '1') return std::uint8_t{1};
  return {};
}

/// Every patch below the folder, each once, in the order of paths, and the split that it belongs to; no file is opened.
std::vector<Patch> find_patches(const fs::path& folder, const LoadOptions& options, std::vector<std::string>& notes) {
  const Tree tree = walk(folder);
  std::vector<Patch> patches;
  std::set<std::tuple<std::string, std::uint8_t, std::string>> seen;
  std::int64_t repeated = 0, other = tree.others, unlabelled = 0, odd_names = 0;
  for (const fs::path& path : tree.files) {
    if (!is_png_name(path)) {
      ++other;
      continue;
    }
    const std::string folder_name = path.parent_path().filename().string();
    const std::string patient = path.parent_path().parent_path().filename().string();
    if ((folder_name != "0" && folder_name != "1") || patient.empty()) {
      ++unlabelled;
      continue;
    }
    const std::uint8_t label = folder_name == "1" ? 1 : 0;
    const std::string name = path.filename().string();
    const std::optional<std::uint8_t> named = class_in_name(name);
    if (named && *named != label) {
      fail(ExitCode::data, "a patch's name and folder disagree on its class",
           {.where = (folder / path).string(),
            .expected = fmt::format("class {}, as its folder says", label),
            .found = fmt::format("class {} in its name", *named),
            .next = "move it to the folder of its class, or rename it"});
    }
    odd_names += !named;
    if (seen.emplace(patient, label, name).second)
      patches.push_back({.path = path.string(), .patient = patient, .label = label});
    else
      ++repeated;
  }
  add_note(notes, repeated, "file", "files",
       "left out: of the same patient, class and name as another (Kaggle's archive holds the tree twice)");
  add_note(notes, unlabelled, "PNG file", "PNG files", "left out: not in a folder PATIENT/0 or PATIENT/1");
  add_note(notes, odd_names, "file name is", "file names are",
       "not of the form PATIENT_idx5_xX_yY_classC.png; the folder's class counts");
  add_note(notes, other, "other file", "other files", "left out");
  add_notes(tree, notes);
  deal(patches, options, folder, notes);
  return patches;
}

Extent image_size(const fs::path&, const LoadOptions& options) {
  return options.image.value_or(idc_image);
}

Dataset load(const fs::path& folder, const LoadOptions& options) {
  Dataset data;
  const std::vector<Patch> patches = find_patches(folder, options, data.notes);
  const Extent canvas = image_size(folder, options);
  Oddities oddities;
  struct Part {
    std::string_view name;
    bool wanted;
    Images& images;
  };
  const std::array<Part, split_count> parts{
      {{"train", options.train, data.train}, {"valid", options.valid, data.valid}, {"test", options.test, data.test}}};
  // All labels before any pixel: what is wrong with them should not wait for the decoding.
  std::array<std::vector<std::string>, split_count> paths;
  for (const Patch& patch : patches) {
    paths[patch.split].push_back(patch.path);
    parts[patch.split].images.labels.push_back(patch.label);
    parts[patch.split].images.groups.push_back(patch.patient);
  }
  for (const Part& part : parts) {
    if (part.wanted)
      require_both_classes(part.images, part.name, folder.string(),
                           "add patients with both classes, or deal them otherwise: another --split-seed, or --split-by patch");
  }
  for (std::size_t s = 0; s < split_count; ++s) {
    const Images known = std::exchange(parts[s].images, {});
    if (!parts[s].wanted) continue;
    parts[s].images = decode(folder, paths[s], canvas, 1, options, fmt::format("reading {}", parts[s].name), oddities);
    parts[s].images.labels = known.labels;
    parts[s].images.groups = known.groups;
  }
  add_notes(oddities, canvas, data.notes);
  return data;
}

Inspection inspect(const fs::path& folder, const LoadOptions& options) {
  Inspection found;
  for (const Patch& patch : find_patches(folder, options, found.notes))
    found.images.push_back({.split = patch.split, .label = patch.label, .id = patch.path, .group = patch.patient});
  const auto look = [&](std::int64_t i) {
    Inspected& image = found.images[static_cast<std::size_t>(i)];
    const PngImage png = read_png(folder / image.id, largest_image);
    image.look_at(png.size, png.pixels);
  };
  const auto count = static_cast<std::int64_t>(found.images.size());
  for_each_index(count, options.threads, look, [&](std::int64_t done) {
    if (options.progress) options.progress("reading patches", done, count);
  });
  return found;
}

}  // namespace

namespace format {

extern const Format idc{.name = "idc",
                        .layout = "IDC's tree (PATIENT/0/*.png, PATIENT/1/*.png)",
                        .groups = "patients",
                        .groups_unknown = "neither folders nor file names say them",
                        .files_remark = "",
                        .synthetic = "IDC's tree of 50x50 PNG files",
                        .recognise = recognise,
                        .image_size = image_size,
                        .load = load,
                        .inspect = inspect,
                        .synthesize = synthesize_idc};

}  // namespace format

}  // namespace microtome
