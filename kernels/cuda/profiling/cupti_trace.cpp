// Every kernel, copy and fill that the device does, by CUPTI's activity records; inside a replayed graph as well.
//
// A launch of a graph is one call, so that CUPTI's external correlation names only the launch. Hence two ways: a graph's node
// is put down with the scope in force when it is captured and followed through its clones; a launch outside of graphs carries
// its scope's number to its records.
#include "kernels/cuda/device/check.h"
#include "kernels/cuda/profiling/attribution.h"
#include "kernels/cuda/profiling/cupti.h"
#include "kernels/cuda/profiling/trace.h"

#include <cstring>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace microtome::cuda {

namespace {

/// What CUPTI writes records into. Any thread that makes records asks for a buffer of its own, and it comes back from a thread
/// of CUPTI's, maybe when the trace is gone: they live as long as the program. Buffers asked for within a trace would be in its
/// way, hence those made beforehand; and CUPTI would clear them there, hence cleared here.
class Buffers {
 public:
  struct Filled {
    std::uint8_t* data;
    std::size_t bytes;
  };

  static Buffers& all() {
    static Buffers& buffers = *new Buffers;
    return buffers;
  }

  static void CUPTIAPI hand_out(std::uint8_t** data, std::size_t* bytes, std::size_t* most_records) {
    *data = all().take();
    *bytes = *data != nullptr ? buffer_bytes : 0;  // without one CUPTI drops records, and counts them
    *most_records = 0;                             // as many as fit
  }
  static void CUPTIAPI take_back(CUcontext, std::uint32_t, std::uint8_t* data, std::size_t, std::size_t bytes) {
    const std::lock_guard lock(all().mutex_);
    all().filled_.push_back({data, bytes});
  }

  std::vector<Filled> filled() {
    const std::lock_guard lock(mutex_);
    return std::exchange(filled_, {});
  }
  void reuse(const Filled& buffer) {
    std::memset(buffer.data, 0, buffer_bytes);
    const std::lock_guard lock(mutex_);
    free_.push_back(buffer.data);
  }

 private:
  static constexpr std::size_t buffer_bytes = std::size_t{2} << 20;  // 9,000 kernels
  static constexpr int made_beforehand = 8;

  Buffers() {
    for (int i = 0; i < made_beforehand; ++i)
      if (std::uint8_t* data = make()) free_.push_back(data);
  }
  static std::uint8_t* make() {
    auto* data = new (std::nothrow) std::uint8_t[buffer_bytes];
    if (data != nullptr) std::memset(data, 0, buffer_bytes);
    return data;
  }
  std::uint8_t* take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return make();
    std::uint8_t* data = free_.back();
    free_.pop_back();
    return data;
  }

  std::mutex mutex_;
  std::vector<std::uint8_t*> free_;
  std::vector<Filled> filled_;
};

/// Calls outside of graphs bear their scope's number only where the calls themselves are recorded.
constexpr CUpti_ActivityKind kinds[] = {
    CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET,
    CUPTI_ACTIVITY_KIND_RUNTIME,           CUPTI_ACTIVITY_KIND_DRIVER, CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION};

std::int64_t signed_ns(std::uint64_t time) {
  return static_cast<std::int64_t>(time);
}

Collected::Record kernel(const KernelRecord& r) {
  const auto word = [](std::int32_t value) { return static_cast<std::uint32_t>(value); };
  return {.activity = {.kind = Activity::Kind::kernel,
                       .name = r.name != nullptr ? r.name : "",
                       .start_ns = signed_ns(r.start),
                       .end_ns = signed_ns(r.end),
                       .launch = {.grid = {word(r.gridX), word(r.gridY), word(r.gridZ)},
                                  .block = {word(r.blockX), word(r.blockY), word(r.blockZ)},
                                  .registers = r.registersPerThread,
                                  .shared_bytes = word(r.staticSharedMemory) + word(r.dynamicSharedMemory),
                                  .local_bytes = r.localMemoryPerThread}},
          .stream = r.streamId,
          .correlation = r.correlationId,
          .node = {r.graphNodeId, r.graphId}};
}

