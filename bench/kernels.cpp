// Every op that moves memory and computes little, against the rate at which the same backend copies, measured in the same run.
//   kernels --device cuda:0 --precision bf16 [--large-mb N] [--samples N] [--at-least SHARE] [Google Benchmark's]
// Time is that of many instances recorded as one step and replayed, so that launches cost nothing. Bytes are the least the op
// can move: each tensor as often as the op must pass over it, 1 KB = 1000 bytes. `large` cases exceed any cache; the others
// stand in the networks, and may find their tensors in L2.
#include "engine/check.h"
#include "kernels/backend.h"
#include "tools/program.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace microtome {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Seconds of one `work` of many, replayed.
class Replay {
 public:
  Replay(Backend& backend, const std::function<void()>& work) : backend_(backend), recording_(record(work, 1)) {
    run();
    const double once = run();
    constexpr double long_enough = 2e-3;  // beside which a synchronisation is nothing
    count_ = static_cast<int>(std::clamp(long_enough / once, 1.0, 200.0));
    if (count_ > 1) recording_ = record(work, count_);
    run();
  }

  double run() {
    const auto start = Clock::now();
    recording_->run();
    backend_.synchronize();
    return seconds_since(start) / count_;
  }

 private:
  std::unique_ptr<Recording> record(const std::function<void()>& work, int count) {
    auto recording = backend_.record([work, count] {
      for (int i = 0; i < count; ++i) work();
    });
    backend_.synchronize();
    return recording;
  }

  Backend& backend_;
  int count_ = 1;
  std::unique_ptr<Recording> recording_;
};

/// Memory of one case, in [-1, 1).
class Tensors {
 public:
  explicit Tensors(Backend& backend) : backend_(backend) {}

  Tensor activations(const Shape& shape) { return make(shape, backend_.activation_type()); }
  Tensor parameters(const Shape& shape) { return make(shape, backend_.parameter_type()); }
  Tensor vector(int channels) { return parameters({1, 1, 1, channels}); }
  Tensor bytes(const Shape& shape) { return make(shape, DType::u8); }
  Tensor zeros(const Tensor& like) {
    Tensor tensor = like;
    tensor.data = allocate(like.packed_bytes());
    backend_.zero(tensor.data, like.packed_bytes());
    return tensor;
  }
  template <class T>
  T* object(const T& value, std::size_t count = 1) {
    const std::vector<T> values(count, value);
    void* data = allocate(count * sizeof(T));
    backend_.write(data, values.data(), count * sizeof(T));
    return static_cast<T*>(data);
  }

 private:
  Tensor make(const Shape& shape, DType type) {
    Tensor tensor{Layout{shape, type}};
    const std::size_t size = tensor.packed_bytes();
    tensor.data = allocate(size);
    const std::vector<std::byte> pattern = drawn(type);
    std::size_t done = std::min(size, pattern.size());
    backend_.write(tensor.data, pattern.data(), done);
    while (done < size) {
      const std::size_t more = std::min(done, size - done);
      backend_.copy(tensor.as<std::byte>() + done, tensor.data, more);
      done += more;
    }
    return tensor;
  }

  static std::vector<std::byte> drawn(DType type) {
    constexpr std::size_t count = 1 << 18;
    std::vector<std::byte> pattern(count * size_bytes(type));
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (std::size_t i = 0; i < count; ++i) {
      const float value = uniform(random);
      const double wide = value;
      const auto pixel = static_cast<std::uint8_t>(127.5f * (value + 1));
      // A bf16 is the upper half of a float; little-endian, it comes last.
      const void* from = type == DType::u8     ? static_cast<const void*>(&pixel)
                         : type == DType::bf16 ? reinterpret_cast<const std::byte*>(&value) + 2
                         : type == DType::f32  ? static_cast<const void*>(&value)
                                               : &wide;
      std::memcpy(pattern.data() + i * size_bytes(type), from, size_bytes(type));
    }
    return pattern;
  }

  void* allocate(std::size_t bytes) {
    buffers_.push_back(backend_.allocate(bytes));
    return buffers_.back().data();
  }

  Backend& backend_;
  std::vector<Buffer> buffers_;
};

/// What a case runs, and the bytes that it cannot but move.
struct Work {
  std::function<void()> run;
  std::size_t bytes = 0;
};
/// Empty where the backend has no such op.
using Maker = std::function<Work(Backend&, Tensors&)>;

