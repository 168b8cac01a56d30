#include "data/published.h"

#include "data/digest.h"
#include "data/support.h"
#include "nets/nets.h"

#include <cstdlib>
#include <set>

namespace microtome {
namespace {

constexpr PublishedWeights abc{"resnet50",
                               "resnet",
                               {{{"abc_notop.h5", "900150983cd24fb0d6963f7d28e17f72"},  // of "abc" [RFC 1321, A.5]
                                 {"abc.h5", "900150983cd24fb0d6963f7d28e17f72"}}}};

TEST(DigestTest, Md5IsThatOfTheStandard) {
  TemporaryFolder folder;
  write_bytes(folder / "empty", {});
  EXPECT_EQ(md5(folder / "empty"), "d41d8cd98f00b204e9800998ecf8427e");
  write_bytes(folder / "long", std::vector<char>(3'000'000, 'a'));  // more than one piece
  EXPECT_EQ(md5(folder / "long"), "99ddc9a3a46ea62c95652bdf937a1fb8");
  expect_refusal([&] { md5(folder / "none"); }, ExitCode::data, {"none"});
}

TEST(PublishedTest, EveryNetworkWithAHeadOfItsOwnHasWeights) {
  std::set<std::string_view> expected, found;
  for (const Network& network : networks())
    if (network.top) expected.insert(network.name);
  for (const PublishedWeights& weights : published_weights()) found.insert(weights.network);
  EXPECT_EQ(found, expected);
  expect_refusal([] { find_published("b6", "."); }, ExitCode::usage, {"no ImageNet weights of b6"});
}

TEST(PublishedTest, EitherFileServesAndTheBaseComesFirst) {
  TemporaryFolder folder;
  write_bytes(folder / "abc.h5", {'a', 'b', 'c'});
  EXPECT_EQ(find_published(abc, folder.path()), folder / "abc.h5");
  write_bytes(folder / "abc_notop.h5", {'a', 'b', 'c'});
  EXPECT_EQ(find_published(abc, folder.path()), folder / "abc_notop.h5");
}

TEST(PublishedTest, AnotherDigestIsRefused) {
  TemporaryFolder folder;
  write_bytes(folder / "abc.h5", {'a', 'b'});
  expect_refusal([&] { find_published(abc, folder.path()); }, ExitCode::weights,
                 {"abc.h5", "expected: MD5 900150983cd24fb0d6963f7d28e17f72", "found:    MD5 187ef4436122d1cc2f40dc2b92f0eba0",
                  "keras-applications/resnet/abc.h5"});
}

TEST(PublishedTest, AMissingFileIsToldWithItsAddressAndPlace) {
  TemporaryFolder folder;
  expect_refusal([&] { find_published("mobilenet", folder.path()); }, ExitCode::weights,
                 {"mobilenet_1_0_224_tf_no_top.h5 or mobilenet_1_0_224_tf.h5",
                  fmt::format("-o {} https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
                              "mobilenet_1_0_224_tf_no_top.h5",
                              (folder / "mobilenet_1_0_224_tf_no_top.h5").string())});
}

TEST(PublishedTest, TheFolderIsWhereKerasKeepsThem) {
  ::setenv("KERAS_HOME", "/somewhere", 1);
  EXPECT_EQ(keras_folder(), "/somewhere/models");
  ::unsetenv("KERAS_HOME");
  EXPECT_EQ(keras_folder(), std::filesystem::path(std::getenv("HOME")) / ".keras/models");
}

}  // namespace
}  // namespace microtome
