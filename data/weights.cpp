#include "data/weights.h"

#include "data/file.h"
#include "data/hdf5.h"
#include "data/sandbox.h"
#include "engine/check.h"
#include "engine/model.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t most_links = 1 << 20;
constexpr const char* misfit = "the weights do not fit the network";

std::string shape_text(const std::vector<int>& shape) {
  return hdf5::shape_text(std::vector<hsize_t>(shape.begin(), shape.end()));
}

// ------------------------------------------------------------------------------------------------- in the child: HDF5

WeightFile::Tensor read_tensor(hid_t group, const std::string& path, std::string name, const std::string& where) {
  const hdf5::Id dataset = hdf5::open_dataset(group, path, where);
  if (!dataset.valid()) {
    fail(ExitCode::weights, "a weight is missing",
         {.where = fmt::format("{}, \"{}\"", where, path), .found = "the file lists it and has none"});
  }
  const hdf5::Id type(H5Dget_type(dataset));
  const H5T_class_t kind = H5Tget_class(type);
  if (kind != H5T_FLOAT && kind != H5T_INTEGER) {
    fail(ExitCode::weights, "a weight is of a type that is not read",
         {.where = fmt::format("{}, \"{}\"", where, path), .expected = "float32", .found = hdf5::describe(dataset)});
  }
  WeightFile::Tensor tensor{.name = std::move(name)};
  std::size_t count = 1;
  for (const hsize_t extent : hdf5::shape_of(dataset)) {
    tensor.shape.push_back(static_cast<int>(std::min<hsize_t>(extent, INT32_MAX)));
    count *= extent;
  }
  tensor.values.resize(count);
  if (count > 0 && H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, tensor.values.data()) < 0) {
    fail(ExitCode::weights, "a weight cannot be read",
         {.where = fmt::format("{}, \"{}\"", where, path), .found = hdf5::last_message()});
  }
  return tensor;
}

/// Names are looked up as paths: DenseNet's layer "conv1/conv" is a group in a group.
void read_legacy(hid_t root, const std::vector<std::string>& layer_names, const std::string& where, WeightFile& out) {
  out.layout = WeightFile::Layout::legacy;
  for (const std::string& name : layer_names) {
    const hdf5::Id group = hdf5::open_object(root, name, where);
    if (!group.valid()) {
      // MobileNet's published files without a head still list the head's layers.
      out.notes.push_back(fmt::format("layer \"{}\" is listed and has no group", name));
      continue;
    }
    const std::string place = fmt::format("{}, layer \"{}\"", where, name);
    bool listed = false;
    const std::vector<std::string> weight_names = hdf5::read_strings(group, "weight_names", place, &listed);
    WeightFile::Layer layer{.name = name};
    for (const std::string& weight : weight_names) layer.weights.push_back(read_tensor(group, weight, weight, place));
    if (!layer.weights.empty()) out.layers.push_back(std::move(layer));
  }
}

/// "conv2d_12" is the thirteenth conv2d, "conv2d" the first.
std::pair<std::string, int> class_and_number(const std::string& name) {
  const std::size_t at = name.rfind('_');
  int number = 0;
  if (at == name.npos || at + 1 == name.size()) return {name, 0};
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + at + 1, end, number);
  if (error != std::errc{} || stop != end) return {name, 0};
  return {name.substr(0, at), number};
}

struct Links {
  std::vector<std::string> hard;
  std::string elsewhere;  // a soft or external one, if any
};

herr_t collect(hid_t, const char* name, const H5L_info_t* info, void* to) {
  Links& links = *static_cast<Links*>(to);
  if (info->type == H5L_TYPE_HARD)
    links.hard.emplace_back(name);
  else
    links.elsewhere = name;
  return links.hard.size() > most_links || !links.elsewhere.empty() ? 1 : 0;
}

