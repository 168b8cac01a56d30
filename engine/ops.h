// The waist: the kinds of op there are, and what a backend implements for each.
//
// A kind (Conv, BatchNorm, …) is what stands in the graph: attributes only. A backend turns a kind and the layouts of its
// tensors into an op, once; an op then runs many times on tensors of just these layouts. Algorithm choice, workspace,
// masks and saved statistics live inside the op. Inputs first, outputs last, mode last.
#pragma once

#include "engine/activation.h"
#include "engine/p4m.h"
#include "engine/tensor.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

namespace microtome {

/// What a gradient's writer does with what is there; which writer accumulates is the planner's decision.
enum class Write { overwrite, accumulate };

/// An option of an op: its input is a batch-norm's, which the op applies on the way, with this activation behind it (see
/// Deferred). None: the input is taken as it is.
using DeferredNorm = std::optional<Activation>;

/// y = activation(b + x * w), cross-correlation as in Keras. x: N H W C, w: K R S C/G, b: K, y: N P Q K. In a graph w may
/// derive from a parameter an eighth its size; no backend sees that, since the planner runs a FilterTransformOp before it.
struct Conv {
  Window window;
  int groups = 1;
  bool bias = false;
  Activation activation = Activation::none;  // an option: see Backend
  DeferredNorm deferred = {};                // an option
  bool zero_padded_channels = false;         // channels of x's memory beyond its own hold zeros
  bool statistics = false;  // an option: forward leaves partial statistics of y for the batch-norm that reads it
  P4m p4m = P4m::none;      // of a graph's

  bool operator==(const Conv&) const = default;
};

/// y = activation(b + x w). x: N 1 1 C, w: 1 1 C K, b: K, y: N 1 1 K.
struct Dense {
  bool bias = false;
  Activation activation = Activation::none;  // an option

  bool operator==(const Dense&) const = default;
};

/// y = activation(gamma (x - mean) / sqrt(variance + epsilon) + beta), per channel [Ioffe2015, alg. 1]. With batch statistics
/// mean and (biased) variance are over N H W, and moving = momentum moving + (1 - momentum) batch; `bessel` multiplies the
/// batch variance by M / max(M - 1, 1), M = N H W, in that update alone, as TensorFlow 2 does for images.
struct BatchNorm {
  bool scale = true;  // gamma; without it gamma is 1
  float epsilon = 1e-3f;
  float momentum = 0.99f;
  bool bessel = true;
  bool batch_statistics = true;              // set by the planner: training, and not frozen
  Activation activation = Activation::none;  // an option
  bool shared_statistics = false;            // batch statistics are kept where other batch-norms of these channels read them
  int known_channels = 0;                    // then: the first channels, whose statistics are there already
  bool deferred = false;                     // set by the planner: whoever reads y applies it
  bool partial_statistics = false;           // batch statistics come from partial ones that x's producer left

  bool operator==(const BatchNorm&) const = default;
};

struct Activate {
  Activation function = Activation::relu;

  bool operator==(const Activate&) const = default;
};

/// Max, or mean over the cells that lie inside the image. Then `activation`: pooling a relu's input and clamping after is
/// the same function at a fraction of the work.
struct Pool {
  enum class Kind { max, average };
  Kind kind = Kind::max;
  Window window;
  Activation activation = Activation::none;  // an option; none or relu
  DeferredNorm deferred = {};                // an option

  bool operator==(const Pool&) const = default;
};

/// y = x / (1 - rate) where a random number says keep, else 0; one number an element, or an image (stochastic depth).
struct Dropout {
  float rate = 0.5f;
  bool per_image = false;
  std::uint64_t stream = 0;
  DeferredNorm deferred = {};  // an option

  bool operator==(const Dropout&) const = default;
};

/// y = activation(a + b): a residual's join [He2016, eq. 1].
struct Add {
  Activation activation = Activation::none;   // an option; one whose derivative follows from y
  std::array<DeferredNorm, 2> deferred = {};  // an option: of a, of b

  bool operator==(const Add&) const = default;
};

/// y[n,h,w,c] = x[n,h,w,c] gate[n,c]: the end of squeeze-excite [Hu2018, eq. 4]. gate: N 1 1 C.
struct Multiply {
  DeferredNorm deferred = {};  // an option: of x

