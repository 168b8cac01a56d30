// What lies in an arena: pieces of memory, each with the times at which it is in use, and the tensors that lie in them.
#pragma once

#include "engine/plan.h"
#include "engine/streams.h"
#include "engine/tensor.h"

#include <cstddef>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace microtome {

/// When memory is in use, first and last moment included, and how much of it.
struct Lifetime {
  int first = 0, last = 0;
  std::size_t bytes = 0;
};

/// Offsets in one arena, multiples of 256 bytes, such that no two that live at once overlap: the largest first, each at the
/// lowest place that is free during its life.
struct Arena {
  std::vector<std::size_t> offsets;
  std::size_t bytes = 0;
};
Arena assign_offsets(std::span<const Lifetime> lifetimes);

class ArenaPlan {
 public:
  /// A piece that nobody uses yet; with `per_image` its size is proportional to the batch.
  int piece(bool per_image = false) {
    lives_.push_back({-1, -1, 0});
    per_image_.push_back(per_image);
    return static_cast<int>(lives_.size()) - 1;
  }

  /// It is in use at this time, and so at all between this and other such times; its size is the largest asked for.
  void touch(int piece, int time, std::size_t bytes);

  /// The tensor lies `offset` bytes into the piece. It must stay at its own address as long as this plan.
  void put(Tensor& tensor, int piece, std::size_t offset = 0) { places_[&tensor] = {piece, offset}; }

  /// Offsets of the pieces, once all is known.
  void assign() { arena_ = assign_offsets(lives_); }
  std::size_t bytes() const { return arena_.bytes; }

  /// What reading or writing a tensor touches, once assigned; nothing where it does not lie here.
  std::optional<Access> access(const Tensor* tensor, bool writes) const;

  /// As it would be for batches of another size than the one planned for. Exact but for pieces that are not proportional,
  /// vectors of channels and partial sums: these grow no faster than the batch, and are taken to shrink not at all.
  std::size_t bytes(int batch, int planned_batch) const;

  const Lifetime& life(int piece) const { return lives_[piece]; }
  /// Of all pieces, each at a place of its own.
  std::size_t unshared_bytes() const;

  /// Gives every tensor in a piece that is used its address; again when the arena has moved.
  void bind(void* arena) const;

 private:
  struct Placed {
    int piece;
    std::size_t offset;
  };
  std::vector<Lifetime> lives_;
  std::vector<bool> per_image_;
  std::unordered_map<Tensor*, Placed> places_;
  Arena arena_;
};

}  // namespace microtome
