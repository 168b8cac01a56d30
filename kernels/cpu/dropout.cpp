// y = x / (1 - rate) where the random number of the element, or of the image, says keep, else 0; dx likewise from dy.
// Numbers are drawn for 64 elements at a time, so that sixteen Philox counters run in one vector. See kernels/formulas/dropout.h.
#include "kernels/formulas/dropout.h"
#include "kernels/cpu/cpu.h"

#include <array>

namespace microtome {

namespace {

constexpr std::int64_t block = 64;

/// The factors of elements first … first + 63; `first` is a multiple of 4.
void draw(const StepState& state, const Dropout& kind, std::int64_t first, float (&factors)[block]) {
  const std::uint64_t counter = dropout_index(state.step, first) / 4;
  const float scale = dropout_scale<float>(kind.rate);
  std::uint32_t words[4][block / 4];
#pragma omp simd
  for (int i = 0; i < block / 4; ++i) {
    const std::array<std::uint32_t, 4> drawn = philox(state.seed, kind.stream, counter + i);
    words[0][i] = drawn[0], words[1][i] = drawn[1], words[2][i] = drawn[2], words[3][i] = drawn[3];
  }
  for (int i = 0; i < block / 4; ++i)
    for (int j = 0; j < 4; ++j) factors[4 * i + j] = dropout_keeps(words[j][i], kind.rate) ? scale : 0.0f;
}

class CpuDropout final : public DropoutOp {
 public:
  CpuDropout(const Dropout& kind, const Layout& x, const Layout& y) : kind_(kind), x_(x), y_(y) {
    require_f32(x, y);
    require(x.shape == y.shape, "dropout: ", to_string(x.shape), " does not give ", to_string(y.shape));
  }

  Reads backward_reads() const override { return {}; }
  std::string implementation() const override { return "own"; }

  void forward(const Tensor& x, const StepState* state, const Tensor& y) override {
    require_layout(x, x_, "x"), require_layout(y, y_, "y");
    drop(x, *state, y, Write::overwrite);
  }

  void backward(const Tensor& dy, const StepState* state, const Tensor& dx, Write write) override {
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
