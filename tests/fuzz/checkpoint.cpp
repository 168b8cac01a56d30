// A run's last.checkpoint. Its checksum would keep a fuzzer out: of every input, what it becomes under a right one is read too.
#include "data/checkpoint.h"
#include "fuzz/fuzz.h"

#include <zlib.h>

#include <cstring>

namespace microtome::fuzz {

std::vector<std::string> seeds() {
  Snapshot snapshot;
  snapshot.state = {.seed = 7, .step = 12, .epoch = 3, .batch = 2, .learning_rate = 1e-3f, .finite = 1};
  snapshot.weights = {1, 2, 3};
  snapshot.first_moments = {1, 2, 3};
  snapshot.second_moments = {6, 7, 8};
  snapshot.batches = {{.loss = 0.1, .correct = 3, .count = 4}};
  snapshot.seconds = 1.5;
  snapshot.history = {{.epoch = 1, .train_loss = 0.1, .best = true}, {.epoch = 2}};
  CheckpointInfo info{.network = "b6", .image = 96, .parameters = 3, .options = "seed = 7\n", .commit = "abc"};
  const auto written = [&] { return written_by([&](const auto& file) { write_checkpoint(file, snapshot, info); }); };
  std::vector<std::string> all{written()};
  snapshot.best_weights = {5, 4, 3};
  snapshot.statistics = {0.5f};
  Provenance provenance;
  provenance.network = "b6", provenance.image = 96, provenance.learned_images = {1, 2, 3};
  provenance.splits[0].groups = {"a", "b"};
  info.provenance = provenance;
  all.push_back(written());
  // The same as version 1, which had two tensors less, is refused for its length; its other parts are read.
  all.push_back(all[0]);
  all.back()[8] = 1;
  return all;
}

}  // namespace microtome::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace microtome;
  using namespace microtome::fuzz;
  static MemoryFile file;
  const auto read = [&](std::string_view text) {
    file.hold(text);
    may_refuse([&] {
      const Checkpoint checkpoint = read_checkpoint(file.path());
      const Snapshot& snapshot = checkpoint.snapshot;
      expect(snapshot.first_moments.size() == snapshot.weights.size(), "weights and moments differ in size");
      may_refuse([&] { require_network(checkpoint, file.path(), "b6", 96, 3); });
    });
    is_checkpoint(file.path());
  };
  std::string text(text_of({bytes, size}));
  read(text);
  if (text.size() < sizeof(std::uint32_t)) return 0;
  const std::size_t body = text.size() - sizeof(std::uint32_t);
  const auto sum = static_cast<std::uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(body)));
  std::memcpy(text.data() + body, &sum, sizeof sum);
  read(text);
  return 0;
}
