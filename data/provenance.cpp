#include "data/provenance.h"

#include "engine/check.h"

#include <zlib.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <set>
#include <utility>

namespace microtome {

using nlohmann::json;

namespace {

constexpr int version = 1;
constexpr int deepest = 5;
constexpr int image_bytes = 6;  // of an image's digest; eight letters in base 64
constexpr std::string_view base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// FNV-1a over words.
class Hash {
 public:
  void mix(std::uint64_t word) {
    hash_ = (hash_ ^ word) * 0x100000001b3;
    hash_ ^= hash_ >> 29;  // FNV alone never carries a word's high bits down
  }
  void mix(std::span<const std::uint8_t> bytes) {
    std::size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + i, 8);
      mix(word);
    }
    for (; i < bytes.size(); ++i) mix(bytes[i]);
    mix(bytes.size());
  }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325;
};

std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string crc(const json& value) {
  const std::string text = dump(value);
  return fmt::format("{:08x}", crc32_z(0, reinterpret_cast<const Bytef*>(text.data()), text.size()));
}

/// As a name comes back from a file of ours: bytes that are no UTF-8 are replaced.
std::string plain(const std::string& name) {
  return json::parse(dump(json(name))).get<std::string>();
}

std::vector<std::string> names_in(const Images& images) {
  const std::set<std::string> names(images.groups.begin(), images.groups.end());
  std::set<std::string> plain_names;
  for (const std::string& name : names) plain_names.insert(plain(name));
  return {plain_names.begin(), plain_names.end()};
}

/// Eight letters a digest, its lowest bits first.
std::string to_text(std::span<const std::uint64_t> digests) {
  std::string text;
  for (std::uint64_t digest : digests)
    for (int i = 0; i < 8; ++i, digest >>= 6) text += base64[digest & 63];
  return text;
}

std::vector<std::uint64_t> from_text(const std::string& text) {
  std::vector<std::uint64_t> digests;
  for (std::size_t at = 0; at + 8 <= text.size(); at += 8) {
    std::uint64_t digest = 0;
    for (int i = 7; i >= 0; --i) digest = digest << 6 | base64.find(text[at + static_cast<std::size_t>(i)]);
    digests.push_back(digest);
  }
  return digests;
}

std::uint64_t digest_of(const Images& images, int i) {
  const Shape& s = images.shape;
  const std::size_t size = static_cast<std::size_t>(s.h) * static_cast<std::size_t>(s.w) * static_cast<std::size_t>(s.c);
  return image_digest({s.h, s.w}, std::span(images.pixels).subspan(static_cast<std::size_t>(i) * size, size));
}

std::vector<std::uint64_t> digests_of(const Images& images) {
  std::vector<std::uint64_t> digests;
  for (int i = 0; i < images.shape.n; ++i) digests.push_back(digest_of(images, i));
  return digests;
}

std::string split_digest(std::span<const std::uint64_t> digests, std::span<const std::uint8_t> labels) {
  Hash hash;
  for (const std::uint64_t digest : digests) hash.mix(digest);
  hash.mix(labels);
  return fmt::format("{:016x}", hash.value());
}

template <class T>
std::vector<T> united(const std::vector<T>& a, const std::vector<T>& b) {
  std::vector<T> all;
  std::ranges::set_union(a, b, std::back_inserter(all));
  return all;
}

json body(const Provenance& p) {
  json splits = json::object();
  for (std::size_t s = 0; s < split_count; ++s) {
    const Provenance::Split& split = p.splits[s];
    splits[split_names[s]] = {{"images", split.images}, {"digest", split.digest}, {"groups", split.groups}};
  }
  json all{
      {provenance_key, version},
      {"network", p.network},
      {"head", p.head},
      {"image", {p.image.h, p.image.w}},
      {"dense_units", p.dense_units},
      {"classes", p.classes},
      {"preprocess", {{"name", p.preprocess}, {"mean", p.pixels.mean}, {"divisor", p.pixels.divisor}, {"bgr", p.pixels.bgr}}},
      {"mode", p.mode},
      {"statistics", p.statistics},
      {"moving_variance", p.moving_variance},
      {"batch_size", p.batch_size},
      {"initial_weights", p.initial},
      {"commit", p.commit},
      {"data",
       {{"format", p.format},
        {"split_by", p.split_by},
        {"split_seed", p.split_seed},
        {"valid_share", p.valid_share},
        {"test_share", p.test_share},
        {"splits", std::move(splits)}}},
      {"learned_images", to_text(p.learned_images)},
      {"earlier_groups", p.earlier_groups},
      {"tensors_sha256", p.tensors}};
  if (p.trained_size() != p.image) all["trained_image"] = {p.trained_image.h, p.trained_image.w};
  return all;
}

