// What a file that is written may replace: an older one of its kind, and nothing that cannot be made again.
#pragma once

#include <filesystem>
#include <string_view>

namespace microtome {

enum class OutputKind { text, weights, checkpoint, onnx };

/// Throws Error(ExitCode::usage) where `output`, which `option` names, is there and is of another kind, or is or would be a
/// run's own: its checkpoint, or one of run_files that only training makes. Links are followed; pipes and devices replace
/// nothing.
void require_replaceable(std::string_view option, const std::filesystem::path& output, OutputKind kind);

}  // namespace microtome