const char* direction(std::uint8_t copy_kind) {
  switch (copy_kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD: return "copy host to device";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH: return "copy device to host";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD: return "copy device to device";
    default: return "";
  }
}

template <class R>
Collected::Record transfer(Activity::Kind kind, const char* name, const R& r) {
  return {
      .activity = {.kind = kind, .name = name, .start_ns = signed_ns(r.start), .end_ns = signed_ns(r.end), .bytes = r.bytes},
      .stream = r.streamId,
      .correlation = r.correlationId,
      .node = {r.graphNodeId, r.graphId}};
}

class CuptiTrace final : public CudaTrace {
 public:
  CuptiTrace(ScopeListener*& slot, const Cupti& cupti) : slot_(slot), cupti_(cupti) {}
  ~CuptiTrace() override {
    if (subscriber_ == nullptr) return;
    disable();
    static_cast<void>(cupti_.cuptiUnsubscribe(subscriber_));
    slot_ = nullptr;
  }
  CuptiTrace(const CuptiTrace&) = delete;

  /// Tries what start() will need: what CUPTI allocates for it is there before a trace starts, and what it refuses is known.
  CUptiResult open() {
    const auto notice = [](void* self, CUpti_CallbackDomain, CUpti_CallbackId id, const void* data) {
      const auto* about = static_cast<const CUpti_ResourceData*>(data);
      static_cast<CuptiTrace*>(self)->hear(id, *static_cast<const CUpti_GraphData*>(about->resourceDescriptor));
    };
    CUptiResult status = cupti_.cuptiSubscribe(&subscriber_, notice, this);
    if (status != CUPTI_SUCCESS) return subscriber_ = nullptr, status;
    slot_ = this;
    std::uint8_t cleared = 1;
    std::size_t bytes = sizeof cleared;
    static_cast<void>(cupti_.cuptiActivitySetAttribute(CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER, &bytes, &cleared));
    for (const CUpti_CallbackId id : {CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED})
      if (status == CUPTI_SUCCESS) status = cupti_.cuptiEnableCallback(1, subscriber_, CUPTI_CB_DOMAIN_RESOURCE, id);
    if (status == CUPTI_SUCCESS) status = cupti_.cuptiActivityRegisterCallbacks(Buffers::hand_out, Buffers::take_back);
    if (status == CUPTI_SUCCESS) status = enable();
    disable();
    return status;
  }

  void start() override {
    require(!on_, "a trace that runs already");
    check(cudaDeviceSynchronize());
    flush();
    for (const Buffers::Filled& earlier : Buffers::all().filled()) Buffers::all().reuse(earlier);
    static_cast<void>(dropped());
    const CUptiResult status = enable();
    note_ = status == CUPTI_SUCCESS ? "" : reason(cupti_.cuptiGetResultString, status);
    on_ = true;
    start_ns_ = now();
  }

  Recorded stop() override {
    require(on_, "a trace that does not run");
    check(cudaDeviceSynchronize());  // the record of a kernel that still runs would have no end
    const std::int64_t end_ns = now();
    on_ = false;
    disable();
    flush();
    Collected collected = collect();
    collected.dropped = dropped();
    const std::lock_guard lock(mutex_);
    Recorded recorded = attribute(nodes_, std::move(collected));
    recorded.start_ns = start_ns_;
    recorded.end_ns = end_ns;
    if (!note_.empty()) recorded.note = note_;
    return recorded;
  }

  void enter(const Scope& scope) override {
    const std::lock_guard lock(mutex_);
    in_force_.push_back({scope, on_});
    if (!on_) return;
    numbered_.push_back(scope);
    static_cast<void>(cupti_.cuptiActivityPushExternalCorrelationId(number_kind, numbered_.size()));
  }
  void leave() override {
    const std::lock_guard lock(mutex_);
    if (in_force_.empty()) return;  // entered before the trace was made
    const bool numbered = in_force_.back().numbered;
    in_force_.pop_back();
    std::uint64_t number = 0;
    if (numbered) static_cast<void>(cupti_.cuptiActivityPopExternalCorrelationId(number_kind, &number));
  }

 private:
  static constexpr CUpti_ExternalCorrelationKind number_kind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0;

