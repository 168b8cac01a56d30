// What a data format is: one file that knows it, and one row in formats.cpp. Nothing else names a format: loader and audit
// go by the row.
#pragma once

#include "data/digest.h"
#include "engine/check.h"
#include "engine/dataset.h"

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

constexpr std::size_t split_count = 3;
constexpr std::array<const char*, split_count> split_names{"train", "valid", "test"};

/// Called on the thread that loads: what is being done ("reading train"), images done, images in all.
using Progress = std::function<void(std::string_view what, std::int64_t done, std::int64_t of)>;

/// Where a data set names no splits. `patient` keeps each patient's patches together; `patch` deals single patches, so that
/// neighbours from one slide land on both sides: what [Bonnet2021] most likely did.
enum class SplitBy { patient, patch };

struct LoadOptions {
  bool train = true, valid = true, test = true;  // a split left out is neither read nor required to be there
  bool deal = true;                              // off, for images judged as one: what no folder says a split of is in train
  SplitBy split_by = SplitBy::patient;           // where splits are dealt
  std::uint64_t seed = 0;                        // of that
  double valid_share = 0.1, test_share = 0.1;    // of the patches dealt, about
  std::optional<Extent> image;                   // PNG patches are padded with white to it; else IDC's 50 x 50
  int threads = 0;                               // for decoding; 0: one a core
  Progress progress = {};

  std::array<bool, split_count> wanted() const { return {train, valid, test}; }
};

/// What an audit keeps of an image.
struct Inspected {
  std::size_t split = 0;  // of split_names
  std::uint8_t label = 0;
  std::string id;     // the path, or the index in the split's file
  std::string group;  // the patient or slide; empty: not known
  Extent size = 0;
  Digest digest{};
  bool blank = false;  // of a single colour

  void look_at(Extent its_size, std::span<const std::uint8_t> rgb);
};

/// A file that a format's authors publish a digest of.
struct PublishedDigest {
  std::string name, md5;
  std::string published_as;  // the name that this digest was published for; empty: none
};

struct Inspection {
  std::vector<Inspected> images;  // none where the files are packed still: then `files` is all that there is to say
  std::vector<PublishedDigest> files;
  std::vector<std::string> notes;
};

/// In a folder whose data set is being written: whoever was stopped left it, and the set is not whole.
constexpr std::string_view unfinished_name = ".unfinished";

struct SynthesizeOptions {
  std::int64_t train = 0, valid = 0, test = 0;  // patches
  std::uint64_t seed = 0;
  int threads = 0;  // 0: one a core
  Progress progress = {};
};

struct Format {
  std::string_view name;            // on command lines and in files: "pcam"
  std::string_view layout;          // for messages: "PCam's six files (…)"
  std::string_view groups;          // what its images are cut from: "slides"
  std::string_view groups_unknown;  // why these may be unknown
  std::string_view files_remark;    // beside the verdict on Inspection::files
  std::string_view synthetic;       // what synthesize() writes: "PCam's six HDF5 files of 96x96 patches"

  /// Whether `path` holds it. Stops at the first sign; throws nothing but that a folder cannot be listed.
  bool (*recognise)(const std::filesystem::path& path);
  /// The size of the images that load() would give, told without decoding one.
  Extent (*image_size)(const std::filesystem::path& path, const LoadOptions& options);
  /// How many images load() would put into each split, told without decoding one; 0 for a split that is not wanted.
  std::array<std::int64_t, split_count> (*count)(const std::filesystem::path& path, const LoadOptions& options);
  Dataset (*load)(const std::filesystem::path& path, const LoadOptions& options);
  /// As load() without the pixels, of which it holds no more than a few images' at a time. What load() would refuse with
  /// Error(ExitCode::data), the first of it, is here a problem, each of them: file by file, split by split.
  Dataset (*verify)(const std::filesystem::path& path, const LoadOptions& options, std::vector<Error>& problems);
  /// Every image one by one, whatever its size; a split may lack a class.
  Inspection (*inspect)(const std::filesystem::path& path, const LoadOptions& options);
  /// Into a folder that is made; it may exist but must be empty (Error(ExitCode::in_use)).
  void (*synthesize)(const std::filesystem::path& folder, const SynthesizeOptions& options);
};

/// In the order in which they are looked for.
std::span<const Format* const> formats();

/// Those of all formats, for messages.
std::string layouts();

/// Throws Error(ExitCode::bug) for a name that no format has.
const Format& find_format(std::string_view name);

}  // namespace microtome
