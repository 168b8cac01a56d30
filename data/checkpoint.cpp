#include "data/checkpoint.h"

#include "data/file.h"

#include <zlib.h>
#include <nlohmann/json.hpp>

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

namespace microtome {

namespace fs = std::filesystem;
using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "checkpoints are written as they lie in memory");

namespace {

constexpr char magic[8] = {'m', 'i', 'c', 'r', 'o', 't', 'o', 'm'};
constexpr std::uint32_t version = 2, oldest_version = 1;
constexpr std::size_t largest_header = 1 << 20;
constexpr int deepest_header = 4;

struct Preamble {
  char magic[8];
  std::uint32_t version;
  std::uint32_t header_bytes;
};
static_assert(sizeof(Preamble) == 16);

template <class T>
std::string_view type_name() {
  if constexpr (std::is_same_v<T, float>)
    return "f32";
  else if constexpr (std::is_same_v<T, double>)
    return "f64";
  else if constexpr (std::is_same_v<T, std::uint32_t>)
    return "u32";
  else
    return "u8";
}

template <class V>
struct Element {
  using type = typename V::value_type;
};
template <>
struct Element<Values> {
  using type = float;
};
template <class V>
using element_of = typename Element<V>::type;

/// zlib starts anew at a null pointer, as an empty span may have.
std::uint32_t crc(std::uint32_t sum, Bytes bytes) {
  if (bytes.empty()) return sum;
  return static_cast<std::uint32_t>(crc32_z(sum, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

/// The parts of a snapshot that are no plain arrays, as columns.
struct Columns {
  std::vector<double> history;  // history_width a record
  std::vector<double> batch_loss;
  std::vector<std::uint32_t> batch_counts;  // correct, count
  std::vector<float> learning_rate;
  std::vector<double> seconds;
  std::vector<char> options, provenance;
};

/// The one list of what a checkpoint of a version holds: the writer and the reader both go through it, in this order.
template <class SnapshotType, class ColumnsType, class Visitor>
void for_each_tensor(std::uint32_t of_version, SnapshotType& snapshot, ColumnsType& columns, Visitor&& visit) {
  visit("options", columns.options);
  visit("learning_rate", columns.learning_rate);
  visit("seconds", columns.seconds);
  visit("history", columns.history);
  visit("batch_loss", columns.batch_loss);
  visit("batch_counts", columns.batch_counts);
  visit("weights", snapshot.weights);
  visit("first_moments", snapshot.first_moments);
  visit("second_moments", snapshot.second_moments);
  visit("best_weights", snapshot.best_weights);
  if (of_version < 2) return;
  visit("statistics", snapshot.statistics);
  visit("provenance", columns.provenance);
}

/// A row of "history": the epoch, these, and whether it is the best.
constexpr std::array history_columns{&EpochRecord::train_loss, &EpochRecord::train_accuracy,
                                     &EpochRecord::valid_loss, &EpochRecord::valid_accuracy,
                                     &EpochRecord::seconds,    &EpochRecord::images_per_second};
constexpr std::size_t history_width = history_columns.size() + 2;

Columns to_columns(const Snapshot& snapshot, const CheckpointInfo& info) {
  Columns columns;
  columns.options.assign(info.options.begin(), info.options.end());
  if (info.provenance) {
    const std::string text = to_json(*info.provenance);
    columns.provenance.assign(text.begin(), text.end());
  }
  columns.learning_rate = {snapshot.state.learning_rate};
  columns.seconds = {snapshot.seconds};
  for (const EpochRecord& r : snapshot.history) {
    columns.history.push_back(r.epoch);
    for (const auto column : history_columns) columns.history.push_back(r.*column);
    columns.history.push_back(r.best ? 1 : 0);
  }
  for (const BatchMetrics& b : snapshot.batches) {
    columns.batch_loss.push_back(b.loss);
    columns.batch_counts.insert(columns.batch_counts.end(), {b.correct, b.count});
  }
  return columns;
}

class Reader {
 public:
  explicit Reader(const fs::path& file) : file_(file), bytes_(read_whole(file, ExitCode::weights, SIZE_MAX)) {}

  Checkpoint read() {
    check_frame();
    const json header = parse_header();
    Checkpoint checkpoint;
    checkpoint.version = static_cast<int>(version_);
    Columns columns;
    try {
      read_fields(header, checkpoint);
      read_tensors(header, checkpoint.snapshot, columns);
    } catch (const json::exception& error) {
      refuse("the header lacks what it must have", error.what());
    }
    from_columns(columns, checkpoint);
    check_sizes(checkpoint);
    return checkpoint;
  }

 private:
  [[noreturn]] void refuse(const std::string& what, std::string found = {}, std::string expected = {}) const {
    fail(ExitCode::weights, "a checkpoint cannot be read: " + what,
         {.where = file_.string(),
          .expected = std::move(expected),
          .found = std::move(found),
          .next = "use another checkpoint, or start the run anew"});
  }

  void check_frame() {
    if (bytes_.size() < sizeof(Preamble) || std::memcmp(bytes_.data(), magic, sizeof magic) != 0) {
      refuse("it is no checkpoint of ours", {}, "a file that begins with \"microtom\"");
    }
    Preamble preamble;
    std::memcpy(&preamble, bytes_.data(), sizeof preamble);
    version_ = preamble.version;
    if (version_ < oldest_version || version_ > version) {
      refuse("it is of another version, or damaged", fmt::format("version {}", version_),
             fmt::format("version {} to {}", oldest_version, version));
    }
    std::uint32_t stored = 0;
    if (bytes_.size() < sizeof(Preamble) + sizeof stored) refuse("it is cut short", fmt::format("{} bytes", bytes_.size()));
    body_ = Bytes(bytes_).first(bytes_.size() - sizeof stored);
    std::memcpy(&stored, bytes_.data() + body_.size(), sizeof stored);
    if (const std::uint32_t sum = crc(0, body_); sum != stored) {
      refuse("it is damaged or cut short", fmt::format("checksum {:08x}", sum), fmt::format("checksum {:08x}", stored));
    }
    if (preamble.header_bytes > largest_header || preamble.header_bytes > body_.size() - sizeof(Preamble)) {
      refuse("its header is too long", fmt::format("{} bytes", preamble.header_bytes));
    }
    header_ = body_.subspan(sizeof(Preamble), preamble.header_bytes);
    tensors_ = body_.subspan(sizeof(Preamble) + preamble.header_bytes);
  }

  json parse_header() const {
    const std::string_view text(reinterpret_cast<const char*>(header_.data()), header_.size());
    bool too_deep = false;
    const json header = json::parse(
        text,
        [&too_deep](int depth, json::parse_event_t, json&) {
          too_deep |= depth > deepest_header;
          return depth <= deepest_header;
        },
        false);
    // Ours is the one way to write a header: this refuses repeated keys, which a parser would pass over.
    if (header.is_discarded() || too_deep || header.dump() != text) refuse("its header is not one of ours");
    return header;
  }

  static void read_fields(const json& header, Checkpoint& checkpoint) {
    CheckpointInfo& info = checkpoint.info;
    info.network = header.at("network").get<std::string>();
    info.image = {header.at("image").at(0).get<int>(), header.at("image").at(1).get<int>()};
    info.parameters = header.at("parameters").get<std::int64_t>();
    info.commit = header.at("commit").get<std::string>();
    StepState& state = checkpoint.snapshot.state;
    state.seed = header.at("seed").get<std::uint64_t>();
    state.step = header.at("step").get<std::uint64_t>();
    state.epoch = header.at("epoch").get<std::uint64_t>();
    state.batch = header.at("batch").get<std::uint64_t>();
    state.finite = header.at("finite").get<std::uint32_t>();
  }

  void read_tensors(const json& header, Snapshot& snapshot, Columns& columns) const {
    const json& listed = header.at("tensors");
    std::size_t index = 0, offset = 0;
    const auto take = [&]<class T>(std::string_view name, std::vector<T>& values) {
      const json& entry = listed.at(index++);
      const auto count = entry.at("count").get<std::uint64_t>();
      if (entry.at("name") != name || entry.at("type") != type_name<T>() || entry.at("offset").get<std::uint64_t>() != offset) {
        refuse("a tensor is not where it must be", entry.dump(),
               fmt::format("{} {} at offset {}", type_name<T>(), name, offset));
      }
      if (count > (tensors_.size() - offset) / sizeof(T)) refuse("a tensor reaches beyond the file", entry.dump());
      values.resize(count);
      if (count > 0) std::memcpy(values.data(), tensors_.data() + offset, count * sizeof(T));
      offset += count * sizeof(T);
    };
    for_each_tensor(version_, snapshot, columns, [&]<class V>(std::string_view name, V& values) {
      if constexpr (std::is_same_v<V, Values>) {
        std::vector<float> held;
        take(name, held);
        values = std::move(held);
      } else {
        take(name, values);
      }
    });
    if (index != listed.size() || offset != tensors_.size()) refuse("it holds more than its header tells");
  }

  void from_columns(const Columns& columns, Checkpoint& checkpoint) const {
    if (columns.learning_rate.size() != 1 || columns.seconds.size() != 1 || columns.history.size() % history_width != 0 ||
        columns.batch_counts.size() != 2 * columns.batch_loss.size()) {
      refuse("its tables have the wrong sizes");
    }
    Snapshot& snapshot = checkpoint.snapshot;
    CheckpointInfo& info = checkpoint.info;
    info.options.assign(columns.options.begin(), columns.options.end());
    if (!columns.provenance.empty()) {
      info.provenance = parse_provenance({columns.provenance.data(), columns.provenance.size()}, file_);
      if (const Provenance& p = *info.provenance; p.network != info.network || p.image != info.image)
        refuse("it says two things of its network", fmt::format("{} for {}x{} images", p.network, p.image.h, p.image.w),
               fmt::format("{} for {}x{} images", info.network, info.image.h, info.image.w));
    }
    snapshot.state.learning_rate = columns.learning_rate[0];
    snapshot.seconds = columns.seconds[0];
    for (auto row = columns.history.begin(); row != columns.history.end(); row += history_width) {
      if (!(row[0] >= 0 && row[0] <= std::numeric_limits<int>::max())) refuse("its history has an impossible epoch");
      EpochRecord& record =
          snapshot.history.emplace_back(EpochRecord{.epoch = static_cast<int>(row[0]), .best = row[history_width - 1] != 0});
      for (std::size_t i = 0; i < history_columns.size(); ++i) record.*history_columns[i] = row[1 + i];
    }
    for (std::size_t i = 0; i < columns.batch_loss.size(); ++i) {
      snapshot.batches.push_back(
          {.loss = columns.batch_loss[i], .correct = columns.batch_counts[2 * i], .count = columns.batch_counts[2 * i + 1]});
    }
  }

  void check_sizes(const Checkpoint& checkpoint) const {
    const Snapshot& s = checkpoint.snapshot;
    const std::size_t n = s.weights.size();
    if (static_cast<std::uint64_t>(checkpoint.info.parameters) != n || s.first_moments.size() != n ||
        s.second_moments.size() != n || (!s.best_weights.empty() && s.best_weights.size() != n)) {
      refuse("its weights and moments differ in size",
             fmt::format("{}, {}, {} and {}", n, s.first_moments.size(), s.second_moments.size(), s.best_weights.size()),
             fmt::format("{} each", checkpoint.info.parameters));
    }
  }

  fs::path file_;
  std::vector<std::byte> bytes_;
  Bytes body_, header_, tensors_;
  std::uint32_t version_ = 0;
};

std::int64_t statistics_count(const Graph& graph) {
  std::int64_t count = 0;
  for (const Parameter& parameter : graph.parameters()) count += parameter.statistic ? parameter.shape.count() : 0;
  return count;
}

}  // namespace

void write_checkpoint(const fs::path& file, const Snapshot& snapshot, const CheckpointInfo& info) {
  const std::size_t n = snapshot.weights.size();
  require(static_cast<std::uint64_t>(info.parameters) == n && snapshot.first_moments.size() == n &&
              snapshot.second_moments.size() == n && (snapshot.best_weights.empty() || snapshot.best_weights.size() == n),
          "checkpoint: weights and moments of ", info.parameters, " parameters must have that many values each");

  const Columns columns = to_columns(snapshot, info);
  json listed = json::array();
  std::size_t offset = 0;
  for_each_tensor(version, snapshot, columns, [&]<class V>(std::string_view name, const V& values) {
    using T = element_of<V>;
    listed.push_back({{"name", name}, {"type", type_name<T>()}, {"count", values.size()}, {"offset", offset}});
    offset += values.size() * sizeof(T);
  });
  const std::string header =
      json{{"network", info.network},       {"image", {info.image.h, info.image.w}}, {"parameters", info.parameters},
           {"commit", info.commit},         {"seed", snapshot.state.seed},           {"step", snapshot.state.step},
           {"epoch", snapshot.state.epoch}, {"batch", snapshot.state.batch},         {"finite", snapshot.state.finite},
           {"tensors", std::move(listed)}}
          .dump();
  Preamble preamble{.magic = {}, .version = version, .header_bytes = static_cast<std::uint32_t>(header.size())};
  std::memcpy(preamble.magic, magic, sizeof magic);
  write_whole(
      file,
      [&](const Put& put) {
        std::uint32_t sum = 0;
        const auto put_summed = [&](Bytes part) {
          sum = crc(sum, part);
          put(part);
        };
        put_summed(std::as_bytes(std::span(&preamble, 1)));
        put_summed(std::as_bytes(std::span(header)));
        for_each_tensor(version, snapshot, columns, [&]<class V>(std::string_view, const V& values) {
          if constexpr (std::is_same_v<V, Values>)
            values.for_each_part([&](std::span<const float> part) { put_summed(std::as_bytes(part)); });
          else
            put_summed(std::as_bytes(std::span(values)));
        });
        put(std::as_bytes(std::span(&sum, 1)));
      },
      "the checkpoint");
}

std::vector<float> Checkpoint::judged_weights(const Graph& graph) const {
  std::vector<float> weights = snapshot.weights.get();
  if (snapshot.statistics.empty()) return weights;
  const std::int64_t expected = statistics_count(graph);
  if (static_cast<std::int64_t>(snapshot.statistics.size()) != expected)
    fail(ExitCode::weights, "a checkpoint's statistics are of another network",
         {.expected = fmt::format("{} values", expected), .found = fmt::format("{}", snapshot.statistics.size())});
  put_statistics(graph, snapshot.statistics, weights);
  return weights;
}

std::string Checkpoint::statistics_note(const Graph& graph) const {
  if (statistics_count(graph) == 0) return {};
  if (version < 2)
    return "written before checkpoints kept the statistics of their last validation: batch-norm's moving averages are taken, "
           "and where the run validated with the population's its figures were others";
  if (snapshot.statistics.empty() && info.provenance && info.provenance->statistics == "population")
    return "saved before the first validation: batch-norm's moving averages are taken";
  if (!snapshot.statistics.empty() && snapshot.state.batch > 0)
    return fmt::format("saved within epoch {}: batch-norm's statistics are those of the validation before",
                       snapshot.state.epoch + 1);
  return {};
}

Checkpoint read_checkpoint(const fs::path& file) {
  return Reader(file).read();
}

void require_run(const Checkpoint& checkpoint, const fs::path& file) {
  if (!checkpoint.info.options.empty()) return;
  fail(ExitCode::weights, "a checkpoint is not a run's, and cannot be gone on with",
       {.where = file.string(),
        .expected = "the options of the run that saved it",
        .found = "none: convert writes such a file, of weights and a fresh optimiser",
        .next = fmt::format("put the run's own file back, or begin a run with it: train --weights {}", file.string())});
}

void require_network(const Checkpoint& checkpoint, const fs::path& file, std::string_view network, Extent image,
                     std::int64_t parameters) {
  const auto text = [](std::string_view name, Extent size, std::int64_t count) {
    return fmt::format("{} for {}x{} images, {} parameters", name, size.h, size.w, count);
  };
  const CheckpointInfo& info = checkpoint.info;
  if (info.network == network && info.image == image && info.parameters == parameters) return;
  Report report{.where = file.string(),
                .expected = text(network, image, parameters),
                .found = text(info.network, info.image, info.parameters)};
  if (info.network != network) {
    report.next = fmt::format("ask for --net {}, or name another checkpoint", info.network);
    fail(ExitCode::weights, "the checkpoint is of another network", std::move(report));
  }
  if (info.image != image) {
    report.next = fmt::format("give images of {}x{}, or name another checkpoint", info.image.h, info.image.w);
    fail(ExitCode::weights, "the checkpoint is of images of another size", std::move(report));
  }
  if (info.provenance) report.found += fmt::format(", {} dense units", info.provenance->dense_units);
  report.next = info.provenance
                    ? fmt::format("ask for --dense-units {}, or name another checkpoint", info.provenance->dense_units)
                    : "ask for its --dense-units, or name another checkpoint";
  fail(ExitCode::weights, fmt::format("the checkpoint is of a {} with another number of parameters", network),
       std::move(report));
}

bool is_checkpoint(const fs::path& file) {
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return false;
  return first_bytes(file, sizeof magic, ExitCode::weights) == std::string_view(magic, sizeof magic);
}

}  // namespace microtome
