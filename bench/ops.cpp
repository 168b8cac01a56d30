#include "bench/ops.h"

#include "engine/check.h"
#include "engine/kinds/visit.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <type_traits>

namespace microtome::bench {

namespace {

constexpr int images_in_set = 8;                 // batches that a gather chooses from
constexpr std::int64_t whole_dropout = 1 << 24;  // elements up to which the reference draws for the whole batch
constexpr std::size_t gather_period = 196613;    // bytes after which a gather's images repeat; no multiple of an image's

int room_of(const Problem& problem, Backend& backend) {
  return problem.reads_image ? std::max(problem.inputs[0].c, backend.image_channels()) : problem.inputs[0].c;
}

/// The layouts of a problem's tensors on a backend. Those of a batch are of `images` images.
struct ProblemLayouts : Layouts {
  Layout gradient;  // of a network's logits it has the activations' type

  ProblemLayouts(const Problem& problem, int images, Backend& backend) {
    const auto batch = [&](Shape s, int room) -> Layout {
      s.n = images;
      return {s, backend.activation_type(), packed({s.n, s.h, s.w, room})};
    };
    for (const Shape& s : problem.inputs) inputs.push_back(batch(s, s.c));
    inputs[0] = batch(problem.inputs[0], room_of(problem, backend));
    output = gradient = batch(problem.output, problem.output.c);
    if (problem.makes_logits) output.dtype = backend.parameter_type();
  }
};

/// The kind as this backend is asked for it.
template <class Kind>
Kind on(Kind kind, const Problem& problem, Backend& backend) {
  if (bool* has_room = Traits<Kind>::image_room(kind)) *has_room = room_of(problem, backend) > problem.inputs[0].c;
  return kind;
}

/// False where the backend declines an option.
template <class Kind>
auto make(const Kind& kind, const Problem& problem, int images, Backend& backend) {
  return Traits<Kind>::make(backend, on(kind, problem, backend), ProblemLayouts(problem, images, backend));
}

double count(const Layout& layout) {
  return static_cast<double>(layout.shape.count());
}
double pixels(const Layout& layout) {
  return count(layout) / layout.shape.c;
}

/// The tensors of one pass in the making.
class Site {
 public:
  Site(const Problem& problem, const std::string& pass, Tensors& tensors)
      : of(tensors), problem_(problem), pass_(pass), layouts_(problem, of.images(), of.backend()) {}

  const Problem& problem() const { return problem_; }
  bool is(std::string_view pass) const { return pass_ == pass; }
  const Layout& x(std::size_t i = 0) const { return layouts_.inputs[i]; }
  const Layout& y() const { return layouts_.output; }
  const Layout& dy() const { return layouts_.gradient; }
  bool integers() const { return of.filling().fill == Fill::integers; }

  Tensor input(std::size_t i = 0, Spread spread = {}) { return of.images(x(i), spread); }
  Tensor vector(int channels, Spread spread = {}) { return of.whole(of.parameters({1, 1, 1, channels}), spread); }
  Tensor output(std::string_view name, const Layout& layout, Rule rule) {
    rule.exact = rule.exact || integers();
    return of.output(name, layout, rule);
  }
  Tensor written(std::string_view name, const Tensor& tensor, Rule rule) { return of.written(name, tensor, rule); }

  /// What the backend makes of the problem's kind, which it has accepted.
  template <class Kind>
  auto make(const Kind& kind) {
    auto made = bench::make(kind, problem_, of.images(), of.backend());
    require(static_cast<bool>(made), problem_.op, " ", problem_.label, " is declined after all");
    return made;
  }

  Cost cost(const GraphOp::Kind& kind, Pass pass, bool accumulate = false) const {
    return microtome::cost(kind, pass, layouts_.inputs, y(), of.backend().parameter_type(), accumulate);
  }

  Tensors& of;

