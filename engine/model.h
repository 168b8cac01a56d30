// A graph on a backend: the parameters, and one program for each batch size and mode that a run needs.
#pragma once

#include "engine/backend.h"
#include "engine/cost.h"
#include "engine/graph.h"
#include "engine/plan.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace microtome {

struct ModelOptions {
  bool dropout = true;           // off: dropout and stochastic depth are the identity in training too
  bool keras3_variance = false;  // moving variance from the biased batch variance, as Keras 3; default as TensorFlow 2
  Optimizer optimizer;
};

/// Where a program's arena goes, in bytes.
struct ProgramMemory {
  struct Row {
    std::string name;           // of the graph's
    std::size_t passing = 0;    // activations that the forward pass alone reads
    std::size_t kept = 0;       // and those that stay for the backward pass
    std::size_t gradients = 0;  // of activations
  };
  std::vector<Row> rows;     // beside these there are labels and vectors of statistics
  std::size_t arena = 0;     // what is in use at different times shares places
  std::size_t unshared = 0;  // were nothing shared

  /// When memory is in use, first and last moment included. Planned op i runs forward at moment i and backward at 2 n - i, the
  /// loss at n = ops.size().
  struct Life {
    int row = 0;
    bool gradient = false;
    int first = 0, last = 0;
    std::size_t bytes = 0;
  };
  std::vector<Life> lives;
  std::vector<int> ops;  // the row of each planned op
};

/// What runs for an op of a row.
struct PlannedKernel {
  int row = 0;
  std::string implementation;  // as Op describes it
};

/// What a piece of a step is for, and what it costs at least.
struct ScopedCost {
  Scope scope;
  Cost cost;
};

/// A network, or a part of it, planned for one batch size and mode. Tensors are valid until the model goes; contents between
/// runs are undefined but for the input, the labels and the logits.
class Program {
 public:
  virtual ~Program() = default;
  virtual Mode mode() const = 0;
  virtual int batch() const = 0;

  virtual const Tensor& input() const = 0;     // N H W C, activation type; the head's are the features
  virtual const Tensor& labels() const = 0;    // N 1 1 1, parameter type
  virtual const Tensor& logits() const = 0;    // N 1 1 1, parameter type; not of the base
  virtual const Tensor& features() const = 0;  // N 1 1 C, activation type: the base's output, the head's input

  /// What has to be done to an image before it becomes the input, since no op does it: the network's rows of that kind.
  virtual const Normalize& normalization() const = 0;

  virtual ProgramMemory memory() const = 0;
  /// Of a step in its order: of a batch that is gathered, the calls of forward() and backward() with the loss and its gradient
  /// among them, and of a training step the update. A row may have several of a pass.
  virtual std::vector<ScopedCost> step_costs() const = 0;
  virtual std::vector<PlannedKernel> kernels() const = 0;

  virtual void forward() = 0;
  /// Writes metrics[state->batch], and the scores unless null. All three are device memory; no state means the model's.
  virtual void loss(BatchMetrics* metrics, float* scores, StepState* state = nullptr) = 0;
  virtual void backward() = 0;  // training programs only: dz, then every gradient

  /// The first row, in forward order, with a weight or an activation that is not finite; then, after a backward pass, with a
  /// gradient that is not; empty where all are finite. Re-runs the forward pass on the present input.
  virtual std::string first_not_finite() = 0;
};

class Model {
 public:
  Model(Graph graph, Backend& backend, ModelOptions options = {});
  ~Model();
  Model(const Model&) = delete;

  const Graph& graph() const { return graph_; }
  Backend& backend() const { return backend_; }
  bool drops() const;  // ModelOptions::dropout

  /// Plans the network for each (mode, batch, part) that is not planned yet, all in one arena. Throws Error(ExitCode::memory),
  /// with a batch that would fit, before anything runs. The arena may move: recordings made before are void.
  struct Request {
    Mode mode;
    int batch;
    int full_batch;  // of the epoch; `batch` is smaller for its last one
    Part part = Part::whole;
  };
  /// `beside`: bytes that the caller will ask for of what is available now.
  void plan(std::span<const Request> requests, std::size_t beside = 0);
  /// Half of plan(): programs that cannot run yet, for what they say of their memory.
  void prepare(std::span<const Request> requests);
  Program& program(Mode mode, int batch, Part part = Part::whole);
  std::size_t arena_bytes() const;
  /// Of the programs that are prepared, which run one at a time: the scratch that their ops share, and what these keep.
  std::size_t scratch_bytes() const;
  std::size_t kept_bytes() const;
  /// The largest batch, up to `limit`, whose programs fit into what the device has left with all that they need and so many
  /// bytes beside them; 0 where not even a single image's do. An estimate from those that are prepared, made good by making
  /// those of the batch it comes to; none is prepared afterwards.
  int largest_batch(std::size_t beside, int limit);

  struct ParameterBytes {
    std::size_t weights = 0, gradients = 0, moments = 0;
    std::size_t low_precision = 0;  // the weights once more, in the activation type
  };
  ParameterBytes parameter_bytes() const;

  void initialize(std::uint64_t seed);

  /// All parameters, one after another in the graph's order, each in its stored order.
  std::vector<float> weights() const;
  void set_weights(std::span<const float> weights);
  /// Of one parameter, in its stored order; moments are zeros where it is not trainable.
  std::vector<float> weight(int parameter) const;
  std::vector<float> first_moment(int parameter) const;
  std::vector<float> second_moment(int parameter) const;
  /// The parameters that are not trained, moving statistics above all, as they lie on the device.
  std::vector<float> statistics() const;
  void set_statistics(std::span<const float> statistics);
  /// Gradients of the trainable parameters, likewise, zeros where not trainable; valid after backward().
  std::vector<float> gradients() const;
  /// The optimiser's m and v, likewise: zeros where not trainable.
  void set_moments(std::span<const float> first, std::span<const float> second);

  StepState state() const;
  void set_state(const StepState& state);
  StepState* device_state() const;
  void update();  // the optimiser over the trainable parameters

 private:
  struct Impl;
  Graph graph_;
  Backend& backend_;
  std::unique_ptr<Impl> impl_;
};

/// A parameter's values from stored order to Keras' and back (a convolution's kernel: K R S C <-> R S C K).
std::vector<float> to_keras(const Parameter& parameter, std::vector<float> stored);
std::vector<float> from_keras(const Parameter& parameter, std::span<const float> keras);

}  // namespace microtome
