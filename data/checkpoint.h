// A run's state on disk, to go on bit for bit.
//   magic "microtom", version u32, header length u32, header (JSON: names, types, sizes, offsets), tensors, CRC-32
// Version 2; of version 1, which lacks provenance and the statistics of the last validation, all is read.
// Little-endian; tensors lie without gap or overlap. The checksum covers every byte before it and is there for disks, not for
// foes: it finds every change within 32 neighbouring bits, others but one in 2^32, and costs less than the write.
#pragma once

#include "data/provenance.h"
#include "engine/fit.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace microtome {

struct CheckpointInfo {
  std::string network;  // "b6"
  Extent image = 0;
  std::int64_t parameters = 0;  // of the network
  std::string options;          // whatever the program needs to know that it resumes the same run
  std::string commit;           // of the program that wrote it
  std::optional<Provenance> provenance = {};

  bool operator==(const CheckpointInfo&) const = default;
};

struct Checkpoint {
  CheckpointInfo info;
  Snapshot snapshot;
  int version = 0;  // of the format; before 2 neither provenance nor the last validation's statistics were kept

  /// As the run's last validation had them: what a checkpoint is judged by, and converted to. A resumed run goes on with
  /// `snapshot.weights`. Throws Error(ExitCode::weights) where the graph has other statistics.
  std::vector<float> judged_weights(const Graph& graph) const;
  /// For people, where these are not what a validation had; else empty.
  std::string statistics_note(const Graph& graph) const;
};

/// Replaces `file` whole or not at all: written under a temporary name beside it, synced, renamed. Throws
/// Error(ExitCode::memory) where the disk is full or refuses; an older checkpoint is then as it was.
void write_checkpoint(const std::filesystem::path& file, const Snapshot& snapshot, const CheckpointInfo& info);

/// Throws Error(ExitCode::weights) where the file is missing, damaged, or not one of ours.
Checkpoint read_checkpoint(const std::filesystem::path& file);

/// Throws Error(ExitCode::weights) where the checkpoint is no run's, as `convert` writes one: its optimiser is fresh, and
/// nobody knows with which options it would go on.
void require_run(const Checkpoint& checkpoint, const std::filesystem::path& file);

/// Throws Error(ExitCode::weights) where the checkpoint is of another network, image size or number of parameters.
void require_network(const Checkpoint& checkpoint, const std::filesystem::path& file, std::string_view network, Extent image,
                     std::int64_t parameters);

/// Whether `file` begins like a checkpoint.
bool is_checkpoint(const std::filesystem::path& file);

}  // namespace microtome
