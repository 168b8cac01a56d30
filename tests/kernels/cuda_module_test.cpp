// What is said of a CUDA module that is missing or of no use: by a program of its own beside modules and drivers that are none.
#include "kernels/cuda_module.h"
#include "engine/check.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>

namespace fs = std::filesystem;

namespace microtome {
namespace {

struct Ended {
  int code;
  std::string text;  // stdout and stderr
};

/// A folder with the program in it, and what else belongs there.
class CudaModuleTest : public testing::Test {
 protected:
  CudaModuleTest() {
    std::string name = fs::temp_directory_path() / "cuda_module_XXXXXX";
    folder_ = mkdtemp(name.data());
    put(OPEN_BACKEND, "bin/open_backend");
  }
  ~CudaModuleTest() override { fs::remove_all(folder_); }

  void put(const fs::path& file, const fs::path& as) const {
    fs::create_directories((folder_ / as).parent_path());
    fs::copy_file(file, folder_ / as);
  }
  void put_module(const fs::path& file) const { put(file, "bin/libmicrotome_cuda.so"); }

  Ended run(const std::string& device, const std::string& program = "bin/open_backend") const {
    const std::string command = (driver_.empty() ? "" : "LD_LIBRARY_PATH='" + driver_ + "'") + " '" +
                                (folder_ / program).string() + "' " + device + " 2>&1";
    FILE* const pipe = popen(command.c_str(), "r");
    Ended ended{};
    for (int c; (c = std::fgetc(pipe)) != EOF;) ended.text += static_cast<char>(c);
    const int status = pclose(pipe);
    ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return ended;
  }

  /// Each part in its line, in this order.
  static void expect(const Ended& ended, ExitCode code, std::initializer_list<std::string> parts) {
    EXPECT_EQ(ended.code, static_cast<int>(code)) << ended.text;
    std::size_t at = 0;
    for (const std::string& part : parts) {
      at = ended.text.find(part, at);
      ASSERT_NE(at, std::string::npos) << "lacks: " << part << "\n" << ended.text;
    }
  }

  std::string module_path() const { return (folder_ / "bin/libmicrotome_cuda.so").string(); }

