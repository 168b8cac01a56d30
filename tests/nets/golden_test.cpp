// Keras is the judge: golden/*.json hold what Keras in float64 says of the twelve networks, golden/make_golden.py made them.
// Weights, images and projections are those of golden/rules.py, computed here again.
#include "engine/model.h"
#include "engine/random.h"
#include "kernels/backend.h"
#include "nets/nets.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace microtome {
namespace {

using nlohmann::json;

struct Case {
  std::string net;
  int size;
  std::string device;

  friend std::ostream& operator<<(std::ostream& out, const Case& c) {
    return out << c.net << " at " << c.size << " on " << c.device;
  }
};

/// How far a result may be from Keras', relative to the largest logit, to a tensor's norm, to a loss. The worst that a test saw
/// stands among its properties in --gtest_output=xml.
struct Tolerance {
  double logits, gradients, moved, losses;
};
constexpr Tolerance in_float32{1e-4, 1e-3, 1e-5, 1e-4};
/// The reference's; it hands gradients and statistics over in float32, whose half unit is 6e-8.
constexpr Tolerance in_double{1e-9, 1e-7, 1e-7, 1e-7};

/// A gradient that is nothing (of a bias before a batch-norm, which takes it away again) is less than this in double, and may
/// be that in float32, both relative to the largest gradient's norm.
constexpr double nothing = 1e-12, rounding = 1e-6;

// The seeds of rules.py.
enum Seed : std::uint64_t { weights = 1, projections, tints, blobs, noise };

/// The first `count` of rules.py's unit(seed, stream, ...).
std::vector<float> units(std::uint64_t seed, std::uint64_t stream, std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; i += 4) {
    const std::array<std::uint32_t, 4> words = philox(seed, stream, i / 4);
    for (std::size_t k = i; k < std::min(i + 4, count); ++k) values[k] = unit_float(words[k % 4]);
  }
  return values;
}

/// Parameter p in Keras' order.
std::vector<float> rule_weight(int p, const Parameter& parameter, double gain) {
  double low = -0.1, high = 0.1;  // biases
  if (parameter.name == "kernel") {
    const std::vector<int>& shape = parameter.keras_shape;
    const bool depthwise = shape.size() == 4 && shape.back() == 1;
    double cells = 1;
    for (std::size_t i = 0; i < (depthwise ? 2 : shape.size() - 1); ++i) cells *= shape[i];
    high = gain * std::sqrt(3 / cells);
    low = -high;
  } else if (parameter.name == "gamma") {
    low = 0.5, high = 1.5;
  } else if (parameter.name == "beta") {
    low = 1.2, high = 3.7;
  } else if (parameter.name == "moving_mean") {
    low = -0.5, high = 0.5;
  } else if (parameter.name == "moving_variance") {
    low = 0.7, high = 1.5;
  }
  const auto count = static_cast<std::size_t>(parameter.shape.count());
  std::vector<float> values = units(Seed::weights, static_cast<std::uint64_t>(p), count);
  for (float& value : values) value = static_cast<float>(low + (high - low) * value);
  return values;
}

std::uint32_t tint(int image, int channel) {
  return random_word(Seed::tints, image, channel) % 128;
}

std::vector<std::uint8_t> rule_image(int image, int size) {
  const int side = (size + 7) / 8;
  std::vector<std::uint8_t> pixels;
  for (int h = 0; h < size; ++h) {
    for (int w = 0; w < size; ++w) {
      for (int c = 0; c < 3; ++c) {
        const std::uint32_t blob = random_word(Seed::blobs, image, ((h / 8) * side + w / 8) * 3 + c) % 64;
        const std::uint32_t grain = random_word(Seed::noise, image, (h * size + w) * 3 + c) % 64;
        pixels.push_back(static_cast<std::uint8_t>(tint(image, c) + blob + grain));
      }
    }
  }
  return pixels;
}

/// Norm, and products with two fixed vectors.
std::array<double, 3> summarize(int p, const std::vector<float>& values) {
  std::array<double, 3> summary{};
  for (const float value : values) summary[0] += double{value} * value;
  summary[0] = std::sqrt(summary[0]);
  for (int k = 0; k < 2; ++k) {
    const std::vector<float> vector = units(Seed::projections, static_cast<std::uint64_t>(2 * p + k), values.size());
    for (std::size_t i = 0; i < values.size(); ++i) summary[1 + k] += values[i] * (2.0 * vector[i] - 1);
  }
  return summary;
}

