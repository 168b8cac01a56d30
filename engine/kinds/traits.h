// What is to be said of a kind of op: one specialisation of Traits a kind, in a file of its own. Planner, costs and benchmarks
// visit kinds (visit.h) and ask these; a kind without one, or whose traits leave out what has no default, does not compile.
#pragma once

#include "engine/backend.h"
#include "engine/check.h"
#include "engine/kinds/calls.h"
#include "engine/kinds/traffic.h"
#include "engine/mode.h"
#include "engine/ops.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace microtome {

using Shapes = std::span<const Shape>;

/// What decides what becomes of a graph's op in a plan.
struct Lowering {
  Mode mode = Mode::train;
  bool dropout = true;
  bool bessel = true;
  bool trains = false;  // a parameter of the op
};

/// Where the gradients of an op's inputs may lie: apart from dy; that of inputs[0] in dy's memory, element by element; or they
/// are dy itself, but for deferred inputs.
enum class GradientMemory { apart, in_place, passed_on };

/// The layouts of an op's tensors.
struct Layouts {
  std::vector<Layout> inputs;
  Layout output;

  const Layout& x(std::size_t i = 0) const { return inputs[i]; }
  const Layout& y() const { return output; }
};

/// Of a kind that runs, beside what CommonTraits leaves open:
///   Made                          what make() returns: owns the op, has get(), is false where the backend declines
///   infer(kind, x, parameters)    the output's shape for one image; throws where there is none
///   cost(kind, pass, traffic)     see engine/cost.h; nothing where there is no such pass
///   make(backend, kind, layouts)
///   forward(kind, made, view, calls), backward(kind, made, view, calls)
///                                 write down the calls; backward, last input first, where it or what precedes it is trained
template <class Kind>
struct Traits;

/// What most kinds say: the base of a kind's traits, which say otherwise where they differ.
template <class Kind>
struct CommonTraits {
  static constexpr bool runs = true;

  /// Multiply-accumulates for one image.
  static std::int64_t macs(const Kind&, const Shape& /*y*/, Shapes /*parameters*/) { return 0; }
  /// Whether two passes over one input differ.
  static bool is_random(const Kind&) { return false; }

  /// Whether it does nothing to its input here; else what else there is to decide.
  static bool is_identity(const Kind&, const Lowering&) { return false; }
  static void lower(Kind&, const Lowering&) {}

  /// The window that zeros around the input may go into, or null; `never_negative`: of the input's values.
  static Window* padded_window(Kind&, bool /*never_negative*/) { return nullptr; }
  /// Whether a frozen batch-norm behind it may go into its weights: then its `bias` option, else null.
  static bool* bias_for_norm(Kind&) { return nullptr; }
  /// Whether it has weights whose gradient is a call of its own; whether these are C K and not K R S C.
  static constexpr bool is_linear = false;
  static constexpr bool outputs_last = false;

  /// The option of an activation behind it, or null; whether the planner may set it to this function, and whether the backward
  /// pass takes the gradient before it: the planner then undoes it from y.
  static Activation* activation(Kind&) { return nullptr; }
  static bool fuses(Activation, Mode) { return false; }
  static constexpr bool undoes_activation = false;

  /// Other options, or null: this input is a batch-norm's, which it applies; it leaves statistics of y; it takes images that
  /// have room for more channels, which hold zeros.
  static DeferredNorm* deferral(Kind&, std::size_t /*input*/) { return nullptr; }
  static bool* statistics(Kind&) { return nullptr; }
  template <class Made>
  static int statistics_rows(const Made&) {
    return 0;
  }
  static bool* image_room(Kind&) { return nullptr; }

  static constexpr GradientMemory gradient_memory = GradientMemory::apart;
};

/// Of a kind that the planner does away with: the base of its traits, which leaves only infer() open.
template <class Kind>
struct PlannedAwayTraits : CommonTraits<Kind> {
  static constexpr bool runs = false;
};

}  // namespace microtome