struct Case {
  std::string op, where;  // "pool_backward", "vgg19:96x96x64/n256"
  bool large = false;
  Maker make;
};

std::size_t total(std::initializer_list<const Tensor*> tensors) {
  std::size_t bytes = 0;
  for (const Tensor* t : tensors) bytes += t->packed_bytes();
  return bytes;
}

// --------------------------------------------------------------------------------------------------------------- the ops
// Each takes a shape and gives the makers of its directions.

using Directions = std::vector<std::pair<std::string, Maker>>;

/// A batch out of eight.
Directions gather(const Shape& s) {
  return {{"gather_forward", [=](Backend& b, Tensors& make) -> Work {
             const Tensor images = make.bytes({8 * s.n, s.h, s.w, s.c}), labels = make.bytes({8 * s.n, 1, 1, 1});
             const Tensor x = make.activations(s), y = make.parameters({1, 1, 1, s.n});
             StepState* state = make.object(StepState{});
             std::shared_ptr op = b.gather({.images = 8 * s.n, .batch_size = s.n, .shuffle = true}, images, x);
             return {[=] { op->forward(images, labels, state, x, y); }, images.packed_bytes() / 8 + total({&x})};
           }}};
}

Directions adam(const Shape& s) {
  return {{"adam_update", [=](Backend& b, Tensors& make) -> Work {
             const Tensor w = make.parameters(s), dw = make.parameters(s), m = make.zeros(w), v = make.zeros(w);
             const bool narrows = b.activation_type() != b.parameter_type();
             const Tensor narrow = narrows ? make.activations(s) : Tensor{};
             StepState* state = make.object(StepState{});
             std::shared_ptr op = b.adam({}, s.count());
             return {[=] { op->update(dw, state, w, m, v, narrows ? &narrow : nullptr); },
                     total({&dw}) + 2 * total({&w, &m, &v}) + (narrows ? total({&narrow}) : 0)};
           }}};
}

/// Batch statistics take a pass of their own: forward reads x twice, backward x and dy.
Directions batch_norm(const Shape& s) {
  const auto make = [=](bool backward) -> Maker {
    return [=](Backend& b, Tensors& of) -> Work {
      const Tensor x = of.activations(s), y = of.activations(s), dy = of.activations(s), dx = of.activations(s);
      const Tensor gamma = of.vector(s.c), beta = of.vector(s.c), mean = of.vector(s.c), variance = of.zeros(mean);
      const Tensor dgamma = of.vector(s.c), dbeta = of.vector(s.c);
      std::shared_ptr op = b.batch_norm({.activation = Activation::relu}, x, y);
      if (op == nullptr) op = b.batch_norm({}, x, y);
      const auto forward = [=] { op->forward(x, &gamma, beta, mean, variance, nullptr, nullptr, y); };
      if (!backward) return {forward, 2 * total({&x}) + total({&y})};
      forward();
      return {[=] { op->backward(x, dy, &gamma, beta, dx, &dgamma, dbeta, Write::overwrite); },
              2 * total({&x, &dy}) + total({&dx})};
    };
  };
  return {{"batch_norm_forward", make(false)}, {"batch_norm_backward", make(true)}};
}

Directions settle(const Shape& s) {
  return {{"settle", [=](Backend& b, Tensors& make) -> Work {
             const Tensor x = make.activations(s), dx = make.activations(s), correction = make.parameters({1, 1, 3, s.c});
             std::shared_ptr op = b.settle(x);
             if (op == nullptr) return {};
             return {[=] { op->run(x, correction, dx); }, total({&x}) + 2 * total({&dx})};
           }}};
}

Directions activate(Activation function, const std::string& name, const Shape& s) {
  const auto make = [=](bool backward) -> Maker {
    return [=](Backend& b, Tensors& of) -> Work {
      const Tensor x = of.activations(s), y = of.activations(s);
      std::shared_ptr op = b.activate({function}, x, y);
      if (!backward) return {[=] { op->forward(x, y); }, total({&x, &y})};
      const Tensor dy = of.activations(s), dx = of.activations(s);
      const bool reads_x = op->backward_reads().x;
      return {[=] { op->backward(reads_x ? &x : nullptr, reads_x ? nullptr : &y, dy, dx, Write::overwrite); },
              total({&x, &dy, &dx})};
    };
  };
  return {{name + "_forward", make(false)}, {name + "_backward", make(true)}};
}

