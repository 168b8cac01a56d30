// How a backend is certified. An experiment fills tensors, runs ops and names what they wrote. It runs on the subject, on the
// reference in double and on the reference in float, the plain loop, all with the same values. Then every output of the
// subject is either equal to the reference's, where the values are small integers and sums exact, or at most twice as wrong as
// the plain loop's. Outputs, guard bands and the gaps of slices are NaN beforehand: what is read there shows, and so does what
// is written there.
#pragma once

#include "engine/backend.h"
#include "engine/check.h"
#include "engine/random.h"
#include "kernels/reference/judge.h"
#include "kernels/reference/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace microtome::test {

/// What a backend may decline; a graph is then planned without it. Of what is not listed here it declines nothing.
enum class Option {
  any_activation_in_conv,  // of several groups or one, but not a depthwise one; relu is none of these
  relu_in_average_pool,
  deferral,  // batch-norms applied by whoever reads them, and statistics that producers leave
  deferral_in_pointwise_conv,
  deferral_in_elementwise_dropout,
};
std::string_view name(Option option);

/// A backend to be certified. `make` throws Error(ExitCode::machine) where this machine or this build lacks it.
struct Subject {
  std::string name;  // in the tests' names: "cpu", "cuda0_bf16"
  std::function<std::unique_ptr<Backend>()> make;
  int significand_bits = 24;  // of the products' factors: 24 in f32, 11 in tf32, 8 in bf16
  std::set<Option> declines = {};
  bool is_played = false;  // on the host, thread by thread: large cases are for others
};

inline void PrintTo(const Subject& subject, std::ostream* out) {
  *out << subject.name;
}

/// Each test program that links these tests defines its own list.
std::vector<Subject> subjects();

/// integers: -3 … 3 without 0. uniform: [-1, 1) in as many bits as the subject has.
enum class Fill { integers, uniform };
inline constexpr Fill both_fills[] = {Fill::integers, Fill::uniform};
inline constexpr Write both_writes[] = {Write::overwrite, Write::accumulate};

/// A shape, and where it is a slice of a wider tensor, the number of channels there that are not its own: half of them lie
/// before it, or so many less that it begins as well aligned as its rows do.
struct Slice {
  Shape shape;
  int others = 0;
};
std::string to_string(const Slice& slice);

/// What is known beforehand of an output.
struct Expect {
  double zeros_at_most = 0.5;  // a share; more of them in the reference's output fail the test
  double additions = 1;        // behind each element
  int factor_bits = 53;        // of products' factors that an op makes on the way, and may round as it rounds its inputs
};

/// What an experiment wrote.
struct Result {
  std::string name;
  Shape shape;
  int significand_bits = 24;  // of the subject's type
  Expect expect = {};
  std::vector<double> values;
};

/// What a fill's values v become: scale v + offset.
struct Spread {
  double scale = 1, offset = 0;
};

/// What a batch-norm's reader applies.
inline constexpr Activation deferrable[] = {Activation::none, Activation::relu, Activation::relu6, Activation::swish};
/// The share of zeros to expect behind them: all of a channel may lie where an activation clamps.
inline double zeros_behind(const DeferredNorm& deferred) {
  return deferred == Activation::relu || deferred == Activation::relu6 ? 0.9 : 0.5;
}

class Lab {
 public:
  Lab(Backend& backend, int significand_bits, Fill fill) : backend_(backend), bits_(significand_bits), fill_(fill) {}

  Backend& backend() { return backend_; }
  Fill fill() const { return fill_; }
  int factor_bits() const { return bits_; }
  Layout activations(const Slice& slice) const { return layout(slice, backend_.activation_type()); }
  Layout parameters(const Slice& slice) const { return layout(slice, backend_.parameter_type()); }

  /// Filled; must be as filled afterwards.
  Tensor input(std::string_view name, const Layout& layout, Spread spread = {});
  /// With just these values.
  Tensor given(std::string_view name, const Layout& layout, const std::vector<double>& values);

  /// NaN for Write::overwrite, else filled. Becomes a result.
  Tensor output(std::string_view name, const Layout& layout, Write write = Write::overwrite, Expect expect = {});
  /// The input is written over, by an op that works in place, and is a result now.
  void overwritten(const Tensor& input, std::string_view name, Expect expect = {});

  /// A batch-norm for an op to apply: x an input, coefficients of any signs, small integers for Fill::integers. Of the sums
  /// that a backward pass leaves in `sum_rows` rows the totals are results; 0 for passes that ignore sums.
  Deferred deferred(std::string_view name, const Layout& x, int sum_rows = 0, Expect of_sums = {});
  /// `rows` rows of partial statistics of y, an output: merged, they must be those of y as it was written.
  Tensor statistics(const Tensor& y, int rows);

  /// Other memory of the device: a state, images, labels.
  template <class T>
  T* device(const std::vector<T>& values) {
    return static_cast<T*>(raw(values.data(), values.size() * sizeof(T)));
  }
  template <class T>
  std::vector<T> host(const T* from, std::size_t count) {
    std::vector<T> values(count);
    backend_.read(values.data(), from, count * sizeof(T));
    return values;
  }

  /// Everything that was declared an output, and failures for whatever else was written.
  std::vector<Result> results();

 private:
  enum class Rows { each, totals, statistics };

  struct Block {
    std::string name;
    Tensor tensor;
    Buffer buffer;
    std::size_t first = 0;             // the tensor's first byte in the buffer
    std::vector<std::uint8_t> before;  // the bytes at the start
    bool is_result = false;
    Expect expect = {};
    Rows rows = Rows::each;    // how they are compared
    const void* of = nullptr;  // the tensor whose statistics they are
  };

