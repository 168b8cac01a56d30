#include "layers/p4m.h"

#include "engine/check.h"

namespace microtome {
namespace {

/// The same elements as an ordinary image, a pixel's symmetries side by side in its channels; and back.
Node as_image(Node x) {
  const Shape s = x.shape();
  require(s.w % p4m_symmetries == 0, "p4m: ", s.w, " columns are not eight a pixel");
  return x.graph->op(Reshape{{1, s.h, s.w / p4m_symmetries, s.c * p4m_symmetries}}, {x});
}
Node as_maps(Node x) {
  const Shape s = x.shape();
  return x.graph->op(Reshape{{1, s.h, s.w * p4m_symmetries, s.c / p4m_symmetries}}, {x});
}

Node convolved(Node image, P4m p4m, int maps, int kernel, const P4mConvOptions& o) {
  const int channels = image.shape().c;
  const double taps = kernel * kernel;
  const int w = image.graph->parameter("kernel", {maps, kernel, kernel, channels}, {kernel, kernel, channels, maps},
                                       {Initializer::Rule::he_normal, 0, taps * channels, taps * maps});
  const Window window = resolve(image.shape(), kernel, 1, o.padding);
  require(window.before == window.after && window.before.h == window.before.w, "p4m: a padding that differs from side to side");
  return as_maps(image.graph->op(Conv{.window = window, .p4m = p4m}, {image}, {w}));
}

}  // namespace

Stage p4m_lift(int maps, int kernel, P4mConvOptions o) {
  return [=](Node image) {
    image.graph->row("p4m_lift", o.name);
    return convolved(image, P4m::lift, maps, kernel, o);
  };
}

Stage p4m_conv(int maps, int kernel, P4mConvOptions o) {
  return [=](Node x) {
    x.graph->row("p4m_conv2d", o.name);
    return convolved(as_image(x), P4m::group, maps, kernel, o);
  };
}

Stage p4m_average_pool(std::string name) {
  return [=](Node x) {
    x.graph->row("p4m_average_pooling2d", name);
    const Node image = as_image(x);
    const Extent kernel(2 + image.shape().h % 2, 2 + image.shape().w % 2);
    return as_maps(x.graph->op(Pool{.kind = Pool::Kind::average, .window = resolve(image.shape(), kernel, 2, valid)}, {image}));
  };
}

}  // namespace microtome