/// layers/functional/layers/conv2d_1/vars/0 → the path of containers, the layer, the variable; nothing for any other path.
struct Variable {
  std::vector<std::pair<std::string, int>> path;  // layers from the outermost in: class and number
  int index = 0;
};

std::optional<Variable> parse_variable(std::string path) {
  // Keras on Windows wrote backslashes into names.
  std::ranges::replace(path, '\\', '/');
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    parts.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  Variable variable;
  std::size_t i = 0;
  // Keras 2.13 to 2.15 say _layer_checkpoint_dependencies.
  for (; i + 1 < parts.size() && (parts[i] == "layers" || parts[i] == "_layer_checkpoint_dependencies"); i += 2) {
    variable.path.push_back(class_and_number(parts[i + 1]));
  }
  if (variable.path.empty() || i + 2 != parts.size() || parts[i] != "vars") return {};
  const char* end = parts[i + 1].data() + parts[i + 1].size();
  const auto [stop, error] = std::from_chars(parts[i + 1].data(), end, variable.index);
  if (error != std::errc{} || stop != end || variable.index < 0) return {};
  return variable;
}

void read_keras3(hid_t file, const std::vector<std::string>& links, const std::string& where, WeightFile& out) {
  out.layout = WeightFile::Layout::keras3;
  // By class; then what is nested (a base) before what is not (its head); then by number.
  using Key = std::tuple<std::string, bool, std::vector<std::pair<std::string, int>>>;
  std::map<Key, std::map<int, std::string>> layers;
  for (const std::string& link : links) {
    if (const std::optional<Variable> variable = parse_variable(link)) {
      layers[{variable->path.back().first, variable->path.size() == 1, variable->path}][variable->index] = link;
    }
  }
  for (const auto& [key, variables] : layers) {
    WeightFile::Layer layer{.kind = std::get<0>(key)};
    const std::string& first = variables.begin()->second;
    const std::string vars = first.substr(0, first.find_last_of("/\\"));
    const hdf5::Id group = hdf5::open_object(file, vars, where);
    bool named = false;
    if (group.valid()) {
      const std::vector<std::string> names = hdf5::read_strings(group, "name", where, &named);
      if (names.size() == 1) layer.name = names[0];
    }
    const auto& [kind, number] = std::get<2>(key).back();
    if (layer.name.empty()) layer.name = number == 0 ? kind : fmt::format("{}_{}", kind, number);
    for (const auto& [index, link] : variables)
      layer.weights.push_back(read_tensor(file, link, fmt::format("{}", index), where));
    out.layers.push_back(std::move(layer));
  }
}

WeightFile read_untrusted(const fs::path& path) {
  const hdf5::Id file = hdf5::open_untrusted(path);
  const std::string where = path.string();
  WeightFile out;
  bool listed = false;
  std::vector<std::string> layer_names = hdf5::read_strings(file, "layer_names", where, &listed);
  if (listed) {
    read_legacy(file, layer_names, where, out);
    return out;
  }
  const hdf5::Id inner = hdf5::open_object(file, "model_weights", where);
  if (inner.valid()) layer_names = hdf5::read_strings(inner, "layer_names", where, &listed);
  if (listed) {
    read_legacy(inner, layer_names, where, out);
    return out;
  }
  Links links;
  if (H5Lvisit(file, H5_INDEX_NAME, H5_ITER_INC, collect, &links) < 0) {
    fail(ExitCode::weights, "a weight file cannot be read", {.where = where, .found = hdf5::last_message()});
  }
  if (!links.elsewhere.empty()) {
    fail(ExitCode::weights, "an HDF5 file points elsewhere",
         {.where = fmt::format("{}, \"{}\"", where, links.elsewhere),
          .expected = "the data itself",
          .found = "a soft link or a link to another file"});
  }
  read_keras3(file, links.hard, where, out);
  if (out.layers.empty()) {
    fail(ExitCode::weights, "a file holds no weights that are known here",
         {.where = where,
          .expected = "Keras' attribute layer_names, or its groups layers/…/vars",
          .found = fmt::format("an HDF5 file with {} links", links.hard.size())});
  }
  return out;
}

