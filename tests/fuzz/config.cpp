// A run's config.toml, as --config and --resume read it.
#include "fuzz/fuzz.h"
#include "tools/cli/arguments.h"

namespace microtome::fuzz {

namespace {

struct Program {
  Arguments arguments{"train", "", "", {}};
  std::string mode = "full", name;
  int epochs = 15;
  std::uint64_t seed = 0;
  double decay = 0;
  bool flag = false, shuffle = true;

  Program() {
    using enum Option::Kept;
    arguments.add({.name = "mode", .kept = fixed}, mode, {"full", "transfer"});
    arguments.add({.name = "name", .kept = free}, name);
    arguments.add({.name = "epochs", .kept = free}, epochs, {0, 1000});
    arguments.add({.name = "seed", .kept = fixed}, seed);
    arguments.add({.name = "decay", .kept = fixed}, decay, {0.0, 1.0});
    arguments.add_flag({.name = "flag", .kept = fixed}, flag);
    arguments.add_switch({.name = "shuffle", .kept = fixed}, shuffle);
  }
};

}  // namespace

std::vector<std::string> seeds() {
  return {Program().arguments.config(), "# a comment\nepochs = 3 # three\nmode = 'transfer'\n\nseed = 7\r\n",
          "\xef\xbb\xbf"
          "decay = \"1e-3\"\nflag = true\nshuffle = \"off\"\n",
          "unknown = \"a \\\" b\\n\""};
}

}  // namespace microtome::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace microtome::fuzz;
  static MemoryFile file;
  file.hold({bytes, size});
  Program read, again;
  if (may_refuse([&] { read.arguments.read_config(file.path()); })) {
    // What was understood is written so that it is understood again.
    const std::string config = read.arguments.config();
    file.hold(config);
    again.arguments.read_config(file.path());
    expect(again.arguments.config() == config, "a configuration does not come back as it was written");
    again.arguments.require_same(file.path(), "a run");
  }
  file.hold({bytes, size});
  may_refuse([&] { again.arguments.require_same(file.path(), "a run"); });
  Program other;
  other.arguments.ignore_foreign_settings();
  may_refuse([&] { other.arguments.read_config(file.path()); });
  return 0;
}
