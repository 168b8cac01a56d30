#include "tools/tune/hyperband.h"

#include "engine/check.h"
#include "engine/random.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace microtome {
namespace {

constexpr std::string_view paper = "lr=1e-5..1e-2:log, batch-size=32..256:32";  // [Bonnet2021]
constexpr std::string_view paper_dense = "lr=1e-5..1e-2:log, batch-size=32..256:32, dense-units=128|256|512|1024";

[[noreturn]] void fail_space(std::string_view part) {
  fail(ExitCode::usage, part.empty() ? "--space names nothing to search" : "--space cannot be understood",
       {.expected = "NAME=LOW..HIGH:log, NAME=LOW..HIGH:STEP or NAME=A|B|C, with commas between; or paper, paper-dense",
        .found = std::string(part),
        .next = fmt::format("--space \"{}\"", paper)});
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(' '), last = text.find_last_not_of(' ');
  return first == std::string_view::npos ? std::string_view() : text.substr(first, last - first + 1);
}

/// Calls take(part) for what stands between separators.
template <class Take>
void split(std::string_view text, char separator, Take take) {
  for (;;) {
    const auto end = text.find(separator);
    take(trimmed(text.substr(0, end)));
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

Dimension parse_dimension(std::string_view part) {
  const auto number = [&](std::string_view text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) fail_space(part);
    return value;
  };
  const auto equals = part.find('=');
  if (equals == 0 || equals == std::string_view::npos) fail_space(part);
  Dimension dimension{.name = std::string(trimmed(part.substr(0, equals)))};
  const std::string_view range = trimmed(part.substr(equals + 1));
  const auto dots = range.find(".."), colon = range.rfind(':');
  if (dots == std::string_view::npos) {
    split(range, '|', [&](std::string_view choice) { dimension.choices.push_back(number(choice)); });
    return dimension;
  }
  if (colon == std::string_view::npos || colon < dots) fail_space(part);
  dimension.low = number(range.substr(0, dots));
  dimension.high = number(range.substr(dots + 2, colon - dots - 2));
  const std::string_view how = range.substr(colon + 1);
  dimension.kind = how == "log" ? Dimension::Kind::logarithmic : Dimension::Kind::stepped;
  if (how != "log") dimension.step = number(how);
  const bool valid = dimension.low < dimension.high && (how == "log" ? dimension.low > 0 : dimension.step > 0);
  if (!valid) fail_space(part);
  return dimension;
}

int ceil_divided(std::int64_t a, std::int64_t b) {
  return static_cast<int>((a + b - 1) / b);
}

std::int64_t power(std::int64_t base, int exponent) {
  std::int64_t value = 1;
  for (int i = 0; i < exponent; ++i) value *= base;
  return value;
}

double drawn(const Dimension& dimension, double u) {
  switch (dimension.kind) {
    case Dimension::Kind::logarithmic: {
      const double value = dimension.low * std::pow(dimension.high / dimension.low, u);
      return dimension.whole ? std::round(value) : value;
    }
    case Dimension::Kind::stepped: {
      // To the nearest point of the grid: the first and the last come half as often as the others, as in KerasTuner 1.0.
      const double steps = std::floor((dimension.high - dimension.low) / dimension.step + 1e-9);
      return dimension.low + dimension.step * std::round(u * steps);
    }
    case Dimension::Kind::choice: {
      const auto at = static_cast<std::size_t>(u * static_cast<double>(dimension.choices.size()));
      return dimension.choices[at];
    }
  }
  return 0;
}

Hyperparameters draw(std::span<const Dimension> space, std::uint64_t seed, int trial, int attempt) {
  Hyperparameters values;
  for (std::size_t d = 0; d < space.size(); ++d) {
    const std::uint64_t at = ((static_cast<std::uint64_t>(trial) << 8 | static_cast<std::uint64_t>(attempt)) << 8 | d) << 1;
    const double u = unit_double(random_word(seed, stream::tuning, at), random_word(seed, stream::tuning, at + 1));
    values[space[d].name] = trial == 1 && space[d].first_is_lowest ? space[d].low : drawn(space[d], u);
  }
  return values;
}

}  // namespace

bool limit(Dimension& d, double highest) {
  const bool choice = d.kind == Dimension::Kind::choice;
  const auto fail_all = [&] {
    fail(ExitCode::usage, fmt::format("--space has no value for {} that can be", d.name),
         {.expected = fmt::format("one of at most {}", highest),
          .found = fmt::format("{} and more", choice ? *std::ranges::min_element(d.choices) : d.low)});
  };
  if (choice) {
    if (*std::ranges::min_element(d.choices) > highest) fail_all();
    return std::erase_if(d.choices, [&](double value) { return value > highest; }) > 0;
  }
  if (d.low > highest) fail_all();
  if (d.high <= highest) return false;
  d.high = highest;
  if (d.kind == Dimension::Kind::stepped && d.high - d.low >= d.step) return true;
  if (d.kind == Dimension::Kind::stepped || d.low == d.high) d = {.name = d.name, .choices = {d.low}, .whole = d.whole};
  return true;
}

std::vector<Dimension> parse_space(std::string_view text) {
  std::vector<Dimension> space;
  const bool of_the_study = text == "paper" || text == "paper-dense";
  split(text == "paper"         ? paper
        : text == "paper-dense" ? paper_dense
                                : text,
        ',', [&](std::string_view part) {
          const Dimension dimension = parse_dimension(part);
          const auto same = [&](const Dimension& d) { return d.name == dimension.name; };
          if (std::any_of(space.begin(), space.end(), same)) fail_space(part);
          space.push_back(dimension);
          space.back().first_is_lowest = of_the_study && dimension.name == "batch-size";
        });
  return space;
}

std::vector<HalvingRound> halving_rounds(int max_epochs, int factor) {
  require(max_epochs >= 1 && factor >= 2, "hyperband: max epochs ", max_epochs, ", factor ", factor);
  int brackets = 1, levels = 1;  // how often the epochs can be divided; and divided until one is left, rounded up
  while (power(factor, brackets) <= max_epochs) ++brackets;
  while (power(factor, levels - 1) < max_epochs) ++levels;
  std::vector<HalvingRound> rounds;
  for (int b = brackets - 1; b >= 0; --b)
    for (int r = 0; r <= b; ++r) {
      const std::int64_t share = power(factor, b - r);
      const int before = r == 0 ? 0 : ceil_divided(max_epochs, share * factor);
      rounds.push_back({b, r, ceil_divided(levels * share, b + 1), before, ceil_divided(max_epochs, share)});
    }
  return rounds;
}

std::optional<Trial> next_trial(const HyperbandOptions& options, std::span<const Dimension> space,
                                std::span<const Trial> ended) {
  const std::vector<HalvingRound> rounds = halving_rounds(options.max_epochs, options.factor);
  for (int iteration = 0; iteration < options.iterations; ++iteration) {
    for (const HalvingRound& round : rounds) {
      const auto of = [&](const Trial& t, int number) {
        return t.iteration == iteration && t.bracket == round.bracket && t.round == number;
      };
      const auto count = std::count_if(ended.begin(), ended.end(), [&](const Trial& t) { return of(t, round.round); });
      if (count >= round.trials) continue;
      Trial trial{.id = static_cast<int>(ended.size()) + 1,
                  .iteration = iteration,
                  .bracket = round.bracket,
                  .round = round.round,
                  .initial_epoch = round.initial_epoch,
                  .epochs = round.epochs};
      if (round.round == 0) {
        constexpr int attempts = 20;
        for (int attempt = 0; attempt < attempts; ++attempt) {
          trial.values = draw(space, options.seed, trial.id, attempt);
          const auto same = [&](const Trial& t) { return t.values == trial.values; };
          if (std::none_of(ended.begin(), ended.end(), same)) return trial;
        }
        return std::nullopt;
      }
      const Trial* best = nullptr;
      for (const Trial& candidate : ended) {
        if (!of(candidate, round.round - 1) || !candidate.score) continue;
        const auto child = [&](const Trial& t) { return t.parent == candidate.id; };
        if (std::any_of(ended.begin(), ended.end(), child)) continue;
        if (!best || *candidate.score > *best->score) best = &candidate;
      }
      if (!best) continue;  // too many failed
      trial.parent = best->id;
      trial.values = best->values;
      return trial;
    }
  }
  return std::nullopt;
}

}  // namespace microtome