void send(const WeightFile& file, Sink& sink) {
  sink.put(file.layout);
  sink.put(file.notes.size());
  for (const std::string& note : file.notes) sink.put(note);
  sink.put(file.layers.size());
  for (const WeightFile::Layer& layer : file.layers) {
    sink.put(layer.name);
    sink.put(layer.kind);
    sink.put(layer.weights.size());
    for (const WeightFile::Tensor& tensor : layer.weights) {
      sink.put(tensor.name);
      sink.put(tensor.shape.size());
      sink.write(std::as_bytes(std::span(tensor.shape)));
      sink.put(tensor.values.size());
      sink.write(std::as_bytes(std::span(tensor.values)));
    }
  }
}

WeightFile receive(Source& source) {
  WeightFile file{.layout = source.take<WeightFile::Layout>()};
  file.notes.resize(source.take<std::size_t>());
  for (std::string& note : file.notes) note = source.take_text();
  file.layers.resize(source.take<std::size_t>());
  for (WeightFile::Layer& layer : file.layers) {
    layer.name = source.take_text();
    layer.kind = source.take_text();
    layer.weights.resize(source.take<std::size_t>());
    for (WeightFile::Tensor& tensor : layer.weights) {
      tensor.name = source.take_text();
      tensor.shape.resize(source.take<std::size_t>());
      source.read(std::as_writable_bytes(std::span(tensor.shape)));
      tensor.values.resize(source.take<std::size_t>());
      source.read(std::as_writable_bytes(std::span(tensor.values)));
    }
  }
  return file;
}

// ------------------------------------------------------------------------------------------------ matching with a graph

/// "dense/kernel:0" → "kernel"
std::string_view last_part(std::string_view name) {
  name = name.substr(0, name.rfind(':'));
  return name.substr(name.rfind('/') + 1);
}

class Matcher {
 public:
  Matcher(const fs::path& path, const WeightFile& file, const Graph& graph) : path_(path), file_(file), graph_(graph) {
    values_.resize(graph.parameters().size());
    for (const Row& row : graph.rows()) {
      if (!row.parameters.empty()) rows_.push_back(&row);
    }
    for (const Parameter& parameter : graph.parameters()) known_names_.insert(parameter.name);
  }

  std::vector<float> match(std::vector<std::string>* notes) {
    if (file_.layout == WeightFile::Layout::legacy)
      match_by_order();
    else
      match_by_class();
    if (notes != nullptr) {
      *notes = file_.notes;
      if (renamed_ > 0) {
        notes->push_back(fmt::format("{} of {} layers have other names in the file, first {}; order and shapes agree", renamed_,
                                     file_.layers.size(), first_renamed_));
      }
    }
    std::vector<float> weights;
    weights.reserve(static_cast<std::size_t>(graph_.parameter_count()));
    for (const std::vector<float>& part : values_) weights.insert(weights.end(), part.begin(), part.end());
    return weights;
  }

 private:
  /// A nested model is one layer here: its trainable weights, row by row, then the others. So a layer takes as many rows as
  /// have its number of weights; for a plain layer that is one.
  void match_by_order() {
    std::size_t next = 0;
    for (std::size_t i = 0; i < file_.layers.size(); ++i) {
      const WeightFile::Layer& layer = file_.layers[i];
      std::vector<int> trainable, fixed;
      const std::size_t first = next;
      while (next < rows_.size() && (next == first || trainable.size() + fixed.size() < layer.weights.size())) {
        for (const int p : rows_[next]->parameters) (parameter(p).trainable ? trainable : fixed).push_back(p);
        ++next;
      }
      if (next == first) {
        fail(ExitCode::weights, misfit,
             {.where = fmt::format("{}, layer {} \"{}\"", path_.string(), i, layer.name),
              .expected = fmt::format("{} layers with weights", rows_.size()),
              .found = fmt::format("{} in the file", file_.layers.size()),
              .next = next_step()});
      }
      trainable.insert(trainable.end(), fixed.begin(), fixed.end());
      take(i, layer, trainable);
      if (next == first + 1) compare_names(layer.name, *rows_[first]);
    }
    if (next < rows_.size()) {
      fail(ExitCode::weights, misfit,
           {.where = fmt::format("{}, row \"{}\" of the network", path_.string(), rows_[next]->name),
            .expected = fmt::format("{} layers with weights", rows_.size()),
            .found = fmt::format("{} in the file, the last \"{}\"", file_.layers.size(),
                                 file_.layers.empty() ? "" : file_.layers.back().name),
            .next = next_step()});
    }
  }

