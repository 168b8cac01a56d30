#include "bench/check.h"

#include "engine/check.h"
#include "kernels/reference/judge.h"
#include "kernels/reference/reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

namespace microtome::bench {

namespace {

/// By output.
using Results = std::map<std::string, std::vector<double>>;

/// Rows as what matters of them: totals; of statistics each channel's share of the pixels, mean and variance.
std::vector<double> reduced(const Output& output, std::vector<double> values) {
  const std::size_t width = static_cast<std::size_t>(output.tensor.shape.c), channels = width / 3;
  if (output.rule.rows == Rule::Rows::each) return values;
  std::vector<double> result(width);
  if (output.rule.rows == Rule::Rows::totals) {
    for (std::size_t i = 0; i < values.size(); ++i) result[i % width] += values[i];
    return result;
  }
  const std::size_t rows = values.size() / width;
  for (std::size_t c = 0; c < channels; ++c) {
    const auto part = [&](std::size_t r, std::size_t i) { return values[r * width + i * channels + c]; };
    double &count = result[c], &mean = result[channels + c], &variance = result[2 * channels + c];
    for (std::size_t r = 0; r < rows; ++r) count += part(r, 0), mean += part(r, 0) * part(r, 1);
    mean /= count;
    for (std::size_t r = 0; r < rows; ++r)
      variance += (part(r, 2) + part(r, 0) * (part(r, 1) - mean) * (part(r, 1) - mean)) / count;
  }
  return result;
}

/// What `reduced` makes of the statistics of y.
std::vector<double> statistics_of(const std::vector<double>& y, std::size_t channels) {
  std::vector<double> result(3 * channels);
  const double pixels = static_cast<double>(y.size() / channels);
  double *mean = &result[channels], *variance = &result[2 * channels];
  for (std::size_t c = 0; c < channels; ++c) result[c] = pixels;
  for (std::size_t i = 0; i < y.size(); ++i) mean[i % channels] += y[i] / pixels;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double off = y[i] - mean[i % channels];
    variance[i % channels] += off * off / pixels;
  }
  return result;
}

/// The few images by the plain loop in T.
template <class T>
Results run_plainly(Problem problem, const std::string& pass, Filling filling) {
  Reference<T> backend;
  filling.images = filling.period;
  if (is_update(problem)) problem.inputs[0].c = std::min(problem.inputs[0].c, few_parameters);
  Tensors tensors(backend, filling);
  make_work(problem, pass, tensors).run();
  Results results;
  for (const Output& output : tensors.outputs()) results[output.name] = reduced(output, tensors.read(output.tensor));
  return results;
}

std::string place(const Shape& s, std::size_t i) {
  const std::size_t c = static_cast<std::size_t>(s.c), w = static_cast<std::size_t>(s.w), h = static_cast<std::size_t>(s.h);
  return fmt::format("[n={} h={} w={} c={}]", i / c / w / h, i / c / w % h, i / c % w, i % c);
}

struct Held {
  const std::vector<double>&exact, &plain;
  double times;  // as often as the few images stand in the batch
};

void compare(const Output& output, const std::vector<double>& got, const Held& held, CheckResult& result) {
  const Rule& rule = output.rule;
  const int bits = std::min(significand_bits(output.tensor.dtype), 24);
  double largest = 0, plain_error = 0;
  for (std::size_t i = 0; i < held.exact.size(); ++i) {
    const double exact = held.exact[i] * held.times;
    largest = std::max(largest, std::abs(exact));
    plain_error = std::max(plain_error, std::abs(rounded(held.plain[i] * held.times, bits) - exact));
  }
  const double bound = rule.exact ? 0 : error_bound(largest, plain_error, bits, rule.factor_bits, rule.additions);
  for (std::size_t i = 0, few = 0; i < got.size(); ++i, ++few) {
    if (few == held.exact.size()) few = 0;
    const double exact = held.exact[few] * held.times;
    const bool right = rule.exact ? got[i] == rounded(exact, bits) : std::abs(got[i] - exact) <= bound;
    if (!right && result.wrong++ == 0)
      result.first = fmt::format("{}{} is {} and not {}{}", output.name,
                                 rule.rows == Rule::Rows::each ? place(output.tensor.shape, i) : fmt::format("[{}]", i), got[i],
                                 exact, rule.exact ? "" : fmt::format(" within {:.3g}", bound));
  }
  result.elements += got.size();
}

}  // namespace

CheckResult check(const Problem& problem, const std::string& pass, const Tensors& subject) {
  const Filling& filling = subject.filling();
  const Results exact = run_plainly<double>(problem, pass, filling);
  const Results plain = filling.fill == Fill::uniform ? run_plainly<float>(problem, pass, filling) : exact;
  CheckResult result;
  std::vector<double> before;  // what the output before this one holds
  for (const Output& output : subject.outputs()) {
    const Rule& rule = output.rule;
    if (rule.sums && filling.first_only) continue;
    std::vector<double> got = subject.read(output.tensor);
    if (rule.rows == Rule::Rows::statistics) {
      const std::vector<double> own = statistics_of(before, static_cast<std::size_t>(output.tensor.shape.c) / 3);
      compare(output, reduced(output, std::move(got)), {own, own, 1}, result);
      continue;
    }
    const std::string name(rule.like.empty() ? output.name : rule.like);
    require(exact.contains(name), "the reference has no ", name);
    if (filling.first_only) got.resize(exact.at(name).size());
    got = reduced(output, std::move(got));
    const double times = rule.sums ? static_cast<double>(filling.images) / filling.period : 1;
    compare(output, got, {exact.at(name), plain.at(name), times}, result);
    before = std::move(got);
  }
  return result;
}

}  // namespace microtome::bench
