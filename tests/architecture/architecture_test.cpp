// The rooms, their rooms and who may include whom, held over the whole tree: siblings do not include each other, a folder's
// folders stand one floor below it, nothing runs in a circle, vendors stay in their rooms, no source chooses a backend by a
// macro, nothing else stands at the top.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace fs = std::filesystem;

namespace {

const fs::path source_dir = MICROTOME_SOURCE_DIR;

const std::set<std::string> rooms{"engine", "kernels", "layers", "nets", "data", "bench", "tests", "tools"};

/// Which of our headers the files of a folder may include, by folder or by stem. Those of tests, which may include any, need no
/// rule, and a folder without one has its nearest parent's; but each that holds sources has its own.
const std::map<std::string, std::set<std::string>> may_include{
    {"engine", {"engine"}},
    // What a kind of op is stands on these and not on the planner, which visits kinds.
    {"engine/kinds",
     {"engine/activation", "engine/backend", "engine/buffer", "engine/check", "engine/cost", "engine/graph", "engine/init",
      "engine/kind_list", "engine/mode", "engine/ops", "engine/p4m", "engine/profile", "engine/shape", "engine/tensor",
      "engine/kinds"}},
    {"kernels", {"engine", "kernels/backend", "kernels/cuda_module", "kernels/planning_backend", "kernels/sources"}},
    {"kernels/formulas", {"engine", "kernels/formulas"}},
    {"kernels/reference", {"engine", "kernels/backend", "kernels/formulas", "kernels/reference"}},
    {"kernels/cpu", {"engine", "kernels/backend", "kernels/formulas", "kernels/cpu"}},
    {"kernels/cuda", {"engine", "kernels/backend", "kernels/cuda_module", "kernels/formulas", "kernels/cuda"}},
    {"kernels/cuda/device", {"engine", "kernels/backend", "kernels/cuda/device"}},
    {"kernels/cuda/vendor", {"engine", "kernels/cuda/device", "kernels/cuda/vendor"}},
    {"kernels/cuda/profiling", {"engine", "kernels/cuda/device", "kernels/cuda/profiling"}},
    {"layers", {"engine", "layers"}},
    {"nets", {"engine", "layers", "nets"}},
    {"data", {"engine", "data"}},
    {"bench", {"engine", "kernels", "layers", "nets", "data", "bench", "tools/cli", "tools/statistics"}},
    {"tools", {"engine", "kernels", "nets", "data", "tools"}},
    {"tools/cli", {"engine", "kernels/backend", "data/digest", "data/file", "data/lock", "tools/cli"}},
    {"tools/statistics", {"engine", "tools/statistics"}},
    {"tools/options", {"engine", "kernels", "nets", "data", "tools/cli", "tools/options"}},
    {"tools/report", {"engine", "data", "tools/cli", "tools/statistics", "tools/report"}},
    {"tools/tune", {"engine", "tools/cli", "tools/statistics", "tools/tune"}},
    {"tools/study",
     {"engine", "nets", "data", "tools/cli", "tools/statistics", "tools/options", "tools/report", "tools/study"}},
    // A forecast stands between both: it adds up what bench has measured.
    {"tools/profile",
     {"engine", "kernels", "nets", "data", "bench/estimate", "tools/cli", "tools/statistics", "tools/options", "tools/report",
      "tools/study/published_results", "tools/profile"}},
};

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

/// The rule of a folder or of its nearest parent that has one; null where none has.
const std::set<std::string>* rule_of(std::string folder) {
  for (; !folder.empty(); folder = folder_of(folder))
    if (const auto rule = may_include.find(folder); rule != may_include.end()) return &rule->second;
  return nullptr;
}

/// "tools/cli" holds "tools/cli/json.h", "data/file" is "data/file.h".
bool is_in(const std::string& header, const std::string& place) {
  return header.starts_with(place) && header.size() > place.size() &&
         (header[place.size()] == '/' || header[place.size()] == '.');
}

/// A vendor's headers, and the folders that may see them.
struct Vendor {
  std::regex header;
  std::vector<std::string> folders;
};
const std::vector<Vendor> vendors{
    {std::regex("cuda.*|cub/.*|nccl.*|nv[a-z]+\\.h"), {"kernels/", "tests/kernels/"}},
    {std::regex("cudnn.*|cublas.*"), {"kernels/cuda/vendor/", "tests/kernels/"}},
    {std::regex("cupti.*|nvtx.*|cuda_profiler.*"), {"kernels/cuda/profiling/", "tests/kernels/"}},
    {std::regex("(oneapi/)?dnnl.*"), {"kernels/cpu/", "tests/kernels/"}},
    {std::regex("hdf5.*|H5.*|png\\.h|zlib\\.h"), {"data/", "tests/data/", "tests/fuzz/"}},
};

const std::regex include_line(R"re(^\s*#\s*include\s*[<"]([^>"]+)[>"])re");
const std::regex backend_macro(R"re(^\s*#\s*(if|ifdef|ifndef|elif)\b.*(CUDA|CUDNN|NVCC|DNNL|ONEDNN|MICROTOME_))re");

/// What a file at `path` (relative to the top) with these lines breaks, a line each.
std::vector<std::string> broken_rules(const std::string& path, const std::vector<std::string>& lines) {
  std::vector<std::string> broken;
  const std::string room = path.substr(0, path.find('/'));
  const std::set<std::string>* const rule = room == "tests" ? nullptr : rule_of(folder_of(path));
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto say = [&](const std::string& what) { broken.push_back(path + ":" + std::to_string(i + 1) + ": " + what); };
    std::smatch match;
    if (std::regex_search(lines[i], match, include_line)) {
      const std::string header = match[1];
      const std::string other = header.substr(0, header.find('/'));
      if (rule != nullptr && rooms.contains(other) &&
          std::none_of(rule->begin(), rule->end(), [&](const std::string& place) { return is_in(header, place); }))
        say(folder_of(path) + " includes " + header);
      for (const Vendor& vendor : vendors) {
        const bool allowed = std::any_of(vendor.folders.begin(), vendor.folders.end(),
                                         [&](const std::string& f) { return path.starts_with(f); });
        if (!allowed && std::regex_match(header, vendor.header)) say("a vendor's header outside its room: " + header);
      }
    }
    if (path != "kernels/formulas/host_device.h" && std::regex_search(lines[i], backend_macro))
      say("chooses a backend by a macro");
  }
  return broken;
}