  bool operator==(const Multiply&) const = default;
};

/// The network's input.
struct Input {};

/// Inputs side by side in the channels. No backend makes it: the planner lets producers write into slices of y.
struct Concat {};

/// Zeros around the image. No backend makes it: the planner widens the window of the convolution or pooling that reads it.
struct ZeroPad {
  Extent before = 0, after = 0;
};

/// y = (x - mean) / divisor per channel of the image. No backend makes it: whoever fills the network's input does it on the
/// way.
struct Normalize {
  std::array<float, 3> mean{0, 0, 0};
  std::array<float, 3> divisor{1, 1, 1};
};

/// The same elements under another shape; the planner gives both one address.
struct Reshape {
  Shape shape;  // n is ignored: the batch size stays
};

/// What becomes of an image on its way into a batch, drawn for each image anew in every epoch; by default nothing. What comes
/// from beyond an edge is reflected there, and between pixels interpolated linearly in both directions.
struct Augment {
  bool flip = false;      // left to right, and top to bottom: each of one image in two
  bool rotate90 = false;  // by a multiple of 90 degrees: with flip, the eight symmetries of the square
  int shift = 0;          // by up to so many whole pixels along each side
  float zoom = 0;         // distances between source pixels times 1 - zoom … 1 + zoom; < 1
  float rotate = 0;       // by up to so many degrees either way, about the centre
  float brightness = 0;   // pixels times 1 - brightness … 1 + brightness, and then at most 255

  bool operator==(const Augment&) const = default;
  bool any() const { return *this != Augment{}; }
};

/// Batch i of the epoch, from images resident on the device: x = (image - mean) / divisor per channel.
/// images: u8 IMAGES H W C, labels: u8 IMAGES; x: N H W C, y: N in the parameters' type. Image j of the batch is number
/// `state.batch * batch_size + j` of the epoch, in file order or in the order of a permutation of (seed, epoch).
/// Images in the activation type instead of u8 are features that a frozen base made: they are copied as they are. Where x's
/// pixels lie further apart than C (strides.w > C), the channels between belong to x and become zero.
struct Gather {
  int images = 0;
  int batch_size = 0;  // of full batches; the last one of an epoch may have fewer
  bool shuffle = false;
  std::array<float, 3> mean{0, 0, 0};
  std::array<float, 3> divisor{255, 255, 255};
  bool bgr = false;  // x's channel c is the image's 2 - c, mean and divisor being x's
  Augment augment;   // of images, not of features
};

/// Binary cross-entropy from logits z and labels y in {0, 1}, averaged over the batch:
/// mean of max(z, 0) - z y + log1p(exp(-|z|)). Correct: (sigmoid(z) > 0.5 in f32) == y.
struct Loss {
  int batch_size = 0;  // of full batches: the scores' address within the epoch
};

/// Keras' Adam, epsilon outside the bias correction ("epsilon hat" of [Kingma2014, sec. 2]):
/// t = step + 1; alpha = learning_rate sqrt(1 - beta2^t) / (1 - beta1^t);
/// m += (g - m)(1 - beta1); v += (g^2 - v)(1 - beta2); w -= alpha m / (sqrt(v) + epsilon).
struct Adam {
  double beta1 = 0.9;  // double: 1 - 0.999f is already 1e-5 off
  double beta2 = 0.999;
  double epsilon = 1e-7;
};

/// What moves the weights w along their gradients dw. Of each weight it keeps m and v, which are zero before the first step;
/// what they are, and the step, is its formula's (kernels/formulas/optimizer.h).
using Optimizer = std::variant<Adam>;

/// Where a run is. Lives in the backend's memory, so that a recorded step can be replayed unchanged; Advance moves it on.
struct StepState {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;   // optimiser steps done
  std::uint64_t epoch = 0;  // epochs begun before this one
  std::uint64_t batch = 0;  // batches done in this epoch
  float learning_rate = 1e-3f;
  std::uint32_t finite = 1;  // cleared by the loss when it is not finite; then optimiser and Advance do nothing
};

/// One batch's share of an epoch's metrics.
struct BatchMetrics {
  double loss = 0;  // mean over the batch
  std::uint32_t correct = 0;
  std::uint32_t count = 0;
};

/// A batch-norm that its readers apply: where it stands in the plan nothing of x's size is written. Forward, a reader takes
/// z = activation((x - mean) scale + beta) for its input, from `coefficients`. Backward, with g the gradient of
/// (x - mean) scale + beta, it writes dx (+)= scale g, and the sums over N H W of g and of g (x - mean) into `sums`, from which
/// DeferredNormOp makes dgamma, dbeta and the correction that makes dx x's gradient.
struct Deferred {
  Tensor x;             // before the batch-norm, activation type
  Tensor coefficients;  // 1 1 3 C of the parameter type, packed: rows mean, scale, beta
  Tensor sums;  // 1 1 R 2C of the parameter type, packed, R = the reader's sum_rows(): partial sums, g's then g (x - mean)'s
};

class Op {
 public:
  virtual ~Op() = default;

