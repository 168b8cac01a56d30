// What the study printed, digit for digit [Bonnet2021].
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace microtome {

/// Table 1: depth by two rules mixed (see layer_counts.h); parameters in millions, of the 1000-class model where there is one.
struct PaperNetwork {
  std::string_view net;
  int depth;
  double parameters;
};
std::span<const PaperNetwork> paper_networks();

/// Nothing of a network that the study did not have.
const PaperNetwork* paper_network(std::string_view net);

/// Table 2: seconds of an epoch of 262,144 images, where the study measured them. `gpu`: K80, P100, V100 or A100.
std::optional<double> study_seconds(std::string_view net, bool frozen_base, std::string_view gpu);
inline constexpr std::string_view paper_gpus[] = {"K80", "P100", "V100", "A100"};
inline constexpr int paper_epoch_images = 262144;

/// Tables 3 and 4: of the test split.
struct PaperScore {
  std::string_view net, mode;  // "full" or "transfer"
  double loss, accuracy, auc;
};
/// `data`: "pcam" or "idc". Rows as printed, transfer first.
std::span<const PaperScore> paper_scores(std::string_view data);

}  // namespace microtome