/// Its folder; of the engine's headers, those that its kinds stand on are a floor of their own.
std::string floor_of(const std::string& path) {
  const std::string folder = folder_of(path);
  const std::set<std::string>& below_kinds = may_include.at("engine/kinds");
  const bool is_below =
      folder == "engine" && path.ends_with(".h") &&
      std::any_of(below_kinds.begin(), below_kinds.end(), [&](const std::string& p) { return is_in(path, p); });
  return is_below ? "engine, below its kinds" : folder;
}

/// From folders to those that they include.
using Arrows = std::map<std::string, std::set<std::string>>;

void add_arrows(const std::string& path, const std::vector<std::string>& lines, Arrows& arrows) {
  std::smatch match;
  for (const std::string& line : lines) {
    if (!std::regex_search(line, match, include_line)) continue;
    const std::string header = match[1], from = floor_of(path), to = floor_of(header);
    if (rooms.contains(header.substr(0, header.find('/'))) && from != to) arrows[from].insert(to);
  }
}

/// "a -> b -> a", or "" where there is none.
std::string circle_of(const Arrows& arrows) {
  std::set<std::string> done;
  std::vector<std::string> way;
  const std::function<std::string(const std::string&)> follow = [&](const std::string& folder) -> std::string {
    if (const auto met = std::find(way.begin(), way.end(), folder); met != way.end()) {
      std::string circle;
      for (auto at = met; at != way.end(); ++at) circle += *at + " -> ";
      return circle + folder;
    }
    if (!done.insert(folder).second || !arrows.contains(folder)) return "";
    way.push_back(folder);
    for (const std::string& next : arrows.at(folder))
      if (const std::string circle = follow(next); !circle.empty()) return circle;
    way.pop_back();
    return "";
  };
  for (const auto& [folder, included] : arrows)
    if (const std::string circle = follow(folder); !circle.empty()) return circle;
  return "";
}

