// What our programs wrote as JSON, read again.
#pragma once

#include "tools/cli/json.h"

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace microtome {

/// The document in a text; none where it is no JSON, with the reason in `why`, or nests deeper than any document of ours:
/// whoever writes such a one out again, in a message for instance, would have no stack left.
std::optional<Json> parse_json(std::string_view text, std::string* why = nullptr);
/// That in a file; none also where there is no file. Throws Error(ExitCode::data) where the file cannot be read.
std::optional<Json> read_json(const std::filesystem::path& file, std::string* why = nullptr);

/// A value for a message: at most some hundred bytes.
std::string brief(const Json& value);

}  // namespace microtome
