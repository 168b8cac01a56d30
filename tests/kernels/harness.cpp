#include "kernels/harness.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>

namespace microtome::test {

namespace {

constexpr std::size_t guard_bytes = 512;  // keeps the tensor's 256-byte alignment

/// Where element (n, h, w, c) starts, in bytes from the first.
std::size_t offset_bytes(const Layout& t, int n, int h, int w, int c) {
  return (n * t.strides.n + h * t.strides.h + w * t.strides.w + c) * size_bytes(t.dtype);
}

std::uint64_t stream_of(std::string_view name) {
  std::uint64_t hash = 0;
  for (const char c : name) hash = hash * 131 + static_cast<unsigned char>(c);
  return hash;
}

std::string place_of(const Shape& s, std::size_t i) {
  const std::size_t c = i % s.c, w = i / s.c % s.w, h = i / s.c / s.w % s.h, n = i / s.c / s.w / s.h;
  return fmt::format("[n={} h={} w={} c={}]", n, h, w, c);
}

void expect_equal(const Result& exact, const Result& got) {
  std::size_t wrong = 0, first = 0;
  for (std::size_t i = 0; i < exact.values.size(); ++i)
    if (got.values[i] != rounded(exact.values[i], got.significand_bits) && wrong++ == 0) first = i;
  if (wrong > 0)
    ADD_FAILURE() << fmt::format("{} of {} elements of {} ({}) differ; the first is {}: {} and not {}", wrong,
                                 exact.values.size(), exact.name, to_string(exact.shape), place_of(exact.shape, first),
                                 got.values[first], exact.values[first]);
}

void expect_as_good_as_plain(const Result& exact, const Result& plain, const Result& got) {
  double largest = 0, plain_error = 0, error = 0;
  std::size_t worst = 0;
  for (std::size_t i = 0; i < exact.values.size(); ++i) {
    largest = std::max(largest, std::abs(exact.values[i]));
    plain_error = std::max(plain_error, std::abs(rounded(plain.values[i], got.significand_bits) - exact.values[i]));
    const double here = std::abs(got.values[i] - exact.values[i]);
    if (!(here <= error)) error = here, worst = i;
    if (std::isnan(here)) break;
  }
  const double bound =
      error_bound(largest, plain_error, got.significand_bits, exact.expect.factor_bits, exact.expect.additions);
  if (!(error <= bound))
    ADD_FAILURE() << fmt::format("{} ({}) is off by {:.3g}, more than twice the plain loop's {:.3g}; at {}: {} and not {}",
                                 exact.name, to_string(exact.shape), error, bound / 2, place_of(exact.shape, worst),
                                 got.values[worst], exact.values[worst]);
}

std::vector<double> totals_of(const std::vector<double>& rows, std::size_t width) {
  std::vector<double> totals(width);
  for (std::size_t i = 0; i < rows.size(); ++i) totals[i % width] += rows[i];
  return totals;
}

void expect_few_zeros(const Result& exact) {
  const auto zeros = std::count(exact.values.begin(), exact.values.end(), 0.0);
  if (static_cast<double>(zeros) > exact.expect.zeros_at_most * static_cast<double>(exact.values.size()))
    ADD_FAILURE() << fmt::format("{} of {} elements of {} are 0: too many to trust the test", zeros, exact.values.size(),
                                 exact.name);
}

}  // namespace

std::string to_string(const Slice& s) {
  return s.others == 0 ? to_string(s.shape) : fmt::format("{} of {} channels", to_string(s.shape), s.shape.c + s.others);
}

std::string to_string(const Window& w) {
  return fmt::format("kernel {}x{} stride {}x{} before {}x{} after {}x{}", w.kernel.h, w.kernel.w, w.stride.h, w.stride.w,
                     w.before.h, w.before.w, w.after.h, w.after.w);
}

std::string_view name(Activation activation) {
  switch (activation) {
    case Activation::none: return "none";
    case Activation::relu: return "relu";
    case Activation::relu6: return "relu6";
    case Activation::swish: return "swish";
    case Activation::sigmoid: return "sigmoid";
  }
  return "?";
}

std::string_view name(Option option) {
  switch (option) {
    case Option::any_activation_in_conv: return "activations but relu in a convolution";
    case Option::relu_in_average_pool: return "relu in an average pooling";
    case Option::deferral: return "deferred batch-norms";
    case Option::deferral_in_pointwise_conv: return "deferred batch-norms in a 1x1 convolution";
    case Option::deferral_in_elementwise_dropout: return "deferred batch-norms in a dropout by element";
  }
  return "?";
}

std::string_view name(const DeferredNorm& deferred) {
  return deferred ? name(*deferred) : "nothing";
}

std::string_view name(Write write) {
  return write == Write::accumulate ? "accumulate" : "overwrite";
}

std::string_view name(Fill fill) {
  return fill == Fill::integers ? "integers" : "uniform";
}

void compare(Fill fill, const std::vector<Result>& exact, const std::vector<Result>& plain, const std::vector<Result>& got) {
  EXPECT_FALSE(exact.empty()) << "an experiment without results";
  ASSERT_EQ(exact.size(), got.size());
  for (std::size_t i = 0; i < exact.size(); ++i) {
    expect_few_zeros(exact[i]);
    if (fill == Fill::integers)
      expect_equal(exact[i], got[i]);
    else
      expect_as_good_as_plain(exact[i], plain[i], got[i]);
  }
}

Layout Lab::layout(const Slice& s, DType type) {
  const Shape wide{s.shape.n, s.shape.h, s.shape.w, s.shape.c + s.others};
  return {s.shape, type, packed(wide)};
}

Lab::Block& Lab::place(std::string_view name, const Layout& layout) {
  const Shape& s = layout.shape;
  const std::int64_t aligned = layout.strides.w & -layout.strides.w;  // the largest power of two that divides it
  const std::size_t first = guard_bytes + (layout.strides.w - s.c) / 2 / aligned * aligned * size_bytes(layout.dtype);
  const std::size_t data_bytes = offset_bytes(layout, s.n - 1, s.h - 1, s.w - 1, s.c - 1) + size_bytes(layout.dtype);
  const std::size_t bytes = first + data_bytes + guard_bytes;
  Block block{std::string(name), {layout, nullptr}, backend_.allocate(bytes), first, std::vector<std::uint8_t>(bytes, 0xFF)};
  block.tensor.data = static_cast<std::uint8_t*>(block.buffer.data()) + first;
  backend_.write(block.buffer.data(), block.before.data(), bytes);
  blocks_.push_back(std::move(block));
  return blocks_.back();
}

void Lab::fill(Block& block, const std::vector<double>& values) {
  const Tensor& t = block.tensor;
  const double* value = values.data();
  for_each(t.shape, [&](int n, int h, int w, int c) {
    store(block.before.data() + block.first + offset_bytes(t, n, h, w, c), t.dtype, *value++);
  });
  backend_.write(block.buffer.data(), block.before.data(), block.before.size());
}

std::vector<double> Lab::drawn(std::string_view name, const Layout& layout, Spread spread) const {
  std::vector<double> values(layout.shape.count());
  std::array<std::uint32_t, 4> words{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i % 4 == 0) words = philox(0, stream_of(name), i / 4);
    const std::uint32_t word = words[i % 4];
    const double integer = static_cast<int>(word % 3) + 1, sign = word & 0x10000 ? 1 : -1;
    const double value = fill_ == Fill::integers ? sign * integer : 2.0 * unit_float(word) - 1;
    values[i] = rounded(spread.scale * value + spread.offset, bits_);
  }
  return values;
}