Directions add(const Shape& s) {
  const auto make = [=](bool backward) -> Maker {
    return [=](Backend& b, Tensors& of) -> Work {
      const Tensor a = of.activations(s), c = of.activations(s), y = of.activations(s);
      std::shared_ptr op = b.add({}, a, c, y);
      if (!backward) return {[=] { op->forward(a, nullptr, c, nullptr, y); }, total({&a, &c, &y})};
      return {[=] { op->backward(y, nullptr, AddOp::Side::a, a, Write::accumulate); }, total({&y}) + 2 * total({&a})};
    };
  };
  return {{"add_forward", make(false)}, {"add_backward_accumulate", make(true)}};
}

Directions multiply(const Shape& s) {
  enum class Pass { forward, data, gate };
  const auto make = [=](Pass pass) -> Maker {
    return [=](Backend& b, Tensors& of) -> Work {
      const Tensor x = of.activations(s), y = of.activations(s), gate = of.activations({s.n, 1, 1, s.c});
      std::shared_ptr op = b.multiply({}, x, gate, y);
      if (pass == Pass::forward) return {[=] { op->forward(x, nullptr, gate, y); }, total({&x, &gate, &y})};
      if (pass == Pass::data)
        return {[=] { op->backward_data(y, gate, nullptr, x, Write::overwrite); }, total({&y, &gate, &x})};
      return {[=] { op->backward_gate(x, nullptr, y, gate, Write::overwrite); }, total({&x, &y, &gate})};
    };
  };
  return {{"multiply_forward", make(Pass::forward)},
          {"multiply_backward_data", make(Pass::data)},
          {"multiply_backward_gate", make(Pass::gate)}};
}

/// Without the mask that a maximum keeps inside.
Directions pool(Pool::Kind kind, Extent kernel, Extent stride, Padding padding, const Shape& s) {
  const auto make = [=](bool backward) -> Maker {
    return [=](Backend& b, Tensors& of) -> Work {
      const Pool pool{.kind = kind, .window = resolve(s, kernel, stride, padding)};
      const Tensor x = of.activations(s), y = of.activations(pool.window.output(s, s.c));
      std::shared_ptr op = b.pool(pool, x, y);
      const auto forward = [=] { op->forward(x, nullptr, y); };
      if (!backward) return {forward, total({&x, &y})};
      forward();
      return {[=] { op->backward(y, nullptr, x, Write::overwrite); }, total({&x, &y})};
    };
  };
  const std::string name = fmt::format("{}_pool_{}s{}", kind == Pool::Kind::max ? "max" : "average", kernel.h, stride.h);
  return {{name + "_forward", make(false)}, {name + "_backward", make(true)}};
}

Directions dropout(const Shape& s) {
  const auto make = [=](bool backward) -> Maker {
    return [=](Backend& b, Tensors& of) -> Work {
      const Tensor x = of.activations(s), y = of.activations(s);
      const StepState* state = of.object(StepState{});
      std::shared_ptr op = b.dropout({}, x, y);
      if (!backward) return {[=] { op->forward(x, nullptr, state, y); }, total({&x, &y})};
      return {[=] { op->backward(y, nullptr, state, x, Write::overwrite); }, total({&x, &y})};
    };
  };
  return {{"dropout_forward", make(false)}, {"dropout_backward", make(true)}};
}

Directions depthwise_conv(int stride, const Shape& s) {
  enum class Pass { forward, data, filter, both };
  const auto make = [=](Pass pass) -> Maker {
    return [=](Backend& b, Tensors& of) -> Work {
      const Conv conv{.window = resolve(s, 3, stride, same), .groups = s.c};
      const Tensor x = of.activations(s), y = of.activations(conv.window.output(s, s.c));
      const Tensor w = of.activations({s.c, 3, 3, 1}), dw = of.activations({s.c, 3, 3, 1}), dx = of.activations(s);
      std::shared_ptr op = b.conv(conv, x, y);
      switch (pass) {
        case Pass::forward: return {[=] { op->forward(x, nullptr, w, nullptr, y, nullptr); }, total({&x, &w, &y})};
        case Pass::data: return {[=] { op->backward_data(y, w, nullptr, dx, Write::overwrite); }, total({&y, &w, &dx})};
        case Pass::filter:
          return {[=] { op->backward_filter(x, nullptr, y, dw, nullptr, Write::overwrite); }, total({&x, &y, &dw})};
        case Pass::both: break;
      }
      if (!op->fuses_backward()) return {};
      return {[=] { op->backward(x, nullptr, y, w, dx, Write::overwrite, dw, nullptr); }, total({&x, &y, &w, &dx, &dw})};
    };
  };
  const std::string name = fmt::format("depthwise_conv_s{}_", stride);
  return {{name + "forward", make(Pass::forward)},
          {name + "backward_data", make(Pass::data)},
          {name + "backward_filter", make(Pass::filter)},
          {name + "backward", make(Pass::both)}};
}