  /// Rows of partial sums that a backward pass over a deferred input leaves; the same for each such input.
  virtual int sum_rows() const { return 0; }

  /// Beside the tensors that it is given: what it keeps from pass to pass, and the most that it may need during one, which ops
  /// share. Set by who makes it; both in bytes.
  struct Memory {
    std::size_t kept = 0, scratch = 0;
  };
  Memory memory;

  /// Which tensors of its forward pass (beside dy) the backward pass reads: they stay alive until then. `x` means all inputs.
  struct Reads {
    bool x = false, y = false;
  };
  virtual Reads backward_reads() const = 0;

  /// What runs, for people: "jit:avx512_core", "cudnn engine 62", "own". No promise.
  virtual std::string implementation() const = 0;

  /// The same of each pass where they differ, with what it needs; choices that wait for the first run are made now.
  virtual std::string describe() { return implementation(); }
};

/// x, y, dx, dy and w are of the activation type (y of a network's last dense layer: the parameter type); b, dw and db of the
/// parameter type. backward_* take the gradient before the activation: the planner undoes a fused activation from y first.
/// `deferred` here and below: null but with the kind's option; then x is its x. Forward passes ignore its sums, and so does
/// backward_filter.
/// `statistics`: null but with that option; 1 1 R 3C of the parameter type, packed, R = statistics_rows(): of the pixels that a
/// row covers their number, mean and sum of squared deviations, each C long, the number as often. y is taken as it was rounded.
class ConvOp : public Op {
 public:
  virtual void forward(const Tensor& x, const Deferred* deferred, const Tensor& w, const Tensor* b, const Tensor& y,
                       const Tensor* statistics) = 0;
  virtual void backward_data(const Tensor& dy, const Tensor& w, const Deferred* deferred, const Tensor& dx, Write) = 0;
  virtual void backward_filter(const Tensor& x, const Deferred* deferred, const Tensor& dy, const Tensor& dw, const Tensor* db,
                               Write) = 0;
  virtual int statistics_rows() const { return 0; }

  /// Whether `backward` reads x and dy once for both gradients; where it does not, the two passes may run side by side.
  virtual bool fuses_backward() const { return false; }
  virtual void backward(const Tensor& x, const Deferred* deferred, const Tensor& dy, const Tensor& w, const Tensor& dx,
                        Write write, const Tensor& dw, const Tensor* db) {
    backward_filter(x, deferred, dy, dw, db, Write::overwrite);
    backward_data(dy, w, deferred, dx, write);
  }
};

/// The filters of a group convolution over p4m [Cohen2016, sec. 7.1]: w in all eight symmetries h,
///   all[h K + k, r, s, c] = w[k, h^-1 (r, s), c], and for P4m::group with h^-1 i in the place of i, c being i C + c'.
/// w: K S S C (group: K S S 8C), all: 8K S S C (8C), packed; of the activation type, their gradients of the parameter type.
class FilterTransformOp : public Op {
 public:
  virtual void forward(const Tensor& w, const Tensor& all) = 0;
  virtual void backward(const Tensor& dall, const Tensor& dw) = 0;  // dw: sums of eight
};

class DenseOp : public Op {
 public:
  virtual void forward(const Tensor& x, const Tensor& w, const Tensor* b, const Tensor& y) = 0;
  virtual void backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx, Write) = 0;
  virtual void backward_filter(const Tensor& x, const Tensor& dy, const Tensor& dw, const Tensor* db, Write) = 0;
};

/// Statistics of the forward pass are kept inside; backward includes the activation. `gamma` is null without scale. Vectors
/// are of the parameter type. dx may be dy's memory. Write is dx's: dgamma and dbeta have one writer, and are overwritten.
/// `statistics`, null but with `shared_statistics`: 1 1 2 C of the parameter type, the batch's means in row 0 and its biased
/// variances in row 1 (strides.w apart); forward reads those of the known channels and writes the others'.
/// `partial`, null but with `partial_statistics`: as ConvOp's statistics, any number of rows.
class BatchNormOp : public Op {
 public:
  virtual void forward(const Tensor& x, const Tensor* gamma, const Tensor& beta, const Tensor& moving_mean,
                       const Tensor& moving_variance, const Tensor* statistics, const Tensor* partial, const Tensor& y) = 0;
  virtual void backward(const Tensor& x, const Tensor& dy, const Tensor* gamma, const Tensor& beta, const Tensor& dx,
                        const Tensor* dgamma, const Tensor& dbeta, Write) = 0;
};