 private:
  const Problem& problem_;
  const std::string& pass_;
  ProblemLayouts layouts_;
};

/// An op's input: as it is, or with a batch-norm before it that the op applies.
class Operand {
 public:
  /// `sum_rows`: 0 for passes that ignore sums.
  Operand(Site& site, const DeferredNorm& norm, std::size_t i, int sum_rows, Rule of_sums = {})
      : is_deferred_(norm.has_value()) {
    norm_.x = site.input(i);
    if (!is_deferred_) return;
    const int channels = site.x(i).shape.c;
    // As wide as relu6 clamps on both sides.
    std::vector<double> coefficients;
    const Spread of_mean{.scale = 0.5}, of_scale{.scale = 4}, of_beta{.scale = 2, .offset = 1};
    for (const Spread spread : {of_mean, of_scale, of_beta}) {
      std::vector<double> row = site.of.read(site.vector(channels, spread));
      if (site.integers() && spread.scale == of_scale.scale)
        for (double& v : row) v = std::clamp(v, -2.0, 2.0);
      coefficients.insert(coefficients.end(), row.begin(), row.end());
    }
    norm_.coefficients = site.of.given(site.of.parameters({1, 1, 3, channels}), coefficients);
    if (sum_rows == 0) return;
    of_sums.sums = true;
    of_sums.rows = Rule::Rows::totals;
    of_sums.additions += pixels(site.x(i));
    norm_.sums = site.of.output("sums", site.of.parameters({1, 1, sum_rows, 2 * channels}), of_sums);
  }

  const Tensor& x() const { return norm_.x; }
  std::optional<Deferred> deferred() const { return is_deferred_ ? std::optional(norm_) : std::nullopt; }

