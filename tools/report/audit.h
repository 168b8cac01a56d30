// An audit for people and for scripts.
#pragma once

#include "data/audit.h"
#include "tools/cli/json.h"

#include <string>

namespace microtome {

Json to_json(const Audit& audit);
std::string to_text(const Audit& audit);

}  // namespace microtome
