#include "kernels/cuda/vendor/plans.h"

#include "kernels/cuda/vendor/tuner.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <set>
#include <thread>
#include <utility>

namespace microtome::cuda {

namespace {

constexpr std::size_t most_threads = 16;          // each has a handle, and each handle device memory
constexpr std::size_t jobs_at_a_time = 64;        // whose contenders exist at the same time
constexpr std::size_t most_runtime_compiled = 3;  // of a problem's contenders: each takes up to 2 s to build

std::string machine_name() {
  int device = 0;
  check(cudaGetDevice(&device));
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device));
  return fmt::format("{}, {} SMs, cuDNN {}: ", properties.name, properties.multiProcessorCount, cudnnGetVersion());
}

}  // namespace

struct Plans::Job {
  Alternatives alternatives;
  std::vector<std::string> refused;  // keys of alternatives that have no plan
  std::string lost;  // why none of the engines of such an alternative became one; empty where it has none anyway
  const Problem* alternative = nullptr;   // the first that has one
  std::vector<ExecutionPlan> contenders;  // its plans
  bool timed = false;                     // there is one contender, and nothing to find out
};

Plans::Plans(Context& context) : context_(context), machine_(machine_name()), cache_(context.options().plan_cache) {
  for (int stream = 0; stream < context.streams(); ++stream) {
    context.use_stream(stream);
    handles_.emplace_back(context.stream());
  }
  context.use_stream(0);
}

Plans::~Plans() = default;

bool Plans::is_selected(const Alternatives& alternatives) const {
  for (const Problem& alternative : alternatives) {
    const auto found = plans_.find(alternative.key);
    if (found == plans_.end()) return false;
    if (found->second) return true;
  }
  return true;
}

Plans::Found Plans::find(const Alternatives& alternatives) {
  if (!is_selected(alternatives)) {
    std::vector<Job> jobs(1);
    jobs[0].alternatives = alternatives;
    prepare(jobs[0], handle());
    select(jobs[0]);
    cache_.save();
  }
  for (std::size_t i = 0; i < alternatives.size(); ++i) {
    if (const std::optional<ExecutionPlan>& plan = plans_.at(alternatives[i].key)) return {&*plan, i};
  }
  return {};
}

void Plans::want(Alternatives alternatives) {
  if (is_selected(alternatives)) return;
  std::string key = alternatives.front().key;
  wanted_.emplace(std::move(key), std::move(alternatives));
}

void Plans::make_wanted() {
  while (!wanted_.empty()) {
    std::vector<Job> jobs;
    while (!wanted_.empty() && jobs.size() < jobs_at_a_time) {
      jobs.emplace_back().alternatives = std::move(wanted_.begin()->second);
      wanted_.erase(wanted_.begin());
    }
    make(jobs);
    cache_.save();
  }
}

/// Contenders are built side by side, then timed one after another on a device that does nothing else.
void Plans::make(std::vector<Job>& jobs) {
  const std::size_t threads =
      std::min({jobs.size(), most_threads, std::max<std::size_t>(1, std::thread::hardware_concurrency())});
  while (workers_.size() < threads) workers_.emplace_back(context_.stream());
  int device = 0;
  check(cudaGetDevice(&device));
  std::atomic<std::size_t> next = 0;
  std::vector<std::exception_ptr> failures(threads);
  std::vector<std::thread> pool;
  for (std::size_t t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      try {
        check(cudaSetDevice(device));
        for (std::size_t i = next++; i < jobs.size(); i = next++) prepare(jobs[i], workers_[t].raw());
      } catch (...) {
        failures[t] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : pool) thread.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
  for (Job& job : jobs) select(job);
}

/// Reads what all threads share and writes the job alone.
void Plans::prepare(Job& job, cudnnHandle_t handle) const {
  const Target target{.handle = handle};
  for (const Problem& alternative : job.alternatives) {
    if (const auto known = plans_.find(alternative.key); known != plans_.end()) {
      if (known->second) return;
      continue;
    }
    const OperationGraph graph = alternative.graph();
    std::optional<ExecutionPlan> plan = context_.options().autotune ? timed_before(target, alternative, graph)
                                                                    : ExecutionPlan::first(target, graph, alternative.limits);
    job.timed = plan.has_value();
    if (plan) {
      job.contenders.push_back(std::move(*plan));
    } else if (context_.options().autotune) {
      job.contenders = contenders(target, alternative, graph);
    }
    if (!job.contenders.empty()) {
      job.alternative = &alternative;
      return;
    }
    job.refused.push_back(alternative.key);
    if (!candidates(target, graph, alternative.limits, CUDNN_HEUR_MODE_A).empty())
      job.lost = fmt::format("{} ({})", alternative.key, last_reason());
  }
}

/// What was found fastest then, if it still builds.
std::optional<ExecutionPlan> Plans::timed_before(const Target& target, const Problem& problem,
                                                 const OperationGraph& graph) const {
  const TimedChoice* const known = cache_.find(cache_key(problem));
  if (known == nullptr) return {};
  std::optional<Candidate> again = candidate(target, graph, problem.limits, known->choice);
  if (!again) return {};
  return ExecutionPlan::build(target, std::move(*again), problem.limits);
}

/// What may turn out to be fastest now.
std::vector<ExecutionPlan> Plans::contenders(const Target& target, const Problem& problem, const OperationGraph& graph) const {
  std::vector<ExecutionPlan> result;
  std::set<EngineChoice> seen;
  std::size_t runtime_compiled = 0;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK}) {
    for (Candidate& candidate : candidates(target, graph, problem.limits, mode)) {
      if (!seen.insert(candidate.choice()).second) continue;
      if (candidate.runtime_compiled && runtime_compiled++ >= most_runtime_compiled) continue;
      if (std::optional<ExecutionPlan> plan = ExecutionPlan::build(target, std::move(candidate), problem.limits))
        result.push_back(std::move(*plan));
    }
  }
  return result;
}

void Plans::select(Job& job) {
  for (const std::string& key : job.refused) plans_.try_emplace(key);
  if (job.alternative == nullptr) return;
  if (!job.lost.empty() && !std::exchange(warned_, true))
    std::fprintf(
        stderr,
        "warning: cuDNN could build none of its engines for %s: a slower way runs, perhaps for others too. Engines that\n"
        "are compiled when they are asked for need NVRTC (libnvrtc, libnvrtc-builtins) where cuDNN finds it.\n",
        job.lost.c_str());
  std::size_t winner = 0;
  if (!job.timed) {
    try {
      Stopwatch stopwatch(context_, handle(), job.alternative->graph(), job.contenders);
      if (const auto best = fastest(job.contenders.size(), [&](std::size_t i) { return stopwatch.sample(i); })) {
        winner = best->candidate;
        const ExecutionPlan& plan = job.contenders[winner];
        cache_.keep(cache_key(*job.alternative), {plan.candidate().choice(), plan.workspace_bytes(), best->time_us});
      }
    } catch (const Error& error) {
      if (error.code() != ExitCode::memory) throw;
      std::fprintf(stderr, "warning: too little memory to time cuDNN's engines: its first choice runs %s\n",
                   job.alternative->key.c_str());
    }
  }
  plans_.try_emplace(job.alternative->key, std::move(job.contenders[winner]));
}

void warm_up(Context& context, Plans& plans, const std::function<void()>& step) {
  try {
    context.enter(Phase::collect);
    step();
    plans.make_wanted();
    context.enter(Phase::warm_up);
    step();
  } catch (...) {
    context.enter(Phase::run);
    throw;
  }
  context.enter(Phase::run);
}

}  // namespace microtome::cuda
