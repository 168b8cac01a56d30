// What our programs say to scripts.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

namespace microtome {

using Json = nlohmann::ordered_json;

/// A document for people and scripts; bytes of a path that are no UTF-8 are replaced.
std::string to_text(const Json& document);

/// The document with an entry "digest": the SHA-256 of all others. Its spaces and line breaks may change.
Json sealed(Json document);
/// False where it has a digest and is not what was sealed.
bool is_as_sealed(Json document);

}  // namespace microtome
