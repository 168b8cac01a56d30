#include "data/weights.h"

#include "data/file.h"
#include "data/hdf5.h"
#include "engine/check.h"
#include "engine/model.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <source_location>
#include <string_view>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr const char* misfit = "the weights do not fit the network";
constexpr int imagenet_classes = 1000;

std::string shape_text(const std::vector<int>& shape) {
  return hdf5::shape_text(std::vector<hsize_t>(shape.begin(), shape.end()));
}

/// "dense/kernel:0" -> "dense" and "kernel"
std::pair<std::string, std::string> owner_and_weight(std::string_view name) {
  name = name.substr(0, name.rfind(':'));
  const std::size_t slash = name.rfind('/');
  if (slash == name.npos) return {"", std::string(name)};
  return {std::string(name.substr(0, slash)), std::string(name.substr(slash + 1))};
}

/// Keras 2 says depthwise_kernel where Keras 3 says kernel.
std::string_view plain(std::string_view weight) {
  return weight == "depthwise_kernel" ? "kernel" : weight;
}

std::size_t tensors_of(const WeightFile& file) {
  std::size_t count = 0;
  for (const WeightFile::Layer& layer : file.layers) count += layer.weights.size();
  return count;
}

bool classifies_imagenet(const WeightFile::Layer& layer) {
  return layer.weights.back().shape == std::vector<int>{imagenet_classes};
}

class Matcher {
 public:
  Matcher(const WeightFile& file, const Graph& graph) : file_(file), graph_(graph) {
    const int last_of_base = graph.features() < 0 ? -1 : graph.ops()[static_cast<std::size_t>(graph.features())].row;
    for (const int r : keras_order(graph)) {
      const Row& row = graph.rows()[static_cast<std::size_t>(r)];
      if (row.parameters.empty()) continue;
      rows_.push_back(&row);
      tensors_ += row.parameters.size();
      if (r > last_of_base) continue;
      base_rows_ = rows_.size();
      base_tensors_ = tensors_;
    }
    for (const Parameter& parameter : graph.parameters()) known_weights_.insert(std::string(plain(parameter.name)));
  }

  LoadedWeights match(std::span<const float> initial) {
    choose_rows();
    if (file_.layout == WeightFile::Layout::legacy)
      match_by_order();
    else
      match_by_class();
    check_names();
    for (const auto& [p, origin] : origins_) require_sound(p, origin.first, origin.second);

    LoadedWeights loaded{.whole = fill_ == rows_.size(), .notes = file_.notes};
    if (!loaded.whole && initial.empty()) {
      fail(ExitCode::weights, "the weights are those of the base alone",
           {.where = file_.path.string(),
            .expected = fmt::format("{} layers with weights, the last \"{}\"", rows_.size(), rows_.back()->name),
            .found = fmt::format("{}, up to \"{}\"", fill_, rows_[fill_ - 1]->name),
            .next = "train --weights takes this file and trains a new head"});
    }
    require(initial.empty() || static_cast<std::int64_t>(initial.size()) == graph_.parameter_count(),
            "weights: ", initial.size(), " initial values for ", graph_.parameter_count(), " parameters");
    std::size_t offset = 0;
    for (std::size_t p = 0; p < graph_.parameters().size(); ++p) {
      const auto count = static_cast<std::size_t>(graph_.parameters()[p].shape.count());
      const auto read = read_.find(static_cast<int>(p));
      if (read != read_.end()) {
        loaded.values.insert(loaded.values.end(), read->second.begin(), read->second.end());
      } else {
        const auto kept = initial.subspan(offset, count);
        loaded.values.insert(loaded.values.end(), kept.begin(), kept.end());
      }
      offset += count;
    }
    if (renamed_ > 0) {
      loaded.notes.push_back(fmt::format("{} of {} layers have other names in the file, first {}; order and shapes agree",
                                         renamed_, file_.layers.size(), first_renamed_));
    }
    if (has_top_) loaded.notes.push_back("the layers that end in ImageNet's 1000 classes are left out");
    if (!loaded.whole) loaded.notes.push_back("the file holds the base alone: the head starts afresh");
    return loaded;
  }

 private:
  /// The rows that the file has layers for, told by the number of its tensors: no head has as many as another.
  void choose_rows() {
    const std::size_t found = tensors_of(file_);
    fill_ = rows_.size();
    if (found == tensors_ || base_rows_ == 0) return;
    has_top_ = found > base_tensors_ && std::ranges::any_of(file_.layers, classifies_imagenet);
    if (found == base_tensors_ || has_top_) fill_ = base_rows_;
  }

