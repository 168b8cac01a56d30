// What weights are and where they come from. It stands in every file of weights, checkpoint and ONNX model that we write, as
// one JSON text with a checksum of its own, and whoever judges, scores, converts or trains on takes it from there.
#pragma once

#include "data/format.h"
#include "engine/dataset.h"
#include "engine/preprocessing.h"

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// The name that the JSON text has in files: an attribute of HDF5's root, a property of ONNX's metadata.
constexpr const char* provenance_key = "microtome";

/// Empty texts are not known.
struct Provenance {
  std::string network;         // "b6"
  std::string head = "study";  // "study", "imagenet", "none"
  Extent image = 0;            // what the weights are for
  Extent trained_image = 0;    // what they were trained on, where that is another; else 0
  int dense_units = 256;
  std::vector<std::string> classes{"0", "1"};  // the score is the probability of the last

  std::string preprocess;  // "paper", "native"
  Preprocessing pixels;    // and what that is

  std::string mode;             // "full", "transfer"
  std::string statistics;       // of batch-norm in validation: "moving", "population"
  std::string moving_variance;  // "tf2", "keras3"
  int batch_size = 32;
  std::string initial;  // the weights that the run began with; empty: random ones
  std::string commit;   // of the program that trained

  struct Split {
    std::int64_t images = 0;
    std::string digest;               // of pixels, labels and their order
    std::vector<std::string> groups;  // patients or slides, sorted; empty: not known

    bool operator==(const Split&) const = default;
  };
  std::string format;    // of the data: "idc"
  std::string split_by;  // as Dataset::split_by
  std::uint64_t split_seed = 0;
  double valid_share = 0, test_share = 0;
  std::array<Split, split_count> splits;
  /// What the weights have learned from, the initial weights' runs before included: image_digest() of each image, sorted; and
  /// groups that are not among the training split's.
  std::vector<std::uint64_t> learned_images;
  std::vector<std::string> earlier_groups;

  std::string tensors;  // digest of the tensors of a Keras file or an ONNX model; a checkpoint has a checksum

  Extent trained_size() const { return trained_image == Extent(0) ? image : trained_image; }
  bool operator==(const Provenance&) const = default;
};

/// 48 bits, which two images of a million share by chance once in some hundred data sets.
std::uint64_t image_digest(Extent size, std::span<const std::uint8_t> rgb);
/// 64 bits of pixels, labels and order, in hexadecimal.
std::string split_digest(const Images& images);

/// Fills in what `data` say of themselves, and that the training split was learned from.
void describe_data(const Dataset& data, const LoadOptions& options, Provenance& provenance);
/// Of the images, by split: equal where the data are.
std::map<std::string, std::string> split_digests(const Provenance& provenance);
/// Adds what the initial weights had learned from before.
void add_learned(const Provenance& initial, Provenance& provenance);

/// How much of `images` the weights have learned from.
struct Overlap {
  std::int64_t images = 0;
  std::int64_t groups = 0;        // whose names are among those learned from
  std::int64_t group_images = 0;  // images of these

  bool any() const { return images > 0 || groups > 0; }
};
Overlap overlap(const Provenance& provenance, const Images& images);

std::string to_json(const Provenance& provenance);
/// Throws Error(ExitCode::weights), naming `file`, for a text that is damaged or of a later version.
Provenance parse_provenance(std::string_view text, const std::filesystem::path& file);

/// One line: "b6 for 50x50 images, paper preprocessing, trained in full on idc, split by patient with seed 3, …".
std::string describe(const Provenance& provenance);

}  // namespace microtome
