// A decoder that crashes: what a program says then, and what it still does.
#include "data/png.h"
#include "tools/process.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

namespace fs = std::filesystem;

namespace microtome {
namespace {

Ended run_with_hole(const std::vector<std::string>& words) {
  return run(words, {}, [] {
    setenv("LD_PRELOAD", CRASH_PNG, 1);
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);  // a sanitizer's library wants to be the first, and need not be
  });
}

TEST(CrashTest, AnImageThatCrashesItsDecoderIsNamedAndNoOtherIsLost) {
  const TemporaryFolder folder;
  const std::string data = folder / "data";
  ASSERT_EQ(run({"synthesize", "idc", "--out", data, "--train", "60", "--valid", "20", "--test", "20"}).code, 0);
  ASSERT_EQ(run_with_hole({"data", "verify", "--data", data}).code, 0);
  fs::path patient;
  for (const fs::directory_entry& entry : fs::directory_iterator(data))
    if (entry.is_directory()) patient = std::max(patient, entry.path());
  const std::vector<std::uint8_t> pixels(13 * 50 * 3, 200);
  std::vector<std::string> harmful;
  for (const char* place : {"0/0.png", "1/9999_idx5_x1_y1_class1.png"}) {
    harmful.push_back((patient / place).string());
    write_png(harmful.back(), {50, 13}, pixels.data());
  }
  write_text(patient / "1/broken.png", "no image");

  const Ended verified = run_with_hole({"data", "verify", "--data", data});
  EXPECT_EQ(verified.code, 3) << verified.err;
  harmful.push_back((patient / "1/broken.png").string());
  for (const std::string& file : harmful)
    EXPECT_NE((verified.out + verified.err).find(file), std::string::npos) << verified.err;

  const Ended trained =
      run_with_hole({"train", "--net", "b2", "--data", data, "--device", "cpu", "--out", folder / "run", "-q"});
  EXPECT_EQ(trained.code, 3);
  for (const char* part : {"train: error:", "crashes the library that reads it", "signal", ".png"})
    EXPECT_NE(trained.err.find(part), std::string::npos) << trained.err;
  EXPECT_EQ(trained.err.find("train: error:"), trained.err.rfind("train: error:")) << "one message: " << trained.err;
  // Without the hole the same files are images.
  fs::remove(patient / "1/broken.png");
  EXPECT_EQ(run({"data", "verify", "--data", data}).code, 0);
}

}  // namespace
}  // namespace microtome
