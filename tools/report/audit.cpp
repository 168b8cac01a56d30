#include "tools/report/audit.h"

#include "tools/cli/terminal.h"

#include <algorithm>
#include <string_view>

namespace microtome {
namespace {

std::string name_of(const Audit::Image& image) {
  return fmt::format("{}:{}", split_names[image.split], image.id);
}

std::string name_of(const Audit::Size& size) {
  return fmt::format("{}x{}", size.size.h, size.size.w);
}

std::string splits_text(const Audit& audit, std::string_view groups) {
  std::string text =
      fmt::format("split      images    class 0    class 1  single colour   copies  {:>9}  of one class\n", groups);
  for (std::size_t k = 0; k < split_names.size(); ++k) {
    const Audit::Split& split = audit.splits[k];
    text +=
        fmt::format("{:<6} {:>10} {:>10} {:>10} {:>14} {:>8}  {:>9}  {:>12}\n", split_names[k], with_separators(split.images()),
                    with_separators(split.classes[0]), with_separators(split.classes[1]), with_separators(split.blank),
                    with_separators(split.copies), audit.groups_known(k) ? with_separators(split.groups) : "?",
                    audit.groups_known(k) ? with_separators(split.groups_of_one_class) : "?");
  }
  return text;
}

std::string duplicates_text(const Audit& audit) {
  constexpr std::ptrdiff_t shown = 5;
  if (audit.duplicates.empty()) return "duplicates  none: no two images are equal\n";
  std::int64_t images = 0, contradictory = 0, blank = 0;
  for (const Audit::Duplicates& equal : audit.duplicates) {
    images += std::ssize(equal.images);
    contradictory += equal.contradictory();
    blank += equal.blank;
  }
  std::string text =
      fmt::format("duplicates  {} images are there more than once, {} times in all ({} of them of a single colour)\n",
                  with_separators(std::ssize(audit.duplicates)), with_separators(images), with_separators(blank));
  for (std::size_t split = 0; split < split_names.size(); ++split) {
    for (std::size_t other = 0; other < split; ++other) {
      text += fmt::format("            {} of {} are in {} too\n", with_separators(audit.shared(split, other)),
                          split_names[split], split_names[other]);
    }
  }
  text += fmt::format("            {} with labels that contradict each other\n", with_separators(contradictory));
  const auto list = [&](std::string_view what, const auto& belongs) {
    std::ptrdiff_t left = shown;
    for (const Audit::Duplicates& equal : audit.duplicates) {
      if (!belongs(equal) || left-- <= 0) continue;
      text += fmt::format("            {}: ", what);
      for (std::size_t i = 0; i < std::min<std::size_t>(equal.images.size(), shown); ++i)
        text += fmt::format("{}{} ({})", i == 0 ? "" : " = ", name_of(equal.images[i]), equal.images[i].label);
      text += std::ssize(equal.images) > shown ? " = …\n" : "\n";
    }
  };
  list("crosses", [](const Audit::Duplicates& equal) { return equal.crosses() && !equal.blank; });
  list("contradicts", [](const Audit::Duplicates& equal) { return equal.contradictory(); });
  return text;
}

std::string groups_text(const Audit& audit, std::string_view groups) {
  constexpr std::size_t shown = 5;
  std::string unknown;
  for (std::size_t k = 0; k < split_names.size(); ++k)
    if (!audit.groups_known(k)) unknown += fmt::format("{}{}", unknown.empty() ? "" : ", ", split_names[k]);
  if (!unknown.empty()) {
    unknown = fmt::format("{:<11} not known of {}: {}\n", groups, unknown, audit.format->groups_unknown);
  }
  const bool comparable = audit.groups_known(0) + audit.groups_known(1) + audit.groups_known(2) > 1;
  if (!comparable) return unknown;
  if (audit.groups_across.empty())
    return unknown + fmt::format("{:<11} none is in two splits{}\n", groups, unknown.empty() ? "" : " of the others");
  std::string text = fmt::format("{:<11} {} in several splits:", groups, with_separators(std::ssize(audit.groups_across)));
  for (std::size_t i = 0; i < std::min(shown, audit.groups_across.size()); ++i) {
    const Audit::Group& group = audit.groups_across[i];
    text += fmt::format("{} {} ({}, {}, {})", i == 0 ? "" : ",", group.name, group.images[0], group.images[1], group.images[2]);
  }
  return unknown + text + (audit.groups_across.size() > shown ? ", …\n" : "\n");
}

std::string files_text(const Audit& audit) {
  std::string text;
  for (const PublishedDigest& file : audit.files) {
    const bool right = file.published_as == file.name;
    text += fmt::format("file        {}: {}\n", file.name,
                        right ? "as published"
                        : file.published_as.empty()
                            ? fmt::format("MD5 {} was never published: damaged, or made otherwise", file.md5)
                            : fmt::format("holds what is published as {}", file.published_as));
  }
  if (!audit.files.empty()) text += fmt::format("            ({})\n", audit.format->files_remark);
  return text;
}

}  // namespace

Json to_json(const Audit& audit) {
  Json splits = Json::object(), sizes = Json::object(), shared = Json::object(), duplicates = Json::array(),
       groups = Json::object(), files = Json::array();
  for (std::size_t k = 0; k < split_names.size(); ++k) {
    const Audit::Split& split = audit.splits[k];
    splits[split_names[k]] = {{"images", split.images()},
                              {"class_0", split.classes[0]},
                              {"class_1", split.classes[1]},
                              {"single_colour", split.blank},
                              {"copies", split.copies}};
    if (audit.groups_known(k)) {
      splits[split_names[k]]["groups"] = split.groups;
      splits[split_names[k]]["groups_of_one_class"] = split.groups_of_one_class;
    }
    for (std::size_t other = 0; other < split_names.size(); ++other) {
      if (other != k) shared[split_names[k]][split_names[other]] = audit.shared(k, other);
    }
  }
  for (const Audit::Size& size : audit.sizes) sizes[name_of(size)] = size.images;
  for (const Audit::Duplicates& equal : audit.duplicates) {
    Json images = Json::array();
    for (const Audit::Image& image : equal.images)
      images.push_back({{"split", split_names[image.split]}, {"id", image.id}, {"label", image.label}});
    duplicates.push_back({{"images", images},
                          {"single_colour", equal.blank},
                          {"contradictory", equal.contradictory()},
                          {"crosses", equal.crosses()}});
  }
  for (const Audit::Group& group : audit.groups_across) {
    for (std::size_t k = 0; k < split_names.size(); ++k) groups[group.name][split_names[k]] = group.images[k];
  }
  for (const PublishedDigest& file : audit.files) {
    files.push_back({{"name", file.name},
                     {"md5", file.md5},
                     {"published_as", file.published_as.empty() ? Json() : Json(file.published_as)}});
  }
  return {{"format", audit.format->name},
          {"leaks", audit.images() == 0 ? Json() : Json(audit.leaks())},
          {"splits", splits},
          {"sizes", sizes},
          {"shared", shared},
          {"duplicates", duplicates},
          {"groups_known", audit.groups_known()},
          {"groups_across", groups},
          {"files", files},
          {"notes", audit.notes}};
}

std::string to_text(const Audit& audit) {
  if (audit.images() == 0) return files_text(audit) + "nothing else can be said before the files are unpacked: gunzip them\n";
  const std::string_view groups = audit.format->groups;
  std::string sizes = "sizes      ";
  constexpr std::size_t shown = 8;
  for (std::size_t i = 0; i < std::min(shown, audit.sizes.size()); ++i)
    sizes += fmt::format("{} {} of {}", i == 0 ? "" : ",", with_separators(audit.sizes[i].images), name_of(audit.sizes[i]));
  if (audit.sizes.size() > shown) sizes += fmt::format(", {} more sizes", audit.sizes.size() - shown);
  std::string text =
      splits_text(audit, groups) + sizes + "\n" + duplicates_text(audit) + groups_text(audit, groups) + files_text(audit);
  for (const std::string& note : audit.notes) text += fmt::format("note        {}\n", note);
  if (audit.leaks()) return text + "LEAKS: what a network is tested on is not apart from what it learns from\n";
  return text +
         (audit.groups_known()
              ? "no leak found between the splits\n"
              : fmt::format("no leak found between the splits as far as images tell: {} are not known of all\n", groups));
}

}  // namespace microtome
