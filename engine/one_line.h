// Text that messages can bear: one line, whatever names of files hold.
#pragma once

#include <string>
#include <string_view>

namespace microtome {

/// Control characters as C writes them: a line break becomes \n, others \t or \x1b.
std::string one_line(std::string_view text);

}  // namespace microtome
