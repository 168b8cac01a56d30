#include "engine/host_memory.h"

#include "engine/check.h"

#include <gtest/gtest.h>

#include <fstream>

namespace fs = std::filesystem;

namespace microtome {
namespace {

constexpr std::size_t gib = std::size_t{1} << 30;

/// A root with files of /proc and /sys as Linux writes them.
class HostMemoryTest : public testing::Test {
 protected:
  HostMemoryTest() {
    std::string name = (fs::temp_directory_path() / "microtome-root-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
    root_ = name;
    put("proc/meminfo", "MemTotal:       67108864 kB\nMemFree:         1048576 kB\nMemAvailable:   33554432 kB\n");
    put("proc/self/status", "Name:\ttrain\nVmSize:\t 2097152 kB\nVmData:\t 1048576 kB\n");
    limits("unlimited", "unlimited");
  }
  ~HostMemoryTest() override { fs::remove_all(root_); }

  void put(const std::string& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  void limits(const std::string& data, const std::string& space) const {
    put("proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max data size             " +
            data +
            "            unlimited            bytes     \n"
            "Max address space         " +
            space + "            unlimited            bytes     \n");
  }
  void group2(const std::string& path, const std::string& limit, std::size_t used, std::size_t cache = 0) const {
    const std::string folder = "sys/fs/cgroup" + path + "/";
    put(folder + "memory.max", limit + "\n");
    put(folder + "memory.current", std::to_string(used) + "\n");
    put(folder + "memory.stat", "anon 5\nactive_file 0\ninactive_file " + std::to_string(cache) + "\n");
  }
  void group1(const std::string& path, std::size_t limit, std::size_t used, std::size_t cache = 0) const {
    const std::string folder = "sys/fs/cgroup/memory" + path + "/";
    put(folder + "memory.limit_in_bytes", std::to_string(limit) + "\n");
    put(folder + "memory.usage_in_bytes", std::to_string(used) + "\n");
    put(folder + "memory.stat", "inactive_file 7\ntotal_inactive_file " + std::to_string(cache) + "\ntotal_active_file 0\n");
  }
  static constexpr const char* mount2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
  static constexpr const char* mount1 =
      "33 25 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
      "34 25 0:30 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n";

  HostMemory look() const { return host_memory(root_); }

  fs::path root_;
};

TEST_F(HostMemoryTest, WithoutLimitsTheMachineCounts) {
  const HostMemory memory = look();
  EXPECT_EQ(memory.total_bytes, 64 * gib);
  EXPECT_EQ(memory.available_bytes, 32 * gib);
  EXPECT_EQ(memory.bound, "the machine");
  EXPECT_FALSE(memory.limited);
}

TEST_F(HostMemoryTest, OfNestedGroupsTheSmallestCountsWhereverItIsSet) {
  put("proc/self/cgroup", "0::/slurm/job_7/step_0/task_0\n");
  put("proc/self/mountinfo", mount2);
  group2("/slurm", "max", 50 * gib);
  group2("/slurm/job_7", std::to_string(8 * gib), 3 * gib);
  group2("/slurm/job_7/step_0", "max", 3 * gib);
  group2("/slurm/job_7/step_0/task_0", "max", gib);
  EXPECT_EQ(look().available_bytes, 5 * gib) << "set by an ancestor, for all of its children together";
  EXPECT_EQ(look().total_bytes, 8 * gib);
  EXPECT_NE(look().bound.find("/slurm/job_7"), std::string::npos) << look().bound;
  group2("/slurm/job_7/step_0/task_0", std::to_string(2 * gib), gib);
  EXPECT_EQ(look().available_bytes, gib);
  EXPECT_NE(look().bound.find("task_0"), std::string::npos) << look().bound;
}

TEST_F(HostMemoryTest, VersionOneCountsInItsOwnHierarchyAndItsNoLimitIsNone) {
  put("proc/self/cgroup", "9:cpu,cpuacct:/elsewhere\n4:memory:/uid_0/job_7\n0::/\n");
  put("proc/self/mountinfo", mount1);
  group1("", 9223372036854771712u, 60 * gib);
  group1("/uid_0", 9223372036854771712u, 10 * gib);
  EXPECT_EQ(look().available_bytes, 32 * gib);
  group1("/uid_0/job_7", 4 * gib, 3 * gib);
  EXPECT_EQ(look().available_bytes, gib);
  group1("/uid_0", 16 * gib, 16 * gib - gib / 2);
  EXPECT_EQ(look().available_bytes, gib / 2);
}

TEST_F(HostMemoryTest, WhatTheCacheOfFilesHoldsCanBeHadAgain) {
  put("proc/self/cgroup", "0::/job\n");
  put("proc/self/mountinfo", mount2);
  group2("/job", std::to_string(8 * gib), 7 * gib, 5 * gib);
  EXPECT_EQ(look().available_bytes, 6 * gib);
  put("proc/self/cgroup", "4:memory:/job\n");
  put("proc/self/mountinfo", mount1);
  group1("/job", 8 * gib, 7 * gib, 4 * gib);
  EXPECT_EQ(look().available_bytes, 5 * gib);
}

TEST_F(HostMemoryTest, InAContainerWhatIsMountedCounts) {
  put("proc/self/cgroup", "0::/\n");  // as a namespace of its own tells it
  put("proc/self/mountinfo", mount2);
  group2("", std::to_string(3 * gib), gib);
  EXPECT_EQ(look().available_bytes, 2 * gib);
  // Mounted without a namespace: the path is the outside's, and the mount is a part of it.
  put("proc/self/cgroup", "4:memory:/docker/0123/inner\n");
  put("proc/self/mountinfo", "34 25 0:30 /docker/0123 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  group1("", 5 * gib, gib);
  EXPECT_EQ(look().available_bytes, 4 * gib);
  group1("/inner", 4 * gib, gib);
  EXPECT_EQ(look().available_bytes, 3 * gib);
}

TEST_F(HostMemoryTest, LimitsOfTheProcessCount) {
  limits("unlimited", std::to_string(3 * gib));
  EXPECT_EQ(look().available_bytes, gib);
  EXPECT_TRUE(look().limited);
  EXPECT_NE(look().bound.find("ulimit -v"), std::string::npos) << look().bound;
  limits(std::to_string(gib + gib / 2), std::to_string(8 * gib));
  EXPECT_EQ(look().available_bytes, gib / 2);
  EXPECT_NE(look().bound.find("ulimit -d"), std::string::npos) << look().bound;
  limits("unlimited", std::to_string(gib));  // lowered below what is in use already
  EXPECT_EQ(look().available_bytes, 0u);
}

TEST_F(HostMemoryTest, WhereNothingIsSaidNothingIsLimited) {
  fs::remove_all(root_ / "proc");
  EXPECT_GT(look().available_bytes, std::size_t{1} << 60);
}

TEST_F(HostMemoryTest, ThisMachineSaysSomethingSensible) {
  const HostMemory memory = host_memory();
  EXPECT_GT(memory.available_bytes, std::size_t{1} << 20);
  EXPECT_LE(memory.available_bytes, memory.total_bytes);
  EXPECT_LT(memory.total_bytes, std::size_t{1} << 50);
  EXPECT_NE(to_text(memory).find(" GB available, by "), std::string::npos);
}

}  // namespace
}  // namespace microtome
