// Writes a data set of synthetic tissue in one of the formats that are read.
#include "data/format.h"
#include "tools/cli/arguments.h"
#include "tools/cli/program.h"
#include "tools/cli/terminal.h"

namespace microtome {
namespace {

int synthesize(int argc, char** argv) {
  std::string format, out, usage, help;
  std::vector<std::string> names;
  for (const Format* each : formats()) {
    names.emplace_back(each->name);
    usage += fmt::format("{}{}", usage.empty() ? "" : "|", each->name);
    help += fmt::format("{}{}", help.empty() ? "" : ", or ", each->synthetic);
  }
  int train = 4096, valid = 512, test = 512;
  std::uint64_t seed = 0;
  bool quiet = false;
  Arguments arguments(
      "synthesize", "Make a data set of synthetic tissue: deterministic by seed, free of any patient.",
      usage + " --out DIR [options]",
      {"synthesize pcam --out synthetic --train 4096 --valid 512 --test 512", "synthesize idc --out synthetic-idc --seed 7"});
  arguments.add_positional({.name = "format", .help = help, .required = true}, format, names);
  arguments.add(
      {.name = "out", .letter = 'o', .placeholder = "DIR", .help = "a folder that is empty or not there yet", .required = true},
      out);
  arguments.add({.name = "train",
                 .help = "training patches; of idc the sum of the three alone counts, since its splits are dealt 8:1:1 by "
                         "patient when it is read",
                 .unit = "patches"},
                train, {2, 100'000'000});
  arguments.add({.name = "valid", .help = "validation patches", .unit = "patches"}, valid, {2, 100'000'000});
  arguments.add({.name = "test", .help = "test patches", .unit = "patches"}, test, {2, 100'000'000});
  arguments.add({.name = "seed", .help = "another seed, other tissue"}, seed);
  arguments.add_flag({.name = "quiet", .letter = 'q', .help = "errors alone on stderr"}, quiet);
  if (!arguments.parse(argc, argv)) return 0;
  arguments.require_all();

  Terminal terminal(quiet ? Verbosity::quiet : Verbosity::normal);
  const SynthesizeOptions options{.train = train,
                                  .valid = valid,
                                  .test = test,
                                  .seed = seed,
                                  .progress = [&terminal](std::string_view what, std::int64_t done, std::int64_t of) {
                                    terminal.progress(what, done, of);
                                  }};
  find_format(format).synthesize(out, options);
  terminal.clear_progress();
  fmt::print("{} patches in {}\n", with_separators(std::int64_t{train} + valid + test), out);
  return 0;
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("synthesize", [&] { return microtome::synthesize(argc, argv); });
}
