// y = x / (1 - rate) where the random number of the element, or of the image, says keep, else 0; dx likewise from dy.
// Numbers are drawn for a few Philox counters at a time, which run in one vector. See kernels/formulas/dropout.h.
#include "kernels/formulas/dropout.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

#include <utility>

namespace microtome {

namespace {

constexpr int counters = lanes / 2;           // at once
constexpr std::int64_t block = 4 * counters;  // elements that they serve

using Counters = std::make_index_sequence<counters>;

template <std::size_t... i>
Words numbered(std::index_sequence<i...>) {
  return Words{i...};
}

/// a[first], b[first], a[first + 1], …
template <std::size_t first, std::size_t... i>
Words interleaved(Words a, Words b, std::index_sequence<i...>) {
  return __builtin_shufflevector(a, b, (first + i / 2 + i % 2 * counters)...);
}

/// philox() of engine/random.h for `counters` neighbouring indices, word after word.
void philox_neighbours(std::uint64_t seed, std::uint64_t stream, std::uint64_t index, std::uint32_t (&words)[block]) {
  constexpr std::uint64_t low = 0xFFFFFFFFu;
  const Words at = numbered(Counters()) + index;
  Words c0 = at & low, c1 = at >> 32, c2 = Words{} + (stream & low), c3 = Words{} + (stream >> 32);
  std::uint64_t key0 = seed & low, key1 = seed >> 32;
  for (int round = 0; round < 10; ++round) {
    const Words product0 = product(c0, Words{} + 0xD2511F53u), product1 = product(c2, Words{} + 0xCD9E8D57u);
    c0 = (product1 >> 32) ^ c1 ^ key0, c1 = product1 & low;
    c2 = (product0 >> 32) ^ c3 ^ key1, c3 = product0 & low;
    key0 = (key0 + 0x9E3779B9u) & low, key1 = (key1 + 0xBB67AE85u) & low;
  }
  const Words first = c0 | c1 << 32, second = c2 | c3 << 32;  // of each counter's four words, the first lowest in memory
  store(words, interleaved<0>(first, second, Counters()));
  store(words + block / 2, interleaved<counters / 2>(first, second, Counters()));
}

/// The factors of elements first … first + block - 1; `first` is a multiple of 4.
void draw(const StepState& state, const Dropout& kind, std::int64_t first, float (&factors)[block]) {
  const float scale = dropout_scale<float>(kind.rate);
  std::uint32_t words[block];
  philox_neighbours(state.seed, kind.stream, dropout_index(state.step, first) / 4, words);
#pragma omp simd
  for (int i = 0; i < block; ++i) factors[i] = dropout_keeps(words[i], kind.rate) ? scale : 0.0f;
}

class CpuDropout final : public DropoutOp {
 public:
  CpuDropout(const Dropout& kind, const Layout& x, const Layout& y) : kind_(kind), x_(x), y_(y) {
    require_f32(x, y);
    require(x.shape == y.shape, "dropout: ", to_string(x.shape), " does not give ", to_string(y.shape));
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

  void forward(const Tensor& x, const Deferred*, const StepState* state, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(y, y_, "y");
    drop(x, *state, y, Write::overwrite);
  }

  void backward(const Tensor& dy, const Deferred*, const StepState* state, const Tensor& dx, Write write) override {
    require_layout(dy, y_, "dy"), require_layout(dx, x_, "dx");
    drop(dy, *state, dx, write);
  }

 private:
  void drop(const Tensor& from, const StepState& state, const Tensor& to, Write write) const {
    const auto run = [&](std::int64_t first, std::int64_t count, std::int64_t at_from, std::int64_t at_to) {
      const float* in = from.as<float>() + at_from;
      float* out = to.as<float>() + at_to;
      const auto drop_one = [&](std::int64_t i, float factor) {
        const float kept = factor == 0 ? 0.0f : in[i] * factor;
        out[i] = write == Write::accumulate ? out[i] + kept : kept;
      };
      if (kind_.per_image) {
        const std::int64_t image = std::int64_t{from.shape.h} * from.shape.w * from.shape.c;
        for (std::int64_t i = 0; i < count;) {
          const std::int64_t n = (first + i) / image, end = std::min(count, (n + 1) * image - first);
          const bool keeps = dropout_keeps(state.seed, kind_.stream, state.step, n, kind_.rate);
          const float factor = keeps ? dropout_scale<float>(kind_.rate) : 0.0f;
          for (; i < end; ++i) drop_one(i, factor);
        }
        return;
      }
      float factors[block];
      std::int64_t skipped = first % 4;  // of the first block's elements
      for (std::int64_t i = 0; i < count; skipped = 0) {
        draw(state, kind_, first + i - skipped, factors);
        const std::int64_t end = std::min(count, i + block - skipped);
        const float* factor = factors + skipped - i;
#pragma omp simd
        for (std::int64_t j = i; j < end; ++j) drop_one(j, factor[j]);
        i = end;
      }
    };
    for_each_run(from.shape, run, from, to);
  }

  Dropout kind_;
  Layout x_, y_;
};

}  // namespace

std::unique_ptr<DropoutOp> make_cpu_dropout(const Dropout& kind, const Layout& x, const Layout& y) {
  return std::make_unique<CpuDropout>(kind, x, y);
}

}  // namespace microtome
