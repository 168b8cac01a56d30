// Chains and whole networks as cases: what there is of them, that they do what the reference does, and that a check can fail.
#include "bench/chains.h"
#include "bench/networks.h"
#include "bench/programs.h"
#include "engine/forwarding.h"
#include "kernels/backend.h"
#include "nets/nets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>

namespace microtome::bench {
namespace {

const Chain small{.x = {1, 7, 6, 16},
                  .window = resolve({1, 7, 6, 16}, 3, 2, same),
                  .channels = 8,
                  .before = Activation::relu,
                  .behind = Activation::swish};

Chain depthwise(Chain chain) {
  chain.depthwise = true, chain.channels = chain.x.c;
  return chain;
}

TEST(ChainsTest, AreThoseOfTheNetworks) {
  const std::vector<Chain> all = chains({96});
  const auto labelled = [&](const std::string& label) {
    return std::find_if(all.begin(), all.end(), [&](const Chain& chain) { return chain.label == label; });
  };
  const auto resnet = labelled("resnet50:conv2_block1_2_conv");
  ASSERT_NE(resnet, all.end());
  EXPECT_EQ(resnet->x, (Shape{1, 24, 24, 64}));
  EXPECT_EQ(resnet->window, resolve({1, 24, 24, 64}, 3, 1, same));
  EXPECT_EQ(resnet->before, Activation::relu);
  EXPECT_EQ(resnet->behind, Activation::relu);
  EXPECT_EQ(resnet->uses.at("resnet50"), 3);

  // The last convolution of a block: its batch-norm is followed by the addition.
  const auto last = labelled("resnet50:conv2_block1_3_conv");
  ASSERT_NE(last, all.end());
  EXPECT_EQ(last->behind, Activation::none);

  // Zeros at one side are part of the window.
  const auto strided = labelled("mobilenet:conv_dw_2");
  ASSERT_NE(strided, all.end());
  EXPECT_TRUE(strided->depthwise);
  EXPECT_EQ(strided->window, (Window{.kernel = 3, .stride = 2, .before = 0, .after = 1}));
}

TEST(ChainsTest, EachIsMetOnce) {
  const std::vector<Chain> all = chains({96, 50});
  std::set<std::string> labels;
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_TRUE(labels.insert(all[i].label).second) << all[i].label;
    for (std::size_t j = 0; j < i; ++j) EXPECT_FALSE(all[i].same_work(all[j])) << all[i].label << " " << all[j].label;
    EXPECT_FALSE(all[i].uses.contains("vgg19")) << "a network without batch-norm";
  }
  EXPECT_GT(all.size(), chains({96}).size());
}

TEST(ChainsTest, DoWhatTheReferenceDoesInEachKindOfFusion) {
  const std::unique_ptr<Backend> cpu = make_backend("cpu", Precision::f32);
  for (const Chain& chain : {small, depthwise(small)}) {
    for (const Fusion fusion : {Fusion::fused, Fusion::applied, Fusion::separate}) {
      const std::unique_ptr<Backend> backend = declining(*cpu, fusion);
      const CheckResult checked = check(graph_of(chain), *backend, Mode::train, 2);
      EXPECT_EQ(checked.wrong, 0u) << checked.first;
      EXPECT_EQ(checked.elements, 2 + graph_of(chain).parameters().size());
    }
  }
}

/// Pads on the other side.
class Mistaken final : public Forwarding {
 public:
  using Forwarding::Forwarding;
  std::unique_ptr<ConvOp> conv(const Conv& k, const Layout& x, const Layout& y) override {
    Conv other = k;
    std::swap(other.window.before, other.window.after);
    return Forwarding::conv(other, x, y);
  }
};

TEST(ChainsTest, AMistakenBackendIsFound) {
  Chain uneven = small;
  uneven.window = {.kernel = 3, .stride = 2, .before = 0, .after = 1};
  const std::unique_ptr<Backend> cpu = make_backend("cpu", Precision::f32);
  EXPECT_EQ(check(graph_of(uneven), *cpu, Mode::train, 2).wrong, 0u);
  Mistaken mistaken(*cpu);
  const CheckResult checked = check(graph_of(uneven), mistaken, Mode::train, 2);
  EXPECT_GT(checked.wrong, 0u);
  EXPECT_NE(checked.first.find("logit 0 is off by"), std::string::npos) << checked.first;
}

/// Gives a bias the gradient of its first weight.
class Confusing final : public Forwarding {
 public:
  using Forwarding::Forwarding;
  std::unique_ptr<ConvOp> conv(const Conv& k, const Layout& x, const Layout& y) override {
    std::unique_ptr<ConvOp> conv = Forwarding::conv(k, x, y);
    return conv ? std::make_unique<Op>(*this, std::move(conv)) : nullptr;
  }