Directions loss(const Shape& s) {
  const auto make = [=](bool backward) -> Maker {
    return [=](Backend& b, Tensors& of) -> Work {
      const Tensor z = of.parameters({s.n, 1, 1, 1}), dz = of.parameters({s.n, 1, 1, 1}), y = of.vector(s.n);
      std::shared_ptr op = b.loss({.batch_size = s.n}, z);
      if (backward) return {[=] { op->backward(z, y, dz); }, total({&z, &y, &dz})};
      StepState* state = of.object(StepState{});
      auto* metrics = of.object(BatchMetrics{});
      float* scores = of.object(0.0f, static_cast<std::size_t>(s.n));
      return {[=] { op->forward(z, y, state, metrics, scores); },
              total({&z, &y}) + sizeof(float) * static_cast<std::size_t>(s.n)};
    };
  };
  return {{"loss_forward", make(false)}, {"loss_backward", make(true)}};
}

// ------------------------------------------------------------------------------------------------------------- the cases

/// As many images as make the largest tensor of an op about so large.
Shape filled(Shape image, std::size_t bytes, DType type) {
  image.n = std::max(1, static_cast<int>(bytes / (static_cast<std::size_t>(image.count()) * size_bytes(type))));
  return image;
}

std::vector<Case> all_cases(DType type, std::size_t large_bytes) {
  std::vector<Case> cases;
  const auto add_case = [&](const Directions& directions, const std::string& where, bool large) {
    for (const auto& [op, make] : directions) cases.push_back({op, where, large, make});
  };
  const auto at_batches = [&](const std::string& net, Shape s, const std::function<Directions(const Shape&)>& op) {
    for (const int n : {32, 256}) {
      s.n = n;
      add_case(op(s), fmt::format("{}:{}x{}x{}/n{}", net, s.h, s.w, s.c, n), false);
    }
  };
  const auto at_large = [&](const Shape& image, const std::function<Directions(const Shape&)>& op) {
    const Shape s = filled(image, large_bytes, type);
    add_case(op(s), fmt::format("large:{}x{}x{}/n{}", s.h, s.w, s.c, s.n), true);
  };
  using Kind = Pool::Kind;
  const auto relu = [](const Shape& s) { return activate(Activation::relu, "relu", s); };
  const auto swish = [](const Shape& s) { return activate(Activation::swish, "swish", s); };
  const auto max_2 = [](const Shape& s) { return pool(Kind::max, 2, 2, valid, s); };
  const auto max_3 = [](const Shape& s) { return pool(Kind::max, 3, 2, same, s); };
  const auto average_3 = [](const Shape& s) { return pool(Kind::average, 3, 1, same, s); };
  const auto average_2 = [](const Shape& s) { return pool(Kind::average, 2, 2, valid, s); };
  const auto global = [](const Shape& s) { return pool(Kind::average, {s.h, s.w}, 1, valid, s); };
  const auto depthwise_1 = [](const Shape& s) { return depthwise_conv(1, s); };
  const auto depthwise_2 = [](const Shape& s) { return depthwise_conv(2, s); };

  at_large({1, 96, 96, 3}, gather);
  at_large({1, 1, 1, 1 << 20}, [](const Shape& s) { return adam({1, 1, 1, static_cast<int>(s.count())}); });
  for (const auto& op : {std::function<Directions(const Shape&)>(batch_norm),
                         {settle},
                         {relu},
                         {swish},
                         {microtome::add},
                         {multiply},
                         {dropout},
                         {max_2},
                         {max_3},
                         {average_3},
                         {average_2},
                         {depthwise_1},
                         {depthwise_2}})
    at_large({1, 24, 24, 256}, op);
  at_large({1, 3, 3, 2048}, global);

  at_batches("all", {1, 96, 96, 3}, gather);
  add_case(adam({1, 1, 1, 24059393}), "resnet50", false);
  add_case(adam({1, 1, 1, 2388257}), "b6", false);
  at_batches("resnet50", {1, 24, 24, 256}, batch_norm);
  at_batches("resnet50", {1, 3, 3, 2048}, batch_norm);
  at_batches("mobilenet", {1, 48, 48, 64}, batch_norm);
  at_batches("densenet121", {1, 24, 24, 256}, settle);
  at_batches("vgg19", {1, 96, 96, 64}, relu);
  at_batches("efficientnet_v2_b0", {1, 6, 6, 672}, swish);
  at_batches("resnet50", {1, 24, 24, 256}, microtome::add);
  at_batches("efficientnet_v2_b0", {1, 6, 6, 672}, multiply);
  at_batches("b6", {1, 46, 46, 32}, dropout);
  at_batches("vgg19", {1, 96, 96, 64}, max_2);
  at_batches("resnet50", {1, 48, 48, 64}, max_3);
  at_batches("inception_v3", {1, 9, 9, 288}, average_3);
  at_batches("densenet121", {1, 24, 24, 128}, average_2);
  at_batches("resnet50", {1, 3, 3, 2048}, global);
  at_batches("mobilenet", {1, 48, 48, 32}, depthwise_1);
  at_batches("mobilenet", {1, 48, 48, 64}, depthwise_2);
  at_batches("mobilenet", {1, 6, 6, 512}, depthwise_1);
  at_batches("all", {1, 1, 1, 1}, loss);
  return cases;
}

