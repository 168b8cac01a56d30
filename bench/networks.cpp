#include "bench/networks.h"

#include "bench/case_name.h"
#include "bench/programs.h"
#include "engine/check.h"
#include "nets/nets.h"

#include <memory>

namespace microtome::bench {
namespace {

/// The reference takes some seconds for so many multiply-accumulates; networks that need more are not checked here.
constexpr std::int64_t checked_macs = 300'000'000;

/// Of a network's check: an image forward, or a step of a few, whose backward pass takes twice as many. In double and in float.
std::int64_t macs_to_check(const Graph& graph, Mode mode, int images) {
  return 2 * graph.macs() * images * (mode == Mode::train ? 3 : 1);
}

Prepared prepare(const Network& network, int size, Mode mode, bool checked, int images, Backend& backend) {
  const Graph graph = network.build(size);
  Prepared prepared;
  const int few = mode == Mode::train ? 2 : 1;
  if (checked && macs_to_check(graph, mode, few) <= checked_macs) prepared.checked = check(graph, backend, mode, few);
  const auto run = std::make_shared<ProgramRun>(graph, backend, mode, images);
  const bool step = mode == Mode::train;
  prepared.cost = step ? run->step_cost() : run->forward_cost();
  prepared.bytes = run->bytes();
  prepared.images = images;
  ProgramRun* program = run.get();
  prepared.instances = {step ? std::function<void()>([program] { program->step(); }) : [program] { program->forward(); }};
  prepared.memory = {run};
  return prepared;
}

}  // namespace

std::vector<Case> network_cases(const std::vector<int>& sizes, const Setting& setting, Backend& backend) {
  std::vector<Case> cases;
  const std::string device = family(backend.device().name);
  const bool checked = setting.precision == "f32";
  for (const int size : sizes) {
    for (const Network& network : networks()) {
      try {
        network.build(size);
      } catch (const Error& error) {
        if (error.code() != ExitCode::usage) throw;
        continue;  // too small for it
      }
      const std::string where = label_of({std::string(network.name), size});
      for (const Mode mode : {Mode::evaluate, Mode::train}) {
        for (const int images : setting.batches) {
          cases.push_back(
              {.name = case_name({mode == Mode::train ? "network_step" : "network_forward", where, device, setting.precision,
                                  batch_name(images)}),
               .uses = {{where, 1}},
               .exists = [](Backend&) { return true; },
               .prepare = [&network, size, mode, checked, images](
                              Backend& b, bool checks) { return prepare(network, size, mode, checked && checks, images, b); }});
        }
      }
    }
  }
  return cases;
}

}  // namespace microtome::bench
