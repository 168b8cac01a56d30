// What our programs say to scripts.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

namespace microtome {

using Json = nlohmann::ordered_json;

/// A document for people and scripts; bytes of a path that are no UTF-8 are replaced.
std::string to_text(const Json& document);

}  // namespace microtome
