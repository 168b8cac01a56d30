// The group p4m: translations and the eight symmetries of the square [Cohen2016, sec. 4.3]. Symmetry number 4 m + r mirrors the
// columns m times, then turns by r quarters, (row, column) -> (-column, row) about the centre. `constexpr` throughout: the same
// code runs when graphs are recorded, on the CPU and in GPU kernels.
#pragma once

namespace microtome {

inline constexpr int p4m_symmetries = 8;

/// How a convolution's filters derive from its parameter w. none: they are w. lift: each filter of w, over an image, in all
/// eight symmetries; group: over eight maps a channel, that of symmetry i after those of i - 1. See FilterTransformOp.
enum class P4m { none, lift, group };

constexpr int p4m_inverse(int g) {
  return g < 4 ? (4 - g) % 4 : g;  // a turn after a mirror is its own
}

/// g after h.
constexpr int p4m_product(int g, int h) {
  const int turns = g % 4 + (g < 4 ? h % 4 : 4 - h % 4);  // a turn before a mirror is one the other way after it
  return (g / 4 ^ h / 4) * 4 + turns % 4;
}

struct P4mCell {
  int row, column;
  bool operator==(const P4mCell&) const = default;
};

/// Where symmetry g takes a cell of a square of side x side cells.
constexpr P4mCell p4m_moved(int g, int side, P4mCell cell) {
  if (g >= 4) cell.column = side - 1 - cell.column;
  for (int turns = g % 4; turns > 0; --turns) cell = {side - 1 - cell.column, cell.row};
  return cell;
}

/// Where symmetry g takes channel `channel` of a filter's `channels`: over eight maps a channel to another map, else nowhere.
constexpr int p4m_channel(P4m p4m, int g, int channels, int channel) {
  if (p4m != P4m::group) return channel;
  const int each = channels / p4m_symmetries;
  return p4m_product(g, channel / each) * each + channel % each;
}

}  // namespace microtome
