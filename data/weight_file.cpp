#include "data/weight_file.h"

#include "data/digest.h"
#include "data/file.h"
#include "data/hdf5.h"
#include "data/sandbox.h"
#include "engine/check.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <tuple>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t most_links = 1 << 20;

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
         {.where = fmt::format("{}, \"{}\"", where, path), .found = hdf5::last_message(), .next = hdf5::last_remedy()});
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
    layer.named = !layer.name.empty();
    if (!layer.named) layer.name = number == 0 ? kind : fmt::format("{}_{}", kind, number);
    for (const auto& [index, link] : variables)
      layer.weights.push_back(read_tensor(file, link, fmt::format("{}", index), where));
    out.layers.push_back(std::move(layer));
  }
}

/// What a file holds, and the text of its provenance where it has one.
struct Contents {
  WeightFile file;
  bool has_provenance = false;
  std::string provenance;
};

Contents read_untrusted(const fs::path& path) {
  const hdf5::Id file = hdf5::open_untrusted(path);
  const std::string where = path.string();
  Contents contents;
  WeightFile& out = contents.file;
  for (const std::string& text : hdf5::read_strings(file, provenance_key, where, &contents.has_provenance))
    contents.provenance += text;
  bool listed = false;
  std::vector<std::string> layer_names = hdf5::read_strings(file, "layer_names", where, &listed);
  if (listed) {
    read_legacy(file, layer_names, where, out);
    return contents;
  }
  const hdf5::Id inner = hdf5::open_object(file, "model_weights", where);
  if (inner.valid()) layer_names = hdf5::read_strings(inner, "layer_names", where, &listed);
  if (listed) {
    read_legacy(inner, layer_names, where, out);
    return contents;
  }
  Links links;
  if (H5Lvisit(file, H5_INDEX_NAME, H5_ITER_INC, collect, &links) < 0) {
    fail(ExitCode::weights, "a weight file cannot be read",
         {.where = where, .found = hdf5::last_message(), .next = hdf5::last_remedy()});
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
          .found = hdf5::contents(file)});
  }
  return contents;
}

void send(const Contents& contents, Sink& sink) {
  const WeightFile& file = contents.file;
  sink.put(contents.has_provenance);
  sink.put(contents.provenance.size());
  sink.write(std::as_bytes(std::span(contents.provenance)));
  sink.put(file.layout);
  sink.put(file.notes.size());
  for (const std::string& note : file.notes) sink.put(note);
  sink.put(file.layers.size());
  for (const WeightFile::Layer& layer : file.layers) {
    sink.put(layer.name);
    sink.put(layer.named);
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

Contents receive(Source& source) {
  Contents contents;
  contents.has_provenance = source.take<bool>();
  contents.provenance.resize(source.take<std::size_t>());
  source.read(std::as_writable_bytes(std::span(contents.provenance)));
  WeightFile& file = contents.file;
  file.layout = source.take<WeightFile::Layout>();
  file.notes.resize(source.take<std::size_t>());
  for (std::string& note : file.notes) note = source.take_text();
  file.layers.resize(source.take<std::size_t>());
  for (WeightFile::Layer& layer : file.layers) {
    layer.name = source.take_text();
    layer.named = source.take<bool>();
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
  return contents;
}

}  // namespace

void TensorsDigest::add(const std::string& layer, std::span<const int> shape, std::span<const float> values) {
  std::string& all = layers_[layer];
  for (const int extent : shape) all += fmt::format("{},", extent);
  all += hexadecimal(sha256({reinterpret_cast<const std::uint8_t*>(values.data()), values.size_bytes()}));
}

std::string TensorsDigest::result() const {
  std::string all;
  for (const auto& [name, tensors] : layers_) all += name + " " + tensors + "\n";
  return text_digest(all);
}

std::string tensors_digest(const WeightFile& file) {
  TensorsDigest digest;
  for (const WeightFile::Layer& layer : file.layers)
    for (const WeightFile::Tensor& tensor : layer.weights) digest.add(layer.name, tensor.shape, tensor.values);
  return digest.result();
}

WeightFile open_weights(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) {
    std::error_code failure;
    const fs::file_status status = fs::status(path, failure);
    const bool unreachable = status.type() == fs::file_type::none;
    const fs::path within = path / "best.weights.h5";
    fail(ExitCode::weights, unreachable ? "a weight file cannot be reached" : "a weight file is missing",
         {.where = path.string(),
          .found = unreachable          ? failure.message()
                   : fs::exists(status) ? (fs::is_directory(status) ? "a folder" : "no regular file")
                                        : "no such file",
          .next = fs::is_regular_file(within, ignored) ? "name the file: " + within.string() : ""});
  }
  if (path.extension() == ".onnx") {
    fail(ExitCode::weights, "ONNX is written and not read",
         {.where = path.string(),
          .expected = "Keras' .h5 or .weights.h5, or a checkpoint",
          .next = "name the file that the ONNX was made from"});
  }
  if (first_bytes(path, 2, ExitCode::weights) == "PK") {
    fail(ExitCode::weights, "an archive of a whole Keras model is not read",
         {.where = path.string(),
          .expected = "a file of weights",
          .found = "a zip file, as Keras' .keras is",
          .next = "save the weights, in Keras: model.save_weights(\"NAME.weights.h5\")"});
  }
  Contents contents;
  hdf5::start();
  read_in_child(
      {.code = ExitCode::weights, .where = path.string()}, [&](Sink& sink) { send(read_untrusted(path), sink); },
      [&](Source& source) { contents = receive(source); });
  WeightFile file = std::move(contents.file);
  file.path = path;
  if (!contents.has_provenance) return file;
  file.provenance = parse_provenance(contents.provenance, path);
  const std::string found = tensors_digest(file);
  if (const std::string& expected = file.provenance->tensors; !expected.empty() && found != expected) {
    fail(ExitCode::weights, "the weights are not those that were written: the file is damaged, or was changed",
         {.where = path.string(),
          .expected = "SHA-256 " + expected,
          .found = found,
          .next = fmt::format("take another copy, or the run's last.checkpoint; where it was changed on purpose, delete the "
                              "attribute \"{}\" of its root",
                              provenance_key)});
  }
  return file;
}

}  // namespace microtome
