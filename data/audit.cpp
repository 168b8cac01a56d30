#include "data/audit.h"

#include "data/loader.h"

#include <algorithm>
#include <map>
#include <span>
#include <tuple>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;

namespace {

auto pixels(const Inspected& image) {
  return std::tie(image.size.h, image.size.w, image.digest);
}

void count_sizes(std::span<const Inspected> images, Audit& audit) {
  std::map<std::pair<int, int>, std::int64_t> counts;
  for (const Inspected& image : images) ++counts[{image.size.h, image.size.w}];
  for (const auto& [size, count] : counts) audit.sizes.push_back({{size.first, size.second}, count});
  std::ranges::stable_sort(audit.sizes, std::greater(), &Audit::Size::images);
}

void count_groups(std::span<const Inspected> images, Audit& audit) {
  std::map<std::string, std::array<std::array<std::int64_t, 2>, 3>> groups;  // by split and class
  for (const Inspected& image : images) {
    if (!image.group.empty()) ++groups[image.group][image.split][image.label];
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

void find_duplicates(std::span<const Inspected> images, Audit& audit) {
  std::vector<const Inspected*> order;
  for (const Inspected& image : images) order.push_back(&image);
  std::ranges::stable_sort(order, [](const Inspected* a, const Inspected* b) { return pixels(*a) < pixels(*b); });
  std::vector<std::pair<const Inspected*, Audit::Duplicates>> found;
  for (auto first = order.begin(); first != order.end();) {
    const auto last = std::find_if(first, order.end(), [&](const Inspected* r) { return pixels(*r) != pixels(**first); });
    if (last - first > 1) {
      Audit::Duplicates equal{.images = {}, .blank = (*first)->blank};
      std::array<bool, 3> met{};
      for (const Inspected* record : std::span(first, last)) {
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

}  // namespace

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

Audit audit(const fs::path& path, const LoadOptions& options) {
  Audit audit{.format = &recognise(path)};
  Inspection found = audit.format->inspect(path, options);
  audit.files = std::move(found.files);
  audit.notes = std::move(found.notes);
  for (const Inspected& image : found.images) {
    ++audit.splits[image.split].classes[image.label];
    audit.splits[image.split].blank += image.blank;
  }
  count_sizes(found.images, audit);
  count_groups(found.images, audit);
  find_duplicates(found.images, audit);
  return audit;
}

}  // namespace microtome