std::vector<std::string> lines_of(const fs::path& file) {
  std::ifstream stream(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::vector<fs::path> sources() {
  std::vector<fs::path> files;
  for (const std::string& room : rooms) {
    if (!fs::exists(source_dir / room)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(source_dir / room)) {
      const std::string ending = entry.path().extension().string();
      if (ending == ".h" || ending == ".cpp" || ending == ".cu" || ending == ".cuh") files.push_back(entry.path());
    }
  }
  return files;
}

TEST(ArchitectureTest, RoomsIncludeOnlyWhatStandsBelowThem) {
  const std::vector<fs::path> files = sources();
  ASSERT_GT(files.size(), 50u) << "the tree was not found at " << source_dir;
  for (const fs::path& file : files) {
    const std::string path = fs::relative(file, source_dir).generic_string();
    for (const std::string& line : broken_rules(path, lines_of(file))) ADD_FAILURE() << line;
  }
}

TEST(ArchitectureTest, EveryFolderHasARuleOfItsOwn) {
  for (const fs::path& file : sources()) {
    const std::string folder = folder_of(fs::relative(file, source_dir).generic_string());
    EXPECT_TRUE(folder.starts_with("tests/") || may_include.contains(folder)) << folder;
  }
  for (const auto& [folder, places] : may_include) EXPECT_TRUE(fs::is_directory(source_dir / folder)) << folder << " is gone";
}

TEST(ArchitectureTest, FoldersDoNotIncludeEachOtherInACircle) {
  Arrows arrows;
  for (const fs::path& file : sources()) {
    const std::string path = fs::relative(file, source_dir).generic_string();
    if (!path.starts_with("tests/")) add_arrows(path, lines_of(file), arrows);
  }
  EXPECT_GT(arrows.size(), 10u);
  EXPECT_EQ(circle_of(arrows), "");
}

TEST(ArchitectureTest, NothingElseStandsAtTheTop) {
  const std::set<std::string> allowed{"CMakeLists.txt", "CMakePresets.json", "README.md"};
  for (const auto& entry : fs::directory_iterator(source_dir)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name.starts_with(".") || allowed.contains(name) || rooms.contains(name);
    const bool ignored_by_git = name.starts_with("build") || name == "runs";
    EXPECT_TRUE(ours || ignored_by_git) << name;
  }
  for (const std::string& name : allowed) EXPECT_TRUE(fs::exists(source_dir / name)) << name;
}

TEST(ArchitectureTest, EveryHeaderIsGuardedOnce) {
  for (const fs::path& file : sources()) {
    if (file.extension() != ".h" && file.extension() != ".cuh") continue;
    const std::vector<std::string> lines = lines_of(file);
    EXPECT_EQ(std::count(lines.begin(), lines.end(), "#pragma once"), 1) << file;
  }
}

TEST(ArchitectureTest, EveryCitationStandsInTheBibliography) {
  const std::regex citation(R"(\[([A-Z][A-Za-z]+[12][0-9]{3})[\],])");
  std::string bibliography;
  for (const std::string& line : lines_of(source_dir / "nets/README.md")) bibliography += line + "\n";
  int found = 0;
  for (const fs::path& file : sources()) {
    for (const std::string& line : lines_of(file)) {
      for (std::sregex_iterator match(line.begin(), line.end(), citation), end; match != end; ++match, ++found) {
        EXPECT_NE(bibliography.find("\n- [" + (*match)[1].str() + "] "), std::string::npos) << (*match)[1] << " in " << file;
      }
    }
  }
  EXPECT_GT(found, 20) << "no citations were found";
}

TEST(ArchitectureTest, EachRuleCanBeBroken) {
  EXPECT_EQ(broken_rules("kernels/cpu/conv.cpp", {"#include \"data/loader.h\""}).size(), 1u);
  EXPECT_EQ(broken_rules("engine/model.h", {"#pragma once", "#  include <kernels/backend.h>"}).size(), 1u);
  EXPECT_EQ(broken_rules("layers/conv.cpp", {"#include \"nets/nets.h\""}).size(), 1u);
  EXPECT_EQ(broken_rules("tools/train.cpp", {"#include <cuda_runtime.h>"}).size(), 1u);
  EXPECT_EQ(broken_rules("kernels/cuda/conv.cu", {"#include <dnnl.hpp>"}).size(), 1u);
  EXPECT_EQ(broken_rules("kernels/cuda/conv.cpp", {"#include <cudnn.h>"}).size(), 1u);
  EXPECT_EQ(broken_rules("kernels/cuda/backend.cpp", {"#include <nvtx3/nvToolsExt.h>"}).size(), 1u);
  EXPECT_EQ(broken_rules("tests/engine/fit_test.cpp", {"#include <hdf5.h>"}).size(), 1u);
  EXPECT_EQ(broken_rules("kernels/backend.cpp", {"#ifdef MICROTOME_CUDA"}).size(), 1u);
  const auto breaks = [](const std::string& path, const std::string& header) {
    return !broken_rules(path, {"#include \"" + header + "\""}).empty();
  };
  EXPECT_TRUE(breaks("bench/compare.cpp", "tools/profile/profile.h"));
  EXPECT_FALSE(breaks("bench/compare.cpp", "tools/statistics/timing_comparison.h"));
  EXPECT_TRUE(breaks("tools/profile.cpp", "bench/estimate.h"));
  EXPECT_TRUE(breaks("tools/profile/forecast.cpp", "bench/cases.h"));
  EXPECT_FALSE(breaks("tools/profile/forecast.cpp", "bench/estimate.h"));
  EXPECT_TRUE(breaks("tools/cli/run_folder.h", "data/loader.h"));
  EXPECT_FALSE(breaks("tools/cli/run_folder.h", "data/file.h"));
  EXPECT_TRUE(breaks("tools/cli/program.cpp", "tools/report/html.h"));
  EXPECT_TRUE(breaks("tools/statistics/auc_inference.cpp", "tools/cli/json.h"));
  EXPECT_TRUE(breaks("tools/report/html.cpp", "tools/study/tables.h"));
  EXPECT_TRUE(breaks("tools/study/deeper/page.cpp", "tools/tune/hyperband.h")) << "a folder without a rule has its parent's";
  EXPECT_TRUE(breaks("engine/kinds/pool.h", "engine/plan.h"));
  EXPECT_TRUE(breaks("kernels/backend.cpp", "kernels/cuda/ops.h"));
  EXPECT_TRUE(breaks("kernels/cpu/conv.cpp", "kernels/reference/reference.h"));
  EXPECT_TRUE(breaks("kernels/cuda/vendor/plans.h", "kernels/cuda/ops.h"));
  EXPECT_TRUE(breaks("kernels/cuda/profiling/trace.cpp", "kernels/cuda/vendor/cudnn.h"));
  EXPECT_TRUE(breaks("kernels/cuda/device/context.h", "kernels/cuda/vendor/plans.h"));
  EXPECT_FALSE(breaks("kernels/cuda/conv.cpp", "kernels/cuda/vendor/plans.h"));
  EXPECT_FALSE(breaks("tests/nets/densenet_test.cpp", "bench/chains.h"));
  EXPECT_FALSE(may_include.contains("tools/study/deeper"));

  Arrows arrows;
  add_arrows("tools/study/grid.cpp", {"#include \"tools/cli/json.h\"", "#include \"tools/study/cell.h\"", "#include <vector>"},
             arrows);
  add_arrows("tools/cli/json.h", {"#include \"data/file.h\""}, arrows);
  EXPECT_EQ(circle_of(arrows), "");
  add_arrows("data/file.cpp", {"#include \"tools/study/grid.h\""}, arrows);
  EXPECT_EQ(circle_of(arrows), "data -> tools/study -> tools/cli -> data");
  Arrows of_kinds;
  add_arrows("engine/plan.cpp", {"#include \"engine/kinds/visit.h\""}, of_kinds);
  add_arrows("engine/kinds/pool.h", {"#include \"engine/cost.h\""}, of_kinds);
  EXPECT_EQ(circle_of(of_kinds), "") << "kinds stand on some of the engine's headers, and the planner on kinds";
  add_arrows("engine/cost.h", {"#include \"engine/kinds/traffic.h\""}, of_kinds);
  EXPECT_NE(circle_of(of_kinds), "");
  EXPECT_EQ(
      broken_rules("tools/train.cpp", {"#include \"kernels/backend.h\"", "#include <vector>", "// #ifdef __CUDACC__"}).size(),
      0u);
  EXPECT_EQ(broken_rules("kernels/formulas/host_device.h", {"#ifdef __CUDACC__"}).size(), 0u);
}

}  // namespace
