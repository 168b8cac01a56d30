// Counters in a profile: what is asked for by which name, which steps are counted, and where the values come out. The device's
// counters are played: they count how often a scope is entered.
#include "engine/check.h"
#include "engine/forwarding.h"
#include "kernels/backend.h"
#include "nets/nets.h"
#include "tools/options/training.h"
#include "tools/process.h"
#include "tools/profile/export.h"
#include "tools/profile/page.h"
#include "tools/profile/text.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace microtome {
namespace {

TEST(CountersNamedTest, KnowsShortNamesAndLeavesTheVendorsToTheVendor) {
  const std::vector<Counter> counters = counters_named("dram,tensor,lts__t_sectors.sum");
  ASSERT_EQ(counters.size(), 3u);
  EXPECT_EQ(counters[0].metric, "dram__bytes.sum");
  EXPECT_EQ(counters[0].unit, "MB");
  EXPECT_EQ(counters[1].unit, "%");
  EXPECT_EQ(counters[2].metric, "lts__t_sectors.sum");
}

TEST(CountersNamedTest, RefusesWhatIsNone) {
  const auto refused = [](const char* list) -> std::string {
    try {
      counters_named(list);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      return std::string(error.what()) + ": " + error.report().expected;
    }
    ADD_FAILURE() << list << " was taken";
    return "";
  };
  EXPECT_EQ(refused("dramm"), "there is no counter \"dramm\": did you mean dram?");
  EXPECT_NE(refused("dram,bananas").find("dram, l2, tensor, sm, occupancy"), std::string::npos);
  EXPECT_NE(refused("dram,").find("empty entry"), std::string::npos);
  EXPECT_NE(refused("dram,dram__bytes.sum").find("twice"), std::string::npos);
}

/// A CPU whose counters say how often a scope was entered in a step, and nothing of the update.
class Counting final : public Forwarding {
 public:
  explicit Counting(Backend& backend) : Forwarding(backend) {}

  void enter(const Scope& scope) override {
    if (on) ++entered[{scope.row, scope.pass}];
    Forwarding::enter(scope);
  }
  std::unique_ptr<Counters> counters(const std::vector<std::string>& metrics, std::string& why) override {
    if (refused) return why = "no permission", nullptr;
    struct Played final : Counters {
      Played(Counting& device, std::size_t metrics) : counting(device), count(metrics) {}
      int steps() const override { return counting.steps == 0 ? 1 : 7; }
      void start() override { counting.on = true; }
      void stop() override { counting.on = false, ++counting.steps; }
      std::map<ScopeKey, std::vector<double>> values() const override {
        std::map<ScopeKey, std::vector<double>> values;
        for (const auto& [key, times] : counting.entered) {
          values[key].assign(count, 1e6 * times / counting.steps);
          if (key.second == Pass::update) values[key].back() = std::numeric_limits<double>::quiet_NaN();
        }
        return values;
      }
      Counting& counting;
      std::size_t count;
    };
    return std::make_unique<Played>(*this, metrics.size());
  }

  bool refused = false, on = false;
  int steps = 0;
  std::map<ScopeKey, int> entered;
};

Images some_images(int count) {
  Images images{{count, 36, 36, 3}, {}, {}, {}, {}};
  for (std::int64_t i = 0; i < images.shape.count(); ++i) images.pixels.push_back(static_cast<std::uint8_t>(i * 37 % 251));
  for (int i = 0; i < count; ++i) images.labels.push_back(static_cast<std::uint8_t>(i % 2));
  return images;
}

struct ProfileCountersTest : testing::Test {
  ProfileCountersTest() {
    settings.net = "b2";
    settings.batch_size = 4;
    settings.statistics = "moving";
  }
  Profile profile() {
    Terminal terminal(Verbosity::quiet);
    Job job(settings, find_network("b2"), device, Dataset{"synthetic", some_images(4 * 5), some_images(4), {}, {}}, terminal);
    job.initialize(settings, find_network("b2"), terminal);
    const Sampling sampling{.warm_up = 1, .steps = 2};
    const TemporaryFolder folder;
    Measurement measured = measure(job.model, job.data, job.options, sampling, folder / "", [](int, int) {});
    std::vector<std::string> metrics;
    const std::vector<Counter> counters = counters_named("dram,x__y.sum");
    for (const Counter& c : counters) metrics.push_back(c.metric);
    measure_counters(
        job.model, job.data, job.options, metrics,
        [&](int done, int of) {
          progress = {done, of};
        },
        measured);
    const Json about{{"net", "b2"},        {"data_name", "synthetic"}, {"image", {36, 36}}, {"batch_size", 4},
                     {"precision", "f32"}, {"mode", "full"},           {"seed", 0},         {"commit", "none"}};
    return make_profile(measured, job.model, job.model.program(Mode::train, 4, Part::whole), sampling,
                        {.images = 20, .steps = 5}, counters, about);
  }

  std::unique_ptr<Backend> cpu = make_backend("cpu", Precision::f32);
  Counting device{*cpu};
  TrainingSettings settings;
  std::pair<int, int> progress;
};

TEST_F(ProfileCountersTest, EachPassOfAStepIsCountedAndComesOutEverywhere) {
  const Profile p = profile();
  EXPECT_EQ(device.steps, 7) << "over the epochs' ends: an epoch has five steps";
  EXPECT_EQ(progress, std::pair(7, 7));
  ASSERT_EQ(p.counters.size(), 2u);
  for (const LayerLine& line : p.layers) {
    ASSERT_EQ(line.counted.size(), 2u) << line.row;
    if (line.calls > 0) {
      EXPECT_DOUBLE_EQ(line.counted[0].value_or(-1), line.calls) << line.row << ": a whole step, in MB";
    }
  }
  const std::string text = to_text(p, 5), row = explain(p, "conv2d"), page = to_html(p), csv = layers_csv(p);
  EXPECT_NE(text.find("COUNTERS of a step"), std::string::npos);
  EXPECT_NE(text.find("dram, MB"), std::string::npos);
  EXPECT_NE(row.find("1.000 MB, dram__bytes.sum"), std::string::npos) << row;
  EXPECT_NE(page.find("Counters of a step"), std::string::npos);
  EXPECT_NE(csv.find(",save_seconds_per_epoch,dram__bytes.sum,x__y.sum\n"), std::string::npos) << csv;
  const Json json = to_json(p);
  EXPECT_EQ(json["counters"][0]["metric"], "dram__bytes.sum");
  for (const Json& layer : json["layers"]) {
    EXPECT_EQ(layer["counters"].size(), 2u);
    EXPECT_EQ(layer["counters"]["x__y.sum"].is_null(), layer["pass"] == "update") << "unknown is not zero";
  }
}

TEST_F(ProfileCountersTest, WithoutPermissionTheRestOfTheProfileStands) {
  device.refused = true;
  const Profile p = profile();
  EXPECT_NE(p.note.find("no counters: no permission"), std::string::npos) << p.note;
  EXPECT_TRUE(p.counters.empty());
  EXPECT_FALSE(p.layers.empty());
  EXPECT_EQ(to_text(p, 5).find("COUNTERS"), std::string::npos);
  EXPECT_EQ(layers_csv(p).find("dram"), std::string::npos);
}

}  // namespace
}  // namespace microtome
