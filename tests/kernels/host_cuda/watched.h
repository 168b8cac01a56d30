// Test only: a process whose device CUPTI watches, as its documentation has it: callbacks on the thread that captures; a buffer
// asked for by the thread that makes records and handed back by another; nothing recorded of a kind that is not enabled.
#pragma once

#include "kernels/host_cuda/cuda_runtime.h"
#include "kernels/host_cuda/cupti.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

struct CUgraphNode_st;
struct CUgraph_st;

namespace microtome::host_cuda {

struct Work {
  CUpti_ActivityKind kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
  const char* name = "";    // of a kernel
  std::uint64_t bytes = 0;  // of a copy or fill
};

/// One at a time: CUPTI's functions are about the one that there is.
class Watched {
 public:
  Watched();
  ~Watched();
  Watched(const Watched&) = delete;

  CUgraph graph();
  void add_node(CUgraph graph, const Work& work);
  /// A node of the executable graph is created, then said to be a clone.
  CUgraph instantiate(CUgraph graph);
  void launch(CUgraph graph);
  void launch(const Work& work);

  bool installed = true;  // CUPTI's library is there
  CUptiResult on_subscribe = CUPTI_SUCCESS, on_enable = CUPTI_SUCCESS;
  bool still_running = false;  // what is launched has not ended when it is recorded
  std::size_t dropped = 0;     // records, since somebody asked

  CUpti_CallbackFunc callback = nullptr;
  void* userdata = nullptr;
  std::set<CUpti_CallbackId> heard;
  CUpti_BuffersCallbackRequestFunc request = nullptr;
  CUpti_BuffersCallbackCompleteFunc complete = nullptr;
  std::set<CUpti_ActivityKind> enabled;
  std::vector<std::uint64_t> external;    // numbers pushed and not popped
  std::set<const std::uint8_t*> buffers;  // ever handed out
  bool buffers_clear = true;              // as a client promises
  int brackets = 0;                       // cudaProfilerStart less cudaProfilerStop
  std::uint64_t clock = 1000;

  void flush();

 private:
  void tell(CUpti_CallbackId id, CUpti_GraphData data);
  void record(const Work& work, std::uint32_t correlation, std::uint64_t node, std::uint32_t graph);
  template <class Record>
  void put(const Record& record);

  std::vector<std::unique_ptr<CUgraph_st>> graphs_;
  std::uint64_t nodes_ = 0;
  std::uint32_t correlation_ = 0;
  std::uint8_t* buffer_ = nullptr;
  std::size_t size_ = 0, valid_ = 0;
};

}  // namespace microtome::host_cuda