// ----------------------------------------------------------------------------------------------------------- measuring

struct Row {
  std::string name;
  bool large;
  double seconds, bytes, share;
};

/// Bytes a second, read and written.
double copy_rate(Backend& backend, std::size_t bytes) {
  Tensors make(backend);
  const Shape s{1, 1, 1, static_cast<int>(bytes)};
  const Tensor from = make.bytes(s), to = make.bytes(s);
  Replay replay(backend, [&] { backend.copy(to.data, from.data, bytes); });
  double best = replay.run();
  for (int i = 0; i < 10; ++i) best = std::min(best, replay.run());
  return 2.0 * static_cast<double>(bytes) / best;
}

void measure(benchmark::State& state, Backend& backend, const Case& one, double rate, std::vector<Row>& rows) {
  Tensors tensors(backend);
  const Work work = one.make(backend, tensors);
  if (!work.run) return state.SkipWithError("this backend has no such op");
  Replay replay(backend, work.run);
  std::vector<double> seconds;
  for (auto _ : state) {
    seconds.push_back(replay.run());
    state.SetIterationTime(seconds.back());
  }
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2), seconds.end());
  const double median = seconds[seconds.size() / 2], bytes = static_cast<double>(work.bytes);
  const std::string name = one.op + "/" + one.where;
  if (!rows.empty() && rows.back().name == name) rows.pop_back();  // of several repetitions the last
  rows.push_back({name, one.large, median, bytes, bytes / median / rate});
  state.counters["MB"] = bytes * 1e-6;
  state.counters["GB/s"] = bytes / median * 1e-9;
  state.counters["of_copy"] = rows.back().share;
}

/// False where a large case stays below `at_least`.
bool print(const std::vector<Row>& rows, double rate, double at_least, std::string_view what) {
  fmt::print("\n{}; copy {:.0f} GB/s\n{:<56} {:>10} {:>10} {:>8} {:>8}\n", what, rate * 1e-9, "op", "us", "MB", "GB/s",
             "of copy");
  for (const Row& row : rows)
    fmt::print("{:<56} {:>10.1f} {:>10.2f} {:>8.0f} {:>8.2f}\n", row.name, row.seconds * 1e6, row.bytes * 1e-6,
               row.bytes / row.seconds * 1e-9, row.share);
  if (std::none_of(rows.begin(), rows.end(), [](const Row& row) { return row.large; })) return true;
  std::string slow;
  for (const Row& row : rows)
    if (row.large && row.share < at_least) slow += fmt::format("  {} {:.2f}\n", row.name, row.share);
  if (slow.empty())
    fmt::print("\nEvery large case moves its bytes at {:.0f}% of the copy rate or faster.\n", 100 * at_least);
  else
    fmt::print("\nLarge cases under {:.0f}% of the copy rate:\n{}", 100 * at_least, slow);
  return slow.empty();
}