  /// A nested model is one layer here. So a layer takes as many rows as have its number of weights; for a plain layer that is
  /// one.
  void match_by_order() {
    std::size_t next = 0;
    for (std::size_t i = 0; i < file_.layers.size(); ++i) {
      const WeightFile::Layer& layer = file_.layers[i];
      if (next == fill_) {
        if (has_top_) return;
        fail(ExitCode::weights, misfit,
             {.where = fmt::format("{}, layer {} \"{}\"", file_.path.string(), i, layer.name),
              .expected = fmt::format("{} layers with weights", fill_),
              .found = fmt::format("{} in the file", file_.layers.size()),
              .next = next_step()});
      }
      const std::size_t first = next;
      std::size_t count = rows_[next++]->parameters.size();
      while (next < fill_ && count + rows_[next]->parameters.size() <= layer.weights.size())
        count += rows_[next++]->parameters.size();
      if (count != layer.weights.size()) next = first + 1;
      const std::vector<const Row*> rows(rows_.begin() + static_cast<std::ptrdiff_t>(first),
                                         rows_.begin() + static_cast<std::ptrdiff_t>(next));
      take(i, rows.size() == 1 ? rows[0]->parameters : nested_order(layer, rows));
      if (rows.size() == 1) placed_.push_back({i, layer.name, rows[0]});
    }
    if (next < fill_) {
      fail(ExitCode::weights, misfit,
           {.where = fmt::format("{}, row \"{}\" of the network", file_.path.string(), rows_[next]->name),
            .expected = fmt::format("{} layers with weights", fill_),
            .found = fmt::format("{} in the file, the last \"{}\"", file_.layers.size(),
                                 file_.layers.empty() ? "" : file_.layers.back().name),
            .next = next_step()});
    }
  }

  /// Keras lists a nested model's trainable weights, layer by layer, then its others, layer by layer. Where the first layers
  /// are frozen, as in fine-tuning, all of theirs are among the others: as many of them as make names and shapes fit.
  std::vector<int> nested_order(const WeightFile::Layer& layer, const std::vector<const Row*>& rows) const {
    std::vector<int> none_frozen;
    for (std::size_t frozen = 0; frozen <= rows.size(); ++frozen) {
      std::vector<int> order, others;
      for (std::size_t r = 0; r < rows.size(); ++r)
        for (const int p : rows[r]->parameters) (r < frozen || parameter(p).statistic ? others : order).push_back(p);
      order.insert(order.end(), others.begin(), others.end());
      if (std::ranges::equal(order, layer.weights, [&](int p, const WeightFile::Tensor& t) {
            return parameter(p).keras_shape == t.shape && !contradicts(parameter(p), t);
          })) {
        return order;
      }
      if (frozen == 0) none_frozen = order;
    }
    return none_frozen;
  }

  void match_by_class() {
    std::map<std::string, std::vector<std::size_t>> in_file;
    std::map<std::string, std::size_t> in_graph;
    for (std::size_t i = 0; i < file_.layers.size(); ++i) in_file[file_.layers[i].kind].push_back(i);
    for (std::size_t r = 0; r < fill_; ++r) ++in_graph[rows_[r]->kind];
    const bool fits = std::ranges::all_of(in_graph, [&](const auto& entry) {
      const std::size_t found = in_file[entry.first].size();
      return has_top_ ? found >= entry.second : found == entry.second;
    });
    if (!fits || (!has_top_ && in_file.size() != in_graph.size())) {
      std::string expected, found;
      for (const auto& [kind, count] : in_graph) expected += fmt::format("{}{} {}", expected.empty() ? "" : ", ", count, kind);
      for (const auto& [kind, layers] : in_file)
        if (!layers.empty()) found += fmt::format("{}{} {}", found.empty() ? "" : ", ", layers.size(), kind);
      fail(ExitCode::weights, misfit,
           {.where = file_.path.string(),
            .expected = fmt::format("layers with weights: {}", expected),
            .found = found,
            .next = next_step()});
    }
    std::map<std::string, std::size_t> next;
    for (std::size_t r = 0; r < fill_; ++r) {
      const Row& row = *rows_[r];
      const std::size_t i = in_file.at(row.kind)[next[row.kind]++];
      take(i, row.parameters);
      if (file_.layers[i].named) placed_.push_back({i, file_.layers[i].name, &row});
    }
  }

