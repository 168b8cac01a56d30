// The ImageNet weights that Keras publishes for the ten networks: names, addresses and MD5 digests as in keras.applications.
#pragma once

#include <array>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace microtome {

struct PublishedFile {
  std::string_view name;
  std::string_view md5;  // empty: none is published
};

struct PublishedWeights {
  std::string_view network;            // "resnet50"
  std::string_view folder;             // of the address
  std::array<PublishedFile, 2> files;  // the base alone, and with the top for the 1000 classes: either serves
};

std::span<const PublishedWeights> published_weights();

/// Where it can be had.
std::string address(const PublishedWeights& weights, const PublishedFile& file);

/// Where Keras keeps what it downloaded: $KERAS_HOME/models, else ~/.keras/models.
std::filesystem::path keras_folder();

/// The file in `folder`, the base's where both are there. Throws Error(ExitCode::weights) where neither is, saying where to get
/// it and where to put it, or where its digest is another; Error(ExitCode::usage) for a network that has none.
std::filesystem::path find_published(std::string_view network, const std::filesystem::path& folder = keras_folder());
std::filesystem::path find_published(const PublishedWeights& weights, const std::filesystem::path& folder);

}  // namespace microtome
