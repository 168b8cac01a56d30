#include "bench/declining.h"

#include "engine/forwarding.h"

namespace microtome::bench {
namespace {

class Declining final : public Forwarding {
 public:
  Declining(Backend& backend, Fusion fusion) : Forwarding(backend), fusion_(fusion) {}

  std::unique_ptr<ConvOp> conv(const Conv& k, const Layout& x, const Layout& y) override {
    return defers(k.deferred || k.statistics) || activates(k.activation) ? nullptr : Forwarding::conv(k, x, y);
  }
  std::unique_ptr<DenseOp> dense(const Dense& k, const Layout& x, const Layout& y) override {
    return activates(k.activation) ? nullptr : Forwarding::dense(k, x, y);
  }
  std::unique_ptr<BatchNormOp> batch_norm(const BatchNorm& k, const Layout& x, const Layout& y) override {
    return activates(k.activation) ? nullptr : Forwarding::batch_norm(k, x, y);
  }
  std::unique_ptr<DeferredNormOp> deferred_norm(const BatchNorm& k, const Layout& x) override {
    return defers(true) ? nullptr : Forwarding::deferred_norm(k, x);
  }
  std::unique_ptr<PoolOp> pool(const Pool& k, const Layout& x, const Layout& y) override {
    return defers(k.deferred.has_value()) || activates(k.activation) ? nullptr : Forwarding::pool(k, x, y);
  }
  std::unique_ptr<DropoutOp> dropout(const Dropout& k, const Layout& x, const Layout& y) override {
    return defers(k.deferred.has_value()) ? nullptr : Forwarding::dropout(k, x, y);
  }
  std::unique_ptr<AddOp> add(const Add& k, const Layout& a, const Layout& b, const Layout& y) override {
    return defers(k.deferred[0] || k.deferred[1]) || activates(k.activation) ? nullptr : Forwarding::add(k, a, b, y);
  }
  std::unique_ptr<MultiplyOp> multiply(const Multiply& k, const Layout& x, const Layout& gate, const Layout& y) override {
    return defers(k.deferred.has_value()) ? nullptr : Forwarding::multiply(k, x, gate, y);
  }

 private:
  bool defers(bool asked) const { return asked && fusion_ != Fusion::fused; }
  bool activates(Activation asked) const { return asked != Activation::none && fusion_ == Fusion::separate; }

  Fusion fusion_;
};

}  // namespace

std::unique_ptr<Backend> declining(Backend& backend, Fusion fusion) {
  return std::make_unique<Declining>(backend, fusion);
}

}  // namespace microtome::bench
