#include "bench/roofs.h"

#include "bench/replay.h"
#include "bench/tensors.h"

#include <algorithm>

namespace microtome::bench {

namespace {

double best(Replay& replay) {
  double seconds = replay.run();
  for (int i = 0; i < 10; ++i) seconds = std::min(seconds, replay.run());
  return seconds;
}

/// Bytes a second of copying so many, read and written.
double copy_rate(Backend& backend, std::size_t bytes) {
  Tensors make(backend, {});
  const Layout layout{{1, 1, 1, static_cast<int>(bytes)}, DType::u8};
  const Tensor from = make.given(layout, {1}), to = make.given(layout, {2});
  Replay replay(backend, {[&] { backend.copy(to.data, from.data, bytes); }});
  return 2.0 * static_cast<double>(bytes) / best(replay);
}

/// FLOP a second of square products, as large as is needed for the rate to grow no more.
double product_rate(Backend& backend) {
  constexpr int smallest = 512, largest = 8192;
  constexpr double long_enough = 20e-3;  // seconds
  double rate = 0;
  for (int side = smallest; side <= largest; side *= 2) {
    Tensors make(backend, {.fill = Fill::integers, .images = side});
    const Layout layout = make.batch({1, 1, 1, side});
    const std::shared_ptr<DenseOp> op = backend.dense({}, layout, layout);
    const Tensor x = make.images(layout), w = make.whole(make.weights({1, 1, side, side})), y = make.images(layout);
    Replay replay(backend, {[&] { op->forward(x, w, nullptr, y); }});
    const double seconds = best(replay);
    rate = std::max(rate, 2.0 * side * side * side / seconds);
    if (seconds > long_enough) break;
  }
  return rate;
}

}  // namespace

double Roofs::seconds(const Cost& cost, bool resident) const {
  return std::max(cost.flop / product, cost.bytes / (resident ? resident_copy : copy));
}

Roofs measure_roofs(Backend& backend, std::size_t large_bytes) {
  return {copy_rate(backend, large_bytes), copy_rate(backend, resident_bytes / 2), product_rate(backend)};
}

}  // namespace microtome::bench
