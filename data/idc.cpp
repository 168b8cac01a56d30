#include "data/idc.h"

#include "data/checks.h"
#include "data/parallel.h"
#include "data/png.h"
#include "data/tree.h"
#include "engine/check.h"
#include "engine/random.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <tuple>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr Extent idc_image = 50;
constexpr Extent largest_image = 4096;  // where nothing else says how large an image may be
constexpr std::uint8_t white = 255;
constexpr std::size_t splits = 3;  // train, valid, test

/// "12 patches were …" where there are any.
void note(std::vector<std::string>& notes, std::int64_t count, std::string_view one, std::string_view many,
          std::string_view what) {
  if (count > 0) notes.push_back(fmt::format("{} {} {}", count, count == 1 ? one : many, what));
}

/// "…_class1.png" says 1; nothing where the name is of another form.
std::optional<std::uint8_t> class_in_name(std::string_view name) {
  const std::size_t at = name.rfind("_class");
  if (at == name.npos || at + 7 >= name.size() || name[at + 7] != '.') return {};
  if (name[at + 6] == '0') return std::uint8_t{0};
  if (name[at + 6] == '1') return std::uint8_t{1};
  return {};
}

/// Each once, without its split.
std::vector<IdcPatch> find_patches(const fs::path& folder, std::vector<std::string>& notes) {
  const Tree tree = walk(folder);
  std::vector<IdcPatch> patches;
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
  note(notes, repeated, "file", "files",
       "left out: of the same patient, class and name as another (Kaggle's archive holds the tree twice)");
  note(notes, unlabelled, "PNG file", "PNG files", "left out: not in a folder PATIENT/0 or PATIENT/1");
  note(notes, odd_names, "file name is", "file names are",
       "not of the form PATIENT_idx5_xX_yY_classC.png; the folder's class counts");
  note(notes, other, "other file", "other files", "left out");
  note(notes, tree.links, "symbolic link", "symbolic links", "not followed");
  return patches;
}

/// 0 … count - 1 in an order that depends on seed and `stream` alone.
std::vector<std::size_t> shuffled(std::size_t count, std::uint64_t seed, std::uint64_t stream) {
  std::vector<std::pair<std::uint64_t, std::size_t>> keyed(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::array<std::uint32_t, 4> words = philox(seed, stream, i);
    keyed[i] = {(std::uint64_t{words[0]} << 32) | words[1], i};
  }
  std::ranges::sort(keyed);
  std::vector<std::size_t> order(count);
  std::ranges::transform(keyed, order.begin(), &std::pair<std::uint64_t, std::size_t>::second);
  return order;
}

std::array<double, splits> shares(const LoadOptions& options) {
  const std::array<double, splits> share{1 - options.valid_share - options.test_share, options.valid_share, options.test_share};
  require(std::ranges::all_of(share, [](double s) { return s > 0 && s < 1; }),
          "idc: every split needs a share between 0 and 1");
  return share;
}

/// Patients in random order, each to the split that lacks most of what the patient has, class by class [Sechidis2011]: shares
/// of patches and of classes both come out about right, and no patient is in two splits.
void split_by_patient(std::vector<IdcPatch>& patches, const LoadOptions& options, const fs::path& folder,
                      std::vector<std::string>& notes) {
  std::map<std::string, std::array<double, 2>> counts;
  std::array<double, 2> total{};
  for (const IdcPatch& patch : patches) ++counts[patch.patient][patch.label], ++total[patch.label];
  if (counts.size() < splits) {
    fail(ExitCode::data, "too few patients to keep them apart",
         {.where = folder.string(),
          .expected = "3 patients or more",
          .found = fmt::format("{}", counts.size()),
          .next = "add patients, or --split-by patch"});
  }

  const std::array<double, splits> share = shares(options);
  std::array<std::array<double, 2>, splits> lacking{};
  for (std::size_t s = 0; s < splits; ++s) {
    for (std::size_t c = 0; c < 2; ++c) lacking[s][c] = 1;  // of what it should have
  }
  std::vector<const std::pair<const std::string, std::array<double, 2>>*> patients;
  for (const auto& patient : counts) patients.push_back(&patient);
  std::map<std::string_view, std::size_t> split_of;
  std::array<int, splits> sizes{};
  for (const std::size_t i : shuffled(patients.size(), options.seed, stream::split)) {
    const auto& [name, has] = *patients[i];
    std::array<double, splits> gain{};
    for (std::size_t s = 0; s < splits; ++s) {
      for (std::size_t c = 0; c < 2; ++c) gain[s] += total[c] > 0 ? has[c] / total[c] * lacking[s][c] : 0;
    }
    const std::size_t best = static_cast<std::size_t>(std::ranges::max_element(gain) - gain.begin());
    for (std::size_t c = 0; c < 2; ++c) lacking[best][c] -= total[c] > 0 ? has[c] / (share[best] * total[c]) : 0;
    split_of[name] = best;
    ++sizes[best];
  }
  for (IdcPatch& patch : patches) patch.split = split_of.at(patch.patient);
  notes.push_back(fmt::format("split by patient with seed {}: {} patients to train, {} to validate, {} to test", options.seed,
                              sizes[0], sizes[1], sizes[2]));
}

