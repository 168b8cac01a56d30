// DenseNet's layers read one another's features, so that batch statistics of a channel are wanted many times and computed once.
#include "engine/forwarding.h"
#include "engine/model.h"
#include "kernels/backend.h"
#include "nets/nets.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>
#include <vector>

namespace microtome {
namespace {

/// A backend that notes over how many channels its batch-norms compute statistics.
class CountingBackend final : public Forwarding {
 public:
  using Forwarding::Forwarding;
  std::int64_t channels = 0;

  std::unique_ptr<BatchNormOp> batch_norm(const BatchNorm& kind, const Layout& x, const Layout& y) override {
    auto op = Forwarding::batch_norm(kind, x, y);
    if (op && kind.batch_statistics) channels += x.shape.c - kind.known_channels;
    return op;
  }
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

    const std::unique_ptr<Backend> cpu = make_backend("cpu", Precision::f32);
    CountingBackend backend(*cpu);
    Model model(std::move(graph), backend);
    model.plan({{{Mode::train, 2, 2}}});
    EXPECT_EQ(backend.channels, static_cast<std::int64_t>(produced.size())) << net;
  }
}

}  // namespace
}  // namespace microtome
