#include "bench/runner.h"

#include "bench/machine.h"
#include "bench/replay.h"
#include "engine/check.h"
#include "engine/median.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <source_location>
#include <string>
#include <vector>

namespace microtome::bench {

namespace {

constexpr const char* stopped = "stopped";

/// Google Benchmark 1.7 wants the same number of iterations of all repetitions, of those without a time too, and one loop over
/// them to its end.
void skip(benchmark::State& state, const std::string& why, bool looped = false) {
  if (!looped)
    for (auto _ : state) state.SetIterationTime(0);
  state.SkipWithError(why.c_str());
}

/// All that is run, and what became of it.
class Runner {
 public:
  Runner(Backend& backend, const Roofs& roofs, const Running& running, int cases)
      : backend_(backend), roofs_(roofs), running_(running), all_(cases) {}

  void measure(benchmark::State& state, const Case& one) {
    if (running_.stop()) return skip(state, stopped);
    looped_ = false;
    try {
      prepare(one);
      const CheckResult& checked = checks_.at(one.name);
      if (checked.wrong > 0)
        skip(state, fmt::format("wrong: {} of {} elements differ from the reference; the first, {}", checked.wrong,
                                checked.elements, checked.first));
      else
        time(state, one, checked);
    } catch (const Error& error) {
      give_up(state, error);
    } catch (const std::bad_alloc&) {
      give_up(state, Error(ExitCode::memory, "out of memory", {.next = "a smaller --batch"}, std::source_location::current()));
    }
    running_.progress(++done_, running_.repetitions * all_);
  }

  const std::map<std::string, CheckResult>& checks() const { return checks_; }

  /// Says what was judged.
  int conclude() {
    release();
    std::string slow;
    for (const auto& [name, share] : shares_)
      if (share < running_.at_least) slow += fmt::format("  {} {:.2f}\n", name, share);
    const double percent = 100 * running_.at_least;
    if (!shares_.empty()) fmt::print(stderr, "\n{}; copy {:.0f} GB/s\n", running_.what, roofs_.copy * 1e-9);
    if (!shares_.empty() && slow.empty())
      fmt::print(stderr, "Every large case moves its bytes at {:.0f}% of the copy rate or faster.\n", percent);
    if (!slow.empty()) fmt::print(stderr, "Large cases under {:.0f}% of the copy rate:\n{}", percent, slow);
    const auto wrong = std::ranges::count_if(checks_, [](const auto& one) { return one.second.wrong > 0; });
    if (wrong > 0) fmt::print(stderr, "bench: cases that differ from the reference: {}\n", wrong);
    if (wrong > 0 || (running_.judges && !slow.empty())) return static_cast<int>(ExitCode::verdict);
    return static_cast<int>(failed_);
  }

 private:
  /// Unless the case was the last one too. The reference is asked once.
  void prepare(const Case& one) {
    if (current_ == &one) return;
    release();
    prepared_ = one.prepare(backend_, !checks_.contains(one.name));
    const CheckResult& checked = checks_.try_emplace(one.name, prepared_.checked).first->second;
    if (checked.wrong == 0) replay_ = std::make_unique<Replay>(backend_, prepared_.instances);
    current_ = &one;
  }

  void give_up(benchmark::State& state, const Error& error) {
    release();
    if (failed_ == ExitCode::done) failed_ = error.code();
    skip(state, to_text(error, "bench"), looped_);
  }

  void release() {
    current_ = nullptr;
    replay_.reset();
    prepared_ = {};
  }

  void time(benchmark::State& state, const Case& one, const CheckResult& checked) {
    std::vector<double> samples;
    std::exception_ptr failure;
    looped_ = true;
    for (auto _ : state) {
      samples.clear();
      try {
        while (static_cast<int>(samples.size()) < running_.samples) samples.push_back(replay_->run());
      } catch (...) {
        failure = std::current_exception();
      }
      state.SetIterationTime(failure ? 0 : median(samples));
    }
    if (failure) std::rethrow_exception(failure);
    const double seconds = median(samples);
    const Cost& cost = prepared_.cost;
    const bool resident = !one.cold && cost.bytes <= resident_bytes;
    if (cost.flop > 0) state.counters["FLOP/s"] = cost.flop / seconds;
    state.counters["bytes/s"] = cost.bytes / seconds;
    state.counters["roof"] = roofs_.seconds(cost, resident) / seconds;
    if (prepared_.images > 0) state.counters["images/s"] = prepared_.images / seconds;
    int uses = 0;
    for (const auto& [net, rows] : one.uses) {
      state.counters["uses:" + net] = rows;
      uses += rows;
    }
    state.counters["uses"] = uses;
    if (checked.elements > 0) state.counters["wrong"] = 0;
    const auto [fastest, slowest] = std::minmax_element(samples.begin(), samples.end());
    state.counters["spread"] = (*slowest - *fastest) / seconds;
    if (const auto gpu = gpu_state(backend_.device().name)) {
      state.counters["sm_MHz"] = gpu->sm_mhz;
      state.counters["celsius"] = gpu->temperature_celsius;
      state.counters["throttle"] = static_cast<double>(std::strtoull(gpu->throttle_reasons.c_str(), nullptr, 16));
    }
    state.SetLabel(prepared_.implementation);
    if (!one.judged) return;
    shares_[one.name] = cost.bytes / seconds / roofs_.copy;  // of several repetitions the last
  }

