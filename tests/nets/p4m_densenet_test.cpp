// Turning or mirroring an image turns or mirrors every feature map of a group convolution, and changes no score.
#include "engine/check.h"
#include "engine/init.h"
#include "engine/model.h"
#include "engine/parameters.h"
#include "engine/random.h"
#include "kernels/backend.h"
#include "layers/p4m.h"
#include "nets/nets.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

namespace microtome {
namespace {

float some_number(std::uint64_t stream, std::uint64_t i) {
  return 2 * unit_float(random_word(5, stream, i)) - 1;
}

/// Of all kinds a little off its usual start, so that no map is all zero and none like another.
std::vector<float> some_weights(const Graph& graph) {
  std::vector<float> weights;
  for (std::size_t p = 0; p < graph.parameters().size(); ++p) {
    const Parameter& parameter = graph.parameters()[p];
    std::vector<float> values(static_cast<std::size_t>(parameter.shape.count()));
    initialize(parameter.init, 3, static_cast<int>(p), values);
    for (std::size_t i = 0; i < values.size(); ++i)
      weights.push_back(values[i] + 0.2f * some_number(p, i) * (parameter.name != "kernel"));
  }
  return weights;
}

/// Square images, one a symmetry: the first turned and mirrored by each, and read back where that took its pixels.
struct Views {
  int side, channels;
  std::vector<float> pixels;  // 8 S S C

  Views(int width, int depth) : side(width), channels(depth) {
    pixels.resize(static_cast<std::size_t>(p4m_symmetries * side * side * channels));
    for (int g = 0; g < p4m_symmetries; ++g)
      for (int row = 0; row < side; ++row)
        for (int column = 0; column < side; ++column)
          for (int c = 0; c < channels; ++c) {
            const P4mCell to = p4m_moved(g, side, {row, column});
            pixels[at(g, to, c)] = some_number(99, at(0, {row, column}, c));
          }
  }
  std::size_t at(int image, P4mCell cell, int c) const {
    return static_cast<std::size_t>(((image * side + cell.row) * side + cell.column) * channels + c);
  }
};

std::vector<float> values_of(Backend& backend, const Tensor& tensor) {
  return read_values(backend, tensor.data, tensor.dtype, static_cast<std::size_t>(tensor.shape.count()));
}

class P4mTest : public testing::TestWithParam<const char*> {
 protected:
  /// The maps of a network's row, and its scores, of eight views of one image.
  void run(Graph graph, const std::string& row) {
    const auto found = std::ranges::find(graph.rows(), row, &Row::name);
    ASSERT_NE(found, graph.rows().end());
    graph.features({&graph, found->output});
    const Shape image = graph.ops().front().output;
    const Views views(image.h, image.c);
    Model model(std::move(graph), *backend);
    const Model::Request base{Mode::evaluate, p4m_symmetries, p4m_symmetries, Part::base},
        whole{Mode::evaluate, p4m_symmetries, p4m_symmetries, Part::whole};
    model.plan(std::vector{base, whole});
    model.set_weights(some_weights(model.graph()));
    for (const Model::Request& request : {base, whole}) {
      Program& program = model.program(request.mode, request.batch, request.part);
      write_values(*backend, program.input().data, program.input().dtype, views.pixels);
      program.forward();
      if (request.part == Part::whole) {
        logits = values_of(*backend, program.logits());
      } else {
        shape = program.features().shape;
        maps = values_of(*backend, program.features());
      }
    }
  }

