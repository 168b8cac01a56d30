#include "tools/cli/json.h"

#include "data/digest.h"

#include <string>
#include <utility>

namespace microtome {
namespace {

constexpr const char* key = "digest";

std::string digest_of(const Json& document) {
  return text_digest(document.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace

std::string to_text(const Json& document) {
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json sealed(Json document) {
  document = Json::parse(to_text(document));  // as it is read again: what is no UTF-8 is replaced, what is not finite is null
  document.erase(key);
  std::string digest = digest_of(document);
  document[key] = std::move(digest);
  return document;
}

bool is_as_sealed(Json document) {
  if (!document.is_object() || !document.contains(key)) return true;
  const Json expected = document[key];
  document.erase(key);
  return expected == digest_of(document);
}

}  // namespace microtome
