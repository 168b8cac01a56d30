// Keras is the judge: golden/*.json hold what Keras in float64 says of B2 and B6, golden/make_golden.py made them. Weights,
// images and projections are those of golden/rules.py, computed here again.
#include "engine/model.h"
#include "engine/random.h"
#include "kernels/backend.h"
#include "nets/nets.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
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
  int steps;  // of the file's 20: naive loops take but some

  friend std::ostream& operator<<(std::ostream& out, const Case& c) {
    return out << c.net << " at " << c.size << " on " << c.device;
  }
};

/// How far a result may be from Keras', relative to the largest logit, to a tensor's norm, to a loss.
/// float32: Keras on torch in float32 is off by at most 6e-6, 6e-6, 2e-5, 4e-5 (make_golden.py --compare).
/// double: the reference's, where Keras is in float64 throughout; it hands gradients over in float32, whose half unit is 6e-8.
/// On JAX, which made the files, Keras' batch-norm computes in float32 whatever floatx says: B6's files are no better than
/// that.
struct Tolerance {
  double logits, gradients, losses, after;
};
constexpr Tolerance in_float32{1e-5, 1e-4, 1e-4, 1e-4};
constexpr Tolerance in_double{1e-9, 1e-7, 1e-7, 1e-7};

// The seeds of rules.py.
enum Seed : std::uint64_t { weights = 1, projections, tints, blobs, noise };

double unit(std::uint64_t seed, std::uint64_t stream, std::uint64_t i) {
  return double{unit_float(random_word(seed, stream, i))};
}

/// Parameter p in Keras' order.
std::vector<float> rule_weight(int p, const Parameter& parameter) {
  double low = -0.1, high = 0.1;  // biases
  if (parameter.name == "kernel") {
    const std::vector<int>& shape = parameter.keras_shape;
    const int taps = shape.size() == 4 ? shape[0] * shape[1] : 1;
    high = std::sqrt(6.0 / (taps * (shape[shape.size() - 2] + shape.back())));
    low = -high;
  } else if (parameter.name == "gamma" || parameter.name == "moving_variance") {
    low = 0.5, high = 1.5;
  } else if (parameter.name == "beta" || parameter.name == "moving_mean") {
    low = -0.2, high = 0.2;
  }
  std::vector<float> values(static_cast<std::size_t>(parameter.shape.count()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(low + (high - low) * unit(Seed::weights, static_cast<std::uint64_t>(p), i));
  }
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

struct Summary {
  double norm = 0;
  double products[2] = {0, 0};
};

Summary summarize(int p, const std::vector<float>& values) {
  Summary summary;
  for (std::size_t i = 0; i < values.size(); ++i) {
    summary.norm += double{values[i]} * values[i];
    for (int k = 0; k < 2; ++k) {
      summary.products[k] += values[i] * (2 * unit(Seed::projections, static_cast<std::uint64_t>(2 * p + k), i) - 1);
    }
  }
  summary.norm = std::sqrt(summary.norm);
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
    const std::string path = fmt::format("{}/{}_{}.json", GOLDEN_FOLDER, c.net, c.size);
    std::ifstream file(path);
    ASSERT_TRUE(file) << path;
    golden_ = json::parse(file);
    batch_ = golden_["batch"];

    backend_ = make_backend(c.device, Precision::f32);
    model_ = std::make_unique<Model>(find_network(c.net).build(c.size), *backend_,
                                     ModelOptions{.dropout = false, .keras3_variance = true});
    model_->plan({{{Mode::evaluate, batch_, batch_}, {Mode::train, batch_, batch_}}});
    const std::vector<Parameter>& parameters = model_->graph().parameters();
    ASSERT_EQ(parameters.size(), golden_["parameters"].size());
    std::vector<float> stored;
    for (int p = 0; p < static_cast<int>(parameters.size()); ++p) {
      const Parameter& parameter = parameters[p];
      ASSERT_EQ(model_->graph().rows()[parameter.row].name + "/" + parameter.name, golden_["parameters"][p]["name"]);
      ASSERT_EQ(json(parameter.keras_shape), golden_["parameters"][p]["shape"]);
      const std::vector<float> values = from_keras(parameter, rule_weight(p, parameter));
      stored.insert(stored.end(), values.begin(), values.end());
    }
    model_->set_weights(stored);
    metrics_ = backend_->allocate(sizeof(BatchMetrics) * 20);
  }

  const Tolerance& tolerance() const {
    const auto& [net, size, device, steps] = GetParam();
    return device == "reference" && net == "b2" ? in_double : in_float32;
  }

  void put_batch(const Program& program, int step) {
    std::vector<double> x, y;
    const int first = golden_["first_image"].get<int>() + step * batch_;
    for (int image = first; image < first + batch_; ++image) {
      for (const std::uint8_t pixel : rule_image(image, GetParam().size)) x.push_back(pixel / 255.0);
      y.push_back(tint(image, 0) > tint(image, 2) ? 1 : 0);
    }
    write_as(*backend_, program.input(), x);
    write_as(*backend_, program.labels(), y);
  }

  std::vector<BatchMetrics> metrics(int count) {
    std::vector<BatchMetrics> read(static_cast<std::size_t>(count));
    backend_->read(read.data(), metrics_.data(), read.size() * sizeof(BatchMetrics));
    return read;
  }
  BatchMetrics* device_metrics() const { return static_cast<BatchMetrics*>(metrics_.data()); }

  /// Every parameter that has `key` in the file, against `values` in the model's order.
  void expect_summaries(const std::vector<float>& values, const char* key, double relative) {
    const std::vector<Parameter>& parameters = model_->graph().parameters();
    auto begin = values.begin();
    int compared = 0;
    for (int p = 0; p < static_cast<int>(parameters.size()); ++p) {
      const auto end = begin + parameters[p].shape.count();
      const json& row = golden_["parameters"][p];
      if (row.contains(key)) {
        const Summary found = summarize(p, to_keras(parameters[p], std::vector<float>(begin, end)));
        const double norm = row[key]["norm"], near = relative * norm;
        EXPECT_GT(norm, 0);
        EXPECT_NEAR(found.norm, norm, near) << row["name"];
        for (int k = 0; k < 2; ++k)
          EXPECT_NEAR(found.products[k], row[key]["products"][k], near) << row["name"] << ", product " << k;
        ++compared;
      }
      begin = end;
    }
    EXPECT_GE(compared, 8);
  }

  json golden_;
  int batch_ = 0;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  Buffer metrics_;
};

TEST_P(GoldenTest, EvaluationMatchesKeras) {
  Program& program = model_->program(Mode::evaluate, batch_);
  put_batch(program, 0);
  program.forward();
  program.loss(device_metrics(), nullptr);

  const auto expected = golden_["evaluate"]["logits"].get<std::vector<double>>();
  const std::vector<double> found = read(*backend_, program.logits());
  ASSERT_EQ(found.size(), expected.size());
  double largest = 0;
  for (const double z : expected) largest = std::max(largest, std::abs(z));
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i], expected[i], tolerance().logits * largest) << "image " << i;

  const BatchMetrics judged = metrics(1)[0];
  const double loss = golden_["evaluate"]["loss"];
  EXPECT_NEAR(judged.loss, loss, tolerance().losses * loss);
  EXPECT_EQ(judged.count, static_cast<std::uint32_t>(batch_));
}

