// --augment: "flip,rotate90,shift=4" becomes what engine/ops.h calls Augment.
#pragma once

#include "engine/ops.h"

#include <string>
#include <string_view>

namespace microtome {

/// Throws Error(ExitCode::usage) for what is not in augment_words(), or beyond its bounds.
Augment parse_augment(std::string_view text);

/// For --help.
std::string augment_words();

}  // namespace microtome
