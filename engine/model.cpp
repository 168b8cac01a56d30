#include "engine/model.h"

#include "engine/check.h"
#include "engine/host_memory.h"
#include "engine/parameters.h"
#include "engine/program.h"

#include <algorithm>
#include <array>
#include <map>
#include <new>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

namespace microtome {

struct Model::Impl {
  ModelOptions options;
  Parameters parameters;
  std::unique_ptr<OptimizerOp> optimizer;
  Buffer state;
  Buffer arena;
  std::map<std::tuple<Mode, int, Part>, std::unique_ptr<PlannedProgram>> programs;

  bool has_folded_norms() const {
    return std::any_of(programs.begin(), programs.end(), [](const auto& entry) { return entry.second->has_folded_norms(); });
  }
  void fold_norms(std::span<const float> weights) {
    for (auto& [key, program] : programs) program->fold_norms(weights);
  }
};

Model::Model(Graph graph, Backend& backend, ModelOptions options)
    : graph_(std::move(graph)), backend_(backend), impl_(std::make_unique<Impl>()) {
  require(graph_.output() >= 0, "a network without an output");
  impl_->options = options;
  impl_->parameters = allocate_parameters(graph_, backend_);
  if (impl_->parameters.trainable > 0) impl_->optimizer = backend_.optimizer(options.optimizer, impl_->parameters.trainable);
  impl_->state = backend_.allocate(sizeof(StepState));
  set_state({});
}

Model::~Model() = default;

void Model::prepare(std::span<const Request> requests) {
  for (const Request& request : requests) {
    auto& program = impl_->programs[{request.mode, request.batch, request.part}];
    if (!program)
      program = std::make_unique<PlannedProgram>(graph_, backend_, impl_->options, request, impl_->parameters, device_state());
  }
}

void Model::plan(std::span<const Request> requests, std::size_t beside) {
  prepare(requests);
  std::size_t arena = impl_->arena.size_bytes();
  int largest = 1;
  for (const auto& [key, program] : impl_->programs) {
    arena = std::max(arena, program->arena_bytes());
    largest = std::max(largest, program->batch());
  }
  if (arena > impl_->arena.size_bytes() || backend_.missing_scratch_bytes() > 0) {
    impl_->arena = {};
    const Device device = backend_.device();
    const std::size_t needed = arena + backend_.missing_scratch_bytes() + beside;
    if (needed > device.available_bytes) {
      const int fits = largest_batch(beside, largest);
      fail_memory("not enough memory for this batch size",
                  {.where = fmt::format("a step of batch {} on {}", largest, device.name),
                   .expected = gigabytes(needed),
                   .found = fmt::format("{} free{}{}", gigabytes(device.available_bytes), device.bound.empty() ? "" : ", by ",
                                        device.bound),
                   .next = fits > 0 ? fmt::format("a batch size of {} would fit", fits)
                                    : "more memory, or fewer images: beside these not even one at a time fits"});
    }
    impl_->arena = backend_.allocate(arena);
    backend_.take_scratch();
  }
  for (auto& [key, program] : impl_->programs) program->bind(impl_->arena.data());
  if (impl_->has_folded_norms()) impl_->fold_norms(weights());
}

std::size_t Model::scratch_bytes() const {
  std::size_t most = 0;
  for (const auto& [key, program] : impl_->programs) most = std::max(most, program->scratch_bytes());
  return most;
}

std::size_t Model::kept_bytes() const {
  std::size_t sum = 0;
  for (const auto& [key, program] : impl_->programs) sum += program->kept_bytes();
  return sum;
}

int Model::largest_batch(std::size_t beside, int limit) {
  std::set<std::pair<Mode, Part>> kinds;
  for (const auto& [key, program] : impl_->programs) kinds.emplace(program->mode(), program->request().part);
  // The run will start anew, and its heap and its code are not the same to the last page.
  const auto room = [&] {
    const Device device = backend_.device();
    const std::size_t leeway = device.is_host ? std::min(std::size_t{32} << 20, device.available_bytes / 32) : 0;
    return device.available_bytes - std::min(device.available_bytes, beside + leeway);
  };
  // Rather too many than too few, for only fewer are tried below: some scratch grows with the batch and some does not, and an
  // arena may shrink by more than is known of it.
  const std::size_t bytes = room() + kept_bytes();
  const auto fits_about = [&](int batch) {
    std::size_t arena = 0, scratch = 0, kept = 0;
    for (const auto& [key, program] : impl_->programs) {
      if (program->batch() < program->request().full_batch) continue;  // an epoch's last
      const auto scaled = [&](std::size_t now) { return now * batch / program->batch(); };
      arena = std::max(arena, program->arena_bytes(batch));
      scratch = std::max(scratch, std::min(program->scratch_bytes(), scaled(program->scratch_bytes())));
      kept = std::max(kept, scaled(program->kept_bytes()));
    }
    return arena + scratch + kept <= bytes;
  };
  int most = 0;
  for (int beyond = limit + 1; most + 1 < beyond;) {
    const int batch = most + (beyond - most) / 2;
    (fits_about(batch) ? most : beyond) = batch;
  }
  most = std::min(limit, most + most / 8 + 1);
  // What making programs takes, code that is generated for them above all, is known only afterwards. So all are made that a run
  // can have at once: of training and calibration an epoch's last batch too, of evaluation those of validation and test, where
  // the base is evaluated alone of training too; each of a size of its own, for equal ones share their code. Returns what they
  // need beside that and what is left for it; nothing where making them took all.
  struct Room {
    std::size_t needed, found;
  };
  const auto room_for = [&](int batch) -> std::optional<Room> {
    impl_->programs.clear();
    backend_.forget_ops();
    try {
      std::size_t arena = 0;
      for (const auto& [mode, part] : kinds) {
        prepare(std::array{Request{mode, batch, batch, part}});
        const bool evaluates = mode == Mode::evaluate;
        for (int less = evaluates && part == Part::whole ? 2 : 1; less <= (evaluates ? 3 : 1) && less < batch; ++less)
          prepare(std::array{Request{mode, batch - less, batch, part}});
      }
      for (const auto& [key, program] : impl_->programs) arena = std::max(arena, program->arena_bytes());
      return Room{arena + scratch_bytes(), room()};
    } catch (const OutOfMemory&) {
      return {};
    } catch (const std::bad_alloc&) {
      return {};
    }
  };
  while (most > 0) {
    const std::optional<Room> at = room_for(most);
    if (at && at->needed <= at->found) break;
    const double share = at ? static_cast<double>(at->found) / static_cast<double>(at->needed) : 0.5;
    most = std::min(most - 1, static_cast<int>(most * share));
  }
  impl_->programs.clear();
  return most;
}

Model::ParameterBytes Model::parameter_bytes() const {
  const Parameters& p = impl_->parameters;
  return {p.w.size_bytes(), p.dw.size_bytes(), p.m.size_bytes() + p.v.size_bytes(), p.low_precision.size_bytes()};
}

Program& Model::program(Mode mode, int batch, Part part) {
  const auto found = impl_->programs.find({mode, batch, part});
  require(found != impl_->programs.end(), "no program is planned for batch ", batch);
  return *found->second;
}

bool Model::drops() const {
  return impl_->options.dropout;
}

std::size_t Model::arena_bytes() const {
  return impl_->arena.size_bytes();
}

void Model::initialize(std::uint64_t seed) {
  std::vector<float> weights(static_cast<std::size_t>(graph_.parameter_count()));
  std::size_t begin = 0;
  for (int p = 0; p < static_cast<int>(graph_.parameters().size()); ++p) {
    const Parameter& parameter = graph_.parameters()[p];
    const auto count = static_cast<std::size_t>(parameter.shape.count());
    microtome::initialize(parameter.init, seed, p, std::span(weights).subspan(begin, count));
    begin += count;
  }
  set_weights(weights);
}

std::vector<float> Model::weights() const {
  const Parameters& p = impl_->parameters;
  return read_parameters(backend_, graph_, p, p.w.data(), p.total);
}

void Model::set_weights(std::span<const float> weights) {
  const Parameters& p = impl_->parameters;
  write_parameters(backend_, graph_, p, p.w.data(), p.type, p.total, weights);
  if (p.low_precision.data())
    write_parameters(backend_, graph_, p, p.low_precision.data(), backend_.activation_type(), p.total, weights);
  if (impl_->has_folded_norms()) impl_->fold_norms(weights);
}

std::vector<float> Model::statistics() const {
  const Parameters& p = impl_->parameters;
  return read_values(backend_, p.fixed(), p.type, static_cast<std::size_t>(p.total - p.trainable));
}

void Model::set_statistics(std::span<const float> statistics) {
  const Parameters& p = impl_->parameters;
  require(static_cast<std::int64_t>(statistics.size()) == p.total - p.trainable, "not the statistics of this model");
  write_values(backend_, p.fixed(), p.type, statistics);
  if (impl_->has_folded_norms()) impl_->fold_norms(weights());
}

std::vector<float> Model::gradients() const {
  const Parameters& p = impl_->parameters;
  return read_parameters(backend_, graph_, p, p.dw.data(), p.trainable);
}

std::vector<float> Model::weight(int parameter) const {
  return read_parameter(backend_, graph_, impl_->parameters, impl_->parameters.w.data(), impl_->parameters.total, parameter);
}

std::vector<float> Model::first_moment(int parameter) const {
  return read_parameter(backend_, graph_, impl_->parameters, impl_->parameters.m.data(), impl_->parameters.trainable,
                        parameter);
}

std::vector<float> Model::second_moment(int parameter) const {
  return read_parameter(backend_, graph_, impl_->parameters, impl_->parameters.v.data(), impl_->parameters.trainable,
                        parameter);
}

void Model::set_moments(std::span<const float> first, std::span<const float> second) {
  const Parameters& p = impl_->parameters;
  write_parameters(backend_, graph_, p, p.m.data(), p.type, p.trainable, first);
  write_parameters(backend_, graph_, p, p.v.data(), p.type, p.trainable, second);
}

StepState Model::state() const {
  StepState state;
  backend_.read(&state, impl_->state.data(), sizeof state);
  return state;
}

void Model::set_state(const StepState& state) {
  backend_.write(impl_->state.data(), &state, sizeof state);
}

StepState* Model::device_state() const {
  return static_cast<StepState*>(impl_->state.data());
}

void Model::update() {
  require(impl_->optimizer != nullptr, "nothing in this model is trained");
  const Parameters& p = impl_->parameters;
  const Shape flat{1, 1, 1, static_cast<int>(p.trainable)};
  const DType type = backend_.parameter_type();
  const Scoped scoped(backend_, {.pass = Pass::update});
  const Tensor low_precision{{flat, backend_.activation_type()}, p.low_precision.data()};
  impl_->optimizer->update({{flat, type}, p.dw.data()}, device_state(), {{flat, type}, p.w.data()}, {{flat, type}, p.m.data()},
                           {{flat, type}, p.v.data()}, low_precision.data ? &low_precision : nullptr);
}

std::vector<float> to_keras(const Parameter& parameter, std::vector<float> stored) {
  if (parameter.keras_shape.size() != 4) return stored;
  std::vector<float> keras(stored.size());
  const Shape& s = parameter.shape;  // K R S C
  const int taps = s.h * s.w * s.c;
  for (int k = 0; k < s.n; ++k)
    for (int t = 0; t < taps; ++t)
      keras[static_cast<std::size_t>(t) * s.n + k] = stored[static_cast<std::size_t>(k) * taps + t];
  return keras;
}

std::vector<float> from_keras(const Parameter& parameter, std::span<const float> keras) {
  std::vector<float> stored(keras.begin(), keras.end());
  if (parameter.keras_shape.size() != 4) return stored;
  const Shape& s = parameter.shape;
  const int taps = s.h * s.w * s.c;
  for (int k = 0; k < s.n; ++k)
    for (int t = 0; t < taps; ++t)
      stored[static_cast<std::size_t>(k) * taps + t] = keras[static_cast<std::size_t>(t) * s.n + k];
  return stored;
}

}  // namespace microtome
