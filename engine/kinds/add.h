#pragma once

#include "engine/kinds/traits.h"

namespace microtome {

template <>
struct Traits<Add> : CommonTraits<Add> {
  using Made = std::unique_ptr<AddOp>;

  static Shape infer(const Add&, Shapes x, Shapes) {
    require(x[0] == x[1], "add: ", to_string(x[0]), " and ", to_string(x[1]), " differ");
    return x[0];
  }

  static Activation* activation(Add& add) { return &add.activation; }
  static bool fuses(Activation function, Mode mode) {
    return mode != Mode::train || derivative_of(function) != DerivativeOf::x;
  }
  static constexpr bool undoes_activation = true;
  static DeferredNorm* deferral(Add& add, std::size_t input) { return &add.deferred[input]; }

  static constexpr GradientMemory gradient_memory = GradientMemory::passed_on;

  /// `backward`: of one side, where it is not passed on.
  static Cost cost(const Add& add, Pass pass, const Traffic& t) {
    if (pass == Pass::forward)
      return {0, t.x() + t.coefficients(add.deferred[0]) + t.x(1) + t.coefficients(add.deferred[1], 1) + t.y()};
    return pass == Pass::backward ? Cost{0, t.dy() + t.deferred(add.deferred[0]) + t.dx()} : Cost{};
  }

  static Made make(Backend& backend, const Add& add, const Layouts& of) { return backend.add(add, of.x(), of.x(1), of.y()); }

  static void forward(const Add&, const Made& made, const OpView& v, Calls& calls) {
    calls.forward([op = made.get(), a = v.x(), norm_a = v.norm(), b = v.x(1), norm_b = v.norm(1), y = v.y] {
      op->forward(*a, norm_a, *b, norm_b, *y);
    });
  }

  static void backward(const Add& add, const Made& made, const OpView& v, Calls& calls) {
    const auto written = [&](std::size_t i) { return v.inputs[i].passed_on ? nullptr : v.dx(i); };
    Cost cost;
    for (std::size_t i = 0; i < 2; ++i) {
      if (!written(i)) continue;
      const Add side{.activation = add.activation, .deferred = {add.deferred[i], add.deferred[1 - i]}};
      const Layout inputs[] = {*v.x(i), *v.x(1 - i)};
      cost += Traits::cost(side, Pass::backward, {inputs, *v.y, v.parameter_type, v.write(i) == Write::accumulate});
    }
    calls
        .backward(Pass::backward,
                  [op = made.get(), dy = v.dy, da = written(0), db = written(1), norm_a = v.norm(), norm_b = v.norm(1),
                   write_a = v.write(), write_b = v.write(1)] {
                    if (db) op->backward(*dy, norm_b, AddOp::Side::b, *db, write_b);
                    if (da) op->backward(*dy, norm_a, AddOp::Side::a, *da, write_a);
                  })
        .cost = cost;
  }
};

}  // namespace microtome