  static Layout layout(const Slice& slice, DType type);
  static std::vector<double> read(const Block& block, const std::vector<std::uint8_t>& bytes);
  void expect_statistics(const Block& of, const std::vector<double>& y, const Block& block,
                         const std::vector<double>& got) const;
  Block& place(std::string_view name, const Layout& layout);
  void fill(Block& block, const std::vector<double>& values);
  std::vector<double> drawn(std::string_view name, const Layout& layout, Spread spread) const;
  void* raw(const void* data, std::size_t bytes);

  Backend& backend_;
  int bits_;
  Fill fill_;
  std::vector<Block> blocks_;
  std::vector<Buffer> raw_;
};

/// Failures for whatever output is neither equal, nor nearly as good as the plain loop's, and for outputs of mostly zeros.
void compare(Fill fill, const std::vector<Result>& exact, const std::vector<Result>& plain, const std::vector<Result>& got);

/// False where the subject declines an option.
using Experiment = std::function<bool(Lab&)>;

/// One fixture a kind. `probe` makes the kind's plainest op: a subject without it is skipped.
class KernelTest : public testing::TestWithParam<Subject> {
 protected:
  explicit KernelTest(std::function<void(Backend&)> probe) : probe_(std::move(probe)) {}
  void SetUp() override;

  Backend& backend() { return *backend_; }
  bool accepts(Option option) const { return !GetParam().declines.contains(option); }
  /// Fails where the subject declines what it must accept, or accepts what it is said to decline.
  void certify(Fill fill, std::optional<Option> needs, const Experiment& experiment);
  void certify(Fill fill, const Experiment& experiment) { certify(fill, {}, experiment); }

 private:
  std::function<void(Backend&)> probe_;
  Backend* backend_ = nullptr;
};

/// The rest of a test is for subjects that accept this.
#define MICROTOME_NEEDS(option) \
  if (!accepts(option)) GTEST_SKIP() << GetParam().name << " declines " << name(option)

#define MICROTOME_INSTANTIATE(Fixture)                                       \
  INSTANTIATE_TEST_SUITE_P(Backends, Fixture, testing::ValuesIn(subjects()), \
                           [](const auto& subject) { return subject.param.name; })

/// Numbers for a random case, a function of the case's own number.
class Dice {
 public:
  explicit Dice(int number) : number_(number) {}
  /// Uniform in first … last.
  int roll(int first, int last) { return first + static_cast<int>(random_word(number_, 0, index_++) % (last - first + 1)); }
  bool coin() { return roll(0, 1) == 1; }
  template <class T>
  T pick(std::initializer_list<T> from) {
    return from.begin()[roll(0, static_cast<int>(from.size()) - 1)];
  }
  /// One in three is a slice.
  Slice slice(const Shape& shape) { return {shape, roll(0, 2) > 0 ? 0 : roll(1, 25)}; }
  /// Makes x larger where the kernel asks for it.
  Window window(Shape& x, int largest_kernel);

 private:
  std::uint64_t number_, index_ = 0;
};

/// f(dice) on random cases: MICROTOME_CASES of them, or 24; MICROTOME_CASE=<number> runs one.
template <class F>
void for_random_cases(const F& f) {
  const char* only = std::getenv("MICROTOME_CASE");
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  const char* count = std::getenv("MICROTOME_CASES");
  const int first = only ? std::atoi(only) : 0, end = only ? first + 1 : count ? std::atoi(count) : 24;
  for (int n = first; n < end; ++n) {
    SCOPED_TRACE(
        fmt::format("repro: MICROTOME_CASE={} kernels_tests --gtest_filter={}.{}", n, test->test_suite_name(), test->name()));
    Dice dice(n);
    f(dice);
    if (testing::Test::HasFailure()) return;
  }
}

std::string to_string(const Window& window);
std::string_view name(Activation activation);
std::string_view name(const DeferredNorm& deferred);
std::string_view name(Write write);
std::string_view name(Fill fill);

/// Memory for the reference, filled like a Lab's, on the host.
class Bench {
 public:
  Reference<double>& backend() { return backend_; }
  Tensor zeros(const Shape& shape);
  Tensor integers(const Shape& shape);
  Tensor uniform(const Shape& shape, double scale = 1, double offset = 0);
  /// All different, one apart, none within 1/4 of 0 or 6: no step of 1/4 crosses a kink or changes a maximum.
  Tensor distinct(const Shape& shape);

 private:
  template <class F>
  Tensor make(const Shape& shape, const F& f);

  Reference<double> backend_;
  std::vector<Buffer> buffers_;
  std::uint64_t stream_ = 0;
};

/// Where y depends linearly on x near x and everything is a small integer, a central difference with a step of 1/4 is exact:
/// gradient[i] == sum over j of dy[j] (y[j](x + h e_i) - y[j](x - h e_i)) / 2 h.
void expect_exact_gradient(const Tensor& x, const Tensor& gradient, const Tensor& y, const Tensor& dy,
                           const std::function<void()>& forward);

/// Elsewhere D(h) = f' + h^2 f''' / 6 + O(h^4), so D(2 h) - D(h) is three times D(h)'s error; each y is off by at most
/// `additions` roundings, which the difference divides by h.
void expect_gradient(const Tensor& x, const Tensor& gradient, const Tensor& y, const Tensor& dy, int additions,
                     const std::function<void()>& forward);

}  // namespace microtome::test
