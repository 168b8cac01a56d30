// A results file of build/bench/bench: Google Benchmark's own JSON, whose context says on what and of what it is.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

constexpr std::string_view results_schema = "1";  // the context's "microtome_schema"

struct BenchCase {
  std::string name;             // "conv_forward/resnet50:conv3_block2_2_conv/cuda:0/bf16/n64"
  std::string precision;        // what the name says: "bf16"
  int batch = 0;                // 64; 0 where it says none
  std::vector<double> seconds;  // of a call, a repetition each
  std::map<std::string, double, std::less<>> counters;
};

struct Results {
  std::filesystem::path file;
  std::map<std::string, std::string, std::less<>> context;
  std::vector<BenchCase> cases;
  std::vector<std::string> failed;  // cases that ended in an error

  const std::string& said(std::string_view key) const;  // the context's; "" where it does not say
};

/// Throws Error(ExitCode::data) for a file of another schema, of no repetitions or in which nothing was measured.
Results read_results(const std::filesystem::path& file);

}  // namespace microtome
