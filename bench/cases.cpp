#include "bench/cases.h"

#include "bench/case_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

namespace microtome::bench {

namespace {

constexpr std::size_t least_cold_bytes = 500'000;  // below, a launch takes longer than memory does
constexpr std::size_t most_instances = 512;

/// One pass of a problem on a batch.
struct OpPass {
  Problem problem;
  std::string name;
  int images;
  int factor_bits;

  bool exists(Backend& backend) const { return accepted(problem, name, images, backend).has_value(); }

  Prepared prepare(Backend& backend, bool checks, bool cold, std::size_t large_bytes) const {
    const Problem taken = accepted(problem, name, images, backend).value();
    const Filling filling = filling_of(taken, name, images, factor_bits);
    Prepared prepared;
    const auto add = [&] {
      auto tensors = std::make_shared<Tensors>(backend, filling);
      Work work = make_work(taken, name, *tensors);
      prepared.instances.push_back(std::move(work.run));
      prepared.cost = work.cost, prepared.bytes = tensors->bytes(), prepared.implementation = work.implementation;
      prepared.memory.push_back(tensors);
      return tensors;
    };
    const auto first = add();
    prepared.instances.front()();
    backend.synchronize();
    if (checks) prepared.checked = check(taken, name, *first);
    const std::size_t instances = cold ? large_bytes / std::max<std::size_t>(prepared.bytes, 1) + 2 : 1;
    while (prepared.instances.size() < std::min(instances, most_instances)) add();
    return prepared;
  }
};

std::map<std::string, int> uses_of(const Problem& problem) {
  std::map<std::string, int> uses;
  for (const auto& [where, rows] : problem.uses) uses[label_of(where)] = rows;
  return uses;
}

double elements(const Problem& problem) {
  double sum = static_cast<double>(problem.output.count());
  for (const Shape& x : problem.inputs) sum += static_cast<double>(x.count());
  return sum;
}

std::int64_t largest(const Problem& problem) {
  std::int64_t most = problem.output.count();
  for (const Shape& x : problem.inputs) most = std::max(most, x.count());
  return most;
}

template <class... Fs>
struct Overload : Fs... {
  using Fs::operator()...;
};

/// What distinguishes large cases of one op; empty for ops that do not move memory alone.
std::string variant(const Problem& problem) {
  const Shape& x = problem.inputs[0];
  const auto window = [&](const Window& w) {
    return w.kernel == Extent(x.h, x.w) ? std::string("global") : fmt::format("{}s{}", w.kernel.h, w.stride.h);
  };
  const std::string own = std::visit(
      Overload{[&](const Conv& k) { return problem.op == "depthwise_conv" ? window(k.window) : std::string(); },
               [](const Dense&) { return std::string(); }, [](const TakeLoss&) { return std::string(); },
               [](const BatchNorm& k) {
                 return k.deferred || k.shared_statistics ? std::string() : fmt::format("{}", static_cast<int>(k.activation));
               },
               [](const Activate& k) { return fmt::format("{}", static_cast<int>(k.function)); },
               [&](const Pool& k) { return window(k.window); }, [](const auto&) { return std::string("one"); }},
      problem.kind);
  return own.empty() ? own : problem.op + own + (problem.deferred ? "/deferred" : "");
}

}  // namespace

std::string family(const std::string& device) {
  return device.substr(0, device.find(':'));
}

std::vector<Case> op_cases(const Problems& problems, const Setting& setting, Backend& backend) {
  std::vector<Case> cases;
  const std::string device = family(backend.device().name);
  const std::size_t element = size_bytes(backend.activation_type()), large_bytes = setting.large_bytes;
  const auto put = [&](const Problem& problem, const std::string& pass_name, int images, const std::string& batch, bool judged,
                       bool cold) {
    const OpPass pass{problem, pass_name, images, setting.factor_bits};
    cases.push_back(
        {.name =
             case_name({problem.op + "_" + pass_name, problem.label, device, setting.precision, batch, problem.deferred, cold}),
         .uses = uses_of(problem),
         .cold = cold,
         .judged = judged,
         .exists = [pass](Backend& b) { return pass.exists(b); },
         .prepare = [pass, cold, large_bytes](Backend& b, bool checks) { return pass.prepare(b, checks, cold, large_bytes); }});
  };
  std::map<std::string, const Problem*> of_variant;
  for (const Problem& problem : problems.all) {
    const bool no_batch = is_update(problem);
    for (const std::string& pass : passes_of(problem))
      for (const int images : setting.batches) {
        if (no_batch && images != setting.batches.front()) continue;  // it knows no batch
        const std::string batch = no_batch ? "all" : batch_name(images);
        put(problem, pass, images, batch, false, false);
        if (elements(problem) * images * static_cast<double>(element) >= least_cold_bytes)
          put(problem, pass, images, batch, false, true);
      }
    const std::string key = variant(problem);
    if (key.empty()) continue;
    const Problem*& chosen = of_variant[key];
    if (!chosen || elements(problem) > elements(*chosen)) chosen = &problem;
  }
  for (const auto& [key, chosen] : of_variant) {
    Problem problem = *chosen;
    const std::size_t most = static_cast<std::size_t>(largest(problem)) * element;
    int images = static_cast<int>(std::max<std::size_t>(large_bytes / most / 2 * 2, 2));
    if (is_update(problem)) problem.inputs[0].c = problem.output.c = static_cast<int>(large_bytes / 4), images = 1;
    for (const std::string& pass : passes_of(problem)) put(problem, pass, images, "large", true, false);
  }
  return cases;
}

}  // namespace microtome::bench
