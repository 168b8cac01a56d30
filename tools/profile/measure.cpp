#include "tools/profile/measure.h"

#include "data/checkpoint.h"
#include "data/weights.h"
#include "engine/check.h"
#include "engine/parameters.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

namespace microtome {
namespace {

using Clock = std::chrono::steady_clock;

double nanoseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

class Sampler final : public FitObserver {
 public:
  Sampler(const Model& model, const Sampling& sampling, const std::filesystem::path& folder,
          const std::function<void(int, int)>& progress, Measurement& into)
      : backend_(model.backend()),
        info_{.parameters = model.graph().parameter_count()},
        sampling_(sampling),
        folder_(folder),
        progress_(progress),
        into_(into),
        trace_(backend_.trace()) {}

  /// Bursts: one as it is, one traced, and so on.
  void batch_end(int, int batch, int batches) override {
    progress_(batch, batches);
    const int sampled = batch - sampling_.warm_up;
    if (sampled < 0 || sampled % sampling_.burst != 0) return;
    const int bursts = sampled / sampling_.burst;
    if (bursts > 0) bursts % 2 == 1 ? end_untraced() : end_traced();
    if (batch == batches) return;
    if (bursts % 2 == 1) return trace_->start();
    backend_.synchronize();
    start_ = Clock::now();
  }

  void best(const Model& model) override { write_weights(folder_ / "best.weights.h5", model); }
  void checkpoint(const Snapshot& snapshot) override { write_checkpoint(folder_ / "last.checkpoint", snapshot, info_); }
  void ledger(const EpochLedger& ledger) override { into_.epoch = ledger; }

 private:
  void end_untraced() {
    backend_.synchronize();
    into_.untraced_ns.push_back(nanoseconds_since(start_) / sampling_.burst);
  }

  void end_traced() {
    Recorded recorded = trace_->stop();
    into_.traced_ns.push_back(static_cast<double>(recorded.end_ns - recorded.start_ns) / sampling_.burst);
    into_.dropped += recorded.dropped;
    if (into_.note.empty()) into_.note = recorded.note;
    if (recorded.activities.empty()) return;
    std::vector<Recorded> steps = split_steps(std::move(recorded));
    if (static_cast<int>(steps.size()) != sampling_.burst) {
      if (into_.note.empty())
        into_.note =
            fmt::format("{} steps were recorded where {} ran: their records are left out", steps.size(), sampling_.burst);
      return;
    }
    for (Recorded& step : steps) add(step);
  }

  void add(Recorded& step) {
    const Ledger of = microtome::ledger(step);
    const std::size_t before = into_.busy_ns.size();
    into_.busy_ns.push_back(of.busy_ns);
    into_.overlap_ns.push_back(of.overlap_ns);
    into_.within_ns.push_back(of.within_ns);
    into_.ends_ns.push_back(of.ends_ns);
    into_.unattributed_ns.push_back(of.unattributed_ns);
    into_.unfinished += of.unfinished;
    for (const auto& [key, spent] : of.scopes) {
      std::vector<double>& shares = into_.shares_ns[key];
      shares.resize(before);  // a pass that the steps before did not have
      shares.push_back(spent.share_ns);
      into_.pieces[key] += double{1} * spent.pieces / sampling_.steps;
    }
    for (auto& [key, shares] : into_.shares_ns) shares.resize(before + 1);
    for (const auto& [name, spent] : of.kernels) {
      KernelSpent& kernel = into_.kernels[name];
      kernel.sum_ns += spent.sum_ns, kernel.share_ns += spent.share_ns, kernel.pieces += spent.pieces;
      kernel.launch = spent.launch;
      kernel.scopes.insert(spent.scopes.begin(), spent.scopes.end());
    }
    if (static_cast<int>(into_.examples.size()) < sampling_.examples) into_.examples.push_back(std::move(step));
  }

  Backend& backend_;
  CheckpointInfo info_;
  Sampling sampling_;
  std::filesystem::path folder_;
  const std::function<void(int, int)>& progress_;
  Measurement& into_;
  std::unique_ptr<Trace> trace_;  // before fit() records anything: see Trace
  Clock::time_point start_;
};

/// Whole steps, from one's end to the next's; an epoch's first is not counted.
class CounterSampler final : public FitObserver {
 public:
  CounterSampler(Counters& counters, const std::function<void(int, int)>& progress)
      : counters_(counters), progress_(progress) {}

  void batch_end(int, int batch, int batches) override {
    if (counting_) counters_.stop(), progress_(++done_, counters_.steps());
    counting_ = batch < batches && !stop_requested();
    if (counting_) counters_.start();
  }
  bool stop_requested() override { return done_ > 0 && done_ == counters_.steps(); }