void split_by_patch(std::vector<IdcPatch>& patches, const LoadOptions& options, std::vector<std::string>& notes) {
  const std::array<double, splits> share = shares(options);
  for (std::uint64_t label = 0; label < 2; ++label) {
    std::vector<std::size_t> members;
    for (std::size_t i = 0; i < patches.size(); ++i) {
      if (patches[i].label == label) members.push_back(i);
    }
    const auto part = [&](double of) {
      return std::max<std::size_t>(1, std::llround(of * static_cast<double>(members.size())));
    };
    const std::size_t test = part(share[2]), test_and_valid = test + part(share[1]);
    const std::vector<std::size_t> order = shuffled(members.size(), options.seed, stream::split + 1 + label);
    for (std::size_t i = 0; i < order.size(); ++i) patches[members[order[i]]].split = i < test ? 2 : i < test_and_valid ? 1 : 0;
  }
  notes.push_back(fmt::format("split by patch with seed {}: patches of one patient are in several splits", options.seed));
}

struct Oddities {
  std::atomic<std::int64_t> padded = 0, converted = 0;
};

/// Decodes `paths` below `folder` onto white canvases of one size; labels are the caller's.
Images decode(const fs::path& folder, const std::vector<std::string>& paths, Extent canvas, Extent smallest,
              const LoadOptions& options, const std::string& doing, Oddities& oddities) {
  Images images;
  images.shape = {static_cast<int>(paths.size()), canvas.h, canvas.w, 3};
  require_memory(images.shape.count(), folder.string());
  images.pixels.assign(static_cast<std::size_t>(images.shape.count()), white);
  images.ids = paths;
  const std::size_t row = static_cast<std::size_t>(canvas.w) * 3, image = row * static_cast<std::size_t>(canvas.h);
  const auto body = [&](std::int64_t i) {
    const fs::path file =
        folder.empty() ? fs::path(paths[static_cast<std::size_t>(i)]) : folder / paths[static_cast<std::size_t>(i)];
    const PngImage png = read_png(file, canvas);
    if (png.size.h < smallest.h || png.size.w < smallest.w) {
      fail(ExitCode::data, "images differ in size",
           {.where = file.string(),
            .expected = fmt::format("{} x {}, as the first one", smallest.h, smallest.w),
            .found = fmt::format("{} x {}", png.size.h, png.size.w)});
    }
    if (png.size != canvas) ++oddities.padded;
    if (png.converted) ++oddities.converted;
    const std::size_t width = static_cast<std::size_t>(png.size.w) * 3;
    std::uint8_t* to = images.pixels.data() + static_cast<std::size_t>(i) * image;
    for (std::size_t y = 0; y < static_cast<std::size_t>(png.size.h); ++y)
      std::memcpy(to + y * row, png.pixels.data() + y * width, width);
  };
  const auto progress = [&](std::int64_t done) {
    if (options.progress) options.progress(doing, done, images.shape.n);
  };
  for_each_index(images.shape.n, options.threads, body, progress);
  return images;
}

}  // namespace

std::vector<IdcPatch> find_idc_patches(const fs::path& folder, const LoadOptions& options, std::vector<std::string>& notes) {
  std::vector<IdcPatch> patches = find_patches(folder, notes);
  if (options.split_by == SplitBy::patient) {
    split_by_patient(patches, options, folder, notes);
  } else {
    split_by_patch(patches, options, notes);
  }
  return patches;
}

Extent idc_image_size(const LoadOptions& options) {
  return options.image.value_or(idc_image);
}

Dataset load_idc(const fs::path& folder, const LoadOptions& options) {
  Dataset data{.name = "idc"};
  const std::vector<IdcPatch> patches = find_idc_patches(folder, options, data.notes);
  const Extent canvas = idc_image_size(options);
  Oddities oddities;
  struct Part {
    std::string_view name;
    bool wanted;
    Images& images;
  };
  const std::array<Part, splits> parts{
      {{"train", options.train, data.train}, {"valid", options.valid, data.valid}, {"test", options.test, data.test}}};
  // All labels before any pixel: what is wrong with them should not wait for the decoding.
  std::array<std::vector<std::string>, splits> paths;
  for (const IdcPatch& patch : patches) {
    paths[patch.split].push_back(patch.path);
    parts[patch.split].images.labels.push_back(patch.label);
    parts[patch.split].images.groups.push_back(patch.patient);
  }
  for (const Part& part : parts) {
    if (part.wanted)
      require_both_classes(part.images, part.name, folder.string(),
                           "add patients with both classes, or deal them otherwise: another --split-seed, or --split-by patch");
  }
  for (std::size_t s = 0; s < splits; ++s) {
    const Images known = std::exchange(parts[s].images, {});
    if (!parts[s].wanted) continue;
    parts[s].images = decode(folder, paths[s], canvas, 1, options, fmt::format("reading {}", parts[s].name), oddities);
    parts[s].images.labels = known.labels;
    parts[s].images.groups = known.groups;
  }
  note(data.notes, oddities.padded, "patch", "patches",
       fmt::format("smaller than {}x{}: padded with white below and on the right", canvas.h, canvas.w));
  note(data.notes, oddities.converted, "patch", "patches",
       "converted to 8-bit RGB (from a palette, grey, 16 bits, or transparency over white)");
  return data;
}

Images load_png_images(const fs::path& path, const LoadOptions& options) {
  const bool folder = fs::is_directory(path);
  std::vector<std::string> paths;
  if (folder) {
    for (const fs::path& file : walk(path).files) {
      if (is_png_name(file)) paths.push_back(file.string());
    }
    if (paths.empty())
      fail(ExitCode::data, "a folder holds no images",
           {.where = path.string(), .expected = "PNG files, or name one HDF5 file"});
  } else {
    paths.push_back(path.string());
  }
  const fs::path root = folder ? path : fs::path();
  Oddities oddities;
  if (options.image) return decode(root, paths, *options.image, 1, options, "reading images", oddities);
  const Extent first = read_png(folder ? root / paths[0] : path, largest_image).size;
  return decode(root, paths, first, first, options, "reading images", oddities);
}

}  // namespace microtome
