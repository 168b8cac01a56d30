// Who trains, who validates, who tests: as folders say it, or dealt from a seed. For the sources of this folder only.
#pragma once

#include "data/format.h"

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// An image file by what its path says, before it is opened.
struct Patch {
  std::string path;     // below the data set's folder
  std::string patient;  // empty: not known
  std::uint8_t label = 0;
  std::size_t split = 0;  // of split_names
};

/// The split that a folder's name says: "training", "VAL", "01_test", "test_images", "IDCTest".
struct SplitWord {
  std::size_t split = 0;  // of split_names
  bool sure = true;       // two letters may be a patient's initials
  bool either = false;    // "eval" is for validation where another folder tests
};
std::optional<SplitWord> split_word(std::string_view folder);

/// Of any name with a split's word in it, "val_small" too.
std::optional<std::size_t> split_hint(std::string_view folder);

/// Whether a folder's name says of what kind its files are ("images") and so names no patient.
bool is_filler(std::string_view folder);

/// A folder's path as the names that it is made of.
using Parts = std::vector<std::string>;

struct SplitFolders {
  struct Found {
    std::size_t at = 0;  // the part that says the split
    std::size_t split = 0;
  };
  std::vector<std::optional<Found>> found;     // of each folder
  std::array<std::string, split_count> names;  // the folder of each split; empty: there is none

  bool any() const;
  bool has(std::size_t split) const { return !names[split].empty(); }
};

/// What `folders`, which all hold images, say of splits; all of them do or none. Side by side, names that agree but for a
/// split's word say theirs too: "train_small", "val_small". Names that `is_class` holds for may lie above the splits' as well
/// as below. Throws Error(ExitCode::data) where some do and others do not, where two folders are for one split, where there are
/// splits in several places, and where folders seem to be splits or folds but do not agree. What else has a split's word in its
/// name is noted.
SplitFolders find_split_folders(std::span<const Parts> folders, const std::function<bool(std::string_view)>& is_class,
                                const std::filesystem::path& root, std::vector<std::string>& notes);

/// Deals the patches of split 0 over `targets`, 0 among them, by patient or by patch as options say. Where patients are too few
/// and none is to train, all are in the split that is wanted, and it returns false. Throws Error(ExitCode::data) for too few
/// patients else, or unknown ones.
bool deal(std::vector<Patch>& patches, std::span<const std::size_t> targets, const LoadOptions& options,
          const std::filesystem::path& root, std::vector<std::string>& notes);

}  // namespace microtome
