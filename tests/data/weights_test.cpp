#include "data/weights.h"

#include "data/files.h"
#include "data/hdf5.h"
#include "data/support.h"
#include "engine/model.h"
#include "layers/activation.h"
#include "layers/add.h"
#include "layers/batch_norm.h"
#include "layers/concat.h"
#include "layers/conv.h"
#include "layers/dense.h"
#include "layers/dropout.h"
#include "layers/flatten.h"
#include "layers/pool.h"
#include "nets/nets.h"

#include <algorithm>

namespace microtome {
namespace {

/// A convolution, a batch-norm, two dense layers; weightless rows between.
Graph small_graph() {
  Graph graph;
  graph.output(graph.input({4, 3}) | conv(4, {3, 2}, {.bias = false, .name = "first/conv"}) | batch_norm() | relu() |
               dropout(0.5f) | flatten() | dense(5) | logit());
  return graph;
}

std::vector<float> some_weights(const Graph& graph, float step = 0.25f) {
  std::vector<float> weights(static_cast<std::size_t>(graph.parameter_count()));
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = step * static_cast<float>(i + 1);
  return weights;
}

class WeightsTest : public testing::Test {
 protected:
  /// All parameters in Keras' order, one after another.
  std::vector<std::vector<float>> keras_values() const {
    std::vector<std::vector<float>> all;
    auto begin = weights_.begin();
    for (const Parameter& parameter : graph_.parameters()) {
      const auto end = begin + parameter.shape.count();
      all.push_back(to_keras(parameter, {begin, end}));
      begin = end;
    }
    return all;
  }
  static std::vector<hsize_t> extents(const Parameter& parameter) {
    return {parameter.keras_shape.begin(), parameter.keras_shape.end()};
  }
  void put(hid_t parent, const std::string& path, std::size_t parameter) const {
    hdf5::write_dataset(parent, path, extents(graph_.parameters()[parameter]), H5T_IEEE_F32LE,
                        keras_values()[parameter].data());
  }
  void expect_same(const std::filesystem::path& file) const { EXPECT_EQ(read_weights(file, graph_).values, weights_) << file; }

