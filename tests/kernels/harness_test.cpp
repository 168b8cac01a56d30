// The harness must be able to fail.
#include "kernels/harness.h"

#include <gtest/gtest-spi.h>

namespace microtome::test {
namespace {

TEST(HarnessTest, AWriteBesideATensorFails) {
  Reference<float> backend;
  Lab before(backend, 24, Fill::uniform), after(backend, 24, Fill::uniform), gap(backend, 24, Fill::uniform);
  before.output("y", before.activations({{2, 1, 1, 3}})).as<float>()[-1] = 0;
  EXPECT_NONFATAL_FAILURE(before.results(), "outside its elements, at byte -4");
  after.output("y", after.activations({{2, 1, 1, 3}})).as<float>()[6] = 0;
  EXPECT_NONFATAL_FAILURE(after.results(), "outside its elements, at byte 24");
  gap.output("y", gap.activations({{2, 1, 1, 3}, 2})).as<float>()[4] = 0;
  EXPECT_NONFATAL_FAILURE(gap.results(), "outside its elements, at byte 16");
}

TEST(HarnessTest, AWrittenInputFails) {
  Reference<float> backend;
  Lab lab(backend, 24, Fill::uniform);
  lab.input("x", lab.activations({{1, 1, 1, 3}})).as<float>()[1] = 0;
  EXPECT_NONFATAL_FAILURE(lab.results(), "although an input");
}

TEST(HarnessTest, OutputsArePoisoned) {
  Reference<float> backend;
  Lab lab(backend, 24, Fill::uniform);
  lab.output("y", lab.activations({{1, 1, 1, 3}}));
  const std::vector<Result> results = lab.results();
  for (const double value : results[0].values) EXPECT_TRUE(std::isnan(value));
}

TEST(HarnessTest, SumsAreTheTotalsOfAllRows) {
  Reference<float> backend;
  Lab lab(backend, 24, Fill::integers);
  const Deferred deferred = lab.deferred("x", lab.activations({{1, 1, 1, 1}}), 2);
  const float sums[] = {1, 2,  //
                        3, 4};
  std::copy_n(sums, 4, deferred.sums.as<float>());
  const std::vector<Result> results = lab.results();
  EXPECT_EQ(results.at(0).values, std::vector<double>{1 + 3});
  EXPECT_EQ(results.at(1).values, std::vector<double>{2 + 4});
}

TEST(HarnessTest, ARowOfSumsThatNobodyWroteShows) {
  Reference<float> backend;
  Lab lab(backend, 24, Fill::integers);
  const Deferred deferred = lab.deferred("x", lab.activations({{1, 1, 1, 1}}), 2);
  std::fill_n(deferred.sums.as<float>(), 2, 1.0f);
  for (const Result& result : lab.results()) EXPECT_TRUE(std::isnan(result.values[0])) << result.name;
}

TEST(HarnessTest, StatisticsMustBeThoseOfYAsItWasWritten) {
  const auto check = [](const std::vector<float>& rows) {
    Reference<float> backend;
    Lab lab(backend, 24, Fill::integers);
    const Tensor y = lab.output("y", lab.activations({{3, 1, 1, 1}}));
    const float pixels[] = {1, 3, 8};
    std::copy_n(pixels, 3, y.as<float>());
    std::copy_n(rows.data(), 6, lab.statistics(y, 2).as<float>());
    lab.results();
  };
  check({2, 2, 2,  // pixels, mean and squared deviations of 1 and 3
         1, 8, 0});
  check({2, 3, 2, 1, 6, 18});  // of other pixels, but merged the same
  EXPECT_NONFATAL_FAILURE(check({2, 2, 2, 1, 8, 1}), "squared deviations of y");
  EXPECT_NONFATAL_FAILURE(check({2, 2, 2, 1, 7, 22.0f / 3}), "means of y");
}

std::vector<Result> one_result(std::vector<double> values) {
  return {{.name = "y", .shape = {1, 1, 1, static_cast<int>(values.size())}, .values = values}};
}

TEST(HarnessTest, TooManyZerosFail) {
  EXPECT_NONFATAL_FAILURE(compare(Fill::integers, one_result({0, 0, 1}), {}, one_result({0, 0, 1})), "too many to trust");
}

TEST(HarnessTest, IntegersMustBeEqual) {
  EXPECT_NONFATAL_FAILURE(compare(Fill::integers, one_result({1, 2, 3}), {}, one_result({1, 2, 3 + 1e-6})),
                          "[n=0 h=0 w=0 c=2]");
}

TEST(HarnessTest, MoreThanTwiceThePlainErrorFails) {
  compare(Fill::uniform, one_result({1, 2, 3}), one_result({1, 2 + 1e-5, 3}), one_result({1 + 1.9e-5, 2, 3}));
  EXPECT_NONFATAL_FAILURE(
      compare(Fill::uniform, one_result({1, 2, 3}), one_result({1, 2 + 1e-5, 3}), one_result({1 + 2.1e-5, 2, 3})),
      "more than twice");
  EXPECT_NONFATAL_FAILURE(compare(Fill::uniform, one_result({1, 2}), one_result({1, 2}), one_result({std::nan(""), 2})),
                          "more than twice");
}

}  // namespace
}  // namespace microtome::test
