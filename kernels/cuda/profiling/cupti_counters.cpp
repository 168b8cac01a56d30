// Counting by CUPTI's range profiler: ranges are named by their numbers, and a window of them is run once a pass.
#include "kernels/cuda/profiling/cupti_counters.h"

#include "engine/check.h"
#include "engine/nearest.h"
#include "kernels/cuda/device/check.h"
#include "kernels/cuda/profiling/counters.h"
#include "kernels/cuda/profiling/cupti.h"

#include <cupti_profiler_host.h>
#include <cupti_profiler_target.h>
#include <cupti_range_profiler.h>
#include <cupti_target.h>

#include <algorithm>
#include <cstdlib>
#include <span>
#include <utility>

namespace microtome::cuda {

#define COUNTER_FUNCTIONS(each)                                                                                             \
  each(cuptiDeviceGetChipName) each(cuptiGetResultString) each(cuptiProfilerDeInitialize)                                   \
      each(cuptiProfilerGetCounterAvailability) each(cuptiProfilerHostConfigAddMetrics) each(cuptiProfilerHostDeinitialize) \
          each(cuptiProfilerHostEvaluateToGpuValues) each(cuptiProfilerHostGetBaseMetrics)                                  \
              each(cuptiProfilerHostGetConfigImage) each(cuptiProfilerHostGetConfigImageSize)                               \
                  each(cuptiProfilerHostGetNumOfPasses) each(cuptiProfilerHostInitialize) each(cuptiProfilerInitialize)     \
                      each(cuptiRangeProfilerCounterDataGetRangeInfo) each(cuptiRangeProfilerCounterDataImageInitialize)    \
                          each(cuptiRangeProfilerDecodeData) each(cuptiRangeProfilerDisable) each(cuptiRangeProfilerEnable) \
                              each(cuptiRangeProfilerGetCounterDataInfo) each(cuptiRangeProfilerGetCounterDataSize)         \
                                  each(cuptiRangeProfilerPopRange) each(cuptiRangeProfilerPushRange)                        \
                                      each(cuptiRangeProfilerSetConfig) each(cuptiRangeProfilerStart)                       \
                                          each(cuptiRangeProfilerStop)

struct CounterFunctions {
#define DECLARE(function) decltype(&::function) function = nullptr;
  COUNTER_FUNCTIONS(DECLARE)
#undef DECLARE
};

namespace {

/// As every call wants its parameters: their size, and zeros.
template <class Parameters>
Parameters sized(std::size_t bytes) {
  Parameters parameters{};
  parameters.structSize = bytes;
  return parameters;
}
#define PARAMETERS(type) sized<type##_Params>(type##_Params_STRUCT_SIZE)

void check(const CounterFunctions& cupti, CUptiResult status, std::source_location at = std::source_location::current()) {
  if (status != CUPTI_SUCCESS) fail(ExitCode::machine, reason(cupti.cuptiGetResultString, status), {}, at);
}

}  // namespace

struct CounterPlan::Host {
  Host(const CounterFunctions& functions, const std::string& chip, const std::vector<std::uint8_t>& availability)
      : cupti(functions) {
    auto begin = PARAMETERS(CUpti_Profiler_Host_Initialize);
    begin.profilerType = CUPTI_PROFILER_TYPE_RANGE_PROFILER;
    begin.pChipName = chip.c_str();
    begin.pCounterAvailabilityImage = availability.empty() ? nullptr : availability.data();
    if (const CUptiResult status = cupti.cuptiProfilerHostInitialize(&begin); status != CUPTI_SUCCESS)
      fail(ExitCode::machine, fmt::format("CUPTI does not know the counters of {}", chip),
           {.found = reason(cupti.cuptiGetResultString, status)});
    object = begin.pHostObject;
  }
  ~Host() {
    auto end = PARAMETERS(CUpti_Profiler_Host_Deinitialize);
    end.pHostObject = object;
    static_cast<void>(cupti.cuptiProfilerHostDeinitialize(&end));
  }
  Host(const Host&) = delete;

