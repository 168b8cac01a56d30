// Test only: a profiler that NVTX loads (NVTX_INJECTION64_PATH) and that writes down what it hears.
#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <string>
#include <vector>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

std::vector<std::string> heard;
int domain;  // its address is the handle

template <class... Arguments>
void note(const char* format, Arguments... arguments) {
  char line[256];
  std::snprintf(line, sizeof line, format, arguments...);
  heard.push_back(line);
}

nvtxDomainHandle_t create(const char* name) {
  note("domain %s", name);
  return reinterpret_cast<nvtxDomainHandle_t>(&domain);
}
void name_category(nvtxDomainHandle_t, std::uint32_t category, const char* name) {
  note("category %u %s", category, name);
}
int push(nvtxDomainHandle_t, const nvtxEventAttributes_t* range) {
  note("push %s, category %u, colour %08x", range->message.ascii, range->category, range->color);
  return 0;
}
int pop(nvtxDomainHandle_t) {
  return note("pop%s", ""), 0;
}
void name_thread(std::uint32_t, const char* name) {
  note("thread %s", name);
}

}  // namespace

EXPORTED const std::vector<std::string>& lines_heard() {
  return heard;
}

EXPORTED int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t table_of) {
  const auto* tables = static_cast<const NvtxExportTableCallbacks*>(table_of(NVTX_ETID_CALLBACKS));
  const auto hook = [&](NvtxCallbackModule module, unsigned which, auto* function) {
    NvtxFunctionTable table = nullptr;
    unsigned size = 0;
    if (tables->GetModuleFunctionTable(module, &table, &size) != 0 && which < size)
      *table[which] = reinterpret_cast<NvtxFunctionPointer>(function);
  };
  hook(NVTX_CB_MODULE_CORE, NVTX_CBID_CORE_NameOsThreadA, name_thread);
  hook(NVTX_CB_MODULE_CORE2, NVTX_CBID_CORE2_DomainCreateA, create);
  hook(NVTX_CB_MODULE_CORE2, NVTX_CBID_CORE2_DomainNameCategoryA, name_category);
  hook(NVTX_CB_MODULE_CORE2, NVTX_CBID_CORE2_DomainRangePushEx, push);
  hook(NVTX_CB_MODULE_CORE2, NVTX_CBID_CORE2_DomainRangePop, pop);
  return 1;
}