  void take(std::size_t index, const std::vector<int>& parameters) {
    const WeightFile::Layer& layer = file_.layers[index];
    if (layer.weights.size() != parameters.size()) {
      fail(ExitCode::weights, misfit,
           {.where = place(index, parameters[0]), .expected = list(parameters), .found = list(layer), .next = next_step()});
    }
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const Parameter& wanted = parameter(parameters[i]);
      const WeightFile::Tensor& tensor = layer.weights[i];
      if (tensor.shape != wanted.keras_shape) {
        fail(ExitCode::weights, misfit,
             {.where = place(index, parameters[i]),
              .expected = fmt::format("\"{}\" {}", wanted.name, shape_text(wanted.keras_shape)),
              .found = fmt::format("\"{}\" {}", tensor.name, shape_text(tensor.shape)),
              .next = next_step()});
      }
      if (contradicts(wanted, tensor)) {
        fail(ExitCode::weights, "the weights are in another order than Keras'",
             {.where = place(index, parameters[i]),
              .expected = wanted.name,
              .found = tensor.name,
              .next = "save them anew with Keras"});
      }
      origins_[parameters[i]] = {index, i};
      read_[parameters[i]] = from_keras(wanted, tensor.values);
      const std::string owner = owner_and_weight(tensor.name).first;
      if (parameters.size() > row_of(wanted).parameters.size()) placed_.push_back({index, owner, &row_of(wanted)});
    }
  }

  /// A network with such a value scores nothing but NaN.
  void require_sound(int p, std::size_t layer, std::size_t index) const {
    const Parameter& wanted = parameter(p);
    const WeightFile::Tensor& tensor = file_.layers[layer].weights[index];
    const bool variance = wanted.name == "moving_variance";
    for (std::size_t i = 0; i < tensor.values.size(); ++i) {
      const float value = tensor.values[i];
      if (std::isfinite(value) && !(variance && value < 0)) continue;
      throw UnsoundWeights(
          ExitCode::weights,
          std::isfinite(value) ? "a variance among the weights is negative" : "a weight is not a finite number",
          {.where = fmt::format("{}, {}, value {}", place(layer, p), tensor.name, i),
           .expected = variance ? "variances from 0 on" : "finite numbers",
           .found = fmt::format("{}", value),
           .next = "the training that saved them diverged, or the file is damaged: take an earlier one"},
          std::source_location::current());
    }
  }

  /// Whether the file's name says that this is another weight of the layer.
  bool contradicts(const Parameter& wanted, const WeightFile::Tensor& tensor) const {
    const std::string weight = owner_and_weight(tensor.name).second;
    return plain(weight) != plain(wanted.name) && known_weights_.contains(std::string(plain(weight)));
  }

  /// The layer of a row's name in another row's place, though it would fit there: the order is wrong, and only the names tell.
  void check_names() {
    std::vector<std::string> in_file, in_graph;
    for (const Placed& placed : placed_) in_file.push_back(placed.name);
    for (std::size_t r = 0; r < fill_; ++r) in_graph.push_back(rows_[r]->name);
    const std::map<std::string, std::string> key_in_file = keys(in_file), key_in_graph = keys(in_graph);
    std::map<std::string, const Row*> named;
    for (std::size_t r = 0; r < fill_; ++r) named[key_in_graph.at(rows_[r]->name)] = rows_[r];
    const Row* last_renamed = nullptr;
    for (const Placed& placed : placed_) {
      const std::string& key = key_in_file.at(placed.name);
      const auto other = named.find(key);
      if (other == named.end()) {
        if (placed.row != last_renamed && renamed_++ == 0)
          first_renamed_ = fmt::format("\"{}\" for \"{}\"", placed.name, placed.row->name);
        last_renamed = placed.row;
      } else if (other->second != placed.row && same_shapes(*other->second, *placed.row)) {
        fail(ExitCode::weights, "the layers are in another order than the network's",
             {.where = place(placed.layer, placed.row->parameters[0]),
              .expected = placed.row->name,
              .found = fmt::format("{}, of the same shapes", placed.name),
              .next = next_step()});
      }
    }
  }

  /// What names are compared by. Keras numbers unnamed layers of a class in the order of their making, from where the session
  /// stood: "conv2d_95" may be a file's first, as "conv2d" is ours.
  std::map<std::string, std::string> keys(const std::vector<std::string>& names) const {
    std::map<std::string, std::set<int>> numbers;
    std::map<std::string, std::pair<std::string, int>> automatic;
    for (const std::string& name : names) {
      for (const Row* row : rows_) {
        if (!name.starts_with(row->kind)) continue;
        std::string_view rest = std::string_view(name).substr(row->kind.size());
        int number = 0;
        if (!rest.empty()) {
          const auto [stop, error] = std::from_chars(rest.data() + 1, rest.data() + rest.size(), number);
          if (rest[0] != '_' || error != std::errc{} || stop != rest.data() + rest.size()) continue;
        }
        numbers[row->kind].insert(number);
        automatic[name] = {row->kind, number};
        break;
      }
    }
    std::map<std::string, std::string> keys;
    for (const std::string& name : names) {
      const auto found = automatic.find(name);
      if (found == automatic.end()) {
        keys[name] = name;
        continue;
      }
      const auto& [kind, number] = found->second;
      const std::set<int>& all = numbers.at(kind);
      keys[name] = fmt::format("{} {} of {}", kind, std::distance(all.begin(), all.find(number)), all.size());
    }
    return keys;
  }

  bool same_shapes(const Row& a, const Row& b) const {
    return std::ranges::equal(a.parameters, b.parameters,
                              [&](int p, int q) { return parameter(p).keras_shape == parameter(q).keras_shape; });
  }

  std::string place(std::size_t layer, int of) const {
    return fmt::format("{}, layer {} \"{}\" for row \"{}\"", file_.path.string(), layer, file_.layers[layer].name,
                       row_of(parameter(of)).name);
  }

  std::string list(const std::vector<int>& parameters) const {
    std::string text;
    for (const int p : parameters)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", parameter(p).name, shape_text(parameter(p).keras_shape));
    return shortened(text);
  }
  static std::string list(const WeightFile::Layer& layer) {
    std::string text;
    for (const WeightFile::Tensor& t : layer.weights)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", t.name, shape_text(t.shape));
    return shortened(text);
  }
  static std::string shortened(std::string text) {
    constexpr std::size_t longest = 200;
    if (text.size() > longest) text = text.substr(0, longest) + " …";
    return text;
  }
  std::string next_step() const {
    if (std::ranges::any_of(file_.layers, [](const auto& layer) { return layer.name.starts_with("res2a_branch"); }))
      return "this is ResNet50 as published before 2019; Keras took new names, and another order, since: get the present file";
    return "see whether --net and the image size are those of the file; describe lists a network's rows";
  }

  const Parameter& parameter(int index) const { return graph_.parameters()[static_cast<std::size_t>(index)]; }
  const Row& row_of(const Parameter& p) const { return graph_.rows()[static_cast<std::size_t>(p.row)]; }

  struct Placed {
    std::size_t layer;
    std::string name;
    const Row* row;
  };

  const WeightFile& file_;
  const Graph& graph_;
  std::vector<const Row*> rows_;  // those with weights, in Keras' order: the base's come first
  std::size_t base_rows_ = 0, tensors_ = 0, base_tensors_ = 0;
  std::size_t fill_ = 0;                                        // the file is for so many rows
  bool has_top_ = false;                                        // and for ImageNet's classes besides
  std::map<int, std::vector<float>> read_;                      // by parameter, in stored order
  std::map<int, std::pair<std::size_t, std::size_t>> origins_;  // layer of the file and tensor in it
  std::vector<Placed> placed_;
  std::set<std::string> known_weights_;
  std::size_t renamed_ = 0;
  std::string first_renamed_;
};

