// What gunzip unpacks.
#pragma once

#include <string>
#include <string_view>

namespace microtome {

std::string gzip(std::string_view text);

}  // namespace microtome