 private:
  Deferred norm_;
  bool is_deferred_;
};

const Deferred* get(const std::optional<Deferred>& norm) {
  return norm ? &*norm : nullptr;
}
const Tensor* get(const std::optional<Tensor>& tensor) {
  return tensor ? &*tensor : nullptr;
}

Work of(const Conv& kind, Site& site) {
  const std::shared_ptr op = site.make(kind);
  const Extent &kernel = kind.window.kernel, &stride = kind.window.stride;
  const int filters = site.y().shape.c;
  const Shape filter{filters, kernel.h, kernel.w, site.x().shape.c / kind.groups};
  const int rounded_to = kind.deferred ? site.of.filling().factor_bits : 53;  // of x as the op applies the batch-norm
  const double positions = pixels(site.y());
  const double windows = (kernel.h + stride.h - 1) / stride.h * ((kernel.w + stride.w - 1) / stride.w);  // over a cell
  const double terms = windows * filters / kind.groups;
  const bool of_data = site.is("backward_data") || site.is("backward"),
             of_filter = site.is("backward_filter") || site.is("backward");

  std::optional<Operand> operand;
  if (!site.is("backward_data") || kind.deferred)
    operand.emplace(site, kind.deferred, 0, of_data ? op->sum_rows() : 0, Rule{.additions = terms});
  const Tensor x = operand ? operand->x() : Tensor{}, w = site.of.whole(site.of.weights(filter));
  const auto norm = operand ? operand->deferred() : std::nullopt;
  const Conv made = on(kind, site.problem(), site.of.backend());
  if (site.is("forward")) {
    std::optional<Tensor> b, statistics;
    if (kind.bias) b = site.vector(filters);
    const Tensor y =
        site.output("y", site.y(), {.additions = double{1} * filter.h * filter.w * filter.c, .factor_bits = rounded_to});
    if (kind.statistics)
      statistics = site.of.output("statistics", site.of.parameters({1, 1, op->statistics_rows(), 3 * filters}),
                                  {.additions = positions, .rows = Rule::Rows::statistics});
    return {[=] { op->forward(x, get(norm), w, get(b), y, get(statistics)); }, site.cost(made, Pass::forward),
            op->implementation()};
  }
  const Tensor dy = site.of.images(site.dy());
  Tensor dx, dw;
  std::optional<Tensor> db;
  if (of_data) dx = site.output("dx", site.x(), {.additions = terms + (norm ? 4 : 0)});
  if (of_filter) {
    const Rule rule{.additions = positions, .factor_bits = rounded_to, .sums = true};
    dw = site.output("dw", site.of.parameters(filter), rule);
    if (kind.bias) db = site.output("db", site.of.parameters({1, 1, 1, filters}), rule);
  }
  if (site.is("backward_data"))
    return {[=] { op->backward_data(dy, w, get(norm), dx, Write::overwrite); }, site.cost(made, Pass::backward_data),
            op->implementation()};
  if (site.is("backward_filter"))
    return {[=] { op->backward_filter(x, get(norm), dy, dw, get(db), Write::overwrite); },
            site.cost(made, Pass::backward_filter), op->implementation()};
  return {[=] { op->backward(x, get(norm), dy, w, dx, Write::overwrite, dw, get(db)); }, site.cost(made, Pass::backward),
          op->implementation()};
}

Work of(const TransformFilters& kind, Site& site) {
  const Shape &w = site.problem().inputs[0], &all = site.problem().output;
  std::shared_ptr op = site.of.backend().filter_transform(kind.p4m, site.of.weights(w), site.of.weights(all));
  if (site.is("forward")) {
    const Tensor from = site.of.whole(site.of.weights(w)), to = site.output("all", site.of.weights(all), {.exact = true});
    return {[=] { op->forward(from, to); }, cost_of_filters(to), op->implementation()};
  }
  const Tensor from = site.of.whole(site.of.parameters(all));
  const Tensor to = site.output("dw", site.of.parameters(w), {.additions = p4m_symmetries});
  return {[=] { op->backward(from, to); }, cost_of_filters(from), op->implementation()};
}

Work of(const Dense& kind, Site& site) {
  const std::shared_ptr op = site.make(kind);
  const int in = site.x().shape.c, outputs = site.y().shape.c;
  const auto weights = [&] { return site.of.whole(site.of.weights({1, 1, in, outputs})); };
  std::optional<Tensor> b;
  if (site.is("forward")) {
    const Tensor x = site.input(), w = weights();
    if (kind.bias) b = site.vector(outputs);
    const Tensor y = site.output("y", site.y(), {.additions = double{1} * in});
    return {[=] { op->forward(x, w, get(b), y); }, site.cost(kind, Pass::forward), op->implementation()};
  }
  const Tensor dy = site.of.images(site.dy());
  if (site.is("backward_data")) {
    const Tensor w = weights(), dx = site.output("dx", site.x(), {.additions = double{1} * outputs});
    return {[=] { op->backward_data(dy, w, dx, Write::overwrite); }, site.cost(kind, Pass::backward_data),
            op->implementation()};
  }
  const Rule rule{.additions = double{1} * site.of.images(), .sums = true};
  const Tensor x = site.input(), dw = site.output("dw", site.of.parameters({1, 1, in, outputs}), rule);
  if (kind.bias) b = site.output("db", site.of.parameters({1, 1, 1, outputs}), rule);
  return {[=] { op->backward_filter(x, dy, dw, get(b), Write::overwrite); }, site.cost(kind, Pass::backward_filter),
          op->implementation()};
}

/// Parameters, what the batch before left, and what producers of x or readers of y leave.
struct NormVectors {
  std::optional<Tensor> gamma, dgamma, statistics, partial;
  Tensor beta, mean, variance, dbeta;