/// A parameter's values in its stored order.
using ReadParameter = std::function<std::vector<float>(int parameter)>;

/// Calls visit(parameter, values in Keras' order) for the row's parameters.
template <class Visitor>
void for_each_weight(const Graph& graph, const Row& row, const ReadParameter& read, Visitor&& visit) {
  for (const int index : row.parameters) {
    const Parameter& parameter = graph.parameters()[static_cast<std::size_t>(index)];
    visit(parameter, to_keras(parameter, read(index)));
  }
}

std::vector<hsize_t> extents(const Parameter& parameter) {
  return {parameter.keras_shape.begin(), parameter.keras_shape.end()};
}

void write_keras3(hid_t file, const Graph& graph, const ReadParameter& read) {
  std::map<std::string, int> uses;
  // Keras 3.3 asks for the model's own, though it has none.
  hdf5::write_string(hdf5::create_group(file, "vars"), "name", "model");
  for (const int r : keras_order(graph)) {
    const Row& row = graph.rows()[static_cast<std::size_t>(r)];
    const int number = uses[row.kind]++;
    const std::string vars = fmt::format("layers/{}{}/vars", row.kind, number == 0 ? "" : fmt::format("_{}", number));
    const hdf5::Id group = hdf5::create_group(file, vars);
    hdf5::write_string(group, "name", row.name);
    int index = 0;
    for_each_weight(graph, row, read, [&](const Parameter& parameter, const std::vector<float>& values) {
      hdf5::write_dataset(group, fmt::format("{}", index++), extents(parameter), H5T_IEEE_F32LE, values.data());
    });
  }
}