  /// Whether the chip has all of them. What is added in one call shares passes where it can.
  bool add(std::span<const char*> metrics) {
    auto some = PARAMETERS(CUpti_Profiler_Host_ConfigAddMetrics);
    some.pHostObject = object;
    some.ppMetricNames = metrics.data();
    some.numMetrics = metrics.size();
    return cupti.cuptiProfilerHostConfigAddMetrics(&some) == CUPTI_SUCCESS;
  }

  const CounterFunctions& cupti;
  CUpti_Profiler_Host_Object* object = nullptr;
};

namespace {

/// The chip's metric whose name is nearest, in the form that `metric` asks for.
std::string nearest_metric(const CounterFunctions& cupti, CUpti_Profiler_Host_Object* host, const std::string& metric) {
  std::vector<std::string> names;
  for (const CUpti_MetricType type : {CUPTI_METRIC_TYPE_COUNTER, CUPTI_METRIC_TYPE_RATIO, CUPTI_METRIC_TYPE_THROUGHPUT}) {
    auto all = PARAMETERS(CUpti_Profiler_Host_GetBaseMetrics);
    all.pHostObject = host;
    all.metricType = type;
    if (cupti.cuptiProfilerHostGetBaseMetrics(&all) == CUPTI_SUCCESS)
      names.insert(names.end(), all.ppMetricNames, all.ppMetricNames + all.numMetrics);
  }
  const std::size_t dot = std::min(metric.find('.'), metric.size());
  const std::string base = nearest(metric.substr(0, dot), names);
  return base.empty() ? "" : base + (dot < metric.size() ? metric.substr(dot) : ".sum");
}

class CuptiRangeCounter final : public RangeCounter {
 public:
  CuptiRangeCounter(const CounterFunctions& cupti, const std::vector<std::string>& metrics) : cupti_(cupti) {
    auto begin = PARAMETERS(CUpti_Profiler_Initialize);
    check(cupti_, cupti_.cuptiProfilerInitialize(&begin));
    int device = 0;
    cuda::check(cudaGetDevice(&device));
    auto chip = PARAMETERS(CUpti_Device_GetChipName);
    chip.deviceIndex = static_cast<std::size_t>(device);
    check(cupti_, cupti_.cuptiDeviceGetChipName(&chip));
    auto available = PARAMETERS(CUpti_Profiler_GetCounterAvailability);
    check(cupti_, cupti_.cuptiProfilerGetCounterAvailability(&available));
    std::vector<std::uint8_t> availability(available.counterAvailabilityImageSize);
    available.pCounterAvailabilityImage = availability.data();
    check(cupti_, cupti_.cuptiProfilerGetCounterAvailability(&available));
    std::vector<std::string> all = metrics;
    all.push_back("gpu__time_duration.sum");  // nanoseconds; the last value of each range
    plan_ = std::make_unique<CounterPlan>(cupti_, chip.pChipName, all, availability);
    auto enable = PARAMETERS(CUpti_RangeProfiler_Enable);
    enable.ctx = current_context();
    check(cupti_, cupti_.cuptiRangeProfilerEnable(&enable));
    profiler_ = enable.pRangeProfilerObject;
  }
  ~CuptiRangeCounter() override {
    auto disable = PARAMETERS(CUpti_RangeProfiler_Disable);
    disable.pRangeProfilerObject = profiler_;
    static_cast<void>(cupti_.cuptiRangeProfilerDisable(&disable));
    plan_.reset();
    auto end = PARAMETERS(CUpti_Profiler_DeInitialize);
    static_cast<void>(cupti_.cuptiProfilerDeInitialize(&end));
  }

  /// CUPTI refuses somewhere between 2,000 and 3,000.
  int most_ranges() const override { return 1024; }
  int passes() const override { return plan_->passes(); }

