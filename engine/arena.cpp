#include "engine/arena.h"

#include <algorithm>

namespace microtome {

void ArenaPlan::touch(int piece, int time, std::size_t bytes) {
  Lifetime& life = lives_[piece];
  life.first = life.bytes == 0 ? time : std::min(life.first, time);
  life.last = std::max(life.last, time);
  life.bytes = std::max(life.bytes, bytes);
}

void ArenaPlan::bind(void* arena) const {
  for (const auto& [tensor, piece, offset] : places_)
    if (lives_[piece].bytes > 0) tensor->data = static_cast<std::byte*>(arena) + arena_.offsets[piece] + offset;
}

}  // namespace microtome
