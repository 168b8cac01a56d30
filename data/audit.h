// What to know of a data set before its figures are believed: images that are there twice, and on both sides of a split above
// all; patients or slides on both sides; labels that contradict each other; sizes, balance, patches of a single colour, and
// whether files are the published ones. Images are read one by one and remembered by their SHA-256.
#pragma once

#include "data/format.h"

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

struct Audit {
  struct Split {
    std::array<std::int64_t, 2> classes{};  // images of class 0, of class 1
    std::int64_t blank = 0;                 // images of a single colour
    std::int64_t copies = 0;                // images that an earlier one of the same split equals
    std::int64_t groups = 0;                // patients or slides
    std::int64_t groups_of_one_class = 0;
    std::int64_t images() const { return classes[0] + classes[1]; }
  };
  struct Size {
    Extent size;
    std::int64_t images = 0;
  };
  struct Image {
    std::size_t split = 0;  // of split_names
    std::string id;         // the path, or the index in the split's file
    std::uint8_t label = 0;
  };
  /// Two images or more of the same pixels.
  struct Duplicates {
    std::vector<Image> images;
    bool blank = false;

    bool contradictory() const;  // of both classes
    bool in(std::size_t split) const;
    bool crosses() const;  // in several splits
  };
  struct Group {
    std::string name;
    std::array<std::int64_t, 3> images{};  // in each split
  };

  const Format* format = nullptr;
  std::array<Split, 3> splits;
  std::vector<Size> sizes;  // the most frequent first
  std::vector<Duplicates> duplicates;
  std::vector<Group> groups_across;  // in several splits
  std::vector<PublishedDigest> files;
  std::vector<std::string> notes;

  /// 0 where the files are all packed still: then `files` is all that there is to say.
  std::int64_t images() const { return splits[0].images() + splits[1].images() + splits[2].images(); }
  /// Slides may be known of one split and not of another.
  bool groups_known(std::size_t split) const { return splits[split].groups > 0; }
  bool groups_known() const { return groups_known(0) && groups_known(1) && groups_known(2); }
  /// Images of `split` that `other` has too; without those of a single colour, which tell nothing of a patient.
  std::int64_t shared(std::size_t split, std::size_t other) const;
  /// Images or patients or slides are on both sides of a split.
  bool leaks() const;
};

/// Throws as load(), but for a split without one of the classes, which the audit shows.
Audit audit(const std::filesystem::path& path, const LoadOptions& options = {});

}  // namespace microtome
