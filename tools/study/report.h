// The study as one page, as Markdown and as tables: what the cells gave, beside what the paper printed.
#pragma once

#include "tools/study/cell.h"

#include <filesystem>
#include <span>

namespace microtome {

/// Writes report.html, report.md and tables/*.csv into `folder`; whatever cells are done by now.
void write_report(std::span<const CellState> states, const std::filesystem::path& folder);

}  // namespace microtome
