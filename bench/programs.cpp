#include "bench/programs.h"

#include "engine/parameters.h"
#include "engine/random.h"
#include "kernels/backend.h"
#include "kernels/reference/reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>

namespace microtome::bench {
namespace {

constexpr std::uint64_t weight_seed = 1, pixel_seed = 2;

Program& planned(Model& model, Mode mode, int images) {
  const Model::Request request{mode, images, images};
  model.plan({&request, 1});
  return model.program(mode, images);
}

/// In [-1, 1).
std::vector<float> uniform(std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 2 * unit_float(random_word(pixel_seed, 0, i)) - 1;
  return values;
}

double norm(std::span<const float> values) {
  double sum = 0;
  for (const float v : values) sum += double{v} * v;
  return std::sqrt(sum);
}

double distance(std::span<const float> a, std::span<const float> b) {
  std::vector<float> d(a.begin(), a.end());
  for (std::size_t i = 0; i < d.size(); ++i) d[i] -= b[i];
  return norm(d);
}

/// What a pass of a graph leaves, or both.
struct PassResults {
  std::vector<float> logits, gradients;
};

PassResults run_passes(const Graph& graph, Backend& backend, Mode mode, int images) {
  ProgramRun run(graph, backend, mode, images);
  run.forward();
  if (mode != Mode::train) return {run.logits(), {}};
  run.backward();
  return {run.logits(), run.gradients()};
}

}  // namespace

ProgramRun::ProgramRun(const Graph& graph, Backend& backend, Mode mode, int images)
    : model_(graph, backend), program_(planned(model_, mode, images)), metrics_(backend.allocate(sizeof(BatchMetrics))) {
  model_.initialize(weight_seed);
  model_.set_state({.learning_rate = 0});
  const Tensor& x = program_.input();
  const auto count = static_cast<std::size_t>(x.shape.count());
  if (x.shape.c != 3) {
    write_values(backend, x.data, x.dtype, uniform(x.shape.count()));
    std::vector<float> labels(static_cast<std::size_t>(images));
    for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<float>(i % 2);
    write_values(backend, program_.labels().data, program_.labels().dtype, labels);
    return;
  }
  std::vector<std::uint8_t> pixels(count), labels(static_cast<std::size_t>(images));
  for (std::size_t i = 0; i < count; ++i) pixels[i] = static_cast<std::uint8_t>(random_word(pixel_seed, 0, i) >> 24);
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = i % 2;
  pixels_ = backend.allocate(count);
  labels_ = backend.allocate(labels.size());
  backend.write(pixels_.data(), pixels.data(), count);
  backend.write(labels_.data(), labels.data(), labels.size());
  pixel_view_ = {{x.shape, DType::u8}, pixels_.data()};
  label_view_ = {{{1, 1, 1, images}, DType::u8}, labels_.data()};
  gather_ = backend.gather({.images = images, .batch_size = images, .shuffle = mode == Mode::train}, pixel_view_, x);
  gather_->forward(pixel_view_, label_view_, model_.device_state(), x, program_.labels());
}

void ProgramRun::step() {
  if (gather_) gather_->forward(pixel_view_, label_view_, model_.device_state(), program_.input(), program_.labels());
  program_.forward();
  program_.loss(static_cast<BatchMetrics*>(metrics_.data()), nullptr);
  program_.backward();
  model_.update();
}

Cost ProgramRun::forward_cost() const {
  Cost sum;
  for (const ScopedCost& one : program_.step_costs())
    if (one.scope.pass == Pass::forward) sum += one.cost;
  return sum;
}

Cost ProgramRun::step_cost() const {
  Cost sum;
  for (const ScopedCost& one : program_.step_costs())
    if (gather_ || one.scope.pass != Pass::input) sum += one.cost;
  return sum;
}

std::vector<float> ProgramRun::logits() const {
  const Tensor& z = program_.logits();
  return read_values(model_.backend(), z.data, z.dtype, static_cast<std::size_t>(z.shape.count()));
}

CheckResult check(const Graph& graph, Backend& backend, Mode mode, int images) {
  constexpr double logit_tolerance = 1e-4;     // of the largest
  constexpr double gradient_tolerance = 1e-3;  // of a parameter's, as vectors
  constexpr double nothing = 1e-6;             // of the largest such vector
  constexpr double as_plain = 8;               // times the error of plain loops in float: what cancels is mostly rounding
  const std::unique_ptr<Backend> reference = make_reference_backend();
  Reference<float> loops;
  const PassResults ours = run_passes(graph, backend, mode, images), right = run_passes(graph, *reference, mode, images),
                    plain = run_passes(graph, loops, mode, images);
  CheckResult result;
  const auto hold = [&](const std::string& what, double error, double allowed) {
    ++result.elements;
    if (error <= allowed) return;
    if (++result.wrong == 1) result.first = fmt::format("{} is off by {:.3g} and not at most {:.3g}", what, error, allowed);
  };
  double largest = 0, plain_error = 0;
  for (std::size_t i = 0; i < right.logits.size(); ++i) {
    largest = std::max(largest, std::abs(double{right.logits[i]}));
    plain_error = std::max(plain_error, std::abs(double{plain.logits[i]} - right.logits[i]));
  }
  for (std::size_t i = 0; i < right.logits.size(); ++i)
    hold(fmt::format("logit {}", i), std::abs(double{ours.logits[i]} - right.logits[i]),
         std::max(logit_tolerance * largest, as_plain * plain_error));
  if (mode != Mode::train) return result;

  struct Held {
    double error, norm, plain_error;
  };
  std::vector<Held> held;
  std::size_t begin = 0;
  for (const Parameter& parameter : graph.parameters()) {
    const auto of = [&](const PassResults& o) {
      return std::span(o.gradients).subspan(begin, static_cast<std::size_t>(parameter.shape.count()));
    };
    held.push_back({distance(of(ours), of(right)), norm(of(right)), distance(of(plain), of(right))});
    begin += static_cast<std::size_t>(parameter.shape.count());
  }
  const double largest_norm = std::ranges::max(held, {}, &Held::norm).norm;
  for (std::size_t p = 0; p < held.size(); ++p)
    hold("the gradient of " + full_name(graph, graph.parameters()[p]), held[p].error,
         std::max({gradient_tolerance * held[p].norm, as_plain * held[p].plain_error, nothing * largest_norm}));
  return result;
}

}  // namespace microtome::bench
