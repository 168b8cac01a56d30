#include "engine/vendor_call.h"

#include <atomic>

namespace microtome {
namespace {

std::atomic<const char*> library = nullptr;
static_assert(std::atomic<const char*>::is_always_lock_free);

}  // namespace

VendorCall::VendorCall(const char* name) noexcept : outer_(library.exchange(name)) {}

VendorCall::~VendorCall() {
  library = outer_;
}

const char* VendorCall::current() noexcept {
  return library;
}

}  // namespace microtome