  void open(int ranges) override {
    auto size = PARAMETERS(CUpti_RangeProfiler_GetCounterDataSize);
    size.pRangeProfilerObject = profiler_;
    size.pMetricNames = const_cast<const char**>(plan_->metrics().data());
    size.numMetrics = plan_->metrics().size();
    size.maxNumOfRanges = static_cast<std::size_t>(ranges);
    size.maxNumRangeTreeNodes = static_cast<std::uint32_t>(ranges);
    check(cupti_, cupti_.cuptiRangeProfilerGetCounterDataSize(&size));
    counted_.assign(size.counterDataSize, 0);
    auto clear = PARAMETERS(CUpti_RangeProfiler_CounterDataImage_Initialize);
    clear.pRangeProfilerObject = profiler_;
    clear.counterDataSize = counted_.size();
    clear.pCounterData = counted_.data();
    check(cupti_, cupti_.cuptiRangeProfilerCounterDataImageInitialize(&clear));
    auto config = PARAMETERS(CUpti_RangeProfiler_SetConfig);
    config.pRangeProfilerObject = profiler_;
    config.configSize = plan_->image().size();
    config.pConfig = plan_->image().data();
    config.counterDataImageSize = counted_.size();
    config.pCounterDataImage = counted_.data();
    config.range = CUPTI_UserRange;
    config.replayMode = CUPTI_UserReplay;
    config.maxRangesPerPass = static_cast<std::size_t>(ranges);
    config.numNestingLevels = config.minNestingLevel = config.targetNestingLevel = 1;
    check(cupti_, cupti_.cuptiRangeProfilerSetConfig(&config));
  }
  void start() override {
    cuda::check(cudaDeviceSynchronize());
    auto start = PARAMETERS(CUpti_RangeProfiler_Start);
    start.pRangeProfilerObject = profiler_;
    check(cupti_, cupti_.cuptiRangeProfilerStart(&start));
  }
  void push(int number) override {
    cuda::check(cudaDeviceSynchronize());
    const std::string name = fmt::format("{}", number);
    auto push = PARAMETERS(CUpti_RangeProfiler_PushRange);
    push.pRangeProfilerObject = profiler_;
    push.pRangeName = name.c_str();
    check(cupti_, cupti_.cuptiRangeProfilerPushRange(&push));
  }
  void pop() override {
    cuda::check(cudaDeviceSynchronize());
    auto pop = PARAMETERS(CUpti_RangeProfiler_PopRange);
    pop.pRangeProfilerObject = profiler_;
    check(cupti_, cupti_.cuptiRangeProfilerPopRange(&pop));
  }
  void stop() override {
    cuda::check(cudaDeviceSynchronize());
    auto stop = PARAMETERS(CUpti_RangeProfiler_Stop);
    stop.pRangeProfilerObject = profiler_;
    check(cupti_, cupti_.cuptiRangeProfilerStop(&stop));
    all_passes_ = stop.isAllPassSubmitted != 0;
  }

  std::vector<CountedRange> read() override {
    require(all_passes_, "CUPTI wants more passes than its plan has");
    auto decode = PARAMETERS(CUpti_RangeProfiler_DecodeData);
    decode.pRangeProfilerObject = profiler_;
    check(cupti_, cupti_.cuptiRangeProfilerDecodeData(&decode));
    require(decode.numOfRangeDropped == 0, "CUPTI dropped ", decode.numOfRangeDropped, " ranges");
    auto info = PARAMETERS(CUpti_RangeProfiler_GetCounterDataInfo);
    info.pCounterDataImage = counted_.data();
    info.counterDataImageSize = counted_.size();
    check(cupti_, cupti_.cuptiRangeProfilerGetCounterDataInfo(&info));
    std::vector<CountedRange> ranges;
    for (std::size_t i = 0; i < info.numTotalRanges; ++i) {
      auto range = PARAMETERS(CUpti_RangeProfiler_CounterData_GetRangeInfo);
      range.pCounterDataImage = counted_.data();
      range.counterDataImageSize = counted_.size();
      range.rangeIndex = i;
      range.rangeDelimiter = "/";
      check(cupti_, cupti_.cuptiRangeProfilerCounterDataGetRangeInfo(&range));
      std::vector<double> values = plan_->values(counted_, i);
      const double ns = values.back();
      values.pop_back();
      ranges.push_back({std::atoi(range.rangeName), ns, std::move(values)});
    }
    return ranges;
  }

 private:
  /// Of the driver, which is not linked.
  static CUcontext current_context() {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    cuda::check(cudaGetDriverEntryPointByVersion("cuCtxGetCurrent", &function, 12000, cudaEnableDefault, &found));
    require(found == cudaDriverEntryPointSuccess, "the driver has no cuCtxGetCurrent");
    CUcontext context = nullptr;
    reinterpret_cast<decltype(&cuCtxGetCurrent)>(function)(&context);
    return context;
  }

