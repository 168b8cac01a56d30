// Records of a device's tracer, in any order and of any content, and what is made of them.
#include "fuzz/fuzz.h"
#include "kernels/cuda/profiling/attribution.h"

#include <cstring>

namespace microtome::fuzz {

namespace {

/// What is left of an input, field by field; zeros behind its end.
class Fields {
 public:
  explicit Fields(Input input) : left_(input) {}
  bool any() const { return !left_.empty(); }
  template <class T>
  T take() {
    T value{};
    const std::size_t count = std::min(sizeof value, left_.size());
    std::memcpy(&value, left_.data(), count);
    left_ = left_.subspan(count);
    return value;
  }

 private:
  Input left_;
};

constexpr std::string_view rows[] = {"conv1", "pool", ""};
constexpr const char* names[] = {"_Z4convPfi", "_ZN9microtome4cuda3addE", "_Z", "_ZN", "memcpy", "", "_ZTSN1aIXadL_Z1bEEEE"};

}  // namespace

std::vector<std::string> seeds() {
  return {std::string(64, '\1'), std::string("\0\1\1\1\0\0\1\1\2\0\2\1\0\1\2\3\4\5\6\7\x08\x09\2", 22),
          "\1\2\3\4\5\6\7\x08\2\1\2\3\4\5\6\7\x08\2\1\2\3\4"};
}

}  // namespace microtome::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace microtome;
  using namespace microtome::cuda;
  using namespace microtome::fuzz;
  Fields fields({bytes, size});
  GraphNodes nodes;
  Collected collected;
  const auto scope = [&] {
    return Scope{rows[fields.take<std::uint8_t>() % std::size(rows)], static_cast<Pass>(fields.take<std::uint8_t>() % 9)};
  };
  const auto node = [&] { return GraphNode{fields.take<std::uint8_t>() % 8u, fields.take<std::uint8_t>() % 4u}; };
  std::uint64_t records = 0;
  while (fields.any()) {
    switch (fields.take<std::uint8_t>() % 5) {
      case 0: {
        const GraphNode made = node();
        nodes.created(made, scope());
        break;
      }
      case 1: {
        const GraphNode from = node();
        nodes.cloned(from, node());
        break;
      }
      case 2: {
        const auto call = fields.take<std::uint8_t>();
        collected.launched_for.emplace(call, scope());
        break;
      }
      default: {
        Collected::Record record;
        const auto name = fields.take<std::uint8_t>();
        record.activity.name =
            name < 128 ? names[name % std::size(names)] : "_Z" + std::to_string(fields.take<std::uint32_t>());
        record.activity.start_ns = fields.take<std::int16_t>();
        record.activity.end_ns = fields.take<std::int64_t>();
        record.stream = fields.take<std::uint8_t>();
        record.correlation = fields.take<std::uint8_t>();
        record.node = node();
        collected.records.push_back(std::move(record));
        ++records;
      }
    }
  }
  const Recorded recorded = attribute(nodes, std::move(collected));
  expect(recorded.activities.size() + recorded.dropped <= records, "work that nobody recorded");
  for (std::size_t i = 1; i < recorded.activities.size(); ++i)
    expect(recorded.activities[i - 1].start_ns <= recorded.activities[i].start_ns, "activities out of order");
  for (const Activity& activity : recorded.activities)
    expect(activity.attributed || activity.scope == Scope{}, "a scope that is not known");
  return 0;
}
