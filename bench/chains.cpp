#include "bench/chains.h"

#include "bench/case_name.h"
#include "bench/programs.h"
#include "engine/check.h"
#include "layers/activation.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/depthwise_conv.h"
#include "layers/pool.h"
#include "nets/nets.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace microtome::bench {
namespace {

/// The op of kind T that reads op number `i`; null where none does.
template <class T>
const T* reader(const Graph& graph, int i, int* number = nullptr) {
  for (int j = i + 1; j < static_cast<int>(graph.ops().size()); ++j) {
    const GraphOp& op = graph.ops()[static_cast<std::size_t>(j)];
    const T* kind = std::get_if<T>(&op.kind);
    if (!kind || op.inputs[0] != i) continue;
    if (number) *number = j;
    return kind;
  }
  return nullptr;
}

Extent sum(const Extent& a, const Extent& b) {
  return {a.h + b.h, a.w + b.w};
}

/// The chain around convolution number `i`; false where batch-norms do not stand on both sides of it.
bool find_chain(const Graph& graph, int i, Chain& chain) {
  const auto op = [&](int number) -> const GraphOp& { return graph.ops()[static_cast<std::size_t>(number)]; };
  const auto* conv = std::get_if<Conv>(&op(i).kind);
  if (!conv) return false;
  chain = {.window = conv->window, .channels = op(i).output.c, .depthwise = conv->groups > 1, .bias = conv->bias};
  int x = op(i).inputs[0];
  if (const auto* pad = std::get_if<ZeroPad>(&op(x).kind)) {
    chain.window.before = sum(chain.window.before, pad->before), chain.window.after = sum(chain.window.after, pad->after);
    x = op(x).inputs[0];
  }
  if (const auto* activate = std::get_if<Activate>(&op(x).kind)) {
    chain.before = activate->function;
    x = op(x).inputs[0];
  }
  const auto* before = std::get_if<BatchNorm>(&op(x).kind);
  int behind_at = 0;
  const auto* behind = reader<BatchNorm>(graph, i, &behind_at);
  if (!before || !behind) return false;
  chain.x = op(x).output;
  chain.scale_before = before->scale, chain.scale_behind = behind->scale;
  if (const auto* activate = reader<Activate>(graph, behind_at)) chain.behind = activate->function;
  return true;
}

Prepared prepare(const Chain& chain, bool step, Fusion fusion, bool checked, int images, Backend& backend) {
  struct Kept {
    std::unique_ptr<Backend> backend;
    std::unique_ptr<ProgramRun> run;
  };
  const Graph graph = graph_of(chain);
  const auto kept = std::make_shared<Kept>();
  kept->backend = declining(backend, fusion);
  constexpr int few = 2;  // images
  Prepared prepared;
  if (checked) prepared.checked = check(graph, *kept->backend, Mode::train, few);
  kept->run = std::make_unique<ProgramRun>(graph, *kept->backend, Mode::train, images);
  prepared.cost = step ? kept->run->step_cost() : kept->run->forward_cost();
  prepared.bytes = kept->run->bytes();
  ProgramRun* run = kept->run.get();
  prepared.instances = {step ? std::function<void()>([run] { run->step(); }) : [run] { run->forward(); }};
  prepared.memory = {kept};
  return prepared;
}

}  // namespace

bool Chain::same_work(const Chain& o) const {
  return x == o.x && window == o.window && channels == o.channels && depthwise == o.depthwise && bias == o.bias &&
         before == o.before && behind == o.behind && scale_before == o.scale_before && scale_behind == o.scale_behind;
}

std::vector<Chain> chains(const std::vector<int>& sizes) {
  std::vector<Chain> all;
  for (const int size : sizes) {
    for (const Network& network : networks()) {
      Graph graph;
      try {
        graph = network.build(size);
      } catch (const Error& error) {
        if (error.code() != ExitCode::usage) throw;
        continue;  // too small for it
      }
      const std::string net = label_of({std::string(network.name), size});
      for (int i = 0; i < static_cast<int>(graph.ops().size()); ++i) {
        Chain chain;
        if (!find_chain(graph, i, chain)) continue;
        auto found = std::find_if(all.begin(), all.end(), [&](const Chain& other) { return other.same_work(chain); });
        if (found == all.end()) {
          const int row = graph.ops()[static_cast<std::size_t>(i)].row;
          chain.label = net + ":" + graph.rows()[static_cast<std::size_t>(row)].name;
          found = all.insert(all.end(), std::move(chain));
        }
        ++found->uses[net];
      }
    }
  }
  return all;
}

Graph graph_of(const Chain& chain) {
  constexpr int few_channels = 8;
  Graph graph;
  const Padding padding = zeros(chain.window.before, chain.window.after);
  const auto activated = [](Node x, Activation function) {
    return function == Activation::none ? x : x | activation(function);
  };
  Node x = graph.input({chain.x.h, chain.x.w}, few_channels) | conv(chain.x.c, 1, {.bias = false, .name = "front"});
  x = activated(x | batch_norm({.scale = chain.scale_before}), chain.before);
  const Extent kernel = chain.window.kernel, stride = chain.window.stride;
  x = chain.depthwise
          ? x | depthwise_conv(kernel, {.stride = stride, .padding = padding, .name = "conv"})
          : x | conv(chain.channels, kernel, {.stride = stride, .padding = padding, .bias = chain.bias, .name = "conv"});
  x = activated(x | batch_norm({.scale = chain.scale_behind}), chain.behind);
  graph.output(x | global_average_pool() | logit());
  return graph;
}

bool differs(const Chain& chain, Fusion fusion, int images, Backend& backend) {
  Shape x = chain.x;
  x.n = images;
  const DType type = backend.activation_type();
  const Layout in{x, type}, out{chain.window.output(x, chain.channels), type};
  const Conv conv{.window = chain.window, .groups = chain.depthwise ? x.c : 1, .bias = chain.bias};
  if (fusion == Fusion::applied) {
    Conv deferred = conv, leaves = conv;
    deferred.deferred = chain.before;
    leaves.statistics = true;
    return backend.conv(deferred, in, out) || backend.conv(leaves, in, out);
  }
  const auto fuses = [&](const Layout& layout, Activation function) {
    return function != Activation::none && backend.batch_norm({.activation = function}, layout, layout);
  };
  return fusion == Fusion::fused || fuses(in, chain.before) || fuses(out, chain.behind);
}

std::vector<Case> chain_cases(const std::vector<int>& sizes, const Setting& setting, Backend& backend) {
  std::vector<Case> cases;
  const std::string device = family(backend.device().name);
  const bool checked = setting.precision == "f32";
  for (const Chain& chain : chains(sizes)) {
    for (const auto& [fusion, fusion_name] :
         {std::pair(Fusion::fused, "fused"), std::pair(Fusion::applied, "applied"), std::pair(Fusion::separate, "separate")}) {
      for (const bool step : {false, true}) {
        for (const int images : setting.batches) {
          cases.push_back(
              {.name = case_name({step ? "chain_step" : "chain_forward", chain.label + "/" + fusion_name, device,
                                  setting.precision, batch_name(images)}),
               .uses = chain.uses,
               .exists = [=](Backend& b) { return differs(chain, fusion, images, b); },
               .prepare = [=](Backend& b, bool checks) { return prepare(chain, step, fusion, checked && checks, images, b); }});
        }
      }
    }
  }
  return cases;
}

}  // namespace microtome::bench