Tensor Lab::input(std::string_view name, const Layout& layout, Spread spread) {
  return given(name, layout, drawn(name, layout, spread));
}

Tensor Lab::given(std::string_view name, const Layout& layout, const std::vector<double>& values) {
  Block& block = place(name, layout);
  fill(block, values);
  return block.tensor;
}

Tensor Lab::output(std::string_view name, const Layout& layout, Write write, Expect expect) {
  Block& block = place(name, layout);
  if (write == Write::accumulate) fill(block, drawn(name, layout, {}));
  block.is_result = true;
  block.expect = expect;
  return block.tensor;
}

void Lab::overwritten(const Tensor& input, std::string_view name, Expect expect) {
  for (Block& block : blocks_) {
    if (block.tensor.data != input.data) continue;
    block.name = name;
    block.is_result = true;
    block.expect = expect;
  }
}

Deferred Lab::deferred(std::string_view name, const Layout& x, int sum_rows, Expect of_sums) {
  const std::string prefix(name);
  const auto part = [&](std::string_view which, Spread spread) {
    return drawn(prefix + std::string(which), parameters({{1, 1, 1, x.shape.c}}), fill_ == Fill::integers ? Spread{} : spread);
  };
  // Wide enough for relu6 to clamp on both sides.
  std::vector<double> scale = part(" scale", {.scale = 4}), coefficients = part(" mean", {.scale = 0.5});
  const std::vector<double> beta = part(" beta", {.scale = 2, .offset = 1});
  if (fill_ == Fill::integers)
    for (double& v : scale) v = std::clamp(v, -2.0, 2.0);
  coefficients.insert(coefficients.end(), scale.begin(), scale.end());
  coefficients.insert(coefficients.end(), beta.begin(), beta.end());
  Deferred made{input(prefix, x), given(prefix + " coefficients", parameters({{1, 1, 3, x.shape.c}}), coefficients), {}};
  if (sum_rows > 0) {
    made.sums = output(prefix + " sums", parameters({{1, 1, sum_rows, 2 * x.shape.c}}), Write::overwrite, of_sums);
    blocks_.back().rows = Rows::totals;
  }
  return made;
}