  NormVectors(const BatchNorm& kind, Site& site) {
    const int channels = site.x().shape.c;
    const double all = pixels(site.x());
    if (kind.scale) gamma = site.vector(channels);
    beta = site.vector(channels), mean = site.vector(channels), variance = site.vector(channels, {.scale = 0.5, .offset = 1});
    if (kind.shared_statistics) {
      std::vector<double> values(2 * static_cast<std::size_t>(channels), std::numeric_limits<double>::quiet_NaN());
      for (int c = 0; c < kind.known_channels; ++c) values[c] = 0.25 - c % 16 / 64.0, values[channels + c] = 1 + c % 16 / 32.0;
      statistics = site.of.given(site.of.parameters({1, 1, 2, channels}), values);
    }
    if (kind.partial_statistics) {
      // As a producer of x leaves them, but of any mean and variance: of the latter and the number of pixels the batch has its
      // share.
      std::vector<double> row(static_cast<std::size_t>(channels), all);
      const std::vector<double> means = site.of.read(site.vector(channels, {.scale = 0.25}));
      row.insert(row.end(), means.begin(), means.end());
      for (const double v : site.of.read(site.vector(channels, {.scale = 0.5, .offset = 1}))) row.push_back(v * all);
      partial = site.of.given(site.of.parameters({1, 1, 1, 3 * channels}), row);
    }
    const Rule of_sums{.additions = kind.deferred ? 1 : all, .sums = true};
    const auto gradient = [&](std::string_view name) {
      return site.is("forward") ? site.vector(channels) : site.output(name, site.of.parameters({1, 1, 1, channels}), of_sums);
    };
    if (kind.scale) dgamma = gradient("dgamma");
    dbeta = gradient("dbeta");
  }