template <class T>
void write(Backend& backend, const Tensor& to, const std::vector<double>& values) {
  const std::vector<T> converted(values.begin(), values.end());
  backend.write(to.data, converted.data(), converted.size() * sizeof(T));
}

void write_as(Backend& backend, const Tensor& to, const std::vector<double>& values) {
  ASSERT_EQ(static_cast<std::size_t>(to.shape.count()), values.size());
  if (to.dtype == DType::f64)
    write<double>(backend, to, values);
  else
    write<float>(backend, to, values);
}

std::vector<double> read(Backend& backend, const Tensor& from) {
  const auto count = static_cast<std::size_t>(from.shape.count());
  std::vector<double> wide(count);
  if (from.dtype == DType::f64) {
    backend.read(wide.data(), from.data, count * sizeof(double));
  } else {
    std::vector<float> values(count);
    backend.read(values.data(), from.data, count * sizeof(float));
    std::copy(values.begin(), values.end(), wide.begin());
  }
  return wide;
}

class GoldenTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Case& c = GetParam();
    std::string why;
    if (c.device == "cuda:0" && cuda_device_count(&why) == 0) GTEST_SKIP() << why;
    const char* elsewhere = std::getenv("MICROTOME_GOLDEN");  // where the tests run without the sources
    const std::string path = fmt::format("{}/{}_{}.json", elsewhere ? elsewhere : GOLDEN_FOLDER, c.net, c.size);
    std::ifstream file(path);
    ASSERT_TRUE(file) << path;
    golden_ = json::parse(file);
    batch_ = golden_["batch"];

    backend_ = make_backend(c.device, Precision::f32);
    model_ = std::make_unique<Model>(find_network(c.net).build(c.size), *backend_,
                                     ModelOptions{.dropout = false, .keras3_variance = true});
    metrics_ = backend_->allocate(sizeof(BatchMetrics) * golden_["losses"].size());

    const Graph& graph = model_->graph();
    int p = 0;
    for (const int row : keras_order(graph)) {
      const std::vector<int>& own = graph.rows()[row].parameters;
      order_.insert(order_.end(), own.begin(), own.end());
    }
    ASSERT_EQ(order_.size(), golden_["parameters"].size());
    std::vector<std::vector<float>> stored(order_.size());
    for (const int index : order_) {
      const Parameter& parameter = graph.parameters()[index];
      ASSERT_EQ(full_name(graph, parameter), golden_["parameters"][p]["name"].get<std::string>());
      ASSERT_EQ(json(parameter.keras_shape), golden_["parameters"][p]["shape"]);
      stored[index] = from_keras(parameter, rule_weight(p, parameter, golden_["gains"][p == 0 ? 0 : 1]));
      ++p;
    }
    std::vector<float> all;
    for (const std::vector<float>& values : stored) all.insert(all.end(), values.begin(), values.end());
    model_->set_weights(all);
  }

  const Tolerance& tolerance() const { return GetParam().device == "reference" ? in_double : in_float32; }

  Program& plan(Mode mode) {
    model_->plan({{{mode, batch_, batch_}}});
    return model_->program(mode, batch_);
  }

  void put_batch(const Program& program, int step) {
    const Preprocessing& native = find_network(GetParam().net).native;
    const Normalize& inside = program.normalization();
    std::vector<double> x, y;
    const int first = golden_["first_image"].get<int>() + step * batch_;
    for (int image = first; image < first + batch_; ++image) {
      const std::vector<std::uint8_t> pixels = rule_image(image, GetParam().size);
      for (std::size_t i = 0; i < pixels.size(); ++i) {
        const std::size_t c = i % 3;
        const double given = (pixels[native.bgr ? i - c + 2 - c : i] - double{native.mean[c]}) / native.divisor[c];
        x.push_back((given - inside.mean[c]) / inside.divisor[c]);
      }
      y.push_back(tint(image, 0) > tint(image, 2) ? 1 : 0);
    }
    write_as(*backend_, program.input(), x);
    write_as(*backend_, program.labels(), y);
  }

  std::vector<BatchMetrics> metrics(std::size_t count) {
    std::vector<BatchMetrics> read(count);
    backend_->read(read.data(), metrics_.data(), read.size() * sizeof(BatchMetrics));
    return read;
  }
  BatchMetrics* device_metrics() const { return static_cast<BatchMetrics*>(metrics_.data()); }

  /// Every parameter that has `key` in the file, against `values` in the model's order.
  void expect_summaries(const std::vector<float>& values, const char* key, double relative) {
    const Graph& graph = model_->graph();
    std::vector<std::int64_t> begins{0};
    for (const Parameter& parameter : graph.parameters()) begins.push_back(begins.back() + parameter.shape.count());
    double largest = 0, worst = 0;
    for (const json& row : golden_["parameters"])
      if (row.contains(key)) largest = std::max(largest, row[key][0].get<double>());

    for (int p = 0; p < static_cast<int>(order_.size()); ++p) {
      const json& row = golden_["parameters"][p];
      if (!row.contains(key)) continue;
      const auto expected = row[key].get<std::array<double, 3>>();
      const int index = order_[p];
      const std::vector<float> tensor(values.begin() + begins[index], values.begin() + begins[index + 1]);
      const std::array<double, 3> found = summarize(p, to_keras(graph.parameters()[index], tensor));
      const bool none = expected[0] < nothing * largest;
      const double near = none ? rounding * largest : relative * expected[0];
      for (int k = 0; k < 3; ++k) {
        EXPECT_NEAR(found[k], expected[k], near) << row["name"] << (k == 0 ? ", norm" : ", product");
        if (!none) worst = std::max(worst, std::abs(found[k] - expected[k]) / expected[0]);
      }
    }
    RecordProperty(key, fmt::format("{:.1e}", worst));
  }

  json golden_;
  int batch_ = 0;
  std::vector<int> order_;  // the graph's parameters as Keras counts them
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  Buffer metrics_;
};

