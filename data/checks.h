// What every loader asks of what it found. For the sources of this folder only.
#pragma once

#include "engine/check.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {

/// "training" for "train", and so on.
std::string_view adjective(std::string_view split);

/// Throws OutOfMemory where so many bytes of images are more than can be had, before they are asked for.
void require_memory(std::int64_t bytes, const std::string& where);

/// Throws Error(ExitCode::data) where "the training split" has no images or one class alone; `next` is what helps.
void require_both_classes(std::span<const std::uint8_t> labels, std::string_view what, const std::string& where,
                          const std::string& next);

/// Whether `call` returns; if it throws Error(ExitCode::data), that is added to `problems`.
bool succeeds(std::vector<Error>& problems, const std::function<void()>& call);

/// "12 patches left out" where there are any.
void add_note(std::vector<std::string>& notes, std::int64_t count, std::string_view one, std::string_view many,
              std::string_view what);

}  // namespace microtome
