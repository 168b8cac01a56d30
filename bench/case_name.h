// What a case is called, and what its name says.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace microtome::bench {

/// "conv_forward/resnet50:conv3_block2_2_conv/cuda/bf16/n64", "/deferred" and "/cold" behind. A chain's label has a segment
/// more: how far it is fused.
struct CaseName {
  std::string work;       // an op and its pass: "conv_forward", "depthwise_conv_backward_data"
  std::string label;      // "resnet50:conv3_block2_2_conv"
  std::string device;     // "cuda"
  std::string precision;  // "bf16"
  std::string batch;      // "n64"; "all" of what knows no batch; "large"
  bool deferred = false, cold = false;

  bool operator==(const CaseName&) const = default;
  int images() const;  // 64 of "n64"; 0 where it says none
};

/// "n64".
std::string batch_name(int images);

std::string case_name(const CaseName& parts);
/// None for a text of fewer segments.
std::optional<CaseName> case_name(std::string_view text);

}  // namespace microtome::bench
