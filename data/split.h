// Who trains, who validates, who tests. For the sources of this folder only.
#pragma once

#include "data/format.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace microtome {

/// An image file by what its path says, before it is opened.
struct Patch {
  std::string path;  // below the data set's folder
  std::string patient;
  std::uint8_t label = 0;
  std::size_t split = 0;  // of split_names
};

/// Sets every patch's split, by patient or by patch as options say. Throws Error(ExitCode::data) for too few patients.
void deal(std::vector<Patch>& patches, const LoadOptions& options, const std::filesystem::path& folder,
          std::vector<std::string>& notes);

}  // namespace microtome
