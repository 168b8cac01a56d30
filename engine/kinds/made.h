// An op of a plan, made on a backend: its kind, and what the backend made of it.
#pragma once

#include "engine/backend.h"
#include "engine/graph.h"
#include "engine/kinds/traits.h"
#include "engine/kinds/visit.h"

#include <utility>
#include <variant>

namespace microtome {

class MadeOp {
 public:
  /// Nothing runs.
  MadeOp() = default;
  /// False where nothing runs, or the backend declines.
  MadeOp(Backend& backend, const GraphOp::Kind& kind, const Layouts& layouts);

  explicit operator bool() const { return op() != nullptr; }
  Op* op() const;
  Op* operator->() const { return op(); }

  /// Of the partial statistics of y that its forward pass leaves.
  int statistics_rows() const;

  std::vector<Call> forward(const OpView& view) const;
  std::vector<Call> backward(const OpView& view) const;

 private:
  template <class Kind>
  struct Of {
    Kind kind;
    typename Traits<Kind>::Made made;
  };
  RunningKinds::VariantOf<Of> of_;
};

}  // namespace microtome
