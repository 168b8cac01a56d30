#include "engine/init.h"

#include "engine/check.h"
#include "engine/random.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace microtome {
namespace {

// The standard normal given that |x| <= 2, from Box and Muller's pairs. Attempt t of element i draws counter i + t 2^40:
// no two elements share one. One pair in 500 has no member inside.
double truncated_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t element) {
  for (std::uint64_t attempt = 0;; ++attempt) {
    const std::array<std::uint32_t, 4> words = philox(seed, stream, element + (attempt << 40));
    const double radius = std::sqrt(-2 * std::log(unit_double(words[0], words[1])));
    const double angle = 2 * std::numbers::pi * unit_double(words[2], words[3]);
    for (const double x : {radius * std::cos(angle), radius * std::sin(angle)}) {
      if (std::abs(x) <= 2) return x;
    }
  }
}

// The standard deviation of a standard normal truncated at two sigma.
constexpr double truncated_deviation = 0.87962566103423978;

}  // namespace

void initialize(const Initializer& init, std::uint64_t seed, int index, std::span<float> values) {
  using Rule = Initializer::Rule;
  if (init.rule == Rule::constant) {
    std::fill(values.begin(), values.end(), static_cast<float>(init.value));
    return;
  }
  require(index >= 0, "initializer: index ", index, " is negative");
  require(init.fan_in > 0 && init.fan_out > 0, "initializer: fans ", init.fan_in, " and ", init.fan_out, " must be positive");
  const std::uint64_t stream = stream::initial_weights + static_cast<std::uint64_t>(index);

  if (init.rule == Rule::glorot_uniform) {
    const double limit = std::sqrt(6 / (init.fan_in + init.fan_out));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double unit = (random_word(seed, stream, i) + 0.5) * 0x1p-32;
      values[i] = static_cast<float>(limit * (2 * unit - 1));
    }
    return;
  }
  const bool he = init.rule == Rule::he_normal;
  const double scale = he ? 2 : init.value, fan = he ? init.fan_in : init.fan_out;
  require(scale > 0, "initializer: scale ", scale, " must be positive");
  const double sigma = std::sqrt(scale / fan) / truncated_deviation;
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(sigma * truncated_normal(seed, stream, i));
  }
}

}  // namespace microtome