TEST_P(GoldenTest, EvaluationMatchesKeras) {
  Program& program = plan(Mode::evaluate);
  put_batch(program, 0);
  program.forward();
  program.loss(device_metrics(), nullptr);

  const auto expected = golden_["evaluate"]["logits"].get<std::vector<double>>();
  const std::vector<double> found = read(*backend_, program.logits());
  ASSERT_EQ(found.size(), expected.size());
  double largest = 0, worst = 0;
  for (const double z : expected) largest = std::max(largest, std::abs(z));
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i], expected[i], tolerance().logits * largest) << "image " << i;
    worst = std::max(worst, std::abs(found[i] - expected[i]) / largest);
  }
  RecordProperty("logits", fmt::format("{:.1e}", worst));

  const BatchMetrics judged = metrics(1)[0];
  const double loss = golden_["evaluate"]["loss"];
  EXPECT_NEAR(judged.loss, loss, tolerance().losses * loss);
  EXPECT_EQ(judged.count, static_cast<std::uint32_t>(batch_));
}

TEST_P(GoldenTest, TrainingMatchesKeras) {
  Program& program = plan(Mode::train);
  const auto advance = backend_->advance();
  const auto losses = golden_["losses"].get<std::vector<double>>();
  StepState state;
  state.learning_rate = golden_["learning_rate"];
  model_->set_state(state);
  for (std::size_t step = 0; step < losses.size(); ++step) {
    put_batch(program, static_cast<int>(step));
    program.forward();
    program.loss(device_metrics(), nullptr);
    program.backward();
    if (step == 0) {
      expect_summaries(model_->gradients(), "gradient", tolerance().gradients);
      expect_summaries(model_->weights(), "moved", tolerance().moved);
    }
    model_->update();
    advance->run(model_->device_state(), true);
  }
  const std::vector<BatchMetrics> found = metrics(losses.size());
  double worst = 0;
  for (std::size_t step = 0; step < losses.size(); ++step) {
    EXPECT_NEAR(found[step].loss, losses[step], tolerance().losses * losses[step]) << "step " << step;
    worst = std::max(worst, std::abs(found[step].loss - losses[step]) / losses[step]);
  }
  RecordProperty("losses", fmt::format("{:.1e}", worst));
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Network& network : networks()) {
    const std::string name(network.name);
    if (name == "p4m_densenet") continue;                      // Keras has no such layers
    if (!network.top) all.push_back({name, 50, "reference"});  // naive loops take the two small ones
    for (const int size : {name == "inception_v3" ? 75 : 50, 96}) {
      for (const char* device : {"cpu", "cuda:0"}) all.push_back({name, size, device});
    }
  }
  return all;
}

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return fmt::format("{}_{}_{}", c.net, c.size, c.device.substr(0, c.device.find(':')));
}

INSTANTIATE_TEST_SUITE_P(Nets, GoldenTest, testing::ValuesIn(cases()), name_of);

}  // namespace
}  // namespace microtome
