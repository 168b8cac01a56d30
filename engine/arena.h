// What lies in an arena: pieces of memory, each with the times at which it is in use, and the tensors that lie in them.
#pragma once

#include "engine/plan.h"
#include "engine/schedule.h"
#include "engine/tensor.h"

#include <cstddef>
#include <optional>
#include <unordered_map>
#include <vector>

namespace microtome {

class ArenaPlan {
 public:
  /// A piece that nobody uses yet.
  int piece() {
    lives_.push_back({-1, -1, 0});
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

  /// Gives every tensor in a piece that is used its address; again when the arena has moved.
  void bind(void* arena) const;

 private:
  struct Placed {
    int piece;
    std::size_t offset;
  };
  std::vector<Lifetime> lives_;
  std::unordered_map<Tensor*, Placed> places_;
  Arena arena_;
};

}  // namespace microtome
