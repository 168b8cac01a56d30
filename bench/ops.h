// The passes of each problem as something to run: on any backend, with tensors of its own and what they must hold afterwards.
#pragma once

#include "bench/problems.h"
#include "bench/tensors.h"
#include "engine/cost.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace microtome::bench {

/// After so many the values of parameters repeat in what Adam is measured on; no power of two.
inline constexpr int few_parameters = 65537;

struct Work {
  std::function<void()> run;
  Cost cost;
  std::string implementation;
};

/// The problem as the backend takes it: without an activation that it does not fuse, or statistics that it does not leave. None
/// where it declines what the problem is about, or has no such pass.
std::optional<Problem> accepted(const Problem& problem, const std::string& pass, int images, Backend& backend);

/// The op of an accepted problem, where it is a graph's; null where it is not accepted.
std::shared_ptr<Op> op_of(const Problem& problem, int images, Backend& backend);

/// How tensors are filled for this pass of a problem that was accepted.
Filling filling_of(const Problem& problem, const std::string& pass, int images, int factor_bits);

/// What precedes the pass, the forward pass before a backward one, has run.
Work make_work(const Problem& problem, const std::string& pass, Tensors& tensors);

}  // namespace microtome::bench
