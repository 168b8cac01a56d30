// A fuzz target without a fuzzer: its seeds, files of folders, and mutations of both, the same every time.
//   TARGET_replay [MUTATIONS] [FOLDER…]
//   TARGET_replay --seeds DIR             writes the seeds, for libFuzzer to begin with
#include "fuzz/fuzz.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using namespace microtome::fuzz;

/// What is being read: left behind where reading it ends the process.
std::string current;

void run(const std::string& input) {
  current = input;
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

[[noreturn]] void report() {
  std::ofstream("found", std::ios::binary) << current;
  std::fputs("what was being read is in the file `found`\n", stderr);
  std::_Exit(1);
}

std::string mutated(std::string input, const std::vector<std::string>& all, std::mt19937_64& random) {
  const auto below = [&](std::size_t bound) { return bound == 0 ? 0 : static_cast<std::size_t>(random() % bound); };
  for (std::size_t changes = 1 + below(4); changes > 0; --changes) {
    const std::size_t at = below(input.size() + 1), count = below(std::min<std::size_t>(input.size() - at, 16) + 1);
    switch (below(7)) {
      case 0: input.erase(at, count); break;
      case 1: input.resize(at); break;
      case 2: input.insert(at, input.substr(below(input.size() + 1), 1 + below(32))); break;
      case 3: input.insert(at, 1 + below(4), static_cast<char>(random())); break;
      case 4: {
        const std::string& other = all[below(all.size())];
        input.resize(at);
        input += other.substr(below(other.size() + 1));
        break;
      }
      case 5:
        if (at < input.size()) input[at] = static_cast<char>("\0\xff\x7f\x80 0-1\"{[,\n"[below(14)]);
        break;
      default:
        if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << below(8)));
    }
  }
  return input;
}

std::string contents_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> all = seeds();
  if (argc == 3 && std::string(argv[1]) == "--seeds") {
    fs::create_directories(argv[2]);
    for (std::size_t i = 0; i < all.size(); ++i)
      std::ofstream(fs::path(argv[2]) / ("seed" + std::to_string(i)), std::ios::binary) << all[i];
    return 0;
  }
  const long mutations = argc > 1 ? std::atol(argv[1]) : 2000;
  std::error_code none;
  for (int i = 2; i < argc; ++i) {
    for (const auto& entry : fs::directory_iterator(argv[i], none)) all.push_back(contents_of(entry.path()));
  }
  std::set_terminate([] { report(); });
  std::signal(SIGABRT, [](int) { report(); });
  std::signal(SIGSEGV, [](int) { report(); });
  for (const std::string& input : all) run(input);
  std::mt19937_64 random(1);
  for (long i = 0; i < mutations; ++i) run(mutated(all[random() % all.size()], all, random));
  std::printf("%zu seeds, %ld mutations\n", all.size(), mutations);
}