void write_legacy(hid_t file, const Graph& graph, const ReadParameter& read) {
  std::vector<std::string> layer_names;
  for (const int r : keras_order(graph)) {
    const Row& row = graph.rows()[static_cast<std::size_t>(r)];
    layer_names.push_back(row.name);
    const hdf5::Id group = hdf5::create_group(file, row.name);
    std::vector<std::string> weight_names;
    for_each_weight(graph, row, read, [&](const Parameter& parameter, const std::vector<float>& values) {
      weight_names.push_back(fmt::format("{}/{}:0", row.name, parameter.name));
      hdf5::write_dataset(group, weight_names.back(), extents(parameter), H5T_IEEE_F32LE, values.data());
    });
    hdf5::write_strings(group, "weight_names", weight_names);
  }
  hdf5::write_strings(file, "layer_names", layer_names);
  // Readers take their rules from these: the layout's, not the program's that wrote it.
  hdf5::write_string(file, "backend", "tensorflow");
  hdf5::write_string(file, "keras_version", "2.10.0");
}

/// Of the file that would be written, a tensor at a time: there may be no room for another copy of all.
std::string digest_of(const Graph& graph, const ReadParameter& read) {
  TensorsDigest digest;
  for (const int r : keras_order(graph)) {
    const Row& row = graph.rows()[static_cast<std::size_t>(r)];
    for_each_weight(graph, row, read, [&](const Parameter& parameter, const std::vector<float>& values) {
      digest.add(row.name, parameter.keras_shape, values);
    });
  }
  return digest.result();
}

void write_file(const fs::path& path, const Graph& graph, const ReadParameter& read,
                const std::optional<Provenance>& provenance) {
  hdf5::writing(path, [&] {
    const hdf5::Id file = hdf5::create_file_in_memory();
    const bool keras3 = path.filename().string().ends_with(".weights.h5");
    (keras3 ? write_keras3 : write_legacy)(file, graph, read);
    if (provenance) {
      Provenance with_digest = *provenance;
      with_digest.tensors = digest_of(graph, read);
      hdf5::write_string(file, provenance_key, to_json(with_digest));
    }
    const Bytes image = hdf5::image_of(file);
    write_whole(path, {&image, 1}, "the weight file");
  });
}

ReadParameter reader_of(const Graph& graph, std::span<const float> weights) {
  require(static_cast<std::int64_t>(weights.size()) == graph.parameter_count(), "weights: ", weights.size(), " values for ",
          graph.parameter_count(), " parameters");
  std::vector<std::span<const float>> parts;
  for (const Parameter& parameter : graph.parameters()) {
    parts.push_back(weights.first(static_cast<std::size_t>(parameter.shape.count())));
    weights = weights.subspan(parts.back().size());
  }
  return [parts = std::move(parts)](int p) {
    const std::span<const float> part = parts[static_cast<std::size_t>(p)];
    return std::vector<float>(part.begin(), part.end());
  };
}

}  // namespace

LoadedWeights fit_weights(const WeightFile& file, const Graph& graph, std::span<const float> initial) {
  return Matcher(file, graph).match(initial);
}

LoadedWeights read_weights(const fs::path& path, const Graph& graph, std::span<const float> initial) {
  return fit_weights(open_weights(path), graph, initial);
}

void write_weights(const fs::path& path, const Graph& graph, std::span<const float> weights,
                   const std::optional<Provenance>& provenance) {
  write_file(path, graph, reader_of(graph, weights), provenance);
}

void write_weights(const fs::path& path, const Model& model, const std::optional<Provenance>& provenance) {
  write_file(
      path, model.graph(), [&](int p) { return model.weight(p); }, provenance);
}

std::string tensors_digest(const Graph& graph, std::span<const float> weights) {
  return digest_of(graph, reader_of(graph, weights));
}

}  // namespace microtome
