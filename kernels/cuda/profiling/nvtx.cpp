#include "kernels/cuda/profiling/nvtx.h"

#include <fmt/format.h>

#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtCudaRt.h>
#include <unistd.h>

#include <string>

namespace microtome::cuda {

namespace {

constexpr Pass passes[] = {Pass::input,           Pass::forward,         Pass::loss,   Pass::backward, Pass::backward_data,
                           Pass::backward_filter, Pass::norm_correction, Pass::update, Pass::advance};

std::uint32_t category(Pass pass) {
  return static_cast<std::uint32_t>(pass) + 1;  // 0 is none
}

std::uint32_t colour(Pass pass) {
  switch (pass) {
    case Pass::input: return 0xff9a9a9a;
    case Pass::forward: return 0xff4477aa;
    case Pass::loss: return 0xffaa3377;
    case Pass::backward: return 0xffee6677;
    case Pass::backward_data: return 0xffee6677;
    case Pass::backward_filter: return 0xffccbb44;
    case Pass::norm_correction: return 0xff66ccee;
    case Pass::update: return 0xff228833;
    case Pass::advance: return 0xffbbbbbb;
  }
  return 0;
}

/// Null where no profiler listens; NVTX asks once a process.
nvtxDomainHandle_t domain() {
  static const nvtxDomainHandle_t ours = [] {
    const nvtxDomainHandle_t made = nvtxDomainCreateA("microtome");
    if (made != nullptr)
      for (const Pass pass : passes) nvtxDomainNameCategoryA(made, category(pass), std::string(name(pass)).c_str());
    return made;
  }();
  return ours;
}

void push(nvtxDomainHandle_t on, const char* text, std::uint32_t of_category, std::uint32_t argb) {
  nvtxEventAttributes_t range{};
  range.version = NVTX_VERSION;
  range.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  range.category = of_category;
  range.colorType = NVTX_COLOR_ARGB;
  range.color = argb;
  range.messageType = NVTX_MESSAGE_TYPE_ASCII;
  range.message.ascii = text;
  nvtxDomainRangePushEx(on, &range);
}

}  // namespace

void push_range(const Scope& scope) {
  const nvtxDomainHandle_t on = domain();
  if (on == nullptr) return;
  const std::string text = fmt::format("{}{}{}", scope.row, scope.row.empty() ? "" : " ", name(scope.pass));
  push(on, text.c_str(), category(scope.pass), colour(scope.pass));
}

void push_range(const char* name) {
  if (const nvtxDomainHandle_t on = domain()) push(on, name, 0, 0xff000000);
}

void pop_range() {
  if (const nvtxDomainHandle_t on = domain()) nvtxDomainRangePop(on);
}

void name_this_thread(const char* name) {
  if (domain() != nullptr) nvtxNameOsThreadA(static_cast<std::uint32_t>(gettid()), name);
}

void name_stream(cudaStream_t stream, int number) {
  if (domain() != nullptr) nvtxNameCudaStreamA(stream, fmt::format("stream {}", number).c_str());
}

}  // namespace microtome::cuda
