// Which calls of a pass may run side by side, and what each has to wait for. A backend runs calls in streams, each in order;
// here every op gets a stream, and every call the calls of other streams whose memory it would otherwise read too early or
// overwrite.
#pragma once

#include "engine/plan.h"

#include <cstddef>
#include <span>
#include <vector>

namespace microtome {

/// Of each op, from 0 to `streams` - 1. An op goes on where one of its producers was the last, else where least has been done
/// of late: branches lie in streams of their own, a chain in one.
std::vector<int> assign_streams(std::span<const PlannedOp> ops, int streams);

/// Channels of a tensor in an arena.
struct Access {
  int piece = 0;                    // of the arena
  std::size_t first = 0, last = 0;  // the piece's bytes there; last is one too far
  std::size_t begin = 0, end = 0;   // the channels' bytes within a pixel of the piece
  bool writes = false;

  /// Of two tensors in one piece channels decide, of two pieces their places.
  bool conflicts(const Access& other) const {
    if (!writes && !other.writes) return false;
    return piece == other.piece ? begin < other.end && other.begin < end : first < other.last && other.first < last;
  }
};

struct Task {
  int stream = 0;
  std::vector<Access> accesses;
};

/// For each task, those before it in other streams that it has to wait for; none that an earlier wait implies. All tasks start
/// after what came before the first.
std::vector<std::vector<int>> waits(std::span<const Task> tasks, int streams);

}  // namespace microtome