  void match_by_class() {
    std::map<std::string, std::vector<std::size_t>> in_file;
    std::map<std::string, std::size_t> in_graph;
    for (std::size_t i = 0; i < file_.layers.size(); ++i) in_file[file_.layers[i].kind].push_back(i);
    for (const Row* row : rows_) ++in_graph[row->kind];
    std::string expected, found;
    for (const auto& [kind, count] : in_graph) expected += fmt::format("{}{} {}", expected.empty() ? "" : ", ", count, kind);
    for (const auto& [kind, layers] : in_file) found += fmt::format("{}{} {}", found.empty() ? "" : ", ", layers.size(), kind);
    if (expected != found) {
      fail(ExitCode::weights, misfit,
           {.where = path_.string(),
            .expected = fmt::format("layers with weights: {}", expected),
            .found = found,
            .next = next_step()});
    }
    std::map<std::string, std::size_t> next;
    for (const Row* row : rows_) {
      const std::size_t i = in_file.at(row->kind)[next[row->kind]++];
      take(i, file_.layers[i], row->parameters);
      compare_names(file_.layers[i].name, *row);
    }
  }

  void take(std::size_t index, const WeightFile::Layer& layer, const std::vector<int>& parameters) {
    const Row& row = graph_.rows()[static_cast<std::size_t>(parameter(parameters[0]).row)];
    const std::string where = fmt::format("{}, layer {} \"{}\" for row \"{}\"", path_.string(), index, layer.name, row.name);
    if (layer.weights.size() != parameters.size()) {
      fail(ExitCode::weights, misfit,
           {.where = where, .expected = list(parameters), .found = list(layer), .next = next_step()});
    }
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const Parameter& wanted = parameter(parameters[i]);
      const WeightFile::Tensor& tensor = layer.weights[i];
      if (tensor.shape != wanted.keras_shape) {
        fail(ExitCode::weights, misfit,
             {.where = where,
              .expected = fmt::format("{} {}", wanted.name, shape_text(wanted.keras_shape)),
              .found = fmt::format("{} {}", tensor.name, shape_text(tensor.shape)),
              .next = next_step()});
      }
      const std::string name(last_part(tensor.name));
      if (name != wanted.name && known_names_.contains(name)) {
        fail(ExitCode::weights, "the weights are in another order than Keras'",
             {.where = where, .expected = wanted.name, .found = tensor.name, .next = "save them anew with Keras"});
      }
      values_[static_cast<std::size_t>(parameters[i])] = from_keras(wanted, tensor.values);
    }
  }

  void compare_names(const std::string& in_file, const Row& row) {
    if (in_file == row.name) return;
    if (renamed_++ == 0) first_renamed_ = fmt::format("\"{}\" for \"{}\"", in_file, row.name);
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
  static std::string next_step() {
    return "see whether --net and the image size are those of the file; describe lists a network's rows";
  }

  const Parameter& parameter(int index) const { return graph_.parameters()[static_cast<std::size_t>(index)]; }

  const fs::path& path_;
  const WeightFile& file_;
  const Graph& graph_;
  std::vector<const Row*> rows_;            // those with weights
  std::vector<std::vector<float>> values_;  // a parameter's
  std::set<std::string> known_names_;
  std::size_t renamed_ = 0;
  std::string first_renamed_;
};

