// Looks after data sets: `data verify` reads every image and says what is there.
#include "tools/program.h"
#include "tools/run_folder.h"
#include "tools/settings.h"

#include <algorithm>

namespace microtome {
namespace {

Json to_json(const Images& images) {
  const auto ones = std::count(images.labels.begin(), images.labels.end(), std::uint8_t{1});
  return {{"images", images.shape.n},
          {"shape", {images.shape.h, images.shape.w, images.shape.c}},
          {"class_0", images.shape.n - ones},
          {"class_1", ones}};
}

int data(int argc, char** argv) {
  std::string job;
  Settings s;
  bool json = false;
  Arguments arguments("data", "Read a whole data set and say what is there, or what is wrong with it.",
                      "verify --data DIR [options]",
                      {"data verify --data ~/pcam", "data verify --data ~/idc --split-by patch --json"});
  arguments.ignore_foreign_settings();
  arguments.add_positional({.name = "job", .help = "read and check every image", .required = true}, job, {"verify"});
  add_data(arguments, s);
  arguments.add_flag({.name = "json", .help = "print one JSON document on stdout"}, json);
  add_verbosity(arguments, s);
  if (!arguments.parse(argc, argv)) return 0;
  arguments.require_all();

  Terminal terminal(json || s.quiet ? Verbosity::quiet : Verbosity::normal);
  LoadOptions options = load_options(s, terminal);
  const Dataset data = load(s.data, options);
  terminal.clear_progress();
  if (json) {
    const Json document{{"data", s.data},
                        {"format", data.name},
                        {"train", to_json(data.train)},
                        {"valid", to_json(data.valid)},
                        {"test", to_json(data.test)},
                        {"notes", data.notes}};
    fmt::print("{}", to_text(document));
    return 0;
  }
  fmt::print("{} is sound, in {}'s format\n", s.data, data.name);
  fmt::print("train  {}\nvalid  {}\ntest   {}\n", describe_images(data.train), describe_images(data.valid),
             describe_images(data.test));
  for (const std::string& note : data.notes) fmt::print("note   {}\n", note);
  return 0;
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("data", [&] { return microtome::data(argc, argv); });
}
