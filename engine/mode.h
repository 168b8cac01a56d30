// What a program is planned for.
#pragma once

namespace microtome {

/// calibrate: a forward pass like evaluate's but for batch-norm, which takes its batch's statistics and leaves them, mean and
/// unbiased variance, in the place of the moving ones.
enum class Mode { train, evaluate, calibrate };

}  // namespace microtome
