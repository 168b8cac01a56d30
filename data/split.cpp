#include "data/split.h"

#include "engine/check.h"
#include "engine/random.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;

namespace {

/// 0 … count - 1 in an order that depends on seed and `stream` alone.
std::vector<std::size_t> shuffled(std::size_t count, std::uint64_t seed, std::uint64_t stream) {
  std::vector<std::pair<std::uint64_t, std::size_t>> keyed(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::array<std::uint32_t, 4> words = philox(seed, stream, i);
    keyed[i] = {(std::uint64_t{words[0]} << 32) | words[1], i};
  }
  std::ranges::sort(keyed);
  std::vector<std::size_t> order(count);
  std::ranges::transform(keyed, order.begin(), &std::pair<std::uint64_t, std::size_t>::second);
  return order;
}

std::array<double, split_count> shares(const LoadOptions& options) {
  const std::array<double, split_count> share{1 - options.valid_share - options.test_share, options.valid_share, options.test_share};
  require(std::ranges::all_of(share, [](double s) { return s > 0 && s < 1; }),
          "every split needs a share between 0 and 1");
  return share;
}

/// Patients in random order, each to the split that lacks most of what the patient has, class by class [Sechidis2011]: shares
/// of patches and of classes both come out about right, and no patient is in two splits.
void split_by_patient(std::vector<Patch>& patches, const LoadOptions& options, const fs::path& folder,
                      std::vector<std::string>& notes) {
  std::map<std::string, std::array<double, 2>> counts;
  std::array<double, 2> total{};
  for (const Patch& patch : patches) ++counts[patch.patient][patch.label], ++total[patch.label];
  if (counts.size() < split_count) {
    fail(ExitCode::data, "too few patients to keep them apart",
         {.where = folder.string(),
          .expected = "3 patients or more",
          .found = fmt::format("{}", counts.size()),
          .next = "add patients, or --split-by patch"});
  }

  const std::array<double, split_count> share = shares(options);
  std::array<std::array<double, 2>, split_count> lacking{};
  for (std::size_t s = 0; s < split_count; ++s) {
    for (std::size_t c = 0; c < 2; ++c) lacking[s][c] = 1;  // of what it should have
  }
  std::vector<const std::pair<const std::string, std::array<double, 2>>*> patients;
  for (const auto& patient : counts) patients.push_back(&patient);
  std::map<std::string_view, std::size_t> split_of;
  std::array<int, split_count> sizes{};
  for (const std::size_t i : shuffled(patients.size(), options.seed, stream::split)) {
    const auto& [name, has] = *patients[i];
    std::array<double, split_count> gain{};
    for (std::size_t s = 0; s < split_count; ++s) {
      for (std::size_t c = 0; c < 2; ++c) gain[s] += total[c] > 0 ? has[c] / total[c] * lacking[s][c] : 0;
    }
    const std::size_t best = static_cast<std::size_t>(std::ranges::max_element(gain) - gain.begin());
    for (std::size_t c = 0; c < 2; ++c) lacking[best][c] -= total[c] > 0 ? has[c] / (share[best] * total[c]) : 0;
    split_of[name] = best;
    ++sizes[best];
  }
  for (Patch& patch : patches) patch.split = split_of.at(patch.patient);
  notes.push_back(fmt::format("split by patient with seed {}: {} patients to train, {} to validate, {} to test", options.seed,
                              sizes[0], sizes[1], sizes[2]));
}

void split_by_patch(std::vector<Patch>& patches, const LoadOptions& options, std::vector<std::string>& notes) {
  const std::array<double, split_count> share = shares(options);
  for (std::uint64_t label = 0; label < 2; ++label) {
    std::vector<std::size_t> members;
    for (std::size_t i = 0; i < patches.size(); ++i) {
      if (patches[i].label == label) members.push_back(i);
    }
    const auto part = [&](double of) {
      return std::max<std::size_t>(1, std::llround(of * static_cast<double>(members.size())));
    };
    const std::size_t test = part(share[2]), test_and_valid = test + part(share[1]);
    const std::vector<std::size_t> order = shuffled(members.size(), options.seed, stream::split + 1 + label);
    for (std::size_t i = 0; i < order.size(); ++i) patches[members[order[i]]].split = i < test ? 2 : i < test_and_valid ? 1 : 0;
  }
  notes.push_back(fmt::format("split by patch with seed {}: patches of one patient are in several splits", options.seed));
}

}  // namespace

void deal(std::vector<Patch>& patches, const LoadOptions& options, const fs::path& folder, std::vector<std::string>& notes) {
  if (options.split_by == SplitBy::patient) {
    split_by_patient(patches, options, folder, notes);
  } else {
    split_by_patch(patches, options, notes);
  }
}

}  // namespace microtome