struct Options {
  std::string device = "auto", precision = "f32";
  int large_mb = 512, samples = 20;
  double at_least = 0.8;
  bool judge = false;
};

double number(std::string_view option, const std::string& text, double lowest, double highest) {
  std::size_t end = 0;
  double value = -1;
  try {
    value = std::stod(text, &end);
  } catch (const std::exception&) {
  }
  if (end != text.size() || value < lowest || value > highest)
    fail(ExitCode::usage, fmt::format("a bad value for {}", option),
         {.expected = fmt::format("a number from {} to {}", lowest, highest), .found = text});
  return value;
}

/// Takes ours out of the command line; what is left is Google Benchmark's.
Options take_options(int& argc, char** argv) {
  Options options;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::size_t equals = std::min(argument.find('='), argument.size());
    const std::string_view name = argument.substr(0, equals);
    if (name != "--device" && name != "--precision" && name != "--large-mb" && name != "--samples" && name != "--at-least") {
      argv[kept++] = argv[i];
      continue;
    }
    if (equals == argument.size() && i + 1 == argc)
      fail(ExitCode::usage, fmt::format("{} lacks its value", name), {.next = "kernels --help"});
    const std::string value(equals < argument.size() ? argument.substr(equals + 1) : std::string_view(argv[++i]));
    if (name == "--device") options.device = value;
    if (name == "--precision") options.precision = value;
    if (name == "--large-mb") options.large_mb = static_cast<int>(number(name, value, 1, 2000));
    if (name == "--samples") options.samples = static_cast<int>(number(name, value, 1, 1e6));
    if (name == "--at-least") options.at_least = number(name, value, 0, 10), options.judge = true;
  }
  argc = kept;
  return options;
}

Precision precision_named(const std::string& name) {
  if (name == "f32") return Precision::f32;
  if (name == "tf32") return Precision::tf32;
  if (name == "bf16") return Precision::bf16;
  fail(ExitCode::usage, "no such precision", {.expected = "f32, tf32 or bf16", .found = name});
}

int run(int argc, char** argv) {
  if (std::any_of(argv + 1, argv + argc, [](const char* argument) { return std::string_view(argument) == "--help"; }))
    fmt::print(
        "kernels: ops that move memory, beside the copy rate of the same run\n"
        "          [--device auto|cpu|cuda:N]      [default auto]\n"
        "          [--precision f32|tf32|bf16]     [default f32]\n"
        "          [--large-mb N]                  of a large case's largest tensor [default 512: four times a L2 cache]\n"
        "          [--samples N]                   replays of a case, of which the median counts [default 20]\n"
        "          [--at-least SHARE]              exit code 7 where a large case is below that share of the copy rate\n"
        "                                          [without it, those below 0.8 are listed]\n\n");
  const Options options = take_options(argc, argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return static_cast<int>(ExitCode::usage);

  const std::unique_ptr<Backend> backend = make_backend(options.device, precision_named(options.precision));
  const Device device = backend->device();
  const auto large_bytes = static_cast<std::size_t>(options.large_mb) * 1'000'000;
  const double rate = copy_rate(*backend, large_bytes);
  const std::vector<Case> cases = all_cases(backend->activation_type(), large_bytes);
  std::vector<Row> rows;
  for (const Case& one : cases) {
    const std::string name = fmt::format("{}/{}/{}/{}", one.op, one.where, device.name, options.precision);
    benchmark::RegisterBenchmark(name.c_str(), [&](benchmark::State& state) { measure(state, *backend, one, rate, rows); })
        ->UseManualTime()
        ->Iterations(options.samples)
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::RunSpecifiedBenchmarks();
  if (rows.empty()) return 0;  // --benchmark_list_tests, or a filter that leaves nothing

  const std::string what =
      fmt::format("{}, {}, {}; commit {}", device.description, device.versions, options.precision, commit());
  const bool fast = print(rows, rate, options.at_least, what);
  return fast || !options.judge ? 0 : static_cast<int>(ExitCode::verdict);
}

}  // namespace
}  // namespace microtome

int main(int argc, char** argv) {
  return microtome::run_program("kernels", [&] { return microtome::run(argc, argv); });
}