 private:
  Counters& counters_;
  const std::function<void(int, int)>& progress_;
  bool counting_ = false;
  int done_ = 0;
};

Images shortened(const Images& images, int count) {
  const int have = images.shape.n;
  const auto bytes = static_cast<std::size_t>(images.shape.count() / have);
  Images result{images.shape, {}, {}, {}};
  result.shape.n = count;
  result.pixels.resize(bytes * static_cast<std::size_t>(count));
  result.labels.resize(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    const auto from = static_cast<std::size_t>(count <= have ? std::int64_t{i} * have / count : i % have);
    std::memcpy(result.pixels.data() + bytes * static_cast<std::size_t>(i), images.pixels.data() + bytes * from, bytes);
    result.labels[static_cast<std::size_t>(i)] = images.labels[from];
  }
  // fit() asks for both classes; which label an image has takes no time.
  if (count > 1 && std::equal(result.labels.begin() + 1, result.labels.end(), result.labels.begin()))
    result.labels.back() = static_cast<std::uint8_t>(1 - result.labels.back());
  return result;
}

/// The best of a few rounds, each of enough calls to last.
double seconds_of(Backend& backend, const std::function<void()>& call) {
  const auto time = [&](int calls) {
    backend.synchronize();
    const auto start = Clock::now();
    for (int i = 0; i < calls; ++i) call();
    backend.synchronize();
    return nanoseconds_since(start) * 1e-9 / calls;
  };
  call();
  const int calls = std::clamp(static_cast<int>(0.03 / time(1)), 1, 1000);
  double best = time(calls);
  for (int round = 0; round < 3; ++round) best = std::min(best, time(calls));
  return best;
}

}  // namespace

Dataset shortened(const Dataset& data, int train_images, int valid_images) {
  return {data.name,
          shortened(data.train, train_images),
          shortened(data.valid, std::min(valid_images, data.valid.shape.n)),
          {},
          data.notes};
}

Measurement measure(Model& model, const Dataset& data, const FitOptions& options, const Sampling& sampling,
                    const std::filesystem::path& folder, const std::function<void(int done, int of)>& progress) {
  require(sampling.steps % sampling.burst == 0 &&
              data.train.shape.n == (sampling.warm_up + 2 * sampling.steps) * options.batch_size,
          "the data of a short run are just its steps");
  Measurement measurement;
  Sampler sampler(model, sampling, folder, progress, measurement);
  measurement.features_seconds = fit(model, data, options, sampler).features_seconds;
  return measurement;
}

void measure_counters(Model& model, const Dataset& data, FitOptions options, const std::vector<std::string>& metrics,
                      const std::function<void(int done, int of)>& progress, Measurement& measurement) {
  const auto note = [&](const std::string& why) {
    measurement.note += fmt::format("{}no counters: {}", measurement.note.empty() ? "" : "; ", why);
  };
  std::string why;
  const std::unique_ptr<Counters> counters = model.backend().counters(metrics, why);
  if (!counters) return note(why);
  options.record = false;  // a recorded step is one call
  options.first_epoch = 0, options.epochs = std::numeric_limits<int>::max();
  CounterSampler sampler(*counters, progress);
  try {
    fit(model, data, options, sampler);
    measurement.counted = counters->values();
  } catch (const Error& error) {
    if (error.code() != ExitCode::machine) throw;
    note(error.what());
  }
}

Roofs measure_roofs(Backend& backend) {
  constexpr std::size_t copied = std::size_t{128} << 20;
  const DType type = backend.activation_type();
  const Buffer from = backend.allocate(copied), to = backend.allocate(copied);
  backend.zero(from.data(), copied);
  Roofs roofs;
  roofs.bytes_per_second = 2.0 * copied / seconds_of(backend, [&] { backend.copy(to.data(), from.data(), copied); });
  // Of squares as large as a device needs to show what it can, and no slower than a twentieth of a second.
  for (int side = 256; std::size_t{1} * side * side * size_bytes(type) <= copied; side *= 2) {
    const Layout rows{{side, 1, 1, side}, type}, square{{1, 1, side, side}, type};
    const auto product = backend.dense({}, rows, rows);
    const Tensor x{rows, from.data()}, w{square, from.data()}, y{rows, to.data()};
    // Not zeros: a product of those draws less power, and clocks higher, than any other.
    std::vector<float> values(static_cast<std::size_t>(square.shape.count()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 2654435761u % 1021) / 1021 - 0.5f;
    write_values(backend, from.data(), type, values);
    const double seconds = seconds_of(backend, [&] { product->forward(x, w, nullptr, y); });
    roofs.flop_per_second = std::max(roofs.flop_per_second, 2.0 * side * side * side / seconds);
    if (seconds > 0.02) break;
  }
  return roofs;
}

}  // namespace microtome
