// DenseNet's layers read one another's features, so that batch statistics of a channel are wanted many times and computed once.
#include "engine/model.h"
#include "kernels/backend.h"
#include "nets/nets.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>
#include <vector>

namespace microtome {
namespace {

/// The CPU's backend, which notes over how many channels its batch-norms compute statistics.
class CountingBackend final : public Backend {
 public:
  std::int64_t channels = 0;

  std::unique_ptr<BatchNormOp> batch_norm(const BatchNorm& kind, const Layout& x, const Layout& y) override {
    auto op = cpu_->batch_norm(kind, x, y);
    if (op && kind.batch_statistics) channels += x.shape.c - kind.known_channels;
    return op;
  }

  Device device() const override { return cpu_->device(); }
  DType activation_type() const override { return cpu_->activation_type(); }
  DType parameter_type() const override { return cpu_->parameter_type(); }
  Buffer allocate(std::size_t bytes) override { return cpu_->allocate(bytes); }
  void write(void* device, const void* host, std::size_t bytes) override { cpu_->write(device, host, bytes); }
  void read(void* host, const void* device, std::size_t bytes) override { cpu_->read(host, device, bytes); }
  void zero(void* device, std::size_t bytes) override { cpu_->zero(device, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) override { cpu_->copy(to, from, bytes); }
  void synchronize() override { cpu_->synchronize(); }
  std::unique_ptr<Recording> record(std::function<void()> step) override { return cpu_->record(std::move(step)); }
  std::unique_ptr<ConvOp> conv(const Conv& k, const Layout& x, const Layout& y) override { return cpu_->conv(k, x, y); }
  std::unique_ptr<DenseOp> dense(const Dense& k, const Layout& x, const Layout& y) override { return cpu_->dense(k, x, y); }
  std::unique_ptr<ActivateOp> activate(const Activate& k, const Layout& x, const Layout& y) override {
    return cpu_->activate(k, x, y);
  }
  std::unique_ptr<PoolOp> pool(const Pool& k, const Layout& x, const Layout& y) override { return cpu_->pool(k, x, y); }
  std::unique_ptr<DropoutOp> dropout(const Dropout& k, const Layout& x, const Layout& y) override {
    return cpu_->dropout(k, x, y);
  }
  std::unique_ptr<AddOp> add(const Add& k, const Layout& a, const Layout& b, const Layout& y) override {
    return cpu_->add(k, a, b, y);
  }
  std::unique_ptr<MultiplyOp> multiply(const Multiply& k, const Layout& x, const Layout& gate, const Layout& y) override {
    return cpu_->multiply(k, x, gate, y);
  }
  std::unique_ptr<GatherOp> gather(const Gather& k, const Layout& images, const Layout& x) override {
    return cpu_->gather(k, images, x);
  }
  std::unique_ptr<LossOp> loss(const Loss& k, const Layout& z) override { return cpu_->loss(k, z); }
  std::unique_ptr<AdamOp> adam(const Adam& k, std::int64_t count) override { return cpu_->adam(k, count); }
  std::unique_ptr<AdvanceOp> advance() override { return cpu_->advance(); }

 private:
  std::unique_ptr<Backend> cpu_ = make_backend("cpu", Precision::f32);
};

/// Where the channels of an op's output were produced: op, channel.
std::vector<std::pair<int, int>> producers(const Graph& graph, int op) {
  const GraphOp& made = graph.ops()[op];
  std::vector<std::pair<int, int>> channels;
  if (std::holds_alternative<Concat>(made.kind)) {
    for (const int input : made.inputs) {
      const auto more = producers(graph, input);
      channels.insert(channels.end(), more.begin(), more.end());
    }
  } else {
    for (int c = 0; c < made.output.c; ++c) channels.emplace_back(op, c);
  }
  return channels;
}

TEST(DenseNetTest, BatchStatisticsOfAProducedChannelAreComputedOnce) {
  for (const char* net : {"densenet121", "densenet169", "densenet201"}) {
    Graph graph = find_network(net).build(50);
    std::int64_t read = 0;
    std::set<std::pair<int, int>> produced;
    for (const GraphOp& op : graph.ops()) {
      if (!std::holds_alternative<BatchNorm>(op.kind)) continue;
      const auto channels = producers(graph, op.inputs[0]);
      read += static_cast<std::int64_t>(channels.size());
      produced.insert(channels.begin(), channels.end());
    }
    EXPECT_GT(read, 2 * static_cast<std::int64_t>(produced.size())) << "nothing to share";

    CountingBackend backend;
    Model model(std::move(graph), backend);
    model.plan({{{Mode::train, 2, 2}}});
    EXPECT_EQ(backend.channels, static_cast<std::int64_t>(produced.size())) << net;
  }
}

}  // namespace
}  // namespace microtome