Tensor Lab::statistics(const Tensor& y, int rows) {
  Block& block = place("statistics", parameters({{1, 1, rows, 3 * y.shape.c}}));
  block.rows = Rows::statistics;
  block.of = y.data;
  block.is_result = true;
  return block.tensor;
}

void* Lab::raw(const void* data, std::size_t bytes) {
  raw_.push_back(backend_.allocate(bytes));
  backend_.write(raw_.back().data(), data, bytes);
  return raw_.back().data();
}

std::vector<double> Lab::read(const Block& block, const std::vector<std::uint8_t>& bytes) {
  std::vector<double> values;
  const Tensor& t = block.tensor;
  for_each(t.shape, [&](int n, int h, int w, int c) {
    values.push_back(load(&bytes[block.first + offset_bytes(t, n, h, w, c)], t.dtype));
  });
  return values;
}

void Lab::expect_statistics(const Block& of, const std::vector<double>& y, const Block& block,
                            const std::vector<double>& got) const {
  const std::size_t channels = of.tensor.shape.c, pixels = y.size() / channels, rows = block.tensor.shape.w;
  const int bits = significand_bits(block.tensor.dtype);
  const Expect expect{.zeros_at_most = 1, .additions = static_cast<double>(pixels)};
  const auto result = [&](std::string_view what) {
    return Result{fmt::format("{} of {}", what, of.name),
                  {1, 1, 1, of.tensor.shape.c},
                  std::min(bits, 24),
                  expect,
                  std::vector<double>(channels)};
  };
  Result means = result("means"), squares = result("squared deviations"), got_means = means, got_squares = squares;
  for (std::size_t c = 0; c < channels; ++c) {
    double &mean = means.values[c], &square = squares.values[c], &got_mean = got_means.values[c], count = 0;
    for (std::size_t i = c; i < y.size(); i += channels) mean += y[i] / static_cast<double>(pixels);
    for (std::size_t i = c; i < y.size(); i += channels) square += (y[i] - mean) * (y[i] - mean);
    const auto part = [&](std::size_t r, std::size_t i) { return got[(3 * r + i) * channels + c]; };
    for (std::size_t r = 0; r < rows; ++r) count += part(r, 0), got_mean += part(r, 0) * part(r, 1);
    EXPECT_EQ(count, static_cast<double>(pixels)) << "pixels of channel " << c << " in the statistics of " << of.name;
    got_mean /= count;
    for (std::size_t r = 0; r < rows; ++r)
      got_squares.values[c] += part(r, 2) + part(r, 0) * (part(r, 1) - got_mean) * (part(r, 1) - got_mean);
  }
  expect_as_good_as_plain(means, means, got_means);
  expect_as_good_as_plain(squares, squares, got_squares);
}