TEST_P(GoldenTest, GradientsMatchKeras) {
  Program& program = model_->program(Mode::train, batch_);
  put_batch(program, 0);
  program.forward();
  program.loss(device_metrics(), nullptr);
  program.backward();
  const double loss = golden_["train"]["losses"][0];
  EXPECT_NEAR(metrics(1)[0].loss, loss, tolerance().losses * loss);
  expect_summaries(model_->gradients(), "gradient", tolerance().gradients);
}

TEST_P(GoldenTest, LossesOfAdamStepsMatchKeras) {
  Program& program = model_->program(Mode::train, batch_);
  const auto advance = backend_->advance();
  const auto losses = golden_["train"]["losses"].get<std::vector<double>>();
  const int steps = GetParam().steps;
  ASSERT_LE(static_cast<std::size_t>(steps), losses.size());
  StepState state;
  state.learning_rate = golden_["learning_rate"];
  model_->set_state(state);
  for (int step = 0; step < steps; ++step) {
    put_batch(program, step);
    program.forward();
    program.loss(device_metrics(), nullptr);
    program.backward();
    model_->update();
    advance->run(model_->device_state(), true);
  }
  const std::vector<BatchMetrics> found = metrics(steps);
  for (int step = 0; step < steps; ++step) {
    EXPECT_NEAR(found[step].loss, losses[step], tolerance().losses * losses[step]) << "step " << step;
  }
  if (static_cast<std::size_t>(steps) == losses.size()) expect_summaries(model_->weights(), "after", tolerance().after);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* net : {"b2", "b6"}) {
    all.push_back({net, 50, "reference", 3});
    for (const int size : {50, 96}) {
      for (const char* device : {"cpu", "cuda:0"}) all.push_back({net, size, device, 20});
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
