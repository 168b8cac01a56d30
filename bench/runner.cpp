#include "bench/runner.h"

#include "bench/machine.h"
#include "bench/replay.h"
#include "engine/check.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <memory>

namespace microtome::bench {

namespace {

struct Row {
  std::string name;
  double share;  // of the copy rate
};

/// All that is run, and what became of it.
class Runner {
 public:
  Runner(Backend& backend, const Roofs& roofs, const Running& running) : backend_(backend), roofs_(roofs), running_(running) {}

  void measure(benchmark::State& state, const Case& one) {
    try {
      prepare(one);
      const Verdict& verdict = prepared_.verdict;
      if (verdict.wrong > 0)
        return state.SkipWithError(fmt::format("wrong: {} of {} elements differ from the reference; the first, {}",
                                               verdict.wrong, verdict.elements, verdict.first)
                                       .c_str());
      time(state, one);
    } catch (const Error& error) {
      release();
      if (failed_ == ExitCode::done) failed_ = error.code();
      state.SkipWithError(to_text(error, "bench").c_str());
    }
  }

  /// Says what was judged.
  int conclude() {
    release();
    std::string slow;
    for (const Row& row : rows_)
      if (row.share < running_.at_least) slow += fmt::format("  {} {:.2f}\n", row.name, row.share);
    const double percent = 100 * running_.at_least;
    if (!rows_.empty()) fmt::print(stderr, "\n{}; copy {:.0f} GB/s\n", running_.what, roofs_.copy * 1e-9);
    if (!rows_.empty() && slow.empty())
      fmt::print(stderr, "Every large case moves its bytes at {:.0f}% of the copy rate or faster.\n", percent);
    if (!slow.empty()) fmt::print(stderr, "Large cases under {:.0f}% of the copy rate:\n{}", percent, slow);
    if (wrong_cases_ > 0) fmt::print(stderr, "bench: cases that differ from the reference: {}\n", wrong_cases_);
    if (wrong_cases_ > 0 || (running_.judges && !slow.empty())) return static_cast<int>(ExitCode::verdict);
    return static_cast<int>(failed_);
  }

 private:
  /// A case's repetitions follow each other.
  void prepare(const Case& one) {
    if (current_ == &one) return;
    release();
    prepared_ = one.prepare(backend_);
    wrong_cases_ += prepared_.verdict.wrong > 0;
    if (prepared_.verdict.wrong == 0) replay_ = std::make_unique<Replay>(backend_, prepared_.instances);
    current_ = &one;
  }

  void release() {
    current_ = nullptr;
    replay_.reset();
    prepared_ = {};
  }

  void time(benchmark::State& state, const Case& one) {
    std::vector<double> samples;
    for (auto _ : state) {
      samples.clear();
      while (static_cast<int>(samples.size()) < running_.samples) samples.push_back(replay_->run());
      state.SetIterationTime(median(samples));
    }
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
    if (prepared_.verdict.elements > 0) state.counters["wrong"] = 0;
    const auto [fastest, slowest] = std::minmax_element(samples.begin(), samples.end());
    state.counters["spread"] = (*slowest - *fastest) / seconds;
    if (const auto gpu = gpu_state(backend_.device().name)) {
      state.counters["sm_MHz"] = gpu->sm_mhz;
      state.counters["celsius"] = gpu->temperature_celsius;
      state.counters["throttle"] = static_cast<double>(std::strtoull(gpu->throttle_reasons.c_str(), nullptr, 16));
    }
    state.SetLabel(prepared_.implementation);
    if (!one.judged) return;
    if (!rows_.empty() && rows_.back().name == one.name) rows_.pop_back();  // of several repetitions the last
    rows_.push_back({one.name, cost.bytes / seconds / roofs_.copy});
  }

  Backend& backend_;
  const Roofs& roofs_;
  const Running& running_;
  const Case* current_ = nullptr;
  Prepared prepared_;
  std::unique_ptr<Replay> replay_;
  std::vector<Row> rows_;
  int wrong_cases_ = 0;
  ExitCode failed_ = ExitCode::done;
};

using Runs = std::vector<benchmark::BenchmarkReporter::Run>;

/// Under the names that cases have: without "/manual_time" behind each.
Runs plainly_named(Runs runs) {
  for (auto& run : runs) run.run_name.time_type.clear();
  return runs;
}

/// Google Benchmark's own, without figures that JSON has no word for (the variation of counters that are 0).
class Json final : public benchmark::JSONReporter {
 public:
  void ReportRuns(const Runs& runs) override {
    Runs clean = plainly_named(runs);
    for (Run& run : clean) {
      for (auto counter = run.counters.begin(); counter != run.counters.end();)
        counter = std::isfinite(counter->second.value) ? std::next(counter) : run.counters.erase(counter);
    }
    JSONReporter::ReportRuns(clean);
  }
};

/// Google Benchmark's table, as its flags want it.
class Screen final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& context) override { return table_.ReportContext(context); }
  void ReportRuns(const Runs& runs) override { table_.ReportRuns(plainly_named(runs)); }
  void Finalize() override { table_.Finalize(); }

 private:
  benchmark::BenchmarkReporter& table_ = *benchmark::CreateDefaultDisplayReporter();  // Google Benchmark's to free
};

}  // namespace

int run_cases(Backend& backend, const std::vector<Case>& cases, const Roofs& roofs, const Running& running) {
  Runner runner(backend, roofs, running);
  for (const Case& one : cases)
    benchmark::RegisterBenchmark(one.name.c_str(), [&](benchmark::State& state) { runner.measure(state, one); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  // Without a reporter of the caller's, Google Benchmark 1.7 frees one that it uses again in a second call.
  Json file, document;
  Screen screen;
  benchmark::BenchmarkReporter* display = &document;
  if (!running.prints_json) display = &screen;
  benchmark::RunSpecifiedBenchmarks(display, running.writes_json ? &file : nullptr, ".");
  benchmark::ClearRegisteredBenchmarks();
  return runner.conclude();
}

}  // namespace microtome::bench