std::vector<Result> Lab::results() {
  std::vector<Result> results;
  std::map<const void*, std::pair<const Block*, std::vector<double>>> written;
  backend_.synchronize();
  for (Block& block : blocks_) {
    std::vector<std::uint8_t> after(block.before.size());
    backend_.read(after.data(), block.buffer.data(), after.size());
    const Tensor& t = block.tensor;
    if (block.is_result) {
      const int bits = std::min(significand_bits(t.dtype), 24);
      const std::vector<double> values = read(block, after);
      if (block.rows == Rows::each) results.push_back({block.name, t.shape, bits, block.expect, values});
      if (block.rows == Rows::statistics)
        expect_statistics(*written.at(block.of).first, written.at(block.of).second, block, values);
      if (block.rows == Rows::totals) {
        const std::vector<double> totals = totals_of(values, t.shape.c);
        const Shape half{1, 1, 1, t.shape.c / 2};
        const auto middle = totals.begin() + half.c;
        results.push_back({block.name + " of g", half, bits, block.expect, {totals.begin(), middle}});
        results.push_back({block.name + " of g (x - mean)", half, bits, block.expect, {middle, totals.end()}});
      }
      for_each(t.shape, [&](int n, int h, int w, int c) {
        const std::size_t at = block.first + offset_bytes(t, n, h, w, c);
        std::copy_n(&block.before[at], size_bytes(t.dtype), &after[at]);
      });
      written[t.data] = {&block, values};
    }
    if (after != block.before) {
      const std::size_t at = std::mismatch(after.begin(), after.end(), block.before.begin()).first - after.begin();
      ADD_FAILURE() << fmt::format("{} ({} {}) was written {}, at byte {}", block.name, to_string(t.shape), name(t.dtype),
                                   block.is_result ? "outside its elements" : "although an input, or outside its elements",
                                   static_cast<std::ptrdiff_t>(at - block.first));
    }
  }
  return results;
}

void KernelTest::SetUp() {
  static std::map<std::string, std::unique_ptr<Backend>> backends;  // a GPU's context is too dear for one a test
  try {
    std::unique_ptr<Backend>& backend = backends[GetParam().name];
    if (!backend) backend = GetParam().make();
    backend_ = backend.get();
    probe_(*backend_);
  } catch (const Error& error) {
    if (error.code() != ExitCode::machine) throw;
    GTEST_SKIP() << to_text(error, GetParam().name);
  }
}

void KernelTest::certify(Fill fill, std::optional<Option> needs, const Experiment& experiment) {
  SCOPED_TRACE(fmt::format("fill {}", name(fill)));
  const int bits = GetParam().significand_bits;
  Reference<double> reference;
  Reference<float> plain_loop;
  Lab subject(*backend_, bits, fill), exact(reference, bits, fill), plain(plain_loop, bits, fill);
  const bool accepted = experiment(subject);
  EXPECT_EQ(accepted, !needs || accepts(*needs)) << (needs ? name(*needs) : "an option that every backend has");
  if (!accepted) return;
  const std::vector<Result> got = subject.results();
  experiment(exact);
  const std::vector<Result> wanted = exact.results();
  std::vector<Result> plain_results;
  if (fill == Fill::uniform) {
    experiment(plain);
    plain_results = plain.results();
  }
  compare(fill, wanted, plain_results, got);
}

