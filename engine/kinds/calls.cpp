#include "engine/kinds/calls.h"

#include "engine/check.h"

#include <algorithm>

namespace microtome {

const OpView::Parameter* OpView::find(std::string_view name) const {
  const auto found = std::find_if(parameters.begin(), parameters.end(), [&](const Parameter& p) { return p.name == name; });
  return found == parameters.end() ? nullptr : &*found;
}

const Tensor* OpView::parameter(std::string_view name) const {
  const Parameter* found = find(name);
  return found ? found->value : nullptr;
}

const Tensor* OpView::gradient(std::string_view name) const {
  const Parameter* found = find(name);
  return found ? found->gradient : nullptr;
}

Call& Calls::add(Pass pass, const Cost& cost, std::function<void()> run) {
  return to_.emplace_back(Call{.op = view_.op, .pass = pass, .cost = cost, .run = std::move(run), .stream = view_.stream});
}

Call& Calls::forward(std::function<void()> run) {
  Call& call = add(Pass::forward, cost(Pass::forward), std::move(run));
  for (const OpView::Input& input : view_.inputs) {
    call.reads.push_back(input.x);
    if (input.norm) call.reads.push_back(&input.norm->coefficients);
  }
  call.writes = {view_.y};
  return call;
}

Call& Calls::backward(Pass pass, std::function<void()> run) {
  Call& call = add(pass, cost(pass, view_.write()), std::move(run));
  call.reads = {view_.dy, view_.reads.y ? view_.y : nullptr};
  for (const OpView::Input& input : view_.inputs) {
    if (view_.reads.x) call.reads.push_back(input.x);
    call.writes.push_back(input.dx);
    if (!input.norm) continue;
    call.reads.insert(call.reads.end(), {&input.norm->x, &input.norm->coefficients});
    call.writes.push_back(&input.norm->sums);
  }
  return call;
}

Call& Calls::backward_filter(std::function<void()> run) {
  Call& call = add(Pass::backward_filter, cost(Pass::backward_filter), std::move(run));
  const Deferred* norm = view_.norm();
  call.reads = {view_.x(), view_.dy, norm ? &norm->coefficients : nullptr};
  call.stream = view_.filter_stream;
  return call;
}

}  // namespace microtome
