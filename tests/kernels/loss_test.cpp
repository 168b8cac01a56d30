// Binary cross-entropy: Keras' goldens and finite differences for the reference, the reference for the rest.
#include "kernels/formulas/loss.h"
#include "kernels/harness.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace microtome::test {
namespace {

constexpr std::uint64_t batch = 2;

struct Outcome {
  BatchMetrics metrics;
  std::vector<float> scores;
  std::uint32_t finite = 0;
};

/// Layout of z as the model makes it: logits come in the parameters' type.
Outcome run(Lab& lab, const std::vector<double>& logits, const std::vector<double>& labels, bool with_scores = true) {
  const int n = static_cast<int>(logits.size());
  const int batch_size = std::max(n, 40);
  const Layout layout = lab.parameters({{n, 1, 1, 1}});
  const auto op = lab.backend().loss({.batch_size = batch_size}, layout);
  const Tensor z = lab.given("z", layout, logits), y = lab.given("y", layout, labels);
  StepState* state = lab.device<StepState>({{.batch = batch}});
  BatchMetrics* metrics = lab.device(std::vector<BatchMetrics>(batch + 2, {.loss = -1, .correct = 77, .count = 99}));
  float* scores = lab.device(std::vector<float>((batch + 1) * batch_size, -1));
  op->forward(z, y, state, metrics, with_scores ? scores : nullptr);
  op->backward(z, y, lab.output("dz", layout));

  const std::vector<BatchMetrics> all = lab.host(metrics, batch + 2);
  for (const std::uint64_t other : {batch - 2, batch - 1, batch + 1})
    EXPECT_EQ(all[other].count, 99u) << "metrics of another batch";
  const std::vector<float> written = lab.host(scores, (batch + 1) * batch_size);
  for (std::size_t i = 0; i < written.size(); ++i) {
    const bool ours = with_scores && i >= batch * batch_size && i < batch * batch_size + n;
    EXPECT_EQ(written[i] != -1, ours) << "score " << i;
  }
  return {all[batch],
          {written.begin() + batch * batch_size, written.begin() + batch * batch_size + n},
          lab.host(state, 1)[0].finite};
}

class LossTest : public KernelTest {
 protected:
  LossTest()
      : KernelTest([](Backend& backend) {
          backend.loss({.batch_size = 1}, {{1, 1, 1, 1}, backend.parameter_type()});
        }) {}

  Lab lab() { return {backend(), GetParam().significand_bits, Fill::uniform}; }
};

TEST_P(LossTest, MatchesReference) {
  for (const int n : {1, 5, 32, 40, 257, 600}) {  // a GPU's block has 256 threads
    SCOPED_TRACE(n);
    std::vector<double> z, y;
    for (int i = 0; i < n; ++i)
      z.push_back(12.0f * unit_float(random_word(n, 0, i)) - 6.0f), y.push_back(random_word(n, 1, i) & 1);
    Reference<double> reference;
    Reference<float> plain;
    Lab exact_lab(reference, 24, Fill::uniform), plain_lab(plain, 24, Fill::uniform), subject_lab = lab();
    const Outcome exact = run(exact_lab, z, y), plainly = run(plain_lab, z, y), got = run(subject_lab, z, y);
    const double error = std::abs(plainly.metrics.loss - exact.metrics.loss), rounding = std::ldexp(exact.metrics.loss, -24);
    EXPECT_NEAR(got.metrics.loss, exact.metrics.loss, 2 * std::max(error, rounding));
    EXPECT_EQ(got.metrics.correct, exact.metrics.correct);
    EXPECT_EQ(got.metrics.count, static_cast<std::uint32_t>(n));
    EXPECT_EQ(got.finite, 1u);
    for (int i = 0; i < n; ++i) EXPECT_FLOAT_EQ(got.scores[i], static_cast<float>(sigmoid(z[i])));
    certify(Fill::uniform, [&](Lab& one) {
      run(one, z, y, false);
      return true;
    });
  }
}

TEST_P(LossTest, ALossThatIsNotFiniteIsTold) {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Lab here = lab();
    EXPECT_EQ(run(here, {0.5, bad, -0.5}, {1, 0, 1}).finite, 0u);
  }
}

TEST_P(LossTest, HalfIsClassZero) {
  Lab here = lab();
  EXPECT_EQ(run(here, {0.0, 1e-9, 1e-9, 1e-3}, {0, 0, 1, 1}).metrics.correct, 3u);
}

TEST_P(LossTest, AConfidentNetworkKeepsItsGradient) {
  Lab here = lab();
  const Outcome outcome = run(here, {-20.0}, {1});
  EXPECT_FLOAT_EQ(outcome.metrics.loss, 20);
  EXPECT_FLOAT_EQ(here.results()[0].values[0], -1);
}

MICROTOME_INSTANTIATE(LossTest);

TEST(ReferenceLossTest, GradientsAreFiniteDifferences) {
  Bench bench;
  const int n = 6;
  const Tensor z = bench.uniform({n, 1, 1, 1}, 3), y = bench.zeros(z.shape), dz = bench.zeros(z.shape);
  const Tensor loss = bench.zeros({1, 1, 1, 1}), one = bench.zeros(loss.shape);
  for (int i = 0; i < n; i += 2) y.as<double>()[i] = 1;
  *one.as<double>() = 1;
  const auto op = bench.backend().loss({.batch_size = n}, z);
  op->backward(z, y, dz);
  expect_gradient(z, dz, loss, one, n + 4, [&] {
    StepState state;
    BatchMetrics metrics;
    op->forward(z, y, &state, &metrics, nullptr);
    *loss.as<double>() = metrics.loss;
  });
}

TEST(LossFormulaTest, IsKeras) {
  // Computed by Keras from logits.
  EXPECT_NEAR(cross_entropy(0.0, 1.0), 0.6931472, 5e-8);
  EXPECT_NEAR(cross_entropy(3.0, 0.0), 3.0485874, 5e-8);
  EXPECT_NEAR(cross_entropy(-20.0, 1.0), 20.0000, 5e-5);
}

}  // namespace
}  // namespace microtome::test