  void expect_turning_maps(double tolerance) const {
    const int side = shape.h, columns = shape.w;
    ASSERT_EQ(columns, p4m_symmetries * side);
    const auto map = [&](int image, P4mCell cell, int symmetry, int k) {
      return maps[static_cast<std::size_t>(
          ((image * side + cell.row) * columns + cell.column * p4m_symmetries + symmetry) * shape.c + k)];
    };
    double largest = 0, worst = 0, apart = 0;
    for (int g = 0; g < p4m_symmetries; ++g)
      for (int row = 0; row < side; ++row)
        for (int column = 0; column < side; ++column)
          for (int h = 0; h < p4m_symmetries; ++h)
            for (int k = 0; k < shape.c; ++k) {
              const float original = map(0, {row, column}, h, k);
              const float turned = map(g, p4m_moved(g, side, {row, column}), p4m_product(g, h), k);
              largest = std::max(largest, std::abs(double{original}));
              worst = std::max(worst, std::abs(double{turned} - original));
              apart = std::max(apart, std::abs(double{map(g, {row, column}, h, k)} - original));
            }
    EXPECT_LE(worst, tolerance * largest);
    EXPECT_GT(apart, 0.1 * largest) << "nothing turns";
  }

  std::unique_ptr<Backend> backend = make_backend(GetParam(), Precision::f32);
  Shape shape;
  std::vector<float> maps, logits;
};

TEST_P(P4mTest, MapsTurnWithTheImageInAllEightSymmetriesAndScoresStay) {
  const bool naive = std::string(GetParam()) == "reference";
  for (const int side : naive ? std::vector{17} : std::vector{96, 50, 33}) {
    SCOPED_TRACE(side);
    run(find_network("p4m_densenet").build(side), "block3_conv");
    expect_turning_maps(1e-5);
    const double size = std::abs(logits[0]);
    EXPECT_GT(size, 0.01);
    for (const float z : logits) EXPECT_NEAR(z, logits[0], 1e-5 * std::max(1.0, size));
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, P4mTest, testing::Values("cpu", "reference"), [](const auto& it) { return it.param; });

/// Symmetry 4 m + r as a matrix on (row, column): a quarter turn r times after a mirror of the columns m times.
using Matrix = std::array<int, 4>;
Matrix product(const Matrix& a, const Matrix& b) {
  return {a[0] * b[0] + a[1] * b[2], a[0] * b[1] + a[1] * b[3], a[2] * b[0] + a[3] * b[2], a[2] * b[1] + a[3] * b[3]};
}
Matrix matrix_of(int g) {
  Matrix m = g < 4 ? Matrix{1, 0, 0, 1} : Matrix{1, 0, 0, -1};
  for (int turns = g % 4; turns > 0; --turns) m = product({0, -1, 1, 0}, m);
  return m;
}

TEST(P4mGroupTest, NumbersMultiplyAndInvertAsTheirMatricesDo) {
  for (int g = 0; g < 8; ++g) {
    EXPECT_EQ(product(matrix_of(g), matrix_of(p4m_inverse(g))), matrix_of(0)) << g;
    for (int h = 0; h < 8; ++h) EXPECT_EQ(matrix_of(p4m_product(g, h)), product(matrix_of(g), matrix_of(h))) << g << " " << h;
    const Matrix m = matrix_of(g);
    for (int side : {1, 4, 5})
      for (int row = 0; row < side; ++row)
        for (int column = 0; column < side; ++column) {
          const int r = 2 * row - side + 1, c = 2 * column - side + 1;  // twice the distance from the centre
          const P4mCell expected{(m[0] * r + m[1] * c + side - 1) / 2, (m[2] * r + m[3] * c + side - 1) / 2};
          EXPECT_EQ(p4m_moved(g, side, {row, column}), expected) << g;
        }
  }
}

// [f * w](t, h) = sum over cells d and symmetries i of f(t + d, i) w(h^-1 d, h^-1 i), by matrices and from the definition.
TEST(P4mGroupTest, AConvolutionIsTheCorrelationOverTheGroup) {
  constexpr int side = 5, maps = 2, filters = 3, kernel = 3;
  const std::unique_ptr<Backend> backend = make_backend("reference", Precision::f32);
  Graph graph;
  const Node lifted = graph.input(side) | p4m_lift(maps, 1, {.name = "lift"});
  const Node y = lifted | p4m_conv(filters, kernel, {.name = "conv"});
  graph.features(y);
  graph.output(y);
  const std::vector<float> weights = some_weights(graph);
  const auto lift = std::span(weights).first(maps * 3), w = std::span(weights).subspan(maps * 3);
  Model model(std::move(graph), *backend);
  const Model::Request base{Mode::evaluate, 1, 1, Part::base};
  model.plan({&base, 1});
  model.set_weights(weights);
  std::vector<float> image(side * side * 3);
  for (std::size_t i = 0; i < image.size(); ++i) image[i] = some_number(7, i);
  Program& program = model.program(base.mode, 1, Part::base);
  write_values(*backend, program.input().data, program.input().dtype, image);
  program.forward();
  const std::vector<float> found = values_of(*backend, program.features());
  const int out = side - kernel + 1;
  ASSERT_EQ(program.features().shape, (Shape{1, out, 8 * out, filters}));
  for (int row = 0; row < out; ++row)
    for (int column = 0; column < out; ++column)
      for (int h = 0; h < 8; ++h)
        for (int k = 0; k < filters; ++k) {
          const Matrix back = matrix_of(p4m_inverse(h));
          double sum = 0;
          for (int r = -1; r <= 1; ++r)
            for (int s = -1; s <= 1; ++s)
              for (int i = 0; i < 8; ++i)
                for (int c = 0; c < maps; ++c) {
                  double f = 0;  // a 1x1 filter looks the same in all symmetries
                  for (int rgb = 0; rgb < 3; ++rgb)
                    f += double{image[static_cast<std::size_t>(((row + 1 + r) * side + column + 1 + s) * 3 + rgb)]} *
                         lift[static_cast<std::size_t>(c * 3 + rgb)];
                  const int at_r = back[0] * r + back[1] * s + 1, at_s = back[2] * r + back[3] * s + 1;
                  int of = 0;
                  while (matrix_of(of) != product(back, matrix_of(i))) ++of;
                  sum += f * w[static_cast<std::size_t>(((k * kernel + at_r) * kernel + at_s) * 8 * maps + of * maps + c)];
                }
          EXPECT_NEAR(found[static_cast<std::size_t>((row * 8 * out + column * 8 + h) * filters + k)], sum, 1e-6);
        }
}

TEST(P4mDenseNetTest, ParametersAreAnEighthOfTheFiltersAndWorkIsNot) {
  const Graph graph = find_network("p4m_densenet").build(96);
  const auto row = static_cast<int>(std::ranges::find(graph.rows(), "block1_conv", &Row::name) - graph.rows().begin());
  const Parameter& kernel = graph.parameters()[graph.rows()[row].parameters[0]];
  EXPECT_EQ(kernel.keras_shape, (std::vector{3, 3, 64, 8}));
  EXPECT_EQ(graph.macs(row), 96 * 96 * 64 * 9 * 64);
}

TEST(P4mLayersTest, RefuseWhatWouldLoseTheSymmetry) {
  const auto refused = [](const auto& stage) {
    Graph graph;
    try {
      graph.input({8, 12}) | stage;
      return false;
    } catch (const Error&) {
      return true;
    }
  };
  EXPECT_TRUE(refused(p4m_lift(2, 2, {.padding = same}))) << "an even kernel pads after and not before";
  EXPECT_TRUE(refused([](Node x) { return x | p4m_lift(2, 3, {.padding = zeros({1, 0}, {1, 0})}); }));
  EXPECT_TRUE(refused(p4m_conv(2, 1))) << "twelve columns are not eight a pixel";
  EXPECT_TRUE(refused([](Node x) { return x | p4m_lift(3, 7) | p4m_conv(2, 3); })) << "2x6 is too small for 3x3";
  Graph graph;
  EXPECT_EQ((graph.input(7) | p4m_lift(2, 3, {.padding = same}) | p4m_average_pool()).shape(), (Shape{1, 3, 24, 2}));
}

}  // namespace
}  // namespace microtome
