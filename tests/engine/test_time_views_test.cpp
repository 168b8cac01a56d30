#include "engine/test_time_views.h"

#include "engine/check.h"
#include "engine/model.h"
#include "kernels/backend.h"
#include "nets/nets.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <numeric>
#include <set>

namespace microtome {
namespace {

/// 3 x 3 pixels numbered from 1, their channels told apart by hundreds.
Images numbered_square() {
  Images images{.shape = {1, 3, 3, 3}};
  for (int pixel = 1; pixel <= 9; ++pixel) {
    for (int channel = 0; channel < 3; ++channel) images.pixels.push_back(static_cast<std::uint8_t>(pixel + 80 * channel));
  }
  return images;
}

TEST(ViewsTest, EachViewIsTheSymmetryItSays) {
  const std::array<std::array<int, 9>, view_count> golden{{{1, 2, 3,  //
                                                            4, 5, 6,  //
                                                            7, 8, 9},
                                                           {3, 6, 9,  //
                                                            2, 5, 8,  //
                                                            1, 4, 7},
                                                           {9, 8, 7,  //
                                                            6, 5, 4,  //
                                                            3, 2, 1},
                                                           {7, 4, 1,  //
                                                            8, 5, 2,  //
                                                            9, 6, 3},
                                                           {3, 2, 1,  //
                                                            6, 5, 4,  //
                                                            9, 8, 7},
                                                           {1, 4, 7,  //
                                                            2, 5, 8,  //
                                                            3, 6, 9},
                                                           {7, 8, 9,  //
                                                            4, 5, 6,  //
                                                            1, 2, 3},
                                                           {9, 6, 3,  //
                                                            8, 5, 2,  //
                                                            7, 4, 1}}};
  for (int view = 0; view < view_count; ++view) {
    const Images turned = d4_view(numbered_square(), view);
    for (std::size_t pixel = 0; pixel < 9; ++pixel) {
      for (std::size_t channel = 0; channel < 3; ++channel) {
        EXPECT_EQ(turned.pixels[3 * pixel + channel],
                  golden[static_cast<std::size_t>(view)][pixel] + 80 * static_cast<int>(channel))
            << "view " << view << ", pixel " << pixel << ", channel " << channel;
      }
    }
  }
}

TEST(ViewsTest, EveryImageIsTurnedByItself) {
  const Images one = numbered_square();
  Images two = one;
  two.shape.n = 2;
  for (const std::uint8_t value : one.pixels) two.pixels.push_back(static_cast<std::uint8_t>(value ^ 1));
  const std::vector<std::uint8_t> turned = d4_view(two, 5).pixels;
  const std::vector<std::uint8_t> first = d4_view(one, 5).pixels;
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(turned[i], first[i]);
    EXPECT_EQ(turned[first.size() + i], first[i] ^ 1);
  }
}

TEST(ViewsTest, OblongImagesAreRefused) {
  Images images{.shape = {1, 2, 3, 3}};
  images.pixels.resize(18);
  try {
    d4_view(images, 0);
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::data);
    EXPECT_EQ(error.report().found, "2 x 3");
  }
}

TEST(ViewsTest, AnImageAndItsSymmetricCopiesScoreAlikeOnlyWhenAveraged) {
  constexpr int side = 36;
  Images image{.shape = {1, side, side, 3}};
  for (int i = 0; i < side * side * 3; ++i) image.pixels.push_back(static_cast<std::uint8_t>((i * 2654435761u) >> 13));
  Images copies{.shape = {view_count, side, side, 3}};
  for (int view = 0; view < view_count; ++view) {
    const std::vector<std::uint8_t> turned = d4_view(image, view).pixels;
    copies.pixels.insert(copies.pixels.end(), turned.begin(), turned.end());
  }
  const std::unique_ptr<Backend> backend = make_backend("cpu", Precision::f32);
  Model model(find_network("b2").build(side), *backend);
  model.initialize(1);

  const FitOptions options{.batch_size = view_count};
  const std::vector<float> single = evaluate(model, copies, options).scores;
  EXPECT_EQ(std::set(single.begin(), single.end()).size(), static_cast<std::size_t>(view_count))
      << "the network sees no difference";
  const double mean = std::accumulate(single.begin(), single.end(), 0.0) / view_count;
  int last = 0;
  const std::vector<float> averaged = evaluate_views(model, copies, options, [&](int done, int of) {
    EXPECT_EQ(of, view_count);
    EXPECT_GT(done, last);
    last = done;
  });
  EXPECT_EQ(last, view_count);
  ASSERT_EQ(averaged.size(), static_cast<std::size_t>(view_count));
  for (const float score : averaged) EXPECT_FLOAT_EQ(score, static_cast<float>(mean));
}

}  // namespace
}  // namespace microtome
