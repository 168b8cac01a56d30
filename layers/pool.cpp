#include "layers/pool.h"

namespace microtome {
namespace {

Stage pool(std::string_view row, Pool::Kind kind, Extent kernel, const PoolOptions& o) {
  return [=](Node x) {
    x.graph->row(row, o.name);
    const Window window = resolve(x.shape(), kernel, o.stride.value_or(kernel), o.padding);
    return x.graph->op(Pool{.kind = kind, .window = window}, {x});
  };
}

}  // namespace

Stage max_pool(Extent kernel, PoolOptions o) {
  return pool("max_pooling2d", Pool::Kind::max, kernel, o);
}
Stage average_pool(Extent kernel, PoolOptions o) {
  return pool("average_pooling2d", Pool::Kind::average, kernel, o);
}

Stage global_average_pool(std::string name) {
  return [=](Node x) {
    const Extent whole(x.shape().h, x.shape().w);
    return x | pool("global_average_pooling2d", Pool::Kind::average, whole, {.name = name});
  };
}

}  // namespace microtome
