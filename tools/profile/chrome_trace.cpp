#include "tools/profile/chrome_trace.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <set>

namespace microtome {
namespace {

using Json = nlohmann::ordered_json;

constexpr int steps_stream = -1;  // above the device's own

std::string_view category(Activity::Kind kind) {
  switch (kind) {
    case Activity::Kind::op: return "cpu_op";
    case Activity::Kind::kernel: return "kernel";
    case Activity::Kind::copy: return "gpu_memcpy";
    case Activity::Kind::fill: return "gpu_memset";
  }
  return "?";
}

std::string scope_text(const Activity& a) {
  if (!a.attributed) return "unattributed";
  return a.scope.row.empty() ? std::string(name(a.scope.pass)) : fmt::format("{} {}", a.scope.row, name(a.scope.pass));
}

/// Times in microseconds, as the format has them.
Json complete(std::string_view what, std::string_view in, int stream, std::int64_t start_ns, std::int64_t end_ns,
              std::int64_t zero_ns) {
  const auto microseconds = [](std::int64_t ns) { return static_cast<double>(ns) * 1e-3; };
  return {{"ph", "X"},
          {"cat", in},
          {"name", what},
          {"pid", 0},
          {"tid", stream},
          {"ts", microseconds(start_ns - zero_ns)},
          {"dur", microseconds(end_ns - start_ns)}};
}

Json thread_name(int stream, const std::string& text) {
  return {{"ph", "M"}, {"name", "thread_name"}, {"pid", 0}, {"tid", stream}, {"args", {{"name", text}}}};
}

Json arguments_of(const Activity& a) {
  Json args{{"layer", a.attributed ? a.scope.row : ""},
            {"pass", a.attributed ? name(a.scope.pass) : ""},
            {"device", 0},
            {"stream", a.stream}};
  if (a.kind == Activity::Kind::kernel) {
    args["grid"] = a.launch.grid;
    args["block"] = a.launch.block;
    args["registers per thread"] = a.launch.registers;
    args["shared memory"] = a.launch.shared_bytes;
    args["local memory per thread"] = a.launch.local_bytes;
  }
  if (a.bytes > 0) args["bytes"] = a.bytes;
  return args;
}

}  // namespace

std::string trace_events(std::span<const Recorded> steps, std::string_view device) {
  Json events = Json::array();
  events.push_back({{"ph", "M"}, {"name", "process_name"}, {"pid", 0}, {"args", {{"name", device}}}});
  events.push_back(thread_name(steps_stream, "steps"));
  std::set<int> streams;
  const std::int64_t zero_ns = steps.empty() ? 0 : steps.front().start_ns;
  int number = 0;
  for (const Recorded& step : steps) {
    events.push_back(complete(fmt::format("ProfilerStep#{}", number++), "user_annotation", steps_stream, step.start_ns,
                              step.end_ns, zero_ns));
    for (const Activity& a : step.activities) {
      if (a.end_ns < a.start_ns) continue;
      streams.insert(a.stream);
      Json event = complete(a.name.empty() ? scope_text(a) : a.name, category(a.kind), a.stream, a.start_ns, a.end_ns, zero_ns);
      event["args"] = arguments_of(a);
      events.push_back(std::move(event));
    }
  }
  for (const int stream : streams) events.push_back(thread_name(stream, fmt::format("stream {}", stream)));
  const Json document{{"schemaVersion", 1},
                      {"displayTimeUnit", "ms"},
                      {"deviceProperties", Json::array({{{"id", 0}, {"name", device}}})},
                      {"traceEvents", std::move(events)}};
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace microtome
