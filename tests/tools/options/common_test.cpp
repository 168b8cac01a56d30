#include "tools/options/common.h"

#include "engine/check.h"
#include "kernels/backend.h"
#include "tools/options/augment.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

namespace microtome {
namespace {

/// A variable of the environment for as long as the object lives; no value unsets it.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    value ? setenv(name, value, 1) : unsetenv(name);
  }
  ~Variable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

TEST(SettingsTest, ThePlanCacheLiesWhereTheEnvironmentSays) {
  const Variable home("HOME", "/home/someone"), caches("XDG_CACHE_HOME", nullptr), unset("MICROTOME_PLAN_CACHE", nullptr);
  EXPECT_EQ(plan_cache_file(), "/home/someone/.cache/microtome/plans.txt");
  {
    const Variable elsewhere("XDG_CACHE_HOME", "/fast/caches");
    EXPECT_EQ(plan_cache_file(), "/fast/caches/microtome/plans.txt");
    const Variable own("MICROTOME_PLAN_CACHE", "/tmp/own.txt");
    EXPECT_EQ(plan_cache_file(), "/tmp/own.txt");
    const Variable nowhere("MICROTOME_PLAN_CACHE", "");
    EXPECT_EQ(plan_cache_file(), "");
  }
  const Variable homeless("HOME", nullptr);
  EXPECT_EQ(plan_cache_file(), "");
}

TEST(SettingsTest, WhatIsSaidOfTheGpuReachesItsBackend) {
  const auto options = [](std::vector<const char*> words) {
    Settings settings;
    Arguments arguments{"sample", "A sample.", "[options]", {"sample"}};
    add_machine(arguments, settings);
    words.insert(words.begin(), "sample");
    EXPECT_TRUE(arguments.parse(static_cast<int>(words.size()), words.data()));
    return backend_options(settings);
  };
  const BackendOptions plain = options({});
  EXPECT_TRUE(plain.defer);
  EXPECT_TRUE(plain.autotune);
  EXPECT_FALSE(plain.deterministic);
  EXPECT_EQ(plain.streams, BackendOptions().streams);
  const BackendOptions other = options({"--defer", "off", "--streams", "1", "--autotune", "off", "--deterministic"});
  EXPECT_FALSE(other.defer);
  EXPECT_FALSE(other.autotune);
  EXPECT_TRUE(other.deterministic);
  EXPECT_EQ(other.streams, 1);
}

TEST(SettingsTest, AugmentationsAreWordsBetweenCommas) {
  EXPECT_EQ(parse_augment("none"), Augment{});
  EXPECT_EQ(parse_augment("d4"), parse_augment("flip,rotate90"));
  EXPECT_EQ(parse_augment("flip,shift=4,zoom=0.25,rotate=15,brightness=0.5"),
            (Augment{.flip = true, .shift = 4, .zoom = 0.25f, .rotate = 15, .brightness = 0.5f}));
  for (const char* bad : {"", "flip,", "flop", "zoom=1", "zoom=x", "rotate=181", "brightness=-0.1", "shift=", "none=1"})
    EXPECT_THROW(parse_augment(bad), Error) << bad;
}

}  // namespace
}  // namespace microtome
