// What a FilterTransformOp is made for; where its elements go stands in engine/p4m.h.
#pragma once

#include "engine/check.h"
#include "engine/ops.h"

namespace microtome {

inline void require_derived(P4m p4m, const Layout& w, const Layout& all) {
  const Shape& s = w.shape;
  require(p4m != P4m::none && w.is_packed() && all.is_packed() && s.h == s.w &&
              all.shape == Shape{s.n * p4m_symmetries, s.h, s.w, s.c} && (p4m == P4m::lift || s.c % p4m_symmetries == 0),
          "filter transform: ", to_string(s), " does not give ", to_string(all.shape));
}

}  // namespace microtome