/// What is left of a batch-norm that its readers apply: vectors. forward: as BatchNormOp's, with `coefficients` (see Deferred)
/// in the place of y. backward: dgamma and dbeta from all readers' rows of sums, and, where statistics are the batch's,
/// correction (+)= what is to be subtracted from dx (see NormCorrectionOp). correction: 1 1 3 C of the parameter type,
/// strides.w apart: rows constant, slope and mean; the mean is written, never added to, since all batch-norms of one x have the
/// same.
class DeferredNormOp : public Op {
 public:
  virtual void forward(const Tensor& x, const Tensor* gamma, const Tensor& beta, const Tensor& moving_mean,
                       const Tensor& moving_variance, const Tensor* statistics, const Tensor* partial,
                       const Tensor& coefficients) = 0;
  virtual void backward(const Tensor& sums, const Tensor* gamma, const Tensor* dgamma, const Tensor& dbeta,
                        const Tensor& correction, Write) = 0;
};

/// dx -= constant + slope (x - mean), per channel, in place: once before x's producer reads its gradient, however many
/// batch-norms read x.
class NormCorrectionOp : public Op {
 public:
  virtual void run(const Tensor& x, const Tensor& correction, const Tensor& dx) = 0;
};

/// x may be y's memory, dx may be dy's. Backward gets x or y, as backward_reads says; the other is null.
class ActivateOp : public Op {
 public:
  virtual void forward(const Tensor& x, const Tensor& y) = 0;
  virtual void backward(const Tensor* x, const Tensor* y, const Tensor& dy, const Tensor& dx, Write) = 0;
};

/// The arg max is kept inside; ties go to the first in row-major order.
class PoolOp : public Op {
 public:
  virtual void forward(const Tensor& x, const Deferred* deferred, const Tensor& y) = 0;
  virtual void backward(const Tensor& dy, const Deferred* deferred, const Tensor& dx, Write) = 0;
};

/// The mask is drawn again in the backward pass. x may be y's memory, dx may be dy's.
class DropoutOp : public Op {
 public:
  virtual void forward(const Tensor& x, const Deferred* deferred, const StepState* state, const Tensor& y) = 0;
  virtual void backward(const Tensor& dy, const Deferred* deferred, const StepState* state, const Tensor& dx, Write) = 0;
};

/// Backward runs once for each of a and b, on the gradient before the activation, as ConvOp's. y may be a's memory.
class AddOp : public Op {
 public:
  enum class Side { a, b };
  virtual void forward(const Tensor& a, const Deferred* deferred_a, const Tensor& b, const Deferred* deferred_b,
                       const Tensor& y) = 0;
  virtual void backward(const Tensor& dy, const Deferred* deferred, Side of, const Tensor& dx, Write) = 0;
};

class MultiplyOp : public Op {
 public:
  virtual void forward(const Tensor& x, const Deferred* deferred, const Tensor& gate, const Tensor& y) = 0;
  virtual void backward_data(const Tensor& dy, const Tensor& gate, const Deferred* deferred, const Tensor& dx,
                             Write) = 0;  // dx may be dy's memory
  virtual void backward_gate(const Tensor& x, const Deferred* deferred, const Tensor& dy, const Tensor& dgate,
                             Write) = 0;  // sum over h w of x dy
};

class GatherOp : public Op {
 public:
  virtual void forward(const Tensor& images, const Tensor& labels, const StepState* state, const Tensor& x,
                       const Tensor& y) = 0;
};

/// forward writes metrics[state->batch] and, unless null, scores[state->batch * batch_size + j] = sigmoid(z_j) in f32, and
/// clears state->finite when the loss is not finite. backward: dz = (sigmoid(z) - y) / N.
class LossOp : public Op {
 public:
  virtual void forward(const Tensor& z, const Tensor& y, StepState* state, BatchMetrics* metrics, float* scores) = 0;
  virtual void backward(const Tensor& z, const Tensor& y, const Tensor& dz) = 0;
};

/// All tensors flat, 1 x 1 x 1 x count. `low_precision`, unless null, gets w in its own type (bf16), for the next forward pass.
class OptimizerOp : public Op {
 public:
  virtual void update(const Tensor& dw, const StepState* state, const Tensor& w, const Tensor& m, const Tensor& v,
                      const Tensor* low_precision) = 0;
};

/// The end of a step: where state->finite, ++batch, and ++step as well if `optimise`.
class AdvanceOp : public Op {
 public:
  virtual void run(StepState* state, bool optimise) = 0;
};

}  // namespace microtome