  TemporaryFolder folder_;
  const Graph graph_ = small_graph();
  const std::vector<float> weights_ = some_weights(graph_);
};

TEST_F(WeightsTest, BothLayoutsComeBack) {
  for (const char* name : {"a.h5", "a.weights.h5"}) {
    write_weights(folder_ / name, graph_, weights_);
    const LoadedWeights loaded = read_weights(folder_ / name, graph_);
    EXPECT_EQ(loaded.values, weights_);
    EXPECT_TRUE(loaded.whole);
    EXPECT_TRUE(loaded.notes.empty()) << loaded.notes[0];
  }
  EXPECT_EQ(open_weights(folder_ / "a.h5").layout, WeightFile::Layout::legacy);
  EXPECT_EQ(open_weights(folder_ / "a.weights.h5").layout, WeightFile::Layout::keras3);
}

TEST_F(WeightsTest, ValuesThatMakeEveryScoreNanAreNamed) {
  for (const char* name : {"a.h5", "a.weights.h5"}) {
    std::size_t at = 0;
    for (const Parameter& parameter : graph_.parameters()) {
      std::vector<float> broken = weights_;
      broken[at] = std::numeric_limits<float>::quiet_NaN();
      write_weights(folder_ / name, graph_, broken);
      expect_refusal([&] { read_weights(folder_ / name, graph_); }, ExitCode::weights,
                     {"a weight is not a finite number", name, "found:    nan"});
      broken[at] = -1;
      write_weights(folder_ / name, graph_, broken);
      if (parameter.name == "moving_variance")
        expect_refusal([&] { read_weights(folder_ / name, graph_); }, ExitCode::weights,
                       {"a variance among the weights is negative", "batch_normalization", "value 0", "found:    -1"});
      else
        EXPECT_NO_THROW(read_weights(folder_ / name, graph_)) << parameter.name;
      at += static_cast<std::size_t>(parameter.shape.count());
    }
  }
}

TEST_F(WeightsTest, AFileThatHoldsNoWeightsSaysWhatItIs) {
  const std::string page = "<html>not found</html>";
  write_bytes(folder_ / "a.h5", {page.begin(), page.end()});
  expect_refusal([&] { open_weights(folder_ / "a.h5"); }, ExitCode::weights, {"no HDF5 file", "found:    an HTML page"});
  write_bytes(folder_ / "a.h5", {});
  expect_refusal([&] { open_weights(folder_ / "a.h5"); }, ExitCode::weights, {"found:    an empty file"});
  write_hdf5(folder_ / "a.h5", "x", {4, 6, 5, 3}, H5T_STD_U8LE, some_pixels(360), H5T_NATIVE_UINT8);
  expect_refusal([&] { open_weights(folder_ / "a.h5"); }, ExitCode::weights,
                 {"no weights that are known", R"("x" uint8 (4, 6, 5, 3))"});
  expect_refusal([&] { open_weights(folder_ / std::string(300, 'a')); }, ExitCode::weights,
                 {"a weight file cannot be reached", "File name too long"});
}

TEST_F(WeightsTest, TheLegacyLayoutIsKeras) {
  write_weights(folder_ / "a.h5", graph_, weights_);
  const hdf5::Id file = hdf5::open_untrusted(folder_ / "a.h5");
  bool there = false;
  EXPECT_EQ(hdf5::read_strings(file, "layer_names", "", &there),
            (std::vector<std::string>{"input_layer", "first/conv", "batch_normalization", "activation", "dropout", "flatten",
                                      "dense", "dense_1"}));
  EXPECT_EQ(hdf5::read_strings(file, "backend", "", &there), std::vector<std::string>{"tensorflow"});
  const hdf5::Id norm = hdf5::open_object(file, "batch_normalization", "");
  EXPECT_EQ(hdf5::read_strings(norm, "weight_names", "", &there),
            (std::vector<std::string>{"batch_normalization/gamma:0", "batch_normalization/beta:0",
                                      "batch_normalization/moving_mean:0", "batch_normalization/moving_variance:0"}));
  const hdf5::Id kernel = hdf5::open_dataset(file, "first/conv/first/conv/kernel:0", "");
  ASSERT_TRUE(kernel.valid());
  EXPECT_EQ(hdf5::describe(kernel), "float32 (3, 2, 3, 4)");
  EXPECT_TRUE(hdf5::read_strings(hdf5::open_object(file, "dropout", ""), "weight_names", "", &there).empty());
  EXPECT_TRUE(there);
}

TEST_F(WeightsTest, TheKeras3LayoutIsKeras) {
  write_weights(folder_ / "a.weights.h5", graph_, weights_);
  const hdf5::Id file = hdf5::open_untrusted(folder_ / "a.weights.h5");
  for (const char* path :
       {"layers/conv2d/vars/0", "layers/batch_normalization/vars/3", "layers/dense/vars/1", "layers/dense_1/vars/0"}) {
    EXPECT_TRUE(hdf5::open_dataset(file, path, "").valid()) << path;
  }
  EXPECT_FALSE(hdf5::open_object(file, "layers/dense_2", "").valid());
  bool there = false;
  const hdf5::Id vars = hdf5::open_object(file, "layers/conv2d/vars", "");
  EXPECT_EQ(hdf5::read_strings(vars, "name", "", &there), std::vector<std::string>{"first/conv"});
}

// What h5py 3 wrote where h5py 2 wrote fixed strings: variable ones; and a full model's file: the group model_weights beside
// optimizer_weights, top_level_model_weights within.
TEST_F(WeightsTest, AFullModelsFileWithVariableStringsLoads) {
  {
    const hdf5::Id file = hdf5::create_file(folder_ / "model.h5");
    const hdf5::Id root = hdf5::create_group(file, "model_weights");
    const auto variable = [](hid_t object, const char* name, std::vector<const char*> values) {
      const hdf5::Id type(H5Tcopy(H5T_C_S1));
      H5Tset_size(type, H5T_VARIABLE);
      const hsize_t count = values.size();
      const hdf5::Id space(H5Screate_simple(1, &count, nullptr));
      const hdf5::Id attribute(H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT));
      H5Awrite(attribute, type, values.data());
    };
    variable(root, "layer_names", {"c", "pool", "bn", "d", "e"});
    const hdf5::Id c = hdf5::create_group(root, "c"), pool = hdf5::create_group(root, "pool"),
                   bn = hdf5::create_group(root, "bn");
    const hdf5::Id d = hdf5::create_group(root, "d"), e = hdf5::create_group(root, "e");
    variable(c, "weight_names", {"c/kernel:0"});
    put(c, "c/kernel:0", 0);
    hdf5::write_strings(pool, "weight_names", {});
    variable(bn, "weight_names", {"bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance"});
    put(bn, "bn/gamma", 1), put(bn, "bn/beta", 2), put(bn, "bn/moving_mean", 3), put(bn, "bn/moving_variance", 4);
    variable(d, "weight_names", {"block1_W_1:0", "block1_b_1:0"});  // as Keras 1 named them, in the group itself
    put(d, "block1_W_1:0", 5), put(d, "block1_b_1:0", 6);
    variable(e, "weight_names", {"e/kernel", "e/bias"});
    put(e, "e/kernel", 7), put(e, "e/bias", 8);
    hdf5::write_strings(hdf5::create_group(root, "top_level_model_weights"), "weight_names", {});
    hdf5::create_group(file, "optimizer_weights");
  }
  const LoadedWeights loaded = read_weights(folder_ / "model.h5", graph_);
  EXPECT_EQ(loaded.values, weights_);
  EXPECT_EQ(loaded.notes,
            std::vector<std::string>{
                R"(4 of 4 layers have other names in the file, first "c" for "first/conv"; order and shapes agree)"});
}

TEST_F(WeightsTest, ANestedModelIsOneLayerTrainableWeightsFirst) {
  {
    const hdf5::Id file = hdf5::create_file(folder_ / "nested.h5");
    hdf5::write_strings(file, "layer_names", {"base", "dense_1"});
    const hdf5::Id base = hdf5::create_group(file, "base"), head = hdf5::create_group(file, "dense_1");
    hdf5::write_strings(
        base, "weight_names",
        {"c/kernel:0", "b/gamma:0", "b/beta:0", "d/kernel:0", "d/bias:0", "b/moving_mean:0", "b/moving_variance:0"});
    put(base, "c/kernel:0", 0), put(base, "b/gamma:0", 1), put(base, "b/beta:0", 2), put(base, "d/kernel:0", 5),
        put(base, "d/bias:0", 6);
    put(base, "b/moving_mean:0", 3), put(base, "b/moving_variance:0", 4);
    hdf5::write_strings(head, "weight_names", {"kernel:0", "bias:0"});
    put(head, "kernel:0", 7), put(head, "bias:0", 8);
  }
  expect_same(folder_ / "nested.h5");
}

TEST_F(WeightsTest, NamesSplitOverSeveralAttributesLoad) {
  write_weights(folder_ / "a.h5", graph_, weights_);
  {
    const hdf5::Id file(H5Fopen((folder_ / "a.h5").c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
    H5Adelete(file, "layer_names");
    hdf5::write_strings(file, "layer_names0", {"input_layer", "first/conv"});
    hdf5::write_strings(file, "layer_names1", {"batch_normalization", "activation", "dropout", "dense"});
    hdf5::write_strings(file, "layer_names2", {"dense_1", "gone"});
  }
  const LoadedWeights loaded = read_weights(folder_ / "a.h5", graph_);
  EXPECT_EQ(loaded.values, weights_);
  EXPECT_EQ(loaded.notes, std::vector<std::string>{R"(layer "gone" is listed and has no group)"});
}

TEST_F(WeightsTest, LongListsOfNamesAreSplitWhenWritten) {
  const std::filesystem::path path = folder_ / "names.h5";
  std::vector<std::string> names;
  for (int i = 0; i < 3000; ++i) names.push_back(fmt::format("a_layer_with_a_rather_long_name_{}", i));
  { hdf5::write_strings(hdf5::create_file(path), "layer_names", names); }
  const hdf5::Id file = hdf5::open_untrusted(path);
  bool there = false;
  EXPECT_EQ(hdf5::read_strings(file, "layer_names", "", &there), names);
  EXPECT_FALSE(H5Aexists(file, "layer_names") > 0);
}

TEST_F(WeightsTest, Keras3sOtherSpellingsLoad) {
  // Keras 2.13's prefix; a nested model beside its head; eleven classes in the order of names, not of numbers; Windows'
  // slashes; optimizer and seed generator, which are no weights of ours.
  for (const char* prefix : {"_layer_checkpoint_dependencies/functional/_layer_checkpoint_dependencies/",
                             "layers/functional/layers/", "layers\\functional\\layers\\"}) {
    const std::string base = prefix;
    const char slash = base.back();
    const std::string outer = base.substr(0, base.find("functional"));
    const auto vars = [slash](std::string layer, int index) { return fmt::format("{}{}vars/{}", layer, slash, index); };
    const std::filesystem::path path = folder_ / "k3.weights.h5";
    {
      const hdf5::Id file = hdf5::create_file(path);
      put(file, vars(base + "conv2d", 0), 0);
      for (int i = 0; i < 4; ++i) put(file, vars(base + "batch_normalization", i), static_cast<std::size_t>(1 + i));
      put(file, vars(base + "dense", 0), 5), put(file, vars(base + "dense", 1), 6);
      put(file, vars(outer + "dense", 0), 7), put(file, vars(outer + "dense", 1), 8);
      put(file, "optimizer/vars/0", 0), put(file, outer + "dropout/seed_generator/vars/0", 1);
    }
    expect_same(path);
  }
}

TEST_F(WeightsTest, LayersOfOneClassAreTakenByNumberNotByName) {
  Graph graph;
  Node x = graph.input(1, 1);
  for (int i = 0; i < 12; ++i) x = x | dense(1, {.bias = false});
  graph.output(x);
  const std::vector<float> weights = some_weights(graph);
  write_weights(folder_ / "a.weights.h5", graph, weights);
  EXPECT_EQ(read_weights(folder_ / "a.weights.h5", graph).values, weights);
}

TEST_F(WeightsTest, AFileThatDoesNotFitIsRefusedWithBothShapes) {
  const auto one_conv = [](Extent kernel) {
    Graph graph;
    graph.output(graph.input(4) | conv(4, kernel, {.bias = false, .name = "first/conv"}));
    return graph;
  };
  const Graph other = one_conv(3), shorter = one_conv({3, 2});
  write_weights(folder_ / "a.h5", other, some_weights(other));
  write_weights(folder_ / "a.weights.h5", other, some_weights(other));
  const auto read = [&](const char* name) { return [this, name] { read_weights(folder_ / name, graph_); }; };
  expect_refusal(read("a.h5"), ExitCode::weights,
                 {"do not fit the network", R"(layer 0 "first/conv" for row "first/conv")",
                  R"(expected: "kernel" (3, 2, 3, 4))", R"(found:    "first/conv/kernel:0" (3, 3, 3, 4))"});
  expect_refusal(read("a.weights.h5"), ExitCode::weights,
                 {"expected: layers with weights: 1 batch_normalization, 1 conv2d, 2 dense", "found:    1 conv2d"});

  // The right layers and one more; and one less.
  write_weights(folder_ / "right.h5", graph_, weights_);
  expect_refusal([&] { read_weights(folder_ / "right.h5", other); }, ExitCode::weights,
                 {"layer 0", R"("kernel" (3, 3, 3, 4))"});
  expect_refusal([&] { read_weights(folder_ / "right.h5", shorter); }, ExitCode::weights,
                 {R"(layer 1 "batch_normalization")", "1 layers with weights", "4 in the file"});
  write_weights(folder_ / "short.h5", shorter, some_weights(shorter));
  expect_refusal(read("short.h5"), ExitCode::weights,
                 {R"(row "batch_normalization" of the network)", "4 layers with weights", "1 in the file"});
}

TEST_F(WeightsTest, NamesThatContradictTheOrderAreRefused) {
  write_weights(folder_ / "a.h5", graph_, weights_);
  {
    const hdf5::Id file(H5Fopen((folder_ / "a.h5").c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
    const hdf5::Id norm = hdf5::open_object(file, "batch_normalization", "");
    H5Adelete(norm, "weight_names");
    const std::string prefix = "batch_normalization/";
    hdf5::write_strings(norm, "weight_names",
                        {prefix + "beta:0", prefix + "gamma:0", prefix + "moving_mean:0", prefix + "moving_variance:0"});
  }
  expect_refusal([&] { read_weights(folder_ / "a.h5", graph_); }, ExitCode::weights,
                 {"another order", "expected: gamma", "beta:0"});
}

TEST_F(WeightsTest, WhatIsNoWeightFileIsRefused) {
  expect_refusal([&] { open_weights(folder_ / "none.h5"); }, ExitCode::weights, {"missing", "none.h5"});
  write_bytes(folder_ / "text.h5", {'a', 'b'});
  expect_refusal([&] { open_weights(folder_ / "text.h5"); }, ExitCode::weights, {"no HDF5 file"});
  write_bytes(folder_ / "model.keras", {'P', 'K', 3, 4});
  expect_refusal([&] { open_weights(folder_ / "model.keras"); }, ExitCode::weights, {"model.save_weights"});
  {
    hdf5::write_dataset(hdf5::create_file(folder_ / "other.h5"), "x", std::vector<hsize_t>{1}, H5T_IEEE_F32LE, weights_.data());
  }
  expect_refusal([&] { open_weights(folder_ / "other.h5"); }, ExitCode::weights, {"no weights that are known", "layer_names"});
  {
    const hdf5::Id file = hdf5::create_file(folder_ / "listed.h5");
    hdf5::write_strings(file, "layer_names", {"a"});
    hdf5::write_strings(hdf5::create_group(file, "a"), "weight_names", {"a/kernel:0"});
  }
  expect_refusal([&] { open_weights(folder_ / "listed.h5"); }, ExitCode::weights, {"a weight is missing", "a/kernel:0"});
}

TEST_F(WeightsTest, WeightsKeptElsewhereAreRefused) {
  write_weights(folder_ / "victim.h5", graph_, weights_);
  {
    const hdf5::Id file = hdf5::create_file(folder_ / "a.h5");
    hdf5::write_strings(file, "layer_names", {"first/conv"});
    H5Lcreate_external((folder_ / "victim.h5").c_str(), "/first", file, "first", H5P_DEFAULT, H5P_DEFAULT);
  }
  expect_refusal([&] { open_weights(folder_ / "a.h5"); }, ExitCode::weights, {"points elsewhere", "a link to another file"});
  {
    const hdf5::Id file = hdf5::create_file(folder_ / "a.weights.h5");
    hdf5::create_group(file, "layers/dense/vars");
    H5Lcreate_soft("/layers/none", file, "layers/dense/vars/0", H5P_DEFAULT, H5P_DEFAULT);
  }
  expect_refusal([&] { open_weights(folder_ / "a.weights.h5"); }, ExitCode::weights, {"points elsewhere"});
}

TEST_F(WeightsTest, DamageIsRefusedAndNeverACrash) {
  for (const char* name : {"a.h5", "a.weights.h5"}) {
    write_weights(folder_ / name, graph_, weights_);
    const std::vector<char> bytes = read_bytes(folder_ / name);
    int refused = 0;
    const auto attempt = [&](const std::vector<char>& damaged) {
      write_bytes(folder_ / name, damaged);
      try {
        read_weights(folder_ / name, graph_);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::weights) << to_text(error, "test");
        ++refused;
      }
    };
    for (std::size_t i = 0; i < bytes.size(); i += 53) {
      std::vector<char> damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << i % 8));
      attempt(damaged);
    }
    EXPECT_GT(refused, 10);
    for (std::size_t size = 0; size < bytes.size(); size += 512) {
      refused = 0;
      attempt({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
      EXPECT_EQ(refused, 1) << size << " bytes of " << bytes.size();
    }
  }
}

/// Of a study of so many patients.
Provenance provenance_of(int patients) {
  Provenance p{.network = "b6", .image = 50};
  for (int i = 0; i < patients; ++i) p.splits[0].groups.push_back(fmt::format("patient_{:05}", i));
  for (int i = 0; i < 10 * patients; ++i) p.learned_images.push_back(static_cast<std::uint64_t>(i));
  return p;
}

TEST_F(WeightsTest, ProvenanceComesBackFromBothLayoutsHoweverLongItIs) {
  for (const int patients : {0, 3, 10'000, 50'000}) {
    Provenance expected = provenance_of(patients);
    expected.tensors = tensors_digest(graph_, weights_);
    for (const char* name : {"a.h5", "a.weights.h5"}) {
      write_weights(folder_ / name, graph_, weights_, provenance_of(patients));
      const WeightFile file = open_weights(folder_ / name);
      EXPECT_EQ(file.provenance, expected) << name << " of " << patients;
      EXPECT_EQ(fit_weights(file, graph_).values, weights_);
      EXPECT_EQ(tensors_digest(file), expected.tensors) << "one digest for both layouts";
    }
  }
  write_weights(folder_ / "none.h5", graph_, weights_);
  EXPECT_EQ(open_weights(folder_ / "none.h5").provenance, std::nullopt);
}

TEST_F(WeightsTest, OneFlippedBitOfATensorIsFound) {
  for (const char* name : {"a.h5", "a.weights.h5"}) {
    write_weights(folder_ / name, graph_, weights_, provenance_of(3));
    const std::vector<char> whole = read_bytes(folder_ / name);
    for (const std::size_t at : {std::size_t{0}, weights_.size() / 2, weights_.size() - 1}) {
      const std::vector<float> values = {weights_[at]};
      std::vector<char> bytes = whole;
      const auto* pattern = reinterpret_cast<const char*>(values.data());
      const auto found = std::search(bytes.begin(), bytes.end(), pattern, pattern + sizeof(float));
      ASSERT_NE(found, bytes.end());
      *found = static_cast<char>(*found ^ 1);
      write_bytes(folder_ / name, bytes);
      expect_refusal([&] { open_weights(folder_ / name); }, ExitCode::weights,
                     {"not those that were written", name, "SHA-256", "last.checkpoint"});
    }
    write_bytes(folder_ / name, whole);
    EXPECT_NO_THROW(open_weights(folder_ / name));
  }
}

TEST_F(WeightsTest, ADamagedProvenanceIsOneClearMessage) {
  const auto with_attribute = [&](const std::function<void(hid_t)>& add) {
    write_weights(folder_ / "a.h5", graph_, weights_);
    const hdf5::Id file(H5Fopen((folder_ / "a.h5").c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
    add(file);
  };
  std::string text = to_json(provenance_of(3));
  text[text.find("b6")] = 'p';
  for (const std::string& damaged : {text, text.substr(0, 40), std::string("{"), std::string()}) {
    with_attribute([&](hid_t file) { hdf5::write_string(file, provenance_key, damaged); });
    expect_refusal([&] { open_weights(folder_ / "a.h5"); }, ExitCode::weights, {"says of its own training is damaged", "a.h5"});
  }
  with_attribute([&](hid_t file) {
    const hdf5::Id space(H5Screate(H5S_SCALAR));
    const hdf5::Id attribute(H5Acreate2(file, provenance_key, H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT));
  });
  expect_refusal([&] { open_weights(folder_ / "a.h5"); }, ExitCode::weights, {"attribute \"microtome\"", "expected: strings"});
}

/// A file of `graph` as it is opened again.
WeightFile as_file(const Graph& graph, const std::vector<float>& weights, const std::filesystem::path& path) {
  write_weights(path, graph, weights);
  return open_weights(path);
}

WeightFile::Layer& layer_of(WeightFile& file, std::string_view name) {
  const auto found = std::ranges::find(file.layers, name, &WeightFile::Layer::name);
  if (found == file.layers.end()) throw std::runtime_error("no layer " + std::string(name));
  return *found;
}

/// Two branches, the shorter recorded first, though Keras lists the longer one's beginning before it.
Node two_branches(Node image) {
  const Node x = image | conv(3, 1, {.name = "stem"});
  const Node left = x | conv(3, 1, {.name = "left"});
  const Node right = x | conv(3, 1, {.name = "right_1"}) | batch_norm({.name = "bn"}) | conv(3, 1, {.name = "right_2"});
  return concat({left, right});
}

/// With the study's kind of head, and with that of the published files.
Graph headed(bool published = false) {
  Graph graph;
  const Node base = two_branches(graph.input(2)) | global_average_pool();
  graph.features(base);
  graph.output(published ? base | dense(1000, {.name = "predictions"}) : base | dense(5) | logit());
  return graph;
}
Graph unheaded() {
  Graph graph;
  graph.output(two_branches(graph.input(2)));
  return graph;
}

class HeadedTest : public testing::Test {
 protected:
  std::filesystem::path path(const std::string& name) const { return folder_ / name; }
  std::size_t base_values() const { return static_cast<std::size_t>(base_.parameter_count()); }

  TemporaryFolder folder_;
  const Graph graph_ = headed(), base_ = unheaded();
  const std::vector<float> weights_ = some_weights(graph_), base_weights_ = some_weights(base_);
  const std::vector<float> initial_ = std::vector<float>(weights_.size(), -1);
};

TEST_F(HeadedTest, LayersStandInKerasOrderNotInThatOfTheirMaking) {
  const WeightFile legacy = as_file(graph_, weights_, path("a.h5")), keras3 = as_file(graph_, weights_, path("a.weights.h5"));
  std::vector<std::string> names, convs;
  for (const WeightFile::Layer& layer : legacy.layers) names.push_back(layer.name);
  EXPECT_EQ(names, (std::vector<std::string>{"stem", "right_1", "bn", "left", "right_2", "dense", "dense_1"}));
  for (const WeightFile::Layer& layer : keras3.layers)
    if (layer.kind == "conv2d") convs.push_back(layer.name);
  EXPECT_EQ(convs, (std::vector<std::string>{"stem", "right_1", "left", "right_2"}));
  for (const WeightFile& file : {legacy, keras3}) EXPECT_EQ(fit_weights(file, graph_).values, weights_);
}

TEST_F(HeadedTest, AFrozenNetworkReadsAndWritesTheSameFiles) {
  Graph base_frozen = headed(), all_frozen = headed();
  base_frozen.freeze_base(), all_frozen.freeze();
  for (const char* name : {"a.h5", "a.weights.h5"}) {
    write_weights(path(name), graph_, weights_);
    const std::vector<char> bytes = read_bytes(path(name));
    for (const Graph* graph : {&base_frozen, &all_frozen}) {
      EXPECT_EQ(read_weights(path(name), *graph).values, weights_);
      write_weights(path(name), *graph, weights_);
      EXPECT_TRUE(read_bytes(path(name)) == bytes) << name;
    }
  }
}

TEST_F(HeadedTest, AFileOfTheBaseLeavesTheHeadAsItWas) {
  std::vector<float> expected = base_weights_;
  expected.resize(weights_.size(), -1);
  for (const char* name : {"a.h5", "a.weights.h5"}) {
    const LoadedWeights loaded = fit_weights(as_file(base_, base_weights_, path(name)), graph_, initial_);
    EXPECT_EQ(loaded.values, expected);
    EXPECT_FALSE(loaded.whole);
    EXPECT_EQ(loaded.notes, std::vector<std::string>{"the file holds the base alone: the head starts afresh"});
    expect_refusal([&] { read_weights(path(name), graph_); }, ExitCode::weights,
                   {"of the base alone", "expected: 7 layers with weights, the last \"dense_1\"",
                    "found:    5, up to \"right_2\"", "train --weights"});
  }
}

TEST_F(HeadedTest, APublishedFilesClassesAreLeftOut) {
  const Graph published = headed(true);
  std::vector<float> expected = base_weights_;
  expected.resize(weights_.size(), -1);
  for (const char* name : {"a.h5", "a.weights.h5"}) {
    const LoadedWeights loaded = fit_weights(as_file(published, some_weights(published), path(name)), graph_, initial_);
    EXPECT_EQ(loaded.values, expected);
    EXPECT_EQ(loaded.notes, (std::vector<std::string>{"the layers that end in ImageNet's 1000 classes are left out",
                                                      "the file holds the base alone: the head starts afresh"}));
  }
}

TEST_F(HeadedTest, AnotherHeadIsRefused) {
  Graph other;
  other.output(two_branches(other.input(2)) | global_average_pool() | dense(7) | logit());
  for (const char* name : {"a.h5", "a.weights.h5"}) {
    expect_refusal([&] { fit_weights(as_file(other, some_weights(other), path(name)), graph_, initial_); }, ExitCode::weights,
                   {"\"dense\" for row \"dense\"", R"(expected: "kernel" (6, 5))", "(6, 7)"});
  }
}

TEST_F(HeadedTest, ANestedBaseIsOneLayerWhateverPartOfItIsFrozen) {
  const WeightFile flat = as_file(graph_, weights_, path("a.h5"));
  constexpr std::size_t base_layers = 5;
  for (std::size_t frozen = 0; frozen <= base_layers; ++frozen) {
    WeightFile file = flat;
    WeightFile::Layer base{.name = "base"};
    std::vector<WeightFile::Tensor> others;
    for (std::size_t i = 0; i < base_layers; ++i) {
      for (const WeightFile::Tensor& tensor : flat.layers[i].weights) {
        const bool statistic = tensor.name.find("moving") != std::string::npos;
        (i < frozen || statistic ? others : base.weights).push_back(tensor);
      }
    }
    base.weights.insert(base.weights.end(), others.begin(), others.end());
    file.layers.erase(file.layers.begin(), file.layers.begin() + base_layers);
    file.layers.insert(file.layers.begin(), base);
    const LoadedWeights loaded = fit_weights(file, graph_);
    EXPECT_EQ(loaded.values, weights_) << frozen << " layers frozen";
    EXPECT_TRUE(loaded.notes.empty()) << loaded.notes[0];

    std::swap(*std::ranges::find(file.layers[0].weights, "left/kernel:0", &WeightFile::Tensor::name),
              *std::ranges::find(file.layers[0].weights, "right_2/kernel:0", &WeightFile::Tensor::name));
    expect_refusal([&] { fit_weights(file, graph_); }, ExitCode::weights, {"in another order"});
  }
}

TEST_F(HeadedTest, TheSameNamesInAnotherOrderAreRefusedThoughShapesAgree) {
  for (const char* name : {"a.h5", "a.weights.h5"}) {
    WeightFile file = as_file(graph_, weights_, path(name));
    std::swap(layer_of(file, "left"), layer_of(file, "right_2"));
    expect_refusal([&] { fit_weights(file, graph_); }, ExitCode::weights,
                   {"the layers are in another order", "\"right_2\" for row \"left\"", "expected: left",
                    "found:    right_2, of the same shapes"});
  }
}

TEST(AutomaticNamesTest, NumbersTellTheOrderOfMakingFromWhereverTheyStart) {
  const auto record = [] {
    Graph graph;
    const Node x = graph.input(2) | conv(3, 1, {.bias = false});
    const Node left = x | conv(3, 1, {.bias = false});
    graph.output(concat({left, x | conv(3, 1, {.bias = false}) | conv(3, 1, {.bias = false})}));
    return graph;
  };
  const Graph graph = record();
  const std::vector<float> weights = some_weights(graph);
  TemporaryFolder folder;
  WeightFile file = as_file(graph, weights, folder / "a.h5");
  const std::vector<std::string> from_one{"conv2d_1", "conv2d_3", "conv2d_2", "conv2d_4"};  // Keras 2's published InceptionV3
  for (std::size_t i = 0; i < from_one.size(); ++i) file.layers[i].name = from_one[i];
  const LoadedWeights loaded = fit_weights(file, graph);
  EXPECT_EQ(loaded.values, weights);
  EXPECT_TRUE(loaded.notes.empty());

  std::swap(file.layers[1], file.layers[2]);
  expect_refusal([&] { fit_weights(file, graph); }, ExitCode::weights, {"the layers are in another order", "\"conv2d_2\""});

  // Keras 3.0 to 3.5 named groups by place and said no more: no evidence.
  WeightFile nameless = as_file(graph, weights, folder / "a.weights.h5");
  for (std::size_t i = 0; i < nameless.layers.size(); ++i) {
    nameless.layers[i].name = i == 0 ? "conv2d" : fmt::format("conv2d_{}", i);
    nameless.layers[i].named = false;
  }
  EXPECT_EQ(fit_weights(nameless, graph).values, weights);
}

// Its shortcuts came second, so that shapes agree in the first stage and clash in the next.
TEST(OldResNetTest, TheFileOfBefore2019IsRefusedByItsName) {
  TemporaryFolder folder;
  const Graph graph = find_network("resnet50").build(96, Head::none);
  WeightFile file = as_file(graph, some_weights(graph), folder / "a.h5");
  for (const char* stage : {"conv2", "conv3", "conv4", "conv5"}) {
    std::swap(layer_of(file, fmt::format("{}_block1_0_conv", stage)), layer_of(file, fmt::format("{}_block1_3_conv", stage)));
  }
  for (std::size_t i = 0; i < file.layers.size(); ++i) file.layers[i].name = fmt::format("res2a_branch{}", i);
  expect_refusal([&] { fit_weights(file, graph); }, ExitCode::weights,
                 {"for row \"conv3_block1_0_conv\"", R"(expected: "kernel" (1, 1, 256, 512))", "(1, 1, 128, 512)",
                  "published before 2019"});
}

/// Every network, whole, with the study's head.
class EveryNetworkTest : public testing::TestWithParam<Network> {};

TEST_P(EveryNetworkTest, BothLayoutsComeBackAndAPermutedFileIsRefused) {
  TemporaryFolder folder;
  const Graph graph = GetParam().build(96);
  const std::vector<float> weights = some_weights(graph, 0x1p-20f);
  for (const char* name : {"a.h5", "a.weights.h5"}) {
    WeightFile file = as_file(graph, weights, folder / name);
    const LoadedWeights loaded = fit_weights(file, graph);
    EXPECT_TRUE(loaded.values == weights);
    EXPECT_TRUE(loaded.notes.empty()) << loaded.notes[0];

    int refused = 0;
    for (std::size_t i = 0; i < file.layers.size() && refused < 3; ++i) {
      const auto shapes = [](const WeightFile::Layer& layer) {
        std::vector<std::vector<int>> all;
        for (const WeightFile::Tensor& tensor : layer.weights) all.push_back(tensor.shape);
        return all;
      };
      for (std::size_t j = i + 1; j < file.layers.size(); ++j) {
        if (file.layers[i].kind != file.layers[j].kind || shapes(file.layers[i]) != shapes(file.layers[j])) continue;
        std::swap(file.layers[i], file.layers[j]);
        expect_refusal([&] { fit_weights(file, graph); }, ExitCode::weights, {"the layers are in another order"});
        std::swap(file.layers[i], file.layers[j]);
        ++refused;
        break;
      }
    }
    EXPECT_TRUE(refused > 0 || GetParam().name == "b2");
  }
}

INSTANTIATE_TEST_SUITE_P(Networks, EveryNetworkTest, testing::ValuesIn(networks().begin(), networks().end()),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace microtome