Provenance from_body(const json& j) {
  Provenance p;
  p.network = j.at("network");
  p.head = j.at("head");
  p.image = {j.at("image").at(0).get<int>(), j.at("image").at(1).get<int>()};
  if (const auto trained = j.find("trained_image"); trained != j.end())
    p.trained_image = {trained->at(0).get<int>(), trained->at(1).get<int>()};
  p.dense_units = j.at("dense_units");
  p.classes = j.at("classes").get<std::vector<std::string>>();
  const json& pixels = j.at("preprocess");
  p.preprocess = pixels.at("name");
  p.pixels = {pixels.at("mean").get<std::array<float, 3>>(), pixels.at("divisor").get<std::array<float, 3>>(),
              pixels.at("bgr").get<bool>()};
  p.mode = j.at("mode");
  p.statistics = j.at("statistics");
  p.moving_variance = j.at("moving_variance");
  p.batch_size = j.at("batch_size");
  p.initial = j.at("initial_weights");
  p.commit = j.at("commit");
  const json& data = j.at("data");
  p.format = data.at("format");
  p.split_by = data.at("split_by");
  p.split_seed = data.at("split_seed");
  p.valid_share = data.at("valid_share");
  p.test_share = data.at("test_share");
  for (std::size_t s = 0; s < split_count; ++s) {
    const json& split = data.at("splits").at(split_names[s]);
    p.splits[s] = {split.at("images").get<std::int64_t>(), split.at("digest").get<std::string>(),
                   split.at("groups").get<std::vector<std::string>>()};
  }
  p.learned_images = from_text(j.at("learned_images"));
  p.earlier_groups = j.at("earlier_groups").get<std::vector<std::string>>();
  p.tensors = j.at("tensors_sha256");
  return p;
}

}  // namespace

std::uint64_t image_digest(Extent size, std::span<const std::uint8_t> rgb) {
  Hash hash;
  hash.mix(static_cast<std::uint64_t>(size.h));
  hash.mix(static_cast<std::uint64_t>(size.w));
  hash.mix(rgb);
  return (hash.value() ^ hash.value() >> 48) & ((std::uint64_t{1} << 8 * image_bytes) - 1);
}

std::string split_digest(const Images& images) {
  return split_digest(digests_of(images), images.labels);
}

void describe_data(const Dataset& data, const LoadOptions& options, Provenance& provenance) {
  provenance.format = data.name;
  provenance.split_by = data.split_by;
  provenance.split_seed = options.seed;
  provenance.valid_share = options.valid_share;
  provenance.test_share = options.test_share;
  const std::array<const Images*, split_count> parts{&data.train, &data.valid, &data.test};
  for (std::size_t s = 0; s < split_count; ++s) {
    std::vector<std::uint64_t> digests = digests_of(*parts[s]);
    provenance.splits[s] = {parts[s]->shape.n, split_digest(digests, parts[s]->labels), names_in(*parts[s])};
    if (s > 0) continue;
    std::ranges::sort(digests);
    digests.erase(std::unique(digests.begin(), digests.end()), digests.end());
    provenance.learned_images = std::move(digests);
  }
}

std::map<std::string, std::string> split_digests(const Provenance& provenance) {
  std::map<std::string, std::string> digests;
  for (std::size_t s = 0; s < split_count; ++s) digests[split_names[s]] = provenance.splits[s].digest;
  return digests;
}

