#include "engine/arena.h"

#include "engine/buffer.h"

#include <algorithm>
#include <numeric>

namespace microtome {

Arena assign_offsets(std::span<const Lifetime> lifetimes) {
  std::vector<int> order(lifetimes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return lifetimes[a].bytes > lifetimes[b].bytes; });

  Arena arena{std::vector<std::size_t>(lifetimes.size()), 0};
  std::vector<int> placed;  // by offset
  for (const int i : order) {
    std::size_t offset = 0;
    for (const int other : placed) {
      const bool together = lifetimes[i].first <= lifetimes[other].last && lifetimes[other].first <= lifetimes[i].last;
      if (!together) continue;
      if (arena.offsets[other] >= offset + aligned(lifetimes[i].bytes)) break;
      offset = std::max(offset, arena.offsets[other] + aligned(lifetimes[other].bytes));
    }
    arena.offsets[i] = offset;
    arena.bytes = std::max(arena.bytes, offset + aligned(lifetimes[i].bytes));
    const auto position = std::upper_bound(placed.begin(), placed.end(), offset,
                                           [&](std::size_t o, int other) { return o < arena.offsets[other]; });
    placed.insert(position, i);
  }
  return arena;
}

void ArenaPlan::touch(int piece, int time, std::size_t bytes) {
  Lifetime& life = lives_[piece];
  life.first = life.bytes == 0 ? time : std::min(life.first, time);
  life.last = std::max(life.last, time);
  life.bytes = std::max(life.bytes, bytes);
}

std::size_t ArenaPlan::bytes(int batch, int planned_batch) const {
  const auto size = [&](std::size_t i) {
    const std::size_t now = lives_[i].bytes, wanted = static_cast<std::size_t>(batch),
                      planned = static_cast<std::size_t>(planned_batch);
    if (per_image_[i]) return now / planned * wanted;
    return batch > planned_batch ? (now * wanted + planned - 1) / planned : now;
  };
  std::vector<Lifetime> lives = lives_;
  for (std::size_t i = 0; i < lives.size(); ++i) lives[i].bytes = size(i);
  return assign_offsets(lives).bytes;
}

std::size_t ArenaPlan::unshared_bytes() const {
  std::size_t sum = 0;
  for (const Lifetime& life : lives_) sum += life.bytes;
  return sum;
}

void ArenaPlan::bind(void* arena) const {
  for (const auto& [tensor, place] : places_)
    if (lives_[place.piece].bytes > 0)
      tensor->data = static_cast<std::byte*>(arena) + arena_.offsets[place.piece] + place.offset;
}

std::optional<Access> ArenaPlan::access(const Tensor* tensor, bool writes) const {
  const auto found = places_.find(const_cast<Tensor*>(tensor));
  if (found == places_.end()) return {};
  const auto& [piece, offset] = found->second;
  const std::size_t first = arena_.offsets[piece];
  const std::size_t pixel = static_cast<std::size_t>(tensor->shape.c) * size_bytes(tensor->dtype);
  return Access{
      piece, first, first + lives_[piece].bytes, offset, offset + (tensor->is_packed() ? tensor->packed_bytes() : pixel),
      writes};
}

}  // namespace microtome
