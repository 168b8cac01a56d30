// Batch-norm, by itself or deferred: then its readers apply it, and only vectors are left to it (see Deferred in engine/ops.h).
#pragma once

#include "engine/kinds/traits.h"

namespace microtome {

template <>
struct Traits<BatchNorm> : CommonTraits<BatchNorm> {
  /// One of the two, or neither.
  struct Made {
    std::unique_ptr<BatchNormOp> applied;
    std::unique_ptr<DeferredNormOp> deferred;

    Op* get() const { return applied ? static_cast<Op*>(applied.get()) : deferred.get(); }
    explicit operator bool() const { return get() != nullptr; }
  };

  static Shape infer(const BatchNorm&, Shapes x, Shapes) { return x[0]; }

  static void lower(BatchNorm& norm, const Lowering& l) {
    norm.batch_statistics = l.mode != Mode::evaluate && l.trains;
    norm.bessel = norm.bessel && l.bessel;
    if (l.mode == Mode::calibrate) norm.momentum = 0, norm.bessel = true;
  }

  static Activation* activation(BatchNorm& norm) { return &norm.activation; }
  static bool fuses(Activation, Mode) { return true; }  // backward has x, and makes of it what the derivative needs

  static constexpr GradientMemory gradient_memory = GradientMemory::in_place;

  static Cost cost(const BatchNorm& norm, Pass pass, const Traffic& t) {
    const int channels = t.inputs[0].shape.c;
    const double affine = t.vectors(norm.scale ? 2 : 1, channels);
    const double unknown = norm.shared_statistics ? double{1} * (channels - norm.known_channels) / channels : 1;
    const double measured = norm.batch_statistics && !norm.partial_statistics ? unknown * t.x() : 0;
    // The moving mean and variance: moved with batch statistics, else read.
    const double moving = t.vectors(norm.batch_statistics ? 4 : 2, channels);
    const double partial = norm.partial_statistics ? t.vectors(3, channels) : 0;
    if (pass == Pass::forward)
      return {0, measured + partial + affine + moving + (norm.deferred ? t.vectors(3, channels) : t.x() + t.y())};
    if (pass != Pass::backward) return {};
    if (norm.deferred) return {0, 2 * affine + t.vectors(2 + 3, channels)};
    return {0, (norm.batch_statistics ? 2 : 1) * (t.x() + t.dy()) + t.dx() + 2 * affine};
  }

  static Made make(Backend& backend, const BatchNorm& norm, const Layouts& of) {
    if (norm.deferred) return {.deferred = backend.deferred_norm(norm, of.x())};
    return {.applied = backend.batch_norm(norm, of.x(), of.y())};
  }

  static void forward(const BatchNorm& norm, const Made& made, const OpView& v, Calls& calls) {
    const Tensor *x = v.x(), *y = v.y, *gamma = v.parameter("gamma"), *beta = v.parameter("beta"),
                 *mean = v.parameter("moving_mean"), *variance = v.parameter("moving_variance"),
                 *shared = norm.shared_statistics ? v.statistics_shared : nullptr,
                 *partial = norm.partial_statistics ? v.statistics_found : nullptr;
    if (BatchNormOp* op = made.applied.get()) {
      Call& call = calls.forward([=] { op->forward(*x, gamma, *beta, *mean, *variance, shared, partial, *y); });
      call.reads.push_back(partial);
      call.writes.push_back(shared);
      return;
    }
    const Tensor* coefficients = &v.vectors->coefficients;
    Call& call = calls.forward(
        [=, op = made.deferred.get()] { op->forward(*x, gamma, *beta, *mean, *variance, shared, partial, *coefficients); });
    call.reads.push_back(partial);
    call.writes = {coefficients, shared};
  }

  static void backward(const BatchNorm&, const Made& made, const OpView& v, Calls& calls) {
    const Tensor *x = v.x(), *dx = v.dx(), *dy = v.dy, *gamma = v.parameter("gamma"), *beta = v.parameter("beta"),
                 *dgamma = v.gradient("gamma"), *dbeta = v.gradient("beta");
    require(dbeta && dx, "batch norm without a gradient to pass on");
    if (BatchNormOp* op = made.applied.get()) {
      calls.backward(Pass::backward,
                     [=, write = v.write()] { op->backward(*x, *dy, gamma, *beta, *dx, dgamma, *dbeta, write); });
      return;
    }
    const NormVectors* vectors = v.vectors;
    Call& call = calls.add(Pass::backward, calls.cost(Pass::backward), [=, op = made.deferred.get()] {
      op->backward(vectors->sums, gamma, dgamma, *dbeta, vectors->correction, vectors->write);
    });
    call.reads = {&vectors->sums};
    call.writes = {&vectors->correction};
  }
};

}  // namespace microtome