void add_learned(const Provenance& initial, Provenance& provenance) {
  provenance.learned_images = united(provenance.learned_images, initial.learned_images);
  const std::vector<std::string> all = united(initial.splits[0].groups, initial.earlier_groups);
  std::vector<std::string> others;
  std::ranges::set_difference(all, provenance.splits[0].groups, std::back_inserter(others));
  provenance.earlier_groups = united(provenance.earlier_groups, others);
}

Overlap overlap(const Provenance& provenance, const Images& images) {
  const auto learned = [](const auto& sorted, const auto& value) { return std::ranges::binary_search(sorted, value); };
  Overlap result;
  for (int i = 0; i < images.shape.n; ++i) result.images += learned(provenance.learned_images, digest_of(images, i));
  std::set<std::string> known;
  for (const std::string& name : names_in(images))
    if (learned(provenance.splits[0].groups, name) || learned(provenance.earlier_groups, name)) known.insert(name);
  result.groups = static_cast<std::int64_t>(known.size());
  if (!known.empty())
    result.group_images = std::ranges::count_if(images.groups, [&](const std::string& g) { return known.contains(plain(g)); });
  return result;
}

std::string to_json(const Provenance& provenance) {
  json all = body(provenance);
  all["crc32"] = crc(all);
  return dump(all);
}

Provenance parse_provenance(std::string_view text, const std::filesystem::path& file) {
  const auto refuse = [&](const std::string& found) {
    fail(ExitCode::weights, "what a file says of its own training is damaged",
         {.where = fmt::format("{}, \"{}\"", file.string(), provenance_key),
          .expected = "JSON of ours, with its checksum",
          .found = found,
          .next = "take another copy of the file: this one may be damaged elsewhere too"});
  };
  bool too_deep = false;
  json all = json::parse(
      text,
      [&too_deep](int depth, json::parse_event_t, json&) {
        too_deep |= depth > deepest;
        return depth <= deepest;
      },
      false);
  if (all.is_discarded() || !all.is_object() || too_deep) refuse("no JSON object");
  try {
    if (const int found = all.at(provenance_key).get<int>(); found > version)
      fail(ExitCode::weights, "a file was written by a later version of these programs",
           {.where = file.string(),
            .expected = fmt::format("provenance of version {}", version),
            .found = fmt::format("version {}", found),
            .next = "use the programs that wrote it"});
    const std::string stored = all.at("crc32");
    all.erase("crc32");
    if (const std::string sum = crc(all); sum != stored) refuse(fmt::format("checksum {}, of what is there {}", stored, sum));
    const Provenance provenance = from_body(all);
    const auto possible = [](int n) { return n > 0 && n <= 65536; };
    const Extent image = provenance.image, trained = provenance.trained_size();
    if (!possible(image.h) || !possible(image.w) || !possible(trained.h) || !possible(trained.w) ||
        !possible(provenance.dense_units) || !possible(provenance.batch_size))
      refuse("impossible sizes");
    return provenance;
  } catch (const json::exception& error) {
    refuse(error.what());
  }
  return {};
}

std::string describe(const Provenance& p) {
  std::string text = fmt::format("{} for {}x{} images", p.network, p.image.h, p.image.w);
  if (const Extent trained = p.trained_size(); trained != p.image)
    text += fmt::format(", trained on {}x{}", trained.h, trained.w);
  if (p.head == "none") text += ", without a head";
  if (p.dense_units != 256) text += fmt::format(", {} dense units", p.dense_units);
  if (!p.preprocess.empty()) text += fmt::format(", {} preprocessing", p.preprocess);
  if (!p.mode.empty()) text += p.mode == "full" ? ", trained in full" : ", its head trained";
  if (!p.format.empty()) {
    text += fmt::format(" on {} images of {}", p.splits[0].images, p.format);
    text += p.split_by == "files" || p.split_by == "folders"
                ? fmt::format(", split as {} say", p.split_by)
                : fmt::format(", split by {} with seed {}", p.split_by, p.split_seed);
  }
  if (!p.statistics.empty()) text += fmt::format(", {} statistics", p.statistics);
  if (!p.commit.empty()) text += fmt::format(", commit {}", p.commit);
  return text;
}

}  // namespace microtome
