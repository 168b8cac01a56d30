// Keras' weight files, both layouts: what the child does with them, without the child.
#include "data/weights.h"

#include "fuzz/fuzz.h"
#include "layers/activation.h"
#include "layers/batch_norm.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/flatten.h"

namespace microtome::fuzz {

namespace {

Graph small_graph() {
  Graph graph;
  graph.output(graph.input({4, 3}) | conv(4, {3, 2}, {.bias = false, .name = "first/conv"}) | batch_norm() | relu() |
               flatten() | dense(5) | logit());
  return graph;
}

const Graph& the_graph() {
  static const Graph graph = small_graph();
  return graph;
}

std::vector<float> some_weights() {
  return std::vector<float>(static_cast<std::size_t>(the_graph().parameter_count()), 0.25f);
}

}  // namespace

std::vector<std::string> seeds() {
  std::vector<std::string> all;
  Provenance provenance;
  provenance.network = "b6", provenance.image = 4;
  for (const char* name : {"a.h5", "a.weights.h5"}) {
    for (const std::optional<Provenance>& known : {std::optional<Provenance>(), std::optional(provenance)})
      all.push_back(written_by([&](const auto& file) { write_weights(file, the_graph(), some_weights(), known); }, name));
  }
  return all;
}

}  // namespace microtome::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace microtome;
  using namespace microtome::fuzz;
  static MemoryFile file;
  static const std::vector<float> initial = some_weights();
  file.hold({bytes, size});
  may_refuse([&] {
    const WeightFile weights = open_weights(file.path());
    tensors_digest(weights);
    for (const std::span<const float> head : {std::span<const float>(), std::span(initial)}) {
      may_refuse([&] {
        expect(fit_weights(weights, the_graph(), head).values.size() == initial.size(), "weights of another number");
      });
    }
  });
  return 0;
}
