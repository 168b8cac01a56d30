// Looks after data sets: `data verify` reads every image and says what is there; `data audit`, whether its figures can be
// believed.
#include "engine/check.h"
#include "tools/cli/json.h"
#include "tools/cli/program.h"
#include "tools/options/common.h"
#include "tools/report/audit.h"

#include <algorithm>
#include <cstdio>

namespace microtome {
namespace {

Json to_json(const Images& images) {
  const auto ones = std::count(images.labels.begin(), images.labels.end(), std::uint8_t{1});
  return {{"images", images.shape.n},
          {"shape", {images.shape.h, images.shape.w, images.shape.c}},
          {"class_0", images.shape.n - ones},
          {"class_1", ones}};
}

struct DataSettings : Settings {
  std::string job;
  bool json = false, gate = false;
};

int run_verify(const DataSettings& s, Terminal& terminal) {
  const auto [data, problems] = verify(s.data, load_options(s, terminal));
  terminal.clear_progress();
  for (const Error& problem : problems) std::fputs(to_text(problem, "data").c_str(), stderr);
  if (problems.size() > 1) fmt::print(stderr, "data: error: {} things are wrong with {}\n", problems.size(), s.data);
  if (s.json) {
    Json wrong = Json::array();
    for (const Error& problem : problems) {
      const Report& report = problem.report();
      wrong.push_back({{"what", problem.what()},
                       {"where", report.where},
                       {"expected", report.expected},
                       {"found", report.found},
                       {"next", report.next}});
    }
    const Json document{{"data", s.data},
                        {"format", data.name},
                        {"sound", problems.empty()},
                        {"problems", wrong},
                        {"train", to_json(data.train)},
                        {"valid", to_json(data.valid)},
                        {"test", to_json(data.test)},
                        {"notes", data.notes}};
    fmt::print("{}", to_text(document));
  }
  if (!problems.empty()) return static_cast<int>(ExitCode::data);
  if (s.json) return 0;
  fmt::print("{} is sound, in {}'s format\n", s.data, data.name);
  fmt::print("train  {}\nvalid  {}\ntest   {}\n", describe_images(data.train), describe_images(data.valid),
             describe_images(data.test));
  for (const std::string& note : data.notes) fmt::print("note   {}\n", note);
  return 0;
}

int run_audit(const DataSettings& s, Terminal& terminal) {
  const Audit found = audit(s.data, load_options(s, terminal));
  terminal.clear_progress();
  if (s.json) {
    Json document{{"data", s.data}};
    document.update(to_json(found));
    fmt::print("{}", to_text(document));
  } else {
    fmt::print("{}", to_text(found));
  }
  const bool apart = found.images() > 0 && !found.leaks();
  return static_cast<int>(s.gate && !apart ? ExitCode::verdict : ExitCode::done);
}

int data(int argc, char** argv) {
  DataSettings s;
  Arguments arguments(
      "data", "Read a whole data set and say what is there, or what is wrong with it.", "verify|audit --data DIR [options]",
      {"data verify --data ~/pcam", "data audit --data ~/idc --split-by patch --json", "data audit --data ~/pcam --gate"});
  arguments.ignore_foreign_settings();
  arguments.add_positional(
      {.name = "job",
       .help = "verify: read and check every image; audit: look for duplicates, patients or slides in several "
               "splits, contradictory labels, odd sizes, and files that are not the published ones",
       .required = true},
      s.job, {"verify", "audit"});
  add_data(arguments, s);
  arguments.add_flag({.name = "gate", .help = "audit: exit code 7 where images, patients or slides are in several splits"},
                     s.gate);
  arguments.add_flag({.name = "json", .help = "print one JSON document on stdout"}, s.json);
  add_verbosity(arguments, s);
  if (!arguments.parse(argc, argv)) return 0;
  arguments.require_all();
  if (s.gate && s.job != "audit")
    fail(ExitCode::usage, "--gate belongs to audit", {.next = fmt::format("data audit --data {} --gate", s.data)});

  Terminal terminal(s.json || s.quiet ? Verbosity::quiet : Verbosity::normal);
  return s.job == "verify" ? run_verify(s, terminal) : run_audit(s, terminal);
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("data", [&] { return microtome::data(argc, argv); });
}