  void moved(const BatchNorm& kind, Site& site) const {
    const Rule rule{.additions = pixels(site.x())};
    if (kind.batch_statistics) site.written("moving mean", mean, rule), site.written("moving variance", variance, rule);
    if (statistics && kind.known_channels < site.x().shape.c) site.written("statistics", *statistics, rule);
  }
};

Work deferred_norm(const BatchNorm& kind, Site& site) {
  const std::shared_ptr op = site.make(kind).deferred;
  const int channels = site.x().shape.c;
  const Tensor x = site.input();
  const NormVectors of(kind, site);
  const auto forward = [=](const Tensor& coefficients) {
    op->forward(x, get(of.gamma), of.beta, of.mean, of.variance, get(of.statistics), get(of.partial), coefficients);
  };
  const Layout rows = site.of.parameters({1, 1, 3, channels});
  if (site.is("forward")) {
    const Tensor coefficients = site.output("coefficients", rows, {.additions = pixels(site.x())});
    of.moved(kind, site);
    return {[=] { forward(coefficients); }, site.cost(kind, Pass::forward), op->implementation()};
  }
  forward(site.of.whole(rows));
  const Tensor sums = site.of.whole(site.of.parameters({1, 1, 1, 2 * channels}), {.scale = double{1} * site.of.images()});
  const Tensor correction = site.output("correction", rows, {.additions = pixels(site.x())});
  return {[=] { op->backward(sums, get(of.gamma), get(of.dgamma), of.dbeta, correction, Write::overwrite); },
          site.cost(kind, Pass::backward), op->implementation()};
}

Work of(const BatchNorm& kind, Site& site) {
  if (kind.deferred) return deferred_norm(kind, site);
  const std::shared_ptr op = site.make(kind).applied;
  const Tensor x = site.input();
  const NormVectors of(kind, site);
  const auto forward = [=](const Tensor& y) {
    op->forward(x, get(of.gamma), of.beta, of.mean, of.variance, get(of.statistics), get(of.partial), y);
  };
  // Eight roundings an element, whichever way the formula is arranged; of the sums' own errors an element gets one part in M.
  const Rule of_elements{.additions = 8};
  if (site.is("forward")) {
    const Tensor y = site.output("y", site.y(), of_elements);
    of.moved(kind, site);
    return {[=] { forward(y); }, site.cost(kind, Pass::forward), op->implementation()};
  }
  forward(site.of.images(site.y()));
  const Tensor dy = site.of.images(site.y()), dx = site.output("dx", site.x(), of_elements);
  return {[=] { op->backward(x, dy, get(of.gamma), of.beta, dx, get(of.dgamma), of.dbeta, Write::overwrite); },
          site.cost(kind, Pass::backward), op->implementation()};
}

Work of(const Activate& kind, Site& site) {
  const std::shared_ptr op = site.make(kind);
  const Spread wide{.scale = 8}, of_sigmoid{.scale = 0.5, .offset = 0.5};
  if (site.is("forward")) {
    const Tensor x = site.input(0, wide), y = site.output("y", site.y(), {});
    return {[=] { op->forward(x, y); }, site.cost(kind, Pass::forward), op->implementation()};
  }
  const bool reads_x = op->backward_reads().x;
  const Tensor source = site.input(0, kind.function == Activation::sigmoid ? of_sigmoid : wide);
  const Tensor dy = site.of.images(site.dy()), dx = site.output("dx", site.x(), {});
  return {[=] { op->backward(reads_x ? &source : nullptr, reads_x ? nullptr : &source, dy, dx, Write::overwrite); },
          site.cost(kind, Pass::backward), op->implementation()};
}

Work of(const Pool& kind, Site& site) {
  const std::shared_ptr op = site.make(kind);
  const double cells = kind.kind == Pool::Kind::average ? kind.window.kernel.h * kind.window.kernel.w : 1;
  const bool forward = site.is("forward");
  const Operand operand(site, kind.deferred, 0, forward ? 0 : op->sum_rows(), {.additions = cells});
  const Tensor x = operand.x();
  const auto norm = operand.deferred();
  const Tensor y = forward ? site.output("y", site.y(), {.additions = cells}) : site.of.images(site.y());
  const auto run_forward = [=] { op->forward(x, get(norm), y); };
  if (forward) return {run_forward, site.cost(kind, Pass::forward), op->implementation()};
  run_forward();
  const Tensor dy = site.of.images(site.dy()), dx = site.output("dx", site.x(), {.additions = cells});
  return {[=] { op->backward(dy, get(norm), dx, Write::overwrite); }, site.cost(kind, Pass::backward), op->implementation()};
}

Work of(const Dropout& kind, Site& site) {
  const std::shared_ptr op = site.make(kind);
  const StepState* state = site.of.object(StepState{.seed = 7, .step = 123456});
  if (site.is("forward")) {
    const Operand operand(site, kind.deferred, 0, 0);
    const Tensor x = operand.x(), y = site.output("y", site.y(), {});
    const auto norm = operand.deferred();
    return {[=] { op->forward(x, get(norm), state, y); }, site.cost(kind, Pass::forward), op->implementation()};
  }
  const Operand operand(site, kind.deferred, 0, op->sum_rows());
  const auto norm = operand.deferred();
  const Tensor dy = site.of.images(site.dy()), dx = site.output("dx", site.x(), {});
  return {[=] { op->backward(dy, get(norm), state, dx, Write::overwrite); }, site.cost(kind, Pass::backward),
          op->implementation()};
}

/// Backward that of one side, added to what another reader left: of a join's two mostly one is passed on as it is.
Work of(const Add& kind, Site& site) {
  const std::shared_ptr op = site.make(kind);
  const bool forward = site.is("forward");
  const Operand first(site, kind.deferred[0], 0, forward ? 0 : op->sum_rows());
  const auto norm = first.deferred();
  if (forward) {
    const Operand second(site, kind.deferred[1], 1, 0);
    const Tensor a = first.x(), b = second.x(), y = site.output("y", site.y(), {});
    const auto other = second.deferred();
    return {[=] { op->forward(a, get(norm), b, get(other), y); }, site.cost(kind, Pass::forward), op->implementation()};
  }
  const Tensor dy = site.of.images(site.dy()), da = site.of.images(site.x());
  site.written("da", da, {.exact = site.integers()});
  return {[=] { op->backward(dy, get(norm), AddOp::Side::a, da, Write::accumulate); }, site.cost(kind, Pass::backward, true),
          op->implementation()};
}

Work of(const Multiply& kind, Site& site) {
  const std::shared_ptr op = site.make(kind);
  const Operand operand(site, kind.deferred, 0, site.is("backward_data") ? op->sum_rows() : 0);
  const Tensor x = operand.x(), gate = site.input(1);
  const auto norm = operand.deferred();
  if (site.is("forward")) {
    const Tensor y = site.output("y", site.y(), {});
    return {[=] { op->forward(x, get(norm), gate, y); }, site.cost(kind, Pass::forward), op->implementation()};
  }
  const Tensor dy = site.of.images(site.dy());
  if (site.is("backward_data")) {
    const Tensor dx = site.output("dx", site.x(), {});
    return {[=] { op->backward_data(dy, gate, get(norm), dx, Write::overwrite); }, site.cost(kind, Pass::backward_data),
            op->implementation()};
  }
  const Tensor dgate = site.output("dgate", site.x(1), {.additions = double{1} * site.x().shape.h * site.x().shape.w});
  return {[=] { op->backward_gate(x, get(norm), dy, dgate, Write::overwrite); }, site.cost(kind, Pass::backward_filter),
          op->implementation()};
}

Work of(const NormCorrection&, Site& site) {
  std::shared_ptr op = site.of.backend().norm_correction(site.x());
  const Tensor x = site.input(), dx = site.input(), correction = site.of.whole(site.of.parameters({1, 1, 3, x.shape.c}));
  site.written("dx", dx, {.additions = 8});
  return {[=] { op->run(x, correction, dx); }, site.cost(Activate{}, Pass::norm_correction), op->implementation()};
}

/// A batch out of eight.
Work of(const TakeBatch&, Site& site) {
  const Shape& image = site.problem().inputs[0];
  const int all = images_in_set * site.of.images();
  const Layout pixels{{all, image.h, image.w, image.c}, DType::u8}, classes{{all, 1, 1, 1}, DType::u8};
  // Exact in every type: (p - 1) / 2.
  const Gather kind{.images = all, .batch_size = site.of.images(), .shuffle = true, .mean = {1, 1, 1}, .divisor = {2, 2, 2}};
  std::vector<double> values(gather_period), labels(static_cast<std::size_t>(all));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i * 2654435761u >> 7 & 255);
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<double>(i * 2654435761u >> 9 & 1);
  const Tensor images = site.of.given(pixels, values), of_images = site.of.given(classes, labels);
  const Tensor x = site.output("x", site.x(), {.exact = true});
  const Tensor y = site.output("y", site.of.parameters({site.of.images(), 1, 1, 1}), {.exact = true});
  const StepState* state = site.of.object(StepState{.seed = 11, .epoch = 3});
  std::shared_ptr op = site.of.backend().gather(kind, images, x);
  return {[=] { op->forward(images, of_images, state, x, y); }, cost(kind, DType::u8, x, site.of.backend().parameter_type()),
          op->implementation()};
}

Work of(const TakeLoss&, Site& site) {
  const Layout layout = site.of.parameters({site.of.images(), 1, 1, 1});
  const Loss kind{.batch_size = site.of.images()};
  std::vector<double> labels;
  for (int i = 0; i < site.of.images(); ++i) labels.push_back(i % 3 == 1);
  const Tensor z = site.of.images(layout, {.scale = 8}), y = site.of.given(layout, labels);
  std::shared_ptr op = site.of.backend().loss(kind, layout);
  if (site.is("backward")) {
    const Tensor dz = site.output("dz", layout, {.additions = 4});
    return {[=] { op->backward(z, y, dz); }, cost(kind, Pass::backward, layout), op->implementation()};
  }
  StepState* state = site.of.object(StepState{});
  BatchMetrics* metrics = site.of.object(BatchMetrics{.loss = -1});
  static_assert(offsetof(BatchMetrics, loss) == 0);
  site.written("loss", {Layout{{1, 1, 1, 1}, DType::f64}, metrics}, {.additions = double{1} * site.of.images()});
  const Tensor scores = site.output("scores", {layout.shape, DType::f32}, {.additions = 4});
  return {[=] { op->forward(z, y, state, metrics, scores.as<float>()); }, cost(kind, Pass::forward, layout),
          op->implementation()};
}

Work of(const Update&, Site& site) {
  Backend& backend = site.of.backend();
  const Layout flat = site.of.parameters(site.problem().inputs[0]);
  const Tensor w = site.of.repeated(flat, static_cast<std::size_t>(few_parameters)),
               m = site.of.repeated(flat, static_cast<std::size_t>(few_parameters), {.scale = 0.1}),
               v = site.of.repeated(flat, static_cast<std::size_t>(few_parameters), {.scale = 0.05, .offset = 0.0625}),
               dw = site.of.repeated(flat, static_cast<std::size_t>(few_parameters));
  const Rule rule{.additions = 8};
  site.written("w", w, rule), site.written("m", m, rule), site.written("v", v, rule);
  std::optional<Tensor> low_precision;
  if (backend.activation_type() != backend.parameter_type())
    low_precision = site.output("low_precision", {flat.shape, backend.activation_type()}, {.additions = 8, .like = "w"});
  const StepState* state = site.of.object(StepState{.learning_rate = 0.01f});
  const std::int64_t size = flat.shape.count();
  std::shared_ptr op = backend.optimizer(Adam{}, size);
  return {[=] { op->update(dw, state, w, m, v, get(low_precision)); },
          cost(Adam{}, size, backend.parameter_type(), backend.activation_type()), op->implementation()};
}

/// Whether sums and products of the inputs are all there is to an op, but for its activations and what it applies on the way:
/// then a fill of integers makes outputs that are exact in every type.
bool adds_and_multiplies(const Conv&) {
  return true;
}
bool adds_and_multiplies(const Dense&) {
  return true;
}
bool adds_and_multiplies(const BatchNorm&) {
  return false;
}
bool adds_and_multiplies(const Activate& activate) {
  return is_piecewise_linear(activate.function);
}
bool adds_and_multiplies(const Pool& pool) {
  return pool.kind == Pool::Kind::max;
}
bool adds_and_multiplies(const Dropout&) {
  return false;
}
bool adds_and_multiplies(const Add&) {
  return true;
}
bool adds_and_multiplies(const Multiply&) {
  return true;
}

template <class Kind>
bool is_exact(const Kind& kind, const Problem& problem) {
  bool exact = adds_and_multiplies(kind) && is_piecewise_linear(activation_of(kind));
  for (std::size_t i = 0; i < problem.inputs.size(); ++i)
    exact = exact && is_piecewise_linear(deferral_of(kind, i).value_or(Activation::none));
  return exact;
}
bool is_exact(const TransformFilters&, const Problem&) {
  return true;
}
bool is_exact(const NormCorrection&, const Problem&) {
  return false;
}
bool is_exact(const TakeBatch&, const Problem&) {
  return true;
}
bool is_exact(const TakeLoss&, const Problem&) {
  return false;
}
bool is_exact(const Update&, const Problem&) {
  return false;
}

/// Whether an output depends on all images of the batch: gradients of filters, and what ops leave for batch-norms.
template <class Kind>
bool sums_images(Kind kind, const std::string& pass) {
  if constexpr (requires { kind.statistics; })
    if (pass == "forward") return kind.statistics;
  if (pass == "forward") return false;
  const bool of_filter = Traits<Kind>::is_linear && (pass == "backward_filter" || pass == "backward");
  return of_filter || deferral_of(kind, 0).has_value();
}
bool sums_images(const BatchNorm&, const std::string&) {
  return true;
}

template <class Kind>
constexpr bool is_of_a_graph = requires {
  typename Traits<Kind>::Made;
};

/// As the planner does: statistics are asked for last, an activation that is not fused runs by itself.
template <class Kind>
std::optional<Problem> accepted_kind(Kind kind, const Problem& problem, const std::string& pass, int images, Backend& backend) {
  auto made = make(kind, problem, images, backend);
  if (bool* statistics = Traits<Kind>::statistics(kind); !made && statistics && *statistics && deferral_of(kind, 0)) {
    *statistics = false;
    made = make(kind, problem, images, backend);
  }
  if (!made && !problem.deferred) {
    if (Activation* activation = Traits<Kind>::activation(kind)) *activation = Activation::none;
    made = make(kind, problem, images, backend);
  }
  if (!made) return std::nullopt;
  if constexpr (requires { made->fuses_backward(); })
    if (pass == "backward" && !made->fuses_backward()) return std::nullopt;
  Problem taken = problem;
  taken.kind = kind;
  return taken;
}

}  // namespace