Window Dice::window(Shape& x, int largest_kernel) {
  Window w;
  w.kernel = {roll(1, largest_kernel), roll(1, largest_kernel)};
  w.stride = {roll(1, 3), roll(1, 3)};
  w.before = {roll(0, w.kernel.h - 1), roll(0, w.kernel.w - 1)};
  w.after = {roll(0, w.kernel.h - 1), roll(0, w.kernel.w - 1)};
  x.h = std::max(x.h, w.kernel.h);
  x.w = std::max(x.w, w.kernel.w);
  return w;
}

template <class F>
Tensor Bench::make(const Shape& shape, const F& f) {
  buffers_.push_back(backend_.allocate(shape.count() * sizeof(double)));
  Tensor t{{shape, DType::f64}, buffers_.back().data()};
  ++stream_;
  for (std::int64_t i = 0; i < shape.count(); ++i) t.as<double>()[i] = f(i, random_word(1, stream_, i));
  return t;
}

Tensor Bench::zeros(const Shape& shape) {
  return make(shape, [](std::int64_t, std::uint32_t) { return 0.0; });
}

Tensor Bench::integers(const Shape& shape) {
  return make(
      shape, [](std::int64_t, std::uint32_t word) { return (1 + static_cast<int>(word % 3)) * (word & 0x10000 ? 1.0 : -1.0); });
}

Tensor Bench::uniform(const Shape& shape, double scale, double offset) {
  return make(shape, [&](std::int64_t, std::uint32_t word) { return offset + scale * (2.0 * unit_float(word) - 1); });
}

Tensor Bench::distinct(const Shape& shape) {
  Tensor t = make(shape, [&](std::int64_t i, std::uint32_t) { return static_cast<double>(i) - shape.count() / 2 + 0.5; });
  for (std::int64_t i = shape.count() - 1; i > 0; --i)
    std::swap(t.as<double>()[i], t.as<double>()[random_word(2, stream_, i) % (i + 1)]);
  return t;
}

namespace {

/// Sum over j of dy[j] (y[j](x + h e_i) - y[j](x - h e_i)) / 2 h, for one element of x.
double difference(double& x, double h, const Tensor& y, const Tensor& dy, const std::function<void()>& forward) {
  const std::int64_t count = y.shape.count();
  const double kept = x;
  x = kept + h;
  forward();
  const std::vector<double> above(y.as<double>(), y.as<double>() + count);
  x = kept - h;
  forward();
  x = kept;
  double sum = 0;
  for (std::int64_t j = 0; j < count; ++j) sum += dy.as<double>()[j] * (above[j] - y.as<double>()[j]);
  return sum / (2 * h);
}

}  // namespace

void expect_exact_gradient(const Tensor& x, const Tensor& gradient, const Tensor& y, const Tensor& dy,
                           const std::function<void()>& forward) {
  std::int64_t zeros = 0;
  for (std::int64_t i = 0; i < x.shape.count(); ++i) {
    ASSERT_EQ(gradient.as<double>()[i], difference(x.as<double>()[i], 0.25, y, dy, forward)) << "element " << i;
    zeros += gradient.as<double>()[i] == 0;
  }
  EXPECT_LT(zeros, x.shape.count()) << "a gradient that is 0 everywhere proves nothing";
}

void expect_gradient(const Tensor& x, const Tensor& gradient, const Tensor& y, const Tensor& dy, int additions,
                     const std::function<void()>& forward) {
  const double h = std::ldexp(1, -10);
  forward();
  double magnitude = 0, largest = 0;
  for (std::int64_t j = 0; j < y.shape.count(); ++j) magnitude += std::abs(dy.as<double>()[j] * y.as<double>()[j]);
  const double rounding = magnitude * additions * std::numeric_limits<double>::epsilon() / h;
  for (std::int64_t i = 0; i < x.shape.count(); ++i) {
    const double once = difference(x.as<double>()[i], h, y, dy, forward),
                 twice = difference(x.as<double>()[i], 2 * h, y, dy, forward);
    ASSERT_NEAR(gradient.as<double>()[i], once, std::abs(twice - once) + rounding) << "element " << i;
    largest = std::max(largest, std::abs(once));
  }
  EXPECT_GT(largest, rounding) << "a gradient that is 0 everywhere proves nothing";
}

}  // namespace microtome::test
