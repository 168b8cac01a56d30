// Convolution. Over p4m its filters derive from a parameter an eighth their size, by an op of their own that runs before it
// and, for their gradient, after it.
#pragma once

#include "engine/kinds/linear.h"
#include "engine/p4m.h"

namespace microtome {

template <>
struct Traits<Conv> : LinearTraits<Conv> {
  using Made = std::unique_ptr<ConvOp>;

  static Shape infer(const Conv& conv, Shapes x, Shapes parameters) {
    const Shape& w = parameters[0];
    require(x[0].c % conv.groups == 0 && w.n % conv.groups == 0, "conv: groups ", conv.groups, " must divide ", x[0].c,
            " input and ", w.n, " output channels");
    require(conv.p4m == P4m::none || (w.h == w.w && conv.groups == 1 && !conv.bias),
            "conv: over p4m filters are square, of one group and without a bias");
    require(conv.p4m != P4m::group || w.c % p4m_symmetries == 0, "conv: ", w.c, " channels are not eight a map");
    require(w.c == x[0].c / conv.groups && w.h == conv.window.kernel.h && w.w == conv.window.kernel.w, "conv: filter ",
            to_string(w), " does not fit input ", to_string(x[0]));
    return conv.window.output(x[0], derived_filters(conv, w).n);
  }

  static std::int64_t macs(const Conv& conv, const Shape& y, Shapes parameters) {
    return std::int64_t{y.h} * y.w * derived_filters(conv, parameters[0]).count();
  }

  static Window* padded_window(Conv& conv, bool) { return &conv.window; }
  static bool* bias_for_norm(Conv& conv) { return conv.p4m == P4m::none ? &conv.bias : nullptr; }
  static DeferredNorm* deferral(Conv& conv, std::size_t input) { return input == 0 ? &conv.deferred : nullptr; }
  static bool* statistics(Conv& conv) { return &conv.statistics; }
  static int statistics_rows(const Made& made) { return made->statistics_rows(); }
  static bool* image_room(Conv& conv) { return conv.groups == 1 ? &conv.zero_padded_channels : nullptr; }

  static Cost cost(const Conv& conv, Pass pass, const Traffic& t) {
    const Extent& kernel = conv.window.kernel;
    const double weights = double{1} * t.output.shape.c * kernel.h * kernel.w * (t.inputs[0].shape.c / conv.groups);
    const double pixels = double{1} * t.output.shape.n * t.output.shape.h * t.output.shape.w;
    return LinearCost{2 * weights * pixels, weights, conv.bias, conv.deferred, conv.statistics}.of(pass, t);
  }

  static Made make(Backend& backend, Conv conv, const Layouts& of) {
    conv.p4m = P4m::none;
    return backend.conv(conv, of.x(), of.y());
  }

  static void forward(const Conv&, const Made& made, const OpView& v, Calls& calls) {
    if (const DerivedFilters* filters = v.filters)
      calls
          .add(Pass::forward, cost_of_filters(*filters->all), [=] { filters->op->forward(*filters->parameter, *filters->all); })
          .writes = {filters->all};
    Call& call = calls.forward([op = made.get(), x = v.x(), norm = v.norm(), w = v.w, b = v.b, y = v.y,
                                statistics = v.statistics_left] { op->forward(*x, norm, *w, b, *y, statistics); });
    if (v.filters) call.reads.push_back(v.w);
    call.writes.push_back(v.statistics_left);
  }

  static void backward(const Conv&, const Made& made, const OpView& v, Calls& calls) {
    ConvOp* op = made.get();
    const Tensor *x = v.x(), *dy = v.dy, *w = v.w, *dx = v.dx(), *dw = v.dw, *db = v.db;
    const Deferred* norm = v.norm();
    const Write write = v.write();
    if (dw && dx && op->fuses_backward()) {
      Call& call = calls.backward(Pass::backward, [=] { op->backward(*x, norm, *dy, *w, *dx, write, *dw, db); });
      if (v.filters) call.reads.push_back(w), call.writes.push_back(dw);
      gather_filters(v, v.stream, calls);
      return;
    }
    if (dw) {
      Call& call = calls.backward_filter([=] { op->backward_filter(*x, norm, *dy, *dw, db, Write::overwrite); });
      if (v.filters) call.writes.push_back(dw);
      gather_filters(v, v.filter_stream, calls);
    }
    if (!dx) return;
    Call& call = calls.backward(Pass::backward_data, [=] { op->backward_data(*dy, *w, norm, *dx, write); });
    if (v.filters) call.reads.push_back(w);
  }

 private:
  static void gather_filters(const OpView& v, int stream, Calls& calls) {
    const DerivedFilters* filters = v.filters;
    if (!filters || !filters->gradient) return;
    Call& call = calls.add(Pass::backward_filter, cost_of_filters(*filters->dall),
                           [=] { filters->op->backward(*filters->dall, *filters->gradient); });
    call.reads = {filters->dall};
    call.stream = stream;
  }
};

}  // namespace microtome
