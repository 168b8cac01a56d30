// The rooms and who may include whom, held over the whole tree: siblings do not include each other, vendors stay in their
// rooms, no source chooses a backend by a macro, nothing else stands at the top.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
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

/// Which rooms each room may include; those not named here, any.
const std::map<std::string, std::set<std::string>> may_include{
    {"engine", {"engine"}},           {"kernels", {"engine", "kernels"}},
    {"layers", {"engine", "layers"}}, {"nets", {"engine", "layers", "nets"}},
    {"data", {"engine", "data"}},
};

/// A vendor's headers, and the folders that may see them.
struct Vendor {
  std::regex header;
  std::vector<std::string> folders;
};
const std::vector<Vendor> vendors{
    {std::regex("cuda.*|cudnn.*|cublas.*|cub/.*|nvtx.*|cupti.*|nccl.*|nv[a-z]+\\.h"), {"kernels/", "tests/kernels/"}},
    {std::regex("(oneapi/)?dnnl.*"), {"kernels/cpu/", "tests/kernels/"}},
    {std::regex("hdf5.*|H5.*|png\\.h|zlib\\.h"), {"data/", "tests/data/"}},
};

const std::regex include_line(R"re(^\s*#\s*include\s*[<"]([^>"]+)[>"])re");
const std::regex backend_macro(R"re(^\s*#\s*(if|ifdef|ifndef|elif)\b.*(CUDA|CUDNN|NVCC|DNNL|ONEDNN|MICROTOME_))re");

/// What a file at `path` (relative to the top) with these lines breaks, a line each.
std::vector<std::string> broken_rules(const std::string& path, const std::vector<std::string>& lines) {
  std::vector<std::string> broken;
  const std::string room = path.substr(0, path.find('/'));
  const auto rule = may_include.find(room);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto say = [&](const std::string& what) { broken.push_back(path + ":" + std::to_string(i + 1) + ": " + what); };
    std::smatch match;
    if (std::regex_search(lines[i], match, include_line)) {
      const std::string header = match[1];
      const std::string other = header.substr(0, header.find('/'));
      if (rule != may_include.end() && rooms.contains(other) && !rule->second.contains(other))
        say(room + " includes " + header);
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

TEST(HouseTest, RoomsIncludeOnlyWhatStandsBelowThem) {
  const std::vector<fs::path> files = sources();
  ASSERT_GT(files.size(), 50u) << "the tree was not found at " << source_dir;
  for (const fs::path& file : files) {
    const std::string path = fs::relative(file, source_dir).generic_string();
    for (const std::string& line : broken_rules(path, lines_of(file))) ADD_FAILURE() << line;
  }
}

TEST(HouseTest, NothingElseStandsAtTheTop) {
  const std::set<std::string> allowed{"CMakeLists.txt", "CMakePresets.json", "README.md"};
  for (const auto& entry : fs::directory_iterator(source_dir)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name.starts_with(".") || allowed.contains(name) || rooms.contains(name);
    const bool ignored_by_git = name.starts_with("build") || name == "runs";
    EXPECT_TRUE(ours || ignored_by_git) << name;
  }
  for (const std::string& name : allowed) EXPECT_TRUE(fs::exists(source_dir / name)) << name;
}

TEST(HouseTest, EveryHeaderIsGuardedOnce) {
  for (const fs::path& file : sources()) {
    if (file.extension() != ".h" && file.extension() != ".cuh") continue;
    const std::vector<std::string> lines = lines_of(file);
    EXPECT_EQ(std::count(lines.begin(), lines.end(), "#pragma once"), 1) << file;
  }
}

TEST(HouseTest, EveryCitationStandsInTheBibliography) {
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

TEST(HouseTest, EachRuleCanBeBroken) {
  EXPECT_EQ(broken_rules("kernels/cpu/conv.cpp", {"#include \"data/loader.h\""}).size(), 1u);
  EXPECT_EQ(broken_rules("engine/model.h", {"#pragma once", "#  include <kernels/backend.h>"}).size(), 1u);
  EXPECT_EQ(broken_rules("layers/conv.cpp", {"#include \"nets/nets.h\""}).size(), 1u);
  EXPECT_EQ(broken_rules("tools/train.cpp", {"#include <cuda_runtime.h>"}).size(), 1u);
  EXPECT_EQ(broken_rules("kernels/cuda/conv.cu", {"#include <dnnl.hpp>"}).size(), 1u);
  EXPECT_EQ(broken_rules("tests/engine/fit_test.cpp", {"#include <hdf5.h>"}).size(), 1u);
  EXPECT_EQ(broken_rules("kernels/backend.cpp", {"#ifdef MICROTOME_CUDA"}).size(), 1u);
  EXPECT_EQ(
      broken_rules("tools/train.cpp", {"#include \"kernels/backend.h\"", "#include <vector>", "// #ifdef __CUDACC__"}).size(),
      0u);
  EXPECT_EQ(broken_rules("kernels/formulas/host_device.h", {"#ifdef __CUDACC__"}).size(), 0u);
}

}  // namespace
