// The factories behind Backend's, one a file; contracts as there. An op keeps a reference to its context.
#pragma once

#include "kernels/cuda/device/context.h"

#include <memory>

namespace microtome::cuda {

/// As many groups as channels, of x and of y.
std::unique_ptr<ConvOp> make_depthwise_conv(Context&, const Conv&, const Layout& x, const Layout& y);
/// Null where it does not apply, or loses more to cuDNN than a deferred batch-norm or statistics spare.
std::unique_ptr<ConvOp> make_pointwise_conv(Context&, const Conv&, const Layout& x, const Layout& y);
std::unique_ptr<FilterTransformOp> make_filter_transform(Context&, P4m, const Layout& w, const Layout& all);
std::unique_ptr<BatchNormOp> make_batch_norm(Context&, const BatchNorm&, const Layout& x, const Layout& y);
std::unique_ptr<DeferredNormOp> make_deferred_norm(Context&, const BatchNorm&, const Layout& x);
std::unique_ptr<NormCorrectionOp> make_norm_correction(Context&);
std::unique_ptr<ActivateOp> make_activate(Context&, const Activate&, const Layout& x, const Layout& y);
std::unique_ptr<PoolOp> make_pool(Context&, const Pool&, const Layout& x, const Layout& y);
std::unique_ptr<DropoutOp> make_dropout(Context&, const Dropout&, const Layout& x, const Layout& y);
std::unique_ptr<AddOp> make_add(Context&, const Add&, const Layout& a, const Layout& b, const Layout& y);
std::unique_ptr<MultiplyOp> make_multiply(Context&, const Multiply&, const Layout& x, const Layout& gate, const Layout& y);
std::unique_ptr<GatherOp> make_gather(Context&, const Gather&, const Layout& images, const Layout& x);
std::unique_ptr<LossOp> make_loss(Context&, const Loss&, const Layout& z);
std::unique_ptr<OptimizerOp> make_optimizer(Context&, const Optimizer&, std::int64_t count);
std::unique_ptr<AdvanceOp> make_advance(Context&);

}  // namespace microtome::cuda
