#include "data/audit.h"

#include "data/digest.h"
#include "data/idc.h"
#include "data/parallel.h"
#include "data/pcam.h"
#include "data/png.h"
#include "engine/check.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <tuple>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;

namespace {

struct Record {
  std::size_t split = 0;
  std::uint8_t label = 0;
  std::string id, group;
  Extent size = 0;
  Digest digest{};
  bool blank = false;

  auto pixels() const { return std::tie(size.h, size.w, digest); }
  void look_at(Extent its_size, std::span<const std::uint8_t> rgb) {
    size = its_size;
    digest = sha256(rgb);
    blank = std::equal(rgb.begin() + 3, rgb.end(), rgb.begin());
  }
};

std::vector<Record> read_pcam(const fs::path& folder, const LoadOptions& options) {
  std::vector<Record> records;
  std::array<std::size_t, 3> begin{}, count{};
  for (std::size_t s = 0; s < split_names.size(); ++s) {
    const Images known = load_pcam_labels(folder, split_names[s]);
    begin[s] = records.size(), count[s] = known.labels.size();
    for (std::size_t i = 0; i < known.labels.size(); ++i) {
      records.push_back({.split = s,
                         .label = known.labels[i],
                         .id = fmt::format("{}", i),
                         .group = known.groups.empty() ? "" : known.groups[i]});
    }
  }
  for (std::size_t s = 0; s < split_names.size(); ++s) {
    visit_pcam_images(folder, split_names[s], count[s], options.progress,
                      [&](int i, Extent size, std::span<const std::uint8_t> rgb) {
                        records[begin[s] + static_cast<std::size_t>(i)].look_at(size, rgb);
                      });
  }
  return records;
}

std::vector<Record> read_idc(const fs::path& folder, const LoadOptions& options, std::vector<std::string>& notes) {
  constexpr Extent largest = 4096;
  std::vector<Record> records;
  for (const IdcPatch& patch : find_idc_patches(folder, options, notes))
    records.push_back({.split = patch.split, .label = patch.label, .id = patch.path, .group = patch.patient});
  const auto look = [&](std::int64_t i) {
    Record& record = records[static_cast<std::size_t>(i)];
    const PngImage png = read_png(folder / record.id, largest);
    record.look_at(png.size, png.pixels);
  };
  const auto count = static_cast<std::int64_t>(records.size());
  for_each_index(count, options.threads, look, [&](std::int64_t done) {
    if (options.progress) options.progress("reading patches", done, count);
  });
  return records;
}

void count_sizes(std::span<const Record> records, Audit& audit) {
  std::map<std::pair<int, int>, std::int64_t> counts;
  for (const Record& record : records) ++counts[{record.size.h, record.size.w}];
  for (const auto& [size, images] : counts) audit.sizes.push_back({{size.first, size.second}, images});
  std::ranges::stable_sort(audit.sizes, std::greater(), &Audit::Size::images);
}

void count_groups(std::span<const Record> records, Audit& audit) {
  std::map<std::string, std::array<std::array<std::int64_t, 2>, 3>> groups;  // by split and class
  for (const Record& record : records) {
    if (!record.group.empty()) ++groups[record.group][record.split][record.label];
  }
  for (const auto& [name, counts] : groups) {
    Audit::Group group{.name = name};
    for (std::size_t s = 0; s < counts.size(); ++s) {
      const auto& [zeros, ones] = counts[s];
      group.images[s] = zeros + ones;
      if (zeros + ones == 0) continue;
      ++audit.splits[s].groups;
      if (zeros == 0 || ones == 0) ++audit.splits[s].groups_of_one_class;
    }
    if (std::ranges::count(group.images, 0) < 2) audit.groups_across.push_back(group);
  }
}

void find_duplicates(std::span<const Record> records, Audit& audit) {
  std::vector<const Record*> order;
  for (const Record& record : records) order.push_back(&record);
  std::ranges::stable_sort(order, [](const Record* a, const Record* b) { return a->pixels() < b->pixels(); });
  std::vector<std::pair<const Record*, Audit::Duplicates>> found;
  for (auto first = order.begin(); first != order.end();) {
    const auto last = std::find_if(first, order.end(), [&](const Record* r) { return r->pixels() != (*first)->pixels(); });
    if (last - first > 1) {
      Audit::Duplicates equal{.images = {}, .blank = (*first)->blank};
      std::array<bool, 3> met{};
      for (const Record* record : std::span(first, last)) {
        audit.splits[record->split].copies += std::exchange(met[record->split], true);
        equal.images.push_back({record->split, record->id, record->label});
      }
      found.emplace_back(*first, std::move(equal));
    }
    first = last;
  }
  std::ranges::sort(found, std::less(), [](const auto& pair) { return pair.first; });  // as the data set has them
  for (auto& [record, equal] : found) audit.duplicates.push_back(std::move(equal));
}

/// The MD5 digests of what PCam's authors offer for download. Their own page prints those of valid beside test, and the other
/// way round.
constexpr std::array<std::pair<const char*, const char*>, 9> published{
    {{"camelyonpatch_level_2_split_train_x.h5.gz", "1571f514728f59376b705fc836ff4b63"},
     {"camelyonpatch_level_2_split_train_y.h5.gz", "35c2d7259d906cfc8143347bb8e05be7"},
     {"camelyonpatch_level_2_split_train_meta.csv", "5a3dd671e465cfd74b5b822125e65b0a"},
     {"camelyonpatch_level_2_split_valid_x.h5.gz", "d5b63470df7cfa627aeec8b9dc0c066e"},
     {"camelyonpatch_level_2_split_valid_y.h5.gz", "2b85f58b927af9964a4c15b8f7e8f179"},
     {"camelyonpatch_level_2_split_valid_meta.csv", "67589e00a4a37ec317f2d1932c7502ca"},
     {"camelyonpatch_level_2_split_test_x.h5.gz", "d8c2d60d490dbd479f8199bdfa0cf6ec"},
     {"camelyonpatch_level_2_split_test_y.h5.gz", "60a7035772fbdb7f34eb86d4420cf66a"},
     {"camelyonpatch_level_2_split_test_meta.csv", "3455fd69135b66734e1008f3af684566"}}};

std::vector<Audit::File> compare_digests(const fs::path& folder) {
  std::vector<Audit::File> files;
  for (const auto& [name, unused] : published) {
    if (!fs::exists(folder / name)) continue;
    const std::string digest = md5(folder / name);
    files.push_back({.name = name, .md5 = digest, .published_as = published_pcam_name(digest)});
  }
  return files;
}

bool any_unpacked(const fs::path& folder) {
  return std::ranges::any_of(split_names, [&](const char* split) {
    return fs::exists(folder / pcam_file_name(split, 'x')) || fs::exists(folder / pcam_file_name(split, 'y'));
  });
}

}  // namespace