std::optional<Problem> accepted(const Problem& problem, const std::string& pass, int images, Backend& backend) {
  return std::visit(
      [&](const auto& kind) -> std::optional<Problem> {
        using Kind = std::decay_t<decltype(kind)>;
        if constexpr (is_of_a_graph<Kind>) return accepted_kind(kind, problem, pass, images, backend);
        if constexpr (std::is_same_v<Kind, NormCorrection>)
          if (!backend.norm_correction(ProblemLayouts(problem, images, backend).x())) return std::nullopt;
        return problem;
      },
      problem.kind);
}

std::shared_ptr<Op> op_of(const Problem& problem, int images, Backend& backend) {
  const std::optional<Problem> taken = accepted(problem, "forward", images, backend);
  if (!taken) return nullptr;
  return std::visit(
      [&](const auto& kind) -> std::shared_ptr<Op> {
        using Kind = std::decay_t<decltype(kind)>;
        if constexpr (is_of_a_graph<Kind>) {
          const auto kept = std::make_shared<typename Traits<Kind>::Made>(make(kind, *taken, images, backend));
          return {kept, kept->get()};
        }
        return nullptr;
      },
      taken->kind);
}

Filling filling_of(const Problem& problem, const std::string& pass, int images, int factor_bits) {
  // Three in a batch of some power of two, so that no mix-up of images goes unseen; two where each must be there as often.
  const bool sums = std::visit(
      [&](const auto& kind) {
        if constexpr (is_of_a_graph<std::decay_t<decltype(kind)>>) return sums_images(kind, pass);
        return false;
      },
      problem.kind);
  const bool exact = std::visit([&](const auto& kind) { return is_exact(kind, problem); }, problem.kind);
  int period = std::min(images, sums ? (images % 2 == 0 ? 2 : 1) : 3);
  // Of a few values alone the variance may be next to nothing, and what it divides mostly rounding.
  constexpr int least_pixels = 64;
  if (std::holds_alternative<BatchNorm>(problem.kind))
    for (int more = period; more <= images && period * problem.output.h * problem.output.w < least_pixels; ++more)
      if (images % more == 0) period = more;
  Filling filling{exact ? Fill::integers : Fill::uniform, factor_bits, images, period};
  // What becomes of an image depends on its place in the batch.
  if (std::holds_alternative<TakeBatch>(problem.kind) || std::holds_alternative<TakeLoss>(problem.kind))
    filling.period = images;
  if (std::holds_alternative<Dropout>(problem.kind)) {
    const bool small = problem.output.count() * images <= whole_dropout;
    (small ? filling.period = images : filling.first_only = true);
  }
  return filling;
}

Work make_work(const Problem& problem, const std::string& pass, Tensors& tensors) {
  Site site(problem, pass, tensors);
  return std::visit([&](const auto& kind) { return of(kind, site); }, problem.kind);
}

}  // namespace microtome::bench