 private:
  class Op final : public ConvOp {
   public:
    Op(Backend& backend, std::unique_ptr<ConvOp> conv) : backend_(backend), conv_(std::move(conv)) {}
    int sum_rows() const override { return conv_->sum_rows(); }
    Reads backward_reads() const override { return conv_->backward_reads(); }
    std::string implementation() const override { return conv_->implementation(); }
    void forward(const Tensor& x, const Deferred* deferred, const Tensor& w, const Tensor* b, const Tensor& y,
                 const Tensor* statistics) override {
      conv_->forward(x, deferred, w, b, y, statistics);
    }
    void backward_data(const Tensor& dy, const Tensor& w, const Deferred* deferred, const Tensor& dx, Write write) override {
      conv_->backward_data(dy, w, deferred, dx, write);
    }
    void backward_filter(const Tensor& x, const Deferred* deferred, const Tensor& dy, const Tensor& dw, const Tensor* db,
                         Write write) override {
      conv_->backward_filter(x, deferred, dy, dw, db, write);
      if (db) backend_.copy(db->data, dw.data, sizeof(float));
    }
    int statistics_rows() const override { return conv_->statistics_rows(); }

   private:
    Backend& backend_;
    std::unique_ptr<ConvOp> conv_;
  };
};

TEST(ChainsTest, ABiasBeforeABatchNormIsHeldToItsRounding) {
  const std::vector<Chain> all = chains({96});
  const auto last = std::ranges::find(all, "resnet50:conv2_block1_3_conv", &Chain::label);
  ASSERT_NE(last, all.end());
  ASSERT_TRUE(last->bias);
  const std::unique_ptr<Backend> cpu = make_backend("cpu", Precision::f32);
  const CheckResult checked = check(graph_of(*last), *cpu, Mode::train, 2);
  EXPECT_EQ(checked.wrong, 0u) << checked.first;
  Confusing confusing(*cpu);
  const CheckResult mistaken = check(graph_of(*last), confusing, Mode::train, 2);
  EXPECT_GT(mistaken.wrong, 0u);
  EXPECT_NE(mistaken.first.find("the gradient of conv/bias"), std::string::npos) << mistaken.first;
}

TEST(ChainsTest, AKindOfFusionIsACaseWhereTheBackendDoesSomethingElse) {
  const std::unique_ptr<Backend> cpu = make_backend("cpu", Precision::f32),
                                 reference = make_backend("reference", Precision::f32);
  Chain plain = small;
  plain.before = plain.behind = Activation::none;
  EXPECT_TRUE(differs(small, Fusion::fused, 2, *cpu));
  EXPECT_FALSE(differs(small, Fusion::applied, 2, *cpu)) << "the CPU defers nothing";
  EXPECT_TRUE(differs(small, Fusion::separate, 2, *cpu));
  EXPECT_FALSE(differs(plain, Fusion::separate, 2, *cpu));
}

TEST(ProgramRunTest, StepsRepeat) {
  const std::unique_ptr<Backend> cpu = make_backend("cpu", Precision::f32);
  ProgramRun run(find_network("b6").build(36), *cpu, Mode::train, 4);
  run.step();
  const std::vector<float> logits = run.logits(), gradients = run.gradients();
  for (int i = 0; i < 3; ++i) run.step();
  EXPECT_EQ(run.logits(), logits);
  EXPECT_EQ(run.gradients(), gradients);
  EXPECT_TRUE(std::any_of(gradients.begin(), gradients.end(), [](float g) { return g != 0; }));
  EXPECT_GT(run.step_cost().flop, 2 * run.forward_cost().flop);
}

TEST(NetworksTest, AreCasesOfEachSizeThatTheyCanBeBuiltAt) {
  const std::unique_ptr<Backend> cpu = make_backend("cpu", Precision::f32);
  const std::vector<Case> cases = network_cases({96, 50}, {.precision = "f32", .batches = {32}}, *cpu);
  std::set<std::string> names;
  for (const Case& one : cases) EXPECT_TRUE(names.insert(one.name).second) << one.name;
  const auto whole = [](const std::string& name) { return name.find('@') == name.npos; };
  EXPECT_EQ(std::count_if(names.begin(), names.end(), whole), std::ssize(networks()) * 2) << "forward, and a step";
  EXPECT_TRUE(names.contains("network_step/resnet50/cpu/f32/n32"));
  EXPECT_TRUE(names.contains("network_forward/b2@50/cpu/f32/n32"));
  EXPECT_FALSE(names.contains("network_step/inception_v3@50/cpu/f32/n32")) << "its images must be larger";
}

TEST(NetworksTest, ASmallOneIsHeldAgainstTheReference) {
  const std::unique_ptr<Backend> cpu = make_backend("cpu", Precision::f32);
  const CheckResult checked = check(find_network("mobilenet").build(50), *cpu, Mode::evaluate, 1);
  EXPECT_EQ(checked.wrong, 0u) << checked.first;
  EXPECT_EQ(checked.elements, 1u);
}

}  // namespace
}  // namespace microtome::bench