  Backend& backend_;
  const Roofs& roofs_;
  const Running& running_;
  const Case* current_ = nullptr;
  Prepared prepared_;
  std::unique_ptr<Replay> replay_;
  std::map<std::string, CheckResult> checks_;
  std::map<std::string, double> shares_;  // of the copy rate, of cases that are judged
  int done_ = 0, all_;
  bool looped_ = false;  // over the iterations of the repetition at hand
  ExitCode failed_ = ExitCode::done;
};

using Runs = std::vector<benchmark::BenchmarkReporter::Run>;

/// What a run was skipped with, or nothing; Google Benchmark 1.8 renamed it.
template <class Run>
const std::string& message(const Run& run) {
  if constexpr (requires { run.skip_message; })
    return run.skip_message;
  else
    return run.error_message;
}

/// In the order of the cases, though they end in that of chance; under the names that cases have, without "/manual_time" behind
/// each; without those that a stop left out.
class Ordered final : public benchmark::BenchmarkReporter {
 public:
  Ordered(benchmark::BenchmarkReporter& to, const std::vector<Case>& cases, const Runner& runner, bool waits)
      : to_(to), runner_(runner), waits_(waits) {
    for (std::size_t i = 0; i < cases.size(); ++i) places_.emplace(cases[i].name, i);
    kept_.resize(cases.size());
  }

  bool ReportContext(const Context& context) override {
    to_.SetOutputStream(&GetOutputStream());
    to_.SetErrorStream(&GetErrorStream());
    return to_.ReportContext(context);
  }
  void ReportRuns(const Runs& runs) override {
    Runs clean;
    for (Run run : runs) {
      run.run_name.time_type.clear();
      if (message(run) == stopped) continue;
      if (const auto checked = runner_.checks().find(run.run_name.function_name);
          checked != runner_.checks().end() && checked->second.wrong > 0)
        run.counters["wrong"] = static_cast<double>(checked->second.wrong);
      // JSON has no word for some figures: the variation of counters that are 0.
      std::erase_if(run.counters, [](const auto& counter) { return !std::isfinite(counter.second.value); });
      clean.push_back(std::move(run));
    }
    if (clean.empty()) return;
    const auto place = places_.find(clean.front().run_name.function_name);
    if (!waits_ || place == places_.end()) return to_.ReportRuns(clean);
    Runs& kept = kept_[place->second];  // repetitions, then their aggregates
    kept.insert(kept.end(), std::make_move_iterator(clean.begin()), std::make_move_iterator(clean.end()));
  }
  void Finalize() override {
    for (const Runs& runs : kept_)
      if (!runs.empty()) to_.ReportRuns(runs);
    to_.Finalize();
  }

 private:
  benchmark::BenchmarkReporter& to_;
  const Runner& runner_;
  const bool waits_;
  std::map<std::string, std::size_t> places_;
  std::vector<Runs> kept_;
};

}  // namespace

int run_cases(Backend& backend, const std::vector<Case>& cases, const Roofs& roofs, const Running& running) {
  Runner runner(backend, roofs, running, static_cast<int>(cases.size()));
  for (const Case& one : cases)
    benchmark::RegisterBenchmark(one.name.c_str(), [&](benchmark::State& state) { runner.measure(state, one); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  // Without a reporter of the caller's, Google Benchmark 1.7 frees one that it uses again in a second call.
  benchmark::JSONReporter json_file, json_screen;
  // Google Benchmark's table, as its flags want it, and its own to free.
  benchmark::BenchmarkReporter& table = *benchmark::CreateDefaultDisplayReporter();
  const bool waits = running.repetitions > 1;
  Ordered file(json_file, cases, runner, waits), screen(running.prints_json ? json_screen : table, cases, runner, waits);
  benchmark::RunSpecifiedBenchmarks(&screen, running.writes_json ? &file : nullptr, ".");
  benchmark::ClearRegisteredBenchmarks();
  return runner.conclude();
}

}  // namespace microtome::bench