// --------------------------------------------------------------------------------------------------------------- writing

/// Calls visit(parameter, values in Keras' order) for the row's parameters.
template <class Visitor>
void for_each_weight(const Graph& graph, const Row& row, std::span<const float> weights,
                     const std::vector<std::size_t>& offsets, Visitor&& visit) {
  for (const int index : row.parameters) {
    const Parameter& parameter = graph.parameters()[static_cast<std::size_t>(index)];
    const std::size_t count = static_cast<std::size_t>(parameter.shape.count());
    visit(parameter, to_keras(parameter, weights.subspan(offsets[static_cast<std::size_t>(index)], count)));
  }
}

std::vector<hsize_t> extents(const Parameter& parameter) {
  return {parameter.keras_shape.begin(), parameter.keras_shape.end()};
}

void write_keras3(hid_t file, const Graph& graph, std::span<const float> weights, const std::vector<std::size_t>& offsets) {
  std::map<std::string, int> uses;
  // Keras 3.3 asks for the model's own, though it has none.
  hdf5::write_string(hdf5::create_group(file, "vars"), "name", "model");
  for (const Row& row : graph.rows()) {
    const int number = uses[row.kind]++;
    const std::string vars = fmt::format("layers/{}{}/vars", row.kind, number == 0 ? "" : fmt::format("_{}", number));
    const hdf5::Id group = hdf5::create_group(file, vars);
    hdf5::write_string(group, "name", row.name);
    int index = 0;
    for_each_weight(graph, row, weights, offsets, [&](const Parameter& parameter, const std::vector<float>& values) {
      hdf5::write_dataset(group, fmt::format("{}", index++), extents(parameter), H5T_IEEE_F32LE, values.data());
    });
  }
}

void write_legacy(hid_t file, const Graph& graph, std::span<const float> weights, const std::vector<std::size_t>& offsets) {
  std::vector<std::string> layer_names;
  for (const Row& row : graph.rows()) {
    layer_names.push_back(row.name);
    const hdf5::Id group = hdf5::create_group(file, row.name);
    std::vector<std::string> weight_names;
    for_each_weight(graph, row, weights, offsets, [&](const Parameter& parameter, const std::vector<float>& values) {
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

}  // namespace

WeightFile open_weights(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) {
    fail(ExitCode::weights, "a weight file is missing",
         {.where = path.string(), .found = fs::exists(path, ignored) ? "no regular file" : "no such file"});
  }
  WeightFile file;
  read_in_child(
      {.code = ExitCode::weights, .where = path.string()}, [&](Sink& sink) { send(read_untrusted(path), sink); },
      [&](Source& source) { file = receive(source); });
  return file;
}

std::vector<float> read_weights(const fs::path& path, const Graph& graph, std::vector<std::string>* notes) {
  const WeightFile file = open_weights(path);
  return Matcher(path, file, graph).match(notes);
}

void write_weights(const fs::path& path, const Graph& graph, std::span<const float> weights) {
  require(static_cast<std::int64_t>(weights.size()) == graph.parameter_count(), "weights: ", weights.size(), " values for ",
          graph.parameter_count(), " parameters");
  std::vector<std::size_t> offsets;
  std::size_t offset = 0;
  for (const Parameter& parameter : graph.parameters()) {
    offsets.push_back(offset);
    offset += static_cast<std::size_t>(parameter.shape.count());
  }
  const hdf5::Id file = hdf5::create_file_in_memory();
  const bool keras3 = path.filename().string().ends_with(".weights.h5");
  (keras3 ? write_keras3 : write_legacy)(file, graph, weights, offsets);
  const std::vector<std::byte> image = hdf5::image_of(file);
  write_whole(path, std::vector<Bytes>{image}, "the weight file");
}

}  // namespace microtome
