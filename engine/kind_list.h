// Which kinds there are. Everything that differs from one to the next is in its Traits; what visits kinds does not name them.
#pragma once

#include "engine/ops.h"

#include <variant>

namespace microtome {

template <class... Kinds>
struct KindList {
  using Variant = std::variant<Kinds...>;
  /// One of `Others` or of these.
  template <class... Others>
  using VariantWith = std::variant<Others..., Kinds...>;
  /// Nothing, or a T of one of these.
  template <template <class> class T>
  using VariantOf = std::variant<std::monostate, T<Kinds>...>;
};

/// Those that a backend makes ops of.
using RunningKinds = KindList<Conv, Dense, BatchNorm, Activate, Pool, Dropout, Add, Multiply>;

/// Those, and what the planner does away with.
using GraphKind = RunningKinds::VariantWith<Input, Normalize, ZeroPad, Concat, Reshape>;

}  // namespace microtome
