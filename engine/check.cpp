#include "engine/check.h"

#include "engine/one_line.h"

#include <utility>

namespace microtome {

Error::Error(ExitCode code, const std::string& what, Report report, std::source_location at)
    : std::runtime_error(what), code_(code), report_(std::move(report)), at_(at) {}

Error& Error::within(std::string_view outer) {
  report_.where = report_.where.empty() ? std::string(outer) : fmt::format("{}, {}", outer, report_.where);
  return *this;
}

std::string to_text(const Error& error, std::string_view program) {
  std::string text = fmt::format("{}: error: {}\n", program, one_line(error.what()));
  const auto line = [&text](std::string_view label, const std::string& value) {
    if (!value.empty()) text += fmt::format("  {:<9} {}\n", label, one_line(value));
  };
  line("where:", error.report().where);
  line("expected:", error.report().expected);
  line("found:", error.report().found);
  line("next:", error.report().next);
  if (error.code() == ExitCode::bug) line("source:", fmt::format("{}:{}", error.at().file_name(), error.at().line()));
  return text;
}

void fail(ExitCode code, const std::string& what, Report report, std::source_location at) {
  throw Error(code, what, std::move(report), at);
}

void fail_memory(const std::string& what, Report report, std::source_location at) {
  throw OutOfMemory(ExitCode::memory, what, std::move(report), at);
}

}  // namespace microtome