std::string published_pcam_name(std::string_view md5) {
  const auto found = std::ranges::find(published, md5, [](const auto& pair) { return pair.second; });
  return found == published.end() ? "" : found->first;
}

bool Audit::Duplicates::contradictory() const {
  return std::ranges::any_of(images, [&](const Image& image) { return image.label != images[0].label; });
}

bool Audit::Duplicates::in(std::size_t split) const {
  return std::ranges::any_of(images, [&](const Image& image) { return image.split == split; });
}

bool Audit::Duplicates::crosses() const {
  return std::ranges::any_of(images, [&](const Image& image) { return image.split != images[0].split; });
}

std::int64_t Audit::shared(std::size_t split, std::size_t other) const {
  std::int64_t count = 0;
  for (const Duplicates& equal : duplicates) {
    if (!equal.blank && equal.in(other)) count += std::ranges::count(equal.images, split, &Image::split);
  }
  return count;
}

bool Audit::leaks() const {
  const auto tells = [](const Duplicates& equal) { return equal.crosses() && !equal.blank; };
  return !groups_across.empty() || std::ranges::any_of(duplicates, tells);
}

Audit audit(const fs::path& folder, const LoadOptions& options) {
  Audit audit;
  const bool pcam = recognise(folder) == DataFormat::pcam;
  audit.format = pcam ? "pcam" : "idc";
  if (pcam) audit.files = compare_digests(folder);
  if (!audit.files.empty() && !any_unpacked(folder)) return audit;
  const std::vector<Record> records = pcam ? read_pcam(folder, options) : read_idc(folder, options, audit.notes);
  for (const Record& record : records) {
    ++audit.splits[record.split].classes[record.label];
    audit.splits[record.split].blank += record.blank;
  }
  count_sizes(records, audit);
  count_groups(records, audit);
  find_duplicates(records, audit);
  return audit;
}

}  // namespace microtome
