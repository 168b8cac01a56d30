// All kinds' traits, and the way to them. A new kind's file is included here and named in engine/kind_list.h.
#pragma once

#include "engine/kind_list.h"
#include "engine/kinds/activate.h"
#include "engine/kinds/add.h"
#include "engine/kinds/batch_norm.h"
#include "engine/kinds/conv.h"
#include "engine/kinds/dense.h"
#include "engine/kinds/dropout.h"
#include "engine/kinds/multiply.h"
#include "engine/kinds/planned_away.h"
#include "engine/kinds/pool.h"
#include "engine/kinds/traits.h"

#include <type_traits>
#include <variant>

namespace microtome {

/// f(kind, Traits of it), of the kind that a variant holds.
template <class Variant, class F>
decltype(auto) visit_kind(Variant&& kind, const F& f) {
  return std::visit([&](auto& k) -> decltype(auto) { return f(k, Traits<std::remove_cvref_t<decltype(k)>>()); }, kind);
}

/// The option of a kind that takes a deferred batch-norm as this input; none where the kind has no such option.
template <class Kind>
DeferredNorm deferral_of(Kind kind, std::size_t input) {
  const DeferredNorm* option = Traits<Kind>::deferral(kind, input);
  return option ? *option : DeferredNorm();
}

/// The activation that a kind has as an option.
template <class Kind>
Activation activation_of(Kind kind) {
  const Activation* option = Traits<Kind>::activation(kind);
  return option ? *option : Activation::none;
}

}  // namespace microtome