  fs::path folder_;
  std::string driver_ = OLD_DRIVER_FOLDER;
};

TEST_F(CudaModuleTest, IsMissing) {
  expect(run("cuda:0"), ExitCode::machine,
         {"Error\nopen_backend: error: there is no CUDA module\n", "expected: libmicrotome_cuda.so",
          "next:     use --device cpu"});
  EXPECT_EQ(run("auto").text, "cpu\n");
}

TEST_F(CudaModuleTest, IsNotOpenedWithoutADriver) {
  if (dlopen("libcuda.so.1", RTLD_LAZY) != nullptr) GTEST_SKIP() << "there is a driver";
  driver_.clear();
  put_module(FAKE_MODULE);
  expect(run("cuda:0"), ExitCode::machine, {"error: there is no NVIDIA driver\n", "found:    libcuda.so.1: ", "next: "});
  EXPECT_EQ(run("auto").text, "cpu\n");
}

TEST_F(CudaModuleTest, IsNotOpenedForTheCpu) {
  put_module(FAKE_MODULE);
  EXPECT_EQ(run("cpu").text, "cpu\n");
  EXPECT_EQ(run("reference").text, "reference\n");
}

TEST_F(CudaModuleTest, WhatItThrowsArrivesAsWhatItIs) {
  put_module(FAKE_MODULE);
  const std::string left = "maps libcuda.so.1\nmaps libmicrotome_cuda.so\n";
  const Ended error = run("cuda:0");
  EXPECT_EQ(error.code, 6);
  EXPECT_EQ(error.text, "Error\nopen_backend: error: thrown in the module\n  found:    nothing\n" + left);
  EXPECT_EQ(run("auto").text, error.text) << "the driver has a GPU";
  const Ended memory = run("cuda:1");
  EXPECT_EQ(memory.code, 5);
  EXPECT_EQ(memory.text, "OutOfMemory\nopen_backend: error: no room in the module\n" + left);
  EXPECT_EQ(run("cuda:2").text, "bad_alloc\n" + left);
}

TEST_F(CudaModuleTest, IsFoundInstalledAndBuiltAndFirstBesideTheProgram) {
  const auto found = [this](const std::string& program) { return run("cuda:0", program).code == 6; };
  for (const std::string program : {"libexec/microtome/one", "tools/one", "tests/kernels/one"}) {
    put(OPEN_BACKEND, program);
    EXPECT_FALSE(found(program)) << program;
  }
  put(FAKE_MODULE, ("libexec/microtome" / fs::path(MODULES_FROM_PROGRAMS) / "libmicrotome_cuda.so").lexically_normal());
  EXPECT_TRUE(found("libexec/microtome/one"));
  EXPECT_FALSE(found("tools/one"));
  put(FAKE_MODULE, "kernels/cuda/libmicrotome_cuda.so");
  EXPECT_TRUE(found("tools/one"));
  EXPECT_TRUE(found("tests/kernels/one"));
  put(OTHER_MODULE, "tools/libmicrotome_cuda.so");
  EXPECT_FALSE(found("tools/one"));
}

TEST_F(CudaModuleTest, OfAnotherVersionIsAskedNothingElse) {
  put_module(OTHER_MODULE);
  expect(run("cuda:0"), ExitCode::machine,
         {"error: the CUDA module is of another version than the program\n", "where:    " + module_path() + "\n",
          std::string("expected: ") + cuda_module_version + "\n", "found:    Microtome 0.0.9\n", "next: "});
}

TEST_F(CudaModuleTest, WithoutALibraryOfItsOwnNamesIt) {
  put_module(LACKING_MODULE);
  expect(run("cuda:0"), ExitCode::machine,
         {"error: the CUDA module cannot be loaded\n", "where:    " + module_path() + "\n",
          "found:    libnowhere.so: ", "next: "});
}

TEST_F(CudaModuleTest, IsNoModuleAtAll) {
  std::ofstream(module_path()) << "no library\n";
  expect(run("cuda:0"), ExitCode::machine, {"error: the CUDA module cannot be loaded\n", "found:    " + module_path() + ": "});
  fs::remove(module_path());
  put_module(OLD_DRIVER_FOLDER "/libcuda.so.1");
  expect(run("cuda:0"), ExitCode::machine,
         {"error: the CUDA module is none of Microtome's\n", "where:    " + module_path() + "\n", "microtome_cuda_module"});
}

TEST_F(CudaModuleTest, IsCutShort) {
  for (const std::uintmax_t part : {0, 1, 50, 99}) {
    put_module(FAKE_MODULE);
    fs::resize_file(module_path(), fs::file_size(FAKE_MODULE) * part / 100);
    expect(run("cuda:0"), ExitCode::machine,
           {part == 0 ? "error: the CUDA module cannot be loaded\n" : "error: the CUDA module is cut short\n",
            "where:    " + module_path() + "\n"});
    fs::remove(module_path());
  }
}

TEST_F(CudaModuleTest, ThatCannotBeUsedIsAWarningWhereAGpuIsOnlyLookedFor) {
  put_module(OTHER_MODULE);
  const Ended ended = run("auto");
  expect(ended, ExitCode::done,
         {"warning: the CPU computes: the CUDA module is of another version than the program (Microtome 0.0.9); ", "cpu\n"});
}

TEST_F(CudaModuleTest, AsBuiltFindsADriverTooOld) {
  if (std::string(CUDA_MODULE).empty()) GTEST_SKIP() << "built without CUDA";
  put_module(CUDA_MODULE);
  expect(run("cuda:0"), ExitCode::machine,
         {"error: the NVIDIA driver is older than Microtome's CUDA\n", "expected: a driver for CUDA 1",
          "found:    one for CUDA 11.0\n", "next: "});
}

}  // namespace
}  // namespace microtome
