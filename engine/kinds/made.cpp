#include "engine/kinds/made.h"

#include <type_traits>

namespace microtome {
namespace {

std::function<Cost(Pass, Write)> cost_on(const GraphOp::Kind& kind, const OpView& view) {
  return [kind, &view](Pass pass, Write write) {
    std::vector<Layout> inputs;
    for (const OpView::Input& input : view.inputs) inputs.push_back(*input.x);
    return cost(kind, pass, inputs, *view.y, view.parameter_type, write == Write::accumulate);
  };
}

/// f(kind, what was made of it, its traits), where something runs.
template <class Variant, class F>
void visit_made(const Variant& made, const F& f) {
  std::visit(
      [&](const auto& of) {
        if constexpr (!std::is_same_v<decltype(of), const std::monostate&>)
          f(of.kind, of.made, Traits<std::remove_cvref_t<decltype(of.kind)>>());
      },
      made);
}

/// What add(traits, kind, what was made of it, list) puts into the list of calls.
template <class Variant, class F>
std::vector<Call> calls_of(const Variant& made, const OpView& view, const F& add) {
  std::vector<Call> list;
  visit_made(made, [&](const auto& kind, const auto& op, auto traits) {
    Calls calls(view, cost_on(kind, view), list);
    add(traits, kind, op, calls);
  });
  return list;
}

}  // namespace

MadeOp::MadeOp(Backend& backend, const GraphOp::Kind& kind, const Layouts& layouts) {
  visit_kind(kind, [&]<class Kind, class KindTraits>(const Kind& k, KindTraits traits) {
    if constexpr (KindTraits::runs) of_ = Of<Kind>{k, traits.make(backend, k, layouts)};
  });
}

Op* MadeOp::op() const {
  Op* op = nullptr;
  visit_made(of_, [&](const auto&, const auto& made, auto) { op = made.get(); });
  return op;
}

int MadeOp::statistics_rows() const {
  int rows = 0;
  visit_made(of_, [&](const auto&, const auto& made, auto traits) { rows = traits.statistics_rows(made); });
  return rows;
}

std::vector<Call> MadeOp::forward(const OpView& view) const {
  return calls_of(of_, view,
                  [&](auto traits, const auto& kind, const auto& made, Calls& to) { traits.forward(kind, made, view, to); });
}

std::vector<Call> MadeOp::backward(const OpView& view) const {
  return calls_of(of_, view,
                  [&](auto traits, const auto& kind, const auto& made, Calls& to) { traits.backward(kind, made, view, to); });
}

}  // namespace microtome
