#include "tools/cli/documents.h"

#include "data/file.h"
#include "engine/check.h"

namespace microtome {
namespace {

constexpr int deepest = 32;
constexpr std::size_t longest_message = 200;

std::string cut(std::string text) {
  if (text.size() <= longest_message) return text;
  return text.substr(0, longest_message) + "…";
}

}  // namespace

std::optional<Json> parse_json(std::string_view text, std::string* why) {
  bool too_deep = false;
  const auto within_depth = [&too_deep](int depth, Json::parse_event_t, Json&) {
    too_deep |= depth > deepest;
    return depth <= deepest;
  };
  std::string reason;
  try {
    Json document = Json::parse(text, within_depth);
    if (!too_deep) return document;
    reason = fmt::format("values nested more than {} deep", deepest);
  } catch (const Json::exception& error) {
    reason = cut(error.what());
  }
  if (why) *why = reason;
  return std::nullopt;
}

std::optional<Json> read_json(const std::filesystem::path& file, std::string* why) {
  std::error_code failure;
  if (std::filesystem::status(file, failure).type() == std::filesystem::file_type::not_found) {
    if (why) *why = "no such file";
    return std::nullopt;
  }
  return parse_json(read_text(file, ExitCode::data), why);
}

std::string brief(const Json& value) {
  return cut(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace microtome