  /// A graph's node is made, on the thread that captures; instantiating makes one and then says of which it is a clone.
  void hear(CUpti_CallbackId id, const CUpti_GraphData& data) {
    const std::lock_guard lock(mutex_);
    if (id == CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED)
      nodes_.cloned(node(data.originalNode, data.originalGraph), node(data.node, data.graph));
    else if (!in_force_.empty())
      nodes_.created(node(data.node, data.graph), in_force_.back().scope);
  }
  GraphNode node(CUgraphNode of, CUgraph graph) const {
    GraphNode node;
    if (graph != nullptr) static_cast<void>(cupti_.cuptiGetGraphId(graph, &node.graph));
    static_cast<void>(cupti_.cuptiGetGraphNodeId(of, &node.id));
    return node;
  }

  CUptiResult enable() {
    for (const CUpti_ActivityKind kind : kinds)
      if (const CUptiResult status = cupti_.cuptiActivityEnable(kind); status != CUPTI_SUCCESS) return status;
    return CUPTI_SUCCESS;
  }
  void disable() {
    for (const CUpti_ActivityKind kind : kinds) static_cast<void>(cupti_.cuptiActivityDisable(kind));
  }
  void flush() { static_cast<void>(cupti_.cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED)); }

  std::uint64_t dropped() {
    std::size_t count = 0;  // since it was last asked
    static_cast<void>(cupti_.cuptiActivityGetNumDroppedRecords(nullptr, 0, &count));
    return count;
  }
  std::int64_t now() const {
    std::uint64_t time = 0;
    static_cast<void>(cupti_.cuptiGetTimestamp(&time));
    return signed_ns(time);
  }

  Collected collect() {
    Collected collected;
    for (const Buffers::Filled& buffer : Buffers::all().filled()) {
      CUpti_Activity* record = nullptr;
      while (cupti_.cuptiActivityGetNextRecord(buffer.data, buffer.bytes, &record) == CUPTI_SUCCESS) put(collected, *record);
      Buffers::all().reuse(buffer);
    }
    return collected;
  }
  void put(Collected& collected, const CUpti_Activity& record) const {
    using Kind = Activity::Kind;
    switch (record.kind) {
      case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
        collected.records.push_back(kernel(reinterpret_cast<const KernelRecord&>(record)));
        break;
      case CUPTI_ACTIVITY_KIND_MEMCPY: {
        const auto& copy = reinterpret_cast<const CopyRecord&>(record);
        collected.records.push_back(transfer(Kind::copy, direction(copy.copyKind), copy));
        break;
      }
      case CUPTI_ACTIVITY_KIND_MEMSET:
        collected.records.push_back(transfer(Kind::fill, "", reinterpret_cast<const FillRecord&>(record)));
        break;
      case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
        const auto& call = reinterpret_cast<const CUpti_ActivityExternalCorrelation&>(record);
        if (call.externalKind == number_kind && call.externalId - 1 < numbered_.size())
          collected.launched_for.insert_or_assign(call.correlationId, numbered_[call.externalId - 1]);
        break;
      }
      default: break;  // a call
    }
  }

  ScopeListener*& slot_;
  const Cupti& cupti_;
  CUpti_SubscriberHandle subscriber_ = nullptr;
  bool on_ = false;
  std::int64_t start_ns_ = 0;
  std::string note_;  // why this trace sees less
  std::mutex mutex_;  // what callbacks touch:
  struct InForce {
    Scope scope;
    bool numbered;  // CUPTI knows
  };
  std::vector<InForce> in_force_;
  std::vector<Scope> numbered_;  // from 1; kept from trace to trace, since a scope may be open over a stop and a start
  GraphNodes nodes_;
};

}  // namespace

std::unique_ptr<CudaTrace> make_cupti_trace(ScopeListener*& slot, std::string& why) {
  const Cupti* cupti = find_cupti(why);
  if (cupti == nullptr) return nullptr;
  auto trace = std::make_unique<CuptiTrace>(slot, *cupti);
  const CUptiResult status = trace->open();
  if (status == CUPTI_SUCCESS) return trace;
  why = reason(cupti->cuptiGetResultString, status);
  return nullptr;
}

}  // namespace microtome::cuda