  const CounterFunctions& cupti_;
  std::unique_ptr<CounterPlan> plan_;
  CUpti_RangeProfiler_Object* profiler_ = nullptr;
  std::vector<std::uint8_t> counted_;  // CUPTI's counter data, of a window
  bool all_passes_ = false;
};

}  // namespace

CounterPlan::CounterPlan(const CounterFunctions& cupti, const std::string& chip, std::vector<std::string> metrics,
                         const std::vector<std::uint8_t>& availability)
    : cupti_(cupti), host_(std::make_unique<Host>(cupti, chip, availability)), metrics_(std::move(metrics)) {
  for (const std::string& metric : metrics_) names_.push_back(metric.c_str());
  if (!host_->add(names_)) {
    for (const char*& name : names_)
      if (Host alone(cupti, chip, availability); !alone.add({&name, 1})) fail_unknown(name);
    fail(ExitCode::machine, "CUPTI cannot count all of these together", {.next = "ask for fewer counters"});
  }
  auto size = PARAMETERS(CUpti_Profiler_Host_GetConfigImageSize);
  size.pHostObject = host_->object;
  check(cupti_, cupti_.cuptiProfilerHostGetConfigImageSize(&size));
  image_.resize(size.configImageSize);
  auto image = PARAMETERS(CUpti_Profiler_Host_GetConfigImage);
  image.pHostObject = host_->object;
  image.configImageSize = image_.size();
  image.pConfigImage = image_.data();
  check(cupti_, cupti_.cuptiProfilerHostGetConfigImage(&image));
  auto count = PARAMETERS(CUpti_Profiler_Host_GetNumOfPasses);
  count.configImageSize = image_.size();
  count.pConfigImage = image_.data();
  check(cupti_, cupti_.cuptiProfilerHostGetNumOfPasses(&count));
  passes_ = static_cast<int>(count.numOfPasses);
}

CounterPlan::~CounterPlan() = default;

void CounterPlan::fail_unknown(const std::string& metric) const {
  const std::string meant = nearest_metric(cupti_, host_->object, metric);
  fail(ExitCode::usage, fmt::format("this GPU has no counter \"{}\"", metric),
       {.expected = meant.empty() || meant == metric ? "" : fmt::format("did you mean {}?", meant),
        .next = "ncu --query-metrics lists them; a name ends in how it is summed up, as in dram__bytes.sum"});
}

std::vector<double> CounterPlan::values(const std::vector<std::uint8_t>& counted, std::size_t index) const {
  std::vector<double> values(names_.size());
  auto evaluate = PARAMETERS(CUpti_Profiler_Host_EvaluateToGpuValues);
  evaluate.pHostObject = host_->object;
  evaluate.pCounterDataImage = counted.data();
  evaluate.counterDataImageSize = counted.size();
  evaluate.rangeIndex = index;
  evaluate.ppMetricNames = const_cast<const char**>(names_.data());
  evaluate.numMetrics = names_.size();
  evaluate.pMetricValues = values.data();
  check(cupti_, cupti_.cuptiProfilerHostEvaluateToGpuValues(&evaluate));
  return values;
}

const CounterFunctions* find_counter_functions(std::string& why) {
  static CounterFunctions table;
#define FIND(function) \
  if (!find_in_cupti(#function, table.function, why)) return nullptr;
  COUNTER_FUNCTIONS(FIND)
#undef FIND
  return &table;
}

std::unique_ptr<Counters> make_counters(ScopeListener*& slot, const std::vector<std::string>& metrics, std::string& why) {
  const CounterFunctions* cupti = find_counter_functions(why);
  if (cupti == nullptr) return nullptr;
  try {
    return std::make_unique<CudaCounters>(slot, std::make_unique<CuptiRangeCounter>(*cupti, metrics), metrics);
  } catch (const Error& error) {
    if (error.code() == ExitCode::usage) throw;
    why = error.what();
    return nullptr;
  }
}

}  // namespace microtome::cuda
